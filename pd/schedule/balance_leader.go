package schedule

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// balanceLeaderBatchMax is how many leaders a turn may move.
const balanceLeaderBatchMax = 64

type balanceLeaderConfig struct {
	Ranges keyRanges `json:"ranges,omitempty"`
	// Batch is how many leaders one turn moves.
	Batch int `json:"batch"`
}

// balanceLeader moves leaders from stores with many to stores with few.
type balanceLeader struct{ cfg balanceLeaderConfig }

func newBalanceLeader(raw json.RawMessage) (Scheduler, error) {
	b := &balanceLeader{balanceLeaderConfig{Batch: 4}}
	if err := decodeConfig(BalanceLeaderName, raw, &b.cfg); err != nil {
		return nil, err
	}
	if b.cfg.Batch < 1 || b.cfg.Batch > balanceLeaderBatchMax {
		return nil, fmt.Errorf("pd: %s: a batch of %d is outside of 1 to %d", BalanceLeaderName, b.cfg.Batch, balanceLeaderBatchMax)
	}
	return b, b.cfg.Ranges.check()
}

func (*balanceLeader) Name() string  { return BalanceLeaderName }
func (*balanceLeader) Kind() Kind    { return KindLeader }
func (b *balanceLeader) Config() any { return b.cfg }

func (b *balanceLeader) Schedule(_ context.Context, c *Controller, room int) int {
	ls, started := c.leaderLoads(), 0
	for started < min(room, b.cfg.Batch) {
		if !ls.sources(func(from *load) bool { return b.giveAway(c, ls, from) }) &&
			!ls.targets(func(to *load) bool { return b.takeOver(c, ls, to) }) {
			break
		}
		started++
	}
	return started
}

// leaderLoads is how the leaders are spread.
func (c *Controller) leaderLoads() *loads {
	o, in, now := c.cluster.Options(), c.influence(), c.now()
	score := func(s *core.Store, amount float64) float64 { return core.LeaderScore(amount, s.LeaderWeight) }
	var list []*load
	for _, s := range c.cluster.Stores().All() {
		n, i := c.cluster.Regions().StoreCounts(s.ID()), in[s.ID()]
		l := &load{store: s, scoreOf: score, count: n.Leaders + i.leaders,
			from: s.IsUp() && s.IsConnected(now) && !s.LeadersPaused(core.LeadersOut), to: c.acceptsLeaders(s)}
		if l.amount = float64(l.count); o.LeaderPolicy == PolicySize {
			l.amount = float64(int64(n.LeaderBytes)+i.leaderBytes) / mib
		}
		if l.from || l.to {
			list = append(list, l)
		}
	}
	return newLoads(list, o.TolerantSizeRatio)
}

// giveAway moves one leader away from the store.
func (b *balanceLeader) giveAway(c *Controller, ls *loads, from *load) bool {
	for _, r := range c.cluster.Regions().Sample(from.store.ID(), core.Leaders, sampleMax, c.rnd) {
		var best *load
		for _, p := range r.Meta.Peers {
			if to := ls.byID[p.StoreId]; to != nil && to != from && (best == nil || to.score < best.score) && c.votes(r, p) {
				best = to
			}
		}
		if best != nil && b.transfer(c, ls, r, from, best) {
			return true
		}
	}
	return false
}

// takeOver moves one leader to the store.
func (b *balanceLeader) takeOver(c *Controller, ls *loads, to *load) bool {
	for _, r := range c.cluster.Regions().Sample(to.store.ID(), core.Peers, sampleMax, c.rnd) {
		if r.Leader == nil {
			continue
		}
		if from := ls.byID[r.Leader.StoreId]; from != nil && b.transfer(c, ls, r, from, to) {
			return true
		}
	}
	return false
}

func (*balanceLeader) weigh(c *Controller, r *core.Region) float64 {
	if c.cluster.Options().LeaderPolicy == PolicySize {
		return float64(r.ScoreBytes()) / mib
	}
	return 1
}

func (b *balanceLeader) transfer(c *Controller, ls *loads, r *core.Region, from, to *load) bool {
	size := b.weigh(c, r)
	if !ls.worth(from, to, size) || !b.cfg.Ranges.holds(r) || !c.leaderMovable(r) || !c.canLead(r, to.store) || !c.leaderAsWanted(r, to.store) ||
		!c.Add(NewOperator("balance-leader", KindLeader, r, TransferLeader{To: to.store.ID()})) {
		return false
	}
	ls.moved(from, to, size)
	return true
}

// votes reports whether the peer could lead as far as the region tells.
func (c *Controller) votes(r *core.Region, p *metapb.Peer) bool { return isVoter(p) && r.Healthy(p.Id) }
