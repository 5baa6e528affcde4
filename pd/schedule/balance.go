package schedule

import (
	"context"
	"sort"

	"github.com/copradb/copra/pd/core"
)

const (
	// balanceDiff is from which difference between two stores on one thing is
	// moved: with less, the two would only swap places.
	balanceDiff = 2
	// sampleMax is how many regions of a store are looked at for one to move.
	sampleMax = 64
)

// Balance starts as many moves of leaders and peers as the limits allow.
func (c *Controller) Balance(ctx context.Context) {
	o := c.cluster.Options()
	if o.DisableBalance || !c.Prepared() {
		return
	}
	for range o.LeaderLimit {
		if op := c.balanceLeader(); op == nil || !c.Add(op) {
			break
		}
	}
	for range o.RegionLimit {
		if op := c.balanceRegion(ctx); op == nil || !c.Add(op) {
			break
		}
	}
}

type scored struct {
	store *core.Store
	score int
}

// ranking returns the stores that pass, the fullest first.
func (c *Controller) ranking(pass func(*core.Store) bool, score func(*core.Store) int) []scored {
	var out []scored
	for _, s := range c.cluster.Stores().All() {
		if pass(s) {
			out = append(out, scored{s, score(s)})
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].score > out[j].score })
	return out
}

// pairs calls try for a full and an empty store at a time, the most uneven
// first, until one pair has something to move.
func pairs(ranking []scored, try func(from, to *core.Store) *Operator) *Operator {
	for _, from := range ranking {
		for j := len(ranking) - 1; j >= 0 && from.score-ranking[j].score >= balanceDiff; j-- {
			if op := try(from.store, ranking[j].store); op != nil {
				return op
			}
		}
	}
	return nil
}

// balanceLeader moves a leader from a store with many to one with few.
func (c *Controller) balanceLeader() *Operator {
	in, now := c.influence(), c.now()
	ranking := c.ranking(
		func(s *core.Store) bool { return takesLeaders(s, now) },
		func(s *core.Store) int {
			return c.cluster.Regions().StoreCounts(s.ID()).Leaders + in[s.ID()].leaders
		})
	return pairs(ranking, func(from, to *core.Store) *Operator {
		for _, r := range c.cluster.Regions().Sample(from.ID(), core.Leaders, sampleMax, c.rnd) {
			p := r.StorePeer(to.ID())
			if isVoter(p) && r.Healthy(p.Id) && !r.InJoint() && !r.ReportedAt.IsZero() && !c.busy(r.ID()) {
				return NewOperator("balance-leader", KindLeader, r, TransferLeader{To: to.ID()})
			}
		}
		return nil
	})
}

// balanceRegion moves a peer from a store with many to one with few.
func (c *Controller) balanceRegion(ctx context.Context) *Operator {
	in, now, o := c.influence(), c.now(), c.cluster.Options()
	ranking := c.ranking(
		func(s *core.Store) bool { return takesPeers(s, now) },
		func(s *core.Store) int {
			return c.cluster.Regions().StoreCounts(s.ID()).Peers + in[s.ID()].peers
		})
	return pairs(ranking, func(from, to *core.Store) *Operator {
		if in[to.ID()].adding >= o.StoreLimit {
			return nil
		}
		for _, r := range c.cluster.Regions().Sample(from.ID(), core.Peers, sampleMax, c.rnd) {
			if !isWhole(r, o.Replicas) || r.StorePeer(to.ID()) != nil || c.busy(r.ID()) {
				continue
			}
			op, err := c.replace(ctx, "balance-region", KindRegion, r, r.StorePeer(from.ID()), to)
			if err != nil {
				c.log.Warn("pd: balance regions", "region", r.ID(), "err", err)
				return nil
			}
			return op
		}
		return nil
	})
}
