package schedule

import (
	"context"
	"fmt"
	"sync"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
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

// Scatter spreads the region's peers and leader among the stores, evenly within
// the group. A region that is well placed gets no operator.
func (c *Controller) Scatter(ctx context.Context, r *core.Region, group string) error {
	switch {
	case r.Leader == nil:
		return fmt.Errorf("region %d has no known leader", r.ID())
	case r.InJoint() || len(r.Learners()) > 0:
		return fmt.Errorf("region %d is changing its peers", r.ID())
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
	targets := c.scatterTargets(r, g)
	leader := leastOf(targets, g.leaders, r.Leader.StoreId)
	steps, err := c.scatterSteps(ctx, r, targets, leader)
	if err != nil {
		return err
	}
	for _, id := range targets {
		g.peers[id]++
	}
	g.leaders[leader]++
	if len(steps) == 0 {
		return nil
	}
	if !c.Add(NewOperator(ScatterDesc, KindAdmin, r, steps...)) {
		return fmt.Errorf("region %d changed meanwhile", r.ID())
	}
	return nil
}

// scatterTargets picks as many stores as the region has voters, those with the
// fewest peers of the group; among equals those that have the region already.
func (c *Controller) scatterTargets(r *core.Region, g *scatterGroup) []uint64 {
	left := make(map[uint64]bool) // store → has the region
	for _, s := range c.cluster.Stores().All() {
		has := r.StorePeer(s.ID()) != nil
		if c.PeerRefusal(s) == nil || has && s.IsUp() {
			left[s.ID()] = has
		}
	}
	var out []uint64
	for range r.Voters() {
		best, found := uint64(0), false
		for id, has := range left {
			better := g.peers[id] < g.peers[best] ||
				g.peers[id] == g.peers[best] && (has && !left[best] || has == left[best] && id < best)
			if !found || better {
				best, found = id, true
			}
		}
		if !found {
			break
		}
		out = append(out, best)
		delete(left, best)
	}
	return out
}

// leastOf is the store with the smallest count, prefer among equals.
func leastOf(stores []uint64, counts map[uint64]int, prefer uint64) uint64 {
	best, found := prefer, false
	for _, id := range stores {
		if !found || counts[id] < counts[best] || counts[id] == counts[best] && id == prefer {
			best, found = id, true
		}
	}
	return best
}

func (c *Controller) scatterSteps(ctx context.Context, r *core.Region, targets []uint64, leader uint64) ([]Step, error) {
	wanted := make(map[uint64]bool)
	var fresh []uint64
	for _, id := range targets {
		wanted[id] = true
		if r.StorePeer(id) == nil {
			fresh = append(fresh, id)
		}
	}
	var moving []*metapb.Peer
	for _, p := range r.Voters() {
		if !wanted[p.StoreId] {
			moving = append(moving, p)
		}
	}
	var steps []Step
	at := r
	for i, p := range moving {
		if i >= len(fresh) {
			break // fewer stores than peers: the rest stays
		}
		id, err := c.cluster.AllocID(ctx)
		if err != nil {
			return nil, fmt.Errorf("an id for a new peer of region %d: %w", r.ID(), err)
		}
		steps = append(steps, replaceSteps(at, p, fresh[i], id)...)
		at = after(at, p, fresh[i], id)
	}
	if at.Leader.StoreId != leader && at.StorePeer(leader) != nil {
		steps = append(steps, TransferLeader{To: leader})
	}
	return steps, nil
}

// after is the region as it will be when a peer has been replaced, for planning
// the next move.
func after(r *core.Region, old *metapb.Peer, store, peer uint64) *core.Region {
	next := *r
	meta := *r.Meta
	meta.Peers = nil
	for _, p := range r.Meta.Peers {
		if p.Id != old.Id {
			meta.Peers = append(meta.Peers, p)
		}
	}
	if r.Leader.Id == old.Id {
		next.Leader = otherVoter(r, old.Id)
	}
	meta.Peers = append(meta.Peers, &metapb.Peer{Id: peer, StoreId: store})
	next.Meta = &meta
	if next.Leader == nil {
		next.Leader = meta.Peers[len(meta.Peers)-1]
	}
	return &next
}
