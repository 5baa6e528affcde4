package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/copradb/copra/pd/core"
)

// evictBatchMax is how many leaders of a store a turn may move.
const evictBatchMax = 64

// storesConfig names stores, each with the ranges that it is about.
type storesConfig struct {
	Stores map[uint64]keyRanges `json:"store-id-ranges"`
	// Batch is how many leaders of each store one turn moves.
	Batch int `json:"batch,omitempty"`
}

func decodeStores(name string, raw json.RawMessage) (storesConfig, error) {
	var cfg storesConfig
	if err := decodeConfig(name, raw, &cfg); err != nil {
		return cfg, err
	}
	if cfg.Batch == 0 {
		cfg.Batch = 4
	}
	if cfg.Batch < 1 || cfg.Batch > evictBatchMax {
		return cfg, fmt.Errorf("pd: %s: a batch of %d is outside of 1 to %d", name, cfg.Batch, evictBatchMax)
	}
	if len(cfg.Stores) == 0 {
		return cfg, fmt.Errorf("pd: %s: it names no store", name)
	}
	for id, ranges := range cfg.Stores {
		if err := ranges.check(); err != nil {
			return cfg, fmt.Errorf("pd: %s: store %d: %w", name, id, err)
		}
	}
	return cfg, nil
}

// ids are the stores in order.
func (cfg storesConfig) ids() []uint64 {
	out := make([]uint64, 0, len(cfg.Stores))
	for id := range cfg.Stores {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func (cfg storesConfig) check(c *Controller) error {
	for _, id := range cfg.ids() {
		if s := c.cluster.Stores().Get(id); s == nil || s.IsTombstone() {
			return fmt.Errorf("there is no store %d", id)
		}
	}
	return nil
}

// held are stores that leaders are kept from coming to, or from leaving.
type held struct{ ids []uint64 }

func (h *held) hold(c *Controller, ids []uint64, d core.Direction) {
	for _, id := range ids {
		if c.cluster.Stores().PauseLeaders(id, d) {
			h.ids = append(h.ids, id)
		}
	}
}

func (h *held) release(c *Controller, d core.Direction) {
	for _, id := range h.ids {
		c.cluster.Stores().ResumeLeaders(id, d)
	}
	h.ids = nil
}

// evictLeader moves all leaders off some stores and lets none come: before
// maintenance.
type evictLeader struct {
	cfg storesConfig
	held
}

func newEvictLeader(raw json.RawMessage) (Scheduler, error) {
	cfg, err := decodeStores(EvictLeaderName, raw)
	return &evictLeader{cfg: cfg}, err
}

func (*evictLeader) Name() string                { return EvictLeaderName }
func (*evictLeader) Kind() Kind                  { return KindLeader }
func (e *evictLeader) Config() any               { return e.cfg }
func (e *evictLeader) check(c *Controller) error { return e.cfg.check(c) }
func (e *evictLeader) start(c *Controller) error {
	e.hold(c, e.cfg.ids(), core.LeadersIn)
	if len(e.ids) == 0 {
		return errors.New("pd: " + EvictLeaderName + ": none of its stores is there any more")
	}
	return nil
}
func (e *evictLeader) stop(c *Controller) { e.release(c, core.LeadersIn) }

func (e *evictLeader) Schedule(_ context.Context, c *Controller, room int) int {
	started := 0
	for _, id := range e.cfg.ids() {
		started += c.evict(id, e.cfg.Stores[id], "evict-leader", min(room-started, e.cfg.Batch))
	}
	return started
}

// evict moves up to n leaders off the store and returns how many.
func (c *Controller) evict(id uint64, ranges keyRanges, desc string, n int) int {
	if n <= 0 {
		return 0
	}
	var candidates []*core.Region
	if len(ranges) == 0 {
		candidates = c.cluster.Regions().Sample(id, core.Leaders, max(sampleMax, 4*n), c.rnd)
	} else {
		candidates = c.cluster.Regions().StoreLeaders(id)
	}
	ls, started := c.leaderLoads(), 0
	for _, r := range candidates {
		if started == n {
			break
		}
		if !ranges.holds(r) || !c.leaderMovable(r) {
			continue
		}
		if to := c.nextLeader(r, ls); to != nil && c.Add(NewOperator(desc, KindLeader, r, TransferLeader{To: to.store.ID()})) {
			to.move(1, 1)
			started++
		}
	}
	return started
}

// nextLeader is the store that should lead the region instead of the one that
// does: that with the fewest leaders.
func (c *Controller) nextLeader(r *core.Region, ls *loads) *load {
	var best *load
	for _, p := range r.Meta.Peers {
		l := ls.byID[p.StoreId]
		if l != nil && l.to && p.StoreId != r.Leader.StoreId && (best == nil || l.score < best.score) && c.canLead(r, l.store) {
			best = l
		}
	}
	return best
}

// grantLeader moves leaders to some stores wherever they have a peer, and keeps
// them there.
type grantLeader struct {
	cfg storesConfig
	held
}

func newGrantLeader(raw json.RawMessage) (Scheduler, error) {
	cfg, err := decodeStores(GrantLeaderName, raw)
	return &grantLeader{cfg: cfg}, err
}

func (*grantLeader) Name() string                { return GrantLeaderName }
func (*grantLeader) Kind() Kind                  { return KindLeader }
func (g *grantLeader) Config() any               { return g.cfg }
func (g *grantLeader) check(c *Controller) error { return g.cfg.check(c) }
func (g *grantLeader) start(c *Controller) error {
	g.hold(c, g.cfg.ids(), core.LeadersOut)
	if len(g.ids) == 0 {
		return errors.New("pd: " + GrantLeaderName + ": none of its stores is there any more")
	}
	return nil
}
func (g *grantLeader) stop(c *Controller) { g.release(c, core.LeadersOut) }

func (g *grantLeader) Schedule(_ context.Context, c *Controller, room int) int {
	started := 0
	for _, id := range g.cfg.ids() {
		started += g.grant(c, id, min(room-started, g.cfg.Batch))
	}
	return started
}

func (g *grantLeader) grant(c *Controller, id uint64, n int) int {
	to, counts := c.cluster.Stores().Get(id), c.cluster.Regions().StoreCounts(id)
	if to == nil || n <= 0 || counts.Leaders == counts.Peers {
		return 0
	}
	started := 0
	for _, r := range c.cluster.Regions().StoreRegions(id) {
		if started == n {
			break
		}
		if r.Leader == nil || r.Leader.StoreId == id || !g.cfg.Stores[id].holds(r) || g.keeps(r.Leader.StoreId) ||
			!c.leaderMovable(r) || !c.canLead(r, to) {
			continue
		}
		if c.Add(NewOperator("grant-leader", KindLeader, r, TransferLeader{To: id})) {
			started++
		}
	}
	return started
}

// keeps reports whether the store is granted leaders, too.
func (g *grantLeader) keeps(id uint64) bool {
	_, ok := g.cfg.Stores[id]
	return ok
}
