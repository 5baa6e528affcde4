package schedule

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/copradb/copra/pd/core"
)

type balanceRegionConfig struct {
	Ranges keyRanges `json:"ranges,omitempty"`
}

// balanceRegion moves peers from full stores to empty ones.
type balanceRegion struct{ cfg balanceRegionConfig }

func newBalanceRegion(raw json.RawMessage) (Scheduler, error) {
	b := &balanceRegion{}
	if err := decodeConfig(BalanceRegionName, raw, &b.cfg); err != nil {
		return nil, err
	}
	return b, b.cfg.Ranges.check()
}

func (*balanceRegion) Name() string  { return BalanceRegionName }
func (*balanceRegion) Kind() Kind    { return KindRegion }
func (b *balanceRegion) Config() any { return b.cfg }

func (b *balanceRegion) Schedule(ctx context.Context, c *Controller, room int) int {
	ls, started := c.regionLoads(), 0
	for started < room && ls.sources(func(from *load) bool { return b.giveAway(ctx, c, ls, from) }) {
		started++
	}
	return started
}

// regionLoads is how the peers are spread.
func (c *Controller) regionLoads() *loads {
	o, in, now := c.cluster.Options(), c.influence(), c.now()
	var list []*load
	for _, s := range c.cluster.Stores().All() {
		n, i := c.cluster.Regions().StoreCounts(s.ID()), in[s.ID()]
		l := &load{store: s, scoreOf: regionScore, count: n.Peers + i.peers, adding: i.adding,
			amount: float64(int64(n.PeerBytes)+i.peerBytes) / mib,
			from:   s.IsUp() && s.IsConnected(now) && snapshots(s) < o.MaxSnapshots && c.budgetFor(s.ID(), peersOut),
			to:     c.acceptsPeers(s, i)}
		l.full = !l.to && c.crowded(s)
		if l.from || l.to || l.full {
			list = append(list, l)
		}
	}
	return newLoads(list, o.TolerantSizeRatio)
}

// giveAway moves one peer away from the store: one that does not lead, if there
// is one, since a leader's has to hand over first.
func (b *balanceRegion) giveAway(ctx context.Context, c *Controller, ls *loads, from *load) bool {
	id := from.store.ID()
	candidates := c.cluster.Regions().Sample(id, core.Peers, sampleMax, c.rnd)
	leads := func(r *core.Region) bool { return r.Leader != nil && r.Leader.StoreId == id }
	for _, leading := range []bool{false, true} {
		for _, r := range candidates {
			if leads(r) == leading && b.cfg.Ranges.holds(r) && c.movable(r) && b.place(ctx, c, ls, r, from) {
				return true
			}
		}
	}
	return false
}

// place moves the region's peer to the emptiest store that may have it.
func (b *balanceRegion) place(ctx context.Context, c *Controller, ls *loads, r *core.Region, from *load) bool {
	size, old := float64(r.ScoreBytes())/mib, r.StorePeer(from.store.ID())
	if old == nil {
		return false
	}
	fits := func(to *load) bool { return c.mayReplace(r, old.StoreId, to.store.ID()) }
	for _, to := range slices.Backward(ls.list) {
		if !to.to {
			continue
		}
		if !ls.worth(from, to, size) {
			return false
		}
		if !fits(to) {
			continue
		}
		if ls.detour(from, to, fits) {
			return false
		}
		op, err := c.replace(ctx, "balance-region", KindRegion, r, old, to.store)
		if err != nil {
			c.log.Warn("pd: balance regions", "region", r.ID(), "err", err)
			return false
		}
		if !c.Add(op) {
			return false
		}
		ls.moved(from, to, size)
		to.adding++
		to.to = c.acceptsPeers(to.store, influence{adding: to.adding})
		to.full, from.from = !to.to, c.budgetFor(old.StoreId, peersOut)
		return true
	}
	return false
}

// regionScore is the store's score when its regions have grown or shrunk to so
// many MiB. The free space that it reported is corrected by what was moved since:
// without that a store that had little would get more and more until its next
// report, and give it away again after it.
func regionScore(s *core.Store, mibs float64) float64 {
	free := float64(s.Stats.GetAvailable()) / gib
	if s.StatsPeerBytes > 0 {
		free -= (mibs - float64(s.StatsPeerBytes)/mib) * mib / gib
	}
	return core.RegionScore(mibs, float64(s.Stats.GetCapacity())/gib, max(free, 0), s.RegionWeight)
}
