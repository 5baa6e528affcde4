package schedule

import (
	"fmt"
	"sync"
	"time"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

const (
	// noStoreLogEvery is how often the log says that regions lack replicas for
	// which there is no store.
	noStoreLogEvery = time.Minute
	// noStoreRegionsMax regions are counted between two such lines.
	noStoreRegionsMax = 100_000
)

// noStore remembers the regions that were found since the last line in the log
// to want a peer for which there is no store. As PD does, a checker puts no peer
// on a store beyond low-space-ratio, not even one that is missing: without this
// a cluster of such stores would repair nothing, silently.
type noStore struct {
	mu      sync.Mutex
	logged  time.Time
	regions map[uint64]struct{}
}

// noteNoStore is called when no store was found for a rule's peer, and none will
// be ready soon. event is "no-store-add" or "no-store-replace".
func (c *Controller) noteNoStore(r *core.Region, rule *placement.Rule, event string) {
	c.metrics.check("rule_checker", event)
	n := &c.noStores
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.regions == nil {
		n.regions = make(map[uint64]struct{})
	}
	if len(n.regions) < noStoreRegionsMax {
		n.regions[r.ID()] = struct{}{}
	}
	now := c.now()
	if now.Sub(n.logged) < noStoreLogEvery {
		return
	}
	why := c.whyNot(r, rule)
	if len(why) == 0 {
		return // there are no more stores: nothing that would end by itself, or by a setting
	}
	c.log.Warn("pd: regions lack replicas, and no store may take them", "regions", len(n.regions), "one", r.ID(),
		"rule", rule.GroupID+"/"+rule.ID, "event", event, "stores", why)
	n.logged = now
	clear(n.regions)
}

// whyNot says why the stores that the rule allows take no peer of the region,
// apart from those that have one.
func (c *Controller) whyNot(r *core.Region, rule *placement.Rule) []string {
	var out []string
	for _, s := range c.cluster.Stores().All() {
		if s.IsTombstone() || r.StorePeer(s.ID()) != nil || !placement.MatchStore(s, rule.LabelConstraints) {
			continue
		}
		why := "it is too near to another replica"
		if refusal := c.PeerRefusal(s); refusal != nil {
			why = refusal.Reason
		}
		out = append(out, fmt.Sprintf("store %d: %s", s.ID(), why))
	}
	return out
}
