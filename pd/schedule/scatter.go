package schedule

import (
	"context"
	"fmt"
	"sync"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

// ScatterDesc is the name of scatter operators; clients wait for it by name.
const ScatterDesc = "scatter-region"

// groupsMax is how many groups of scattered regions are remembered.
const groupsMax = 1024

// scatterer remembers, for each group, how many peers and leaders it has put
// on each store, so that a group spreads evenly whatever else is there.
type scatterer struct {
	mu     sync.Mutex
	groups map[string]*scatterGroup
}

type scatterGroup struct{ peers, leaders map[uint64]int }

func newScatterer() *scatterer { return &scatterer{groups: make(map[string]*scatterGroup)} }

func (s *scatterer) group(name string) *scatterGroup {
	g := s.groups[name]
	if g == nil {
		if len(s.groups) >= groupsMax {
			clear(s.groups) // forgetting only makes the next spread less even
		}
		g = &scatterGroup{peers: make(map[uint64]int), leaders: make(map[uint64]int)}
		s.groups[name] = g
	}
	return g
}

// Scatter spreads the region's peers and leader among the stores that its rules
// allow, evenly within the group. A region that is well placed gets no operator.
func (c *Controller) Scatter(ctx context.Context, r *core.Region, group string) error {
	switch {
	case r.Leader == nil:
		return fmt.Errorf("region %d has no known leader", r.ID())
	case r.InJoint() || !rolesSettled(c.Fit(r)):
		return fmt.Errorf("region %d is changing its peers", r.ID())
	case c.cluster.Labels().ScheduleDenied(r):
		return fmt.Errorf("region %d is not scheduled: a label forbids it", r.ID())
	}
	if c.busy(r.ID()) {
		// Its operator is in the way only where it is not ours.
		rec, _ := c.Status(r.ID())
		if rec.Op != nil && rec.Op.Desc == ScatterDesc {
			return nil
		}
		c.Cancel(r.ID(), "replaced by "+ScatterDesc)
	}
	c.scatter.mu.Lock()
	defer c.scatter.mu.Unlock()
	g := c.scatter.group(group)
	planned := c.scatterPeers(r, g)
	leader := c.scatterLeader(planned, g)
	b := c.Build(ScatterDesc, KindAdmin, r).MayLead(c.leaderPlaces(r)).SetLeader(leader)
	target := make(map[uint64]metapb.PeerRole, len(planned.Meta.Peers))
	for _, p := range planned.Meta.Peers {
		target[p.StoreId] = p.Role
	}
	op, err := b.SetPeers(target).Operator(ctx)
	if err != nil {
		return err
	}
	for _, p := range planned.Meta.Peers {
		g.peers[p.StoreId]++
	}
	g.leaders[leader]++
	if len(op.Steps) == 0 {
		return nil
	}
	return c.AddAll(op)
}

// rolesSettled reports whether no peer waits for another role.
func rolesSettled(f *placement.Fit) bool {
	for i := range f.Rules {
		if len(f.Rules[i].WrongRole) > 0 {
			return false
		}
	}
	return true
}

// scatterPeers is the region with its peers where the group has the fewest; a
// peer that would not be better off stays.
func (c *Controller) scatterPeers(r *core.Region, g *scatterGroup) *core.Region {
	at := *r
	meta := *r.Meta
	meta.Peers = append([]*metapb.Peer(nil), r.Meta.Peers...)
	at.Meta = &meta
	for i, p := range meta.Peers {
		best := p.StoreId
		for _, s := range c.cluster.Stores().All() {
			if g.peers[s.ID()] < g.peers[best] && c.PeerRefusal(s) == nil && c.rulesAllow(&at, p, s) {
				best = s.ID()
			}
		}
		if best == p.StoreId {
			continue
		}
		moved := *p
		moved.StoreId = best
		meta.Peers[i] = &moved
		if at.Leader.Id == p.Id {
			at.Leader = &moved
		}
	}
	return &at
}

// scatterLeader is the store among those planned that leads the fewest of the
// group and may lead.
func (c *Controller) scatterLeader(at *core.Region, g *scatterGroup) uint64 {
	may, best := c.leaderPlaces(at), at.Leader.StoreId
	for _, p := range at.Meta.Peers {
		if isVoter(p) && g.leaders[p.StoreId] < g.leaders[best] && may(p.StoreId) && at.Healthy(p.Id) &&
			c.leaderAsWanted(at, c.cluster.Stores().Get(p.StoreId)) {
			best = p.StoreId
		}
	}
	return best
}
