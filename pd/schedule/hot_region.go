package schedule

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/statistics"
)

// hotPeersMax is how many hot peers of a store are looked at.
const hotPeersMax = 100

// hotRegionConfig has PD's names.
type hotRegionConfig struct {
	// A store is a source above the average times SrcTolerance, and a target
	// below the average divided by DstTolerance.
	SrcTolerance float64 `json:"src-tolerance-ratio"`
	DstTolerance float64 `json:"dst-tolerance-ratio"`
	// GreatDec is how much of the load that the source has left after a move the
	// target may have then: with 1 they may be equal, and never change places.
	GreatDec            float64  `json:"great-dec-ratio"`
	ReadPriorities      []string `json:"read-priorities"`
	WriteLeaderPriority []string `json:"write-leader-priorities"`
	WritePeerPriority   []string `json:"write-peer-priorities"`
	// Forbid turns one kind off: "read", "write" or "none".
	Forbid string `json:"forbid-rw-type"`
}

var dimensionNames = map[string]int{"byte": statistics.Bytes, "key": statistics.Keys, "query": statistics.Queries}

// hotRegion spreads hot regions by moving leaders, or peers, from stores with
// much load to stores with little.
type hotRegion struct {
	cfg   hotRegionConfig
	moves []hotMove
}

// hotMove is a move under way: its effect is counted in until the region's
// report shows it.
type hotMove struct {
	op       *Operator
	kind     statistics.Kind
	from, to uint64
	// leads and bears say whether the leader's and the peer's load move.
	leads, bears bool
	loads        statistics.Loads
}

func newHotRegion(raw json.RawMessage) (Scheduler, error) {
	h := &hotRegion{cfg: hotRegionConfig{SrcTolerance: 1.05, DstTolerance: 1.05, GreatDec: 1,
		ReadPriorities: []string{"query", "byte"}, WriteLeaderPriority: []string{"query", "byte"},
		WritePeerPriority: []string{"byte", "key"}, Forbid: "none"}}
	if err := decodeConfig(HotRegionName, raw, &h.cfg); err != nil {
		return nil, err
	}
	for _, list := range [][]string{h.cfg.ReadPriorities, h.cfg.WriteLeaderPriority, h.cfg.WritePeerPriority} {
		for _, name := range list {
			if _, ok := dimensionNames[name]; !ok {
				return nil, fmt.Errorf("pd: %s: the priority %q is not byte, key or query", HotRegionName, name)
			}
		}
	}
	switch {
	case !slices.Contains([]string{"none", "read", "write"}, h.cfg.Forbid):
		return nil, fmt.Errorf("pd: %s: forbid-rw-type %q is not none, read or write", HotRegionName, h.cfg.Forbid)
	case h.cfg.SrcTolerance < 1 || h.cfg.DstTolerance < 1:
		return nil, fmt.Errorf("pd: %s: a tolerance ratio is at least 1", HotRegionName)
	case h.cfg.GreatDec <= 0 || h.cfg.GreatDec > 1:
		return nil, fmt.Errorf("pd: %s: great-dec-ratio %g is not above 0 and up to 1", HotRegionName, h.cfg.GreatDec)
	}
	return h, nil
}

func (*hotRegion) Name() string  { return HotRegionName }
func (*hotRegion) Kind() Kind    { return KindHot }
func (h *hotRegion) Config() any { return h.cfg }

func (h *hotRegion) Schedule(ctx context.Context, c *Controller, room int) int {
	c.hot.Record(c.now())
	started := 0
	for started < room && h.one(ctx, c) {
		started++
	}
	return started
}

// one starts one move. A leader moves at once, a peer needs a snapshot.
func (h *hotRegion) one(ctx context.Context, c *Controller) bool {
	if h.cfg.Forbid != "read" {
		if h.solve(ctx, c, hotProblem{kind: statistics.Read, leads: true, bears: true, priorities: h.cfg.ReadPriorities}) ||
			h.solve(ctx, c, hotProblem{kind: statistics.Read, peers: true, leads: true, bears: true, priorities: h.cfg.ReadPriorities}) {
			return true
		}
	}
	if h.cfg.Forbid == "write" {
		return false
	}
	return h.solve(ctx, c, hotProblem{kind: statistics.Write, leads: true, priorities: h.cfg.WriteLeaderPriority}) ||
		h.solve(ctx, c, hotProblem{kind: statistics.Write, peers: true, bears: true, priorities: h.cfg.WritePeerPriority})
}

// hotProblem is one kind of unevenness and one way to cure it: reads are borne
// by the leader, and both its leadership and its peer can move; writes are borne
// by all peers, and more so by the leader.
type hotProblem struct {
	kind         statistics.Kind
	peers        bool // move peers, not leaders
	leads, bears bool // the load that moves: the leader's, the peer's
	priorities   []string
}

// hotStore is a store's load with the moves under way counted in.
type hotStore struct {
	store    *core.Store
	loads    statistics.Loads
	from, to bool
}

func (h *hotRegion) solve(ctx context.Context, c *Controller, p hotProblem) bool {
	stores, mean := h.stores(c, p)
	for _, name := range p.priorities {
		dim := dimensionNames[name]
		slices.SortStableFunc(stores, func(a, b *hotStore) int { return cmp.Compare(b.loads[dim], a.loads[dim]) })
		for _, from := range stores {
			if from.loads[dim] <= mean[dim]*h.cfg.SrcTolerance {
				break
			}
			if from.from && h.relieve(ctx, c, p, dim, from, stores, mean) {
				return true
			}
		}
	}
	return false
}

func (h *hotRegion) stores(c *Controller, p hotProblem) ([]*hotStore, statistics.Loads) {
	h.forgetMoves(c)
	in := c.influence()
	var out []*hotStore
	var sum statistics.Loads
	for _, s := range c.cluster.Stores().All() {
		if !s.IsUp() || !s.IsConnected(c.now()) {
			continue
		}
		st := &hotStore{store: s, from: !p.leads || !s.LeadersPaused(core.LeadersOut), to: c.acceptsLeaders(s)}
		if p.peers {
			st.to = (st.to || !p.leads) && c.acceptsPeers(s, in[s.ID()])
		}
		st.loads = c.hot.Load(s.ID(), p.kind, !p.bears).Plus(h.pending(p, s.ID()), 1)
		out = append(out, st)
		sum = sum.Plus(st.loads, 1)
	}
	return out, statistics.Loads{}.Plus(sum, 1/float64(max(len(out), 1)))
}

// pending is what moves will add to the store's load.
func (h *hotRegion) pending(p hotProblem, store uint64) statistics.Loads {
	var out statistics.Loads
	for _, m := range h.moves {
		if m.kind != p.kind || !(m.leads && p.leads || m.bears && p.bears) {
			continue
		}
		switch store {
		case m.from:
			out = out.Plus(m.loads, -1)
		case m.to:
			out = out.Plus(m.loads, 1)
		}
	}
	return out
}

func (h *hotRegion) forgetMoves(c *Controller) {
	h.moves = slices.DeleteFunc(h.moves, func(m hotMove) bool {
		rec, ok := c.Status(m.op.Region)
		return !ok || rec.Op != m.op || rec.Status != pdpb.OperatorStatus_RUNNING
	})
}

// relieve moves one hot region away from the store.
func (h *hotRegion) relieve(ctx context.Context, c *Controller, p hotProblem, dim int, from *hotStore, stores []*hotStore, mean statistics.Loads) bool {
	for _, peer := range c.hot.Caches[p.kind].Peers(from.store.ID(), dim, hotPeersMax) {
		if peer.Degree < c.cluster.Options().HotCacheHits || p.leads && !peer.Leader {
			continue
		}
		r := c.cluster.Regions().ByID(peer.RegionID)
		if r == nil || !h.movable(c, p, r, from.store.ID()) {
			continue
		}
		var best *hotStore
		for _, to := range stores {
			if to.to && (best == nil || to.loads[dim] < best.loads[dim]) && h.helps(from, to, peer.Loads, dim, mean) && h.fits(c, p, r, from, to) {
				best = to
			}
		}
		if best != nil && h.start(ctx, c, p, r, peer, best) {
			return true
		}
	}
	return false
}

func (h *hotRegion) movable(c *Controller, p hotProblem, r *core.Region, from uint64) bool {
	if p.leads && (r.Leader == nil || r.Leader.StoreId != from) {
		return false
	}
	if p.peers {
		return c.movable(r) && r.StorePeer(from) != nil
	}
	return c.leaderMovable(r)
}

func (h *hotRegion) fits(c *Controller, p hotProblem, r *core.Region, from, to *hotStore) bool {
	if p.peers {
		return c.mayReplace(r, from.store.ID(), to.store.ID())
	}
	return c.canLead(r, to.store) && c.leaderAsWanted(r, to.store)
}

// helps reports whether a move makes the two stores clearly more even in one
// dimension and does not make the target a source in another.
func (h *hotRegion) helps(from, to *hotStore, load statistics.Loads, dim int, mean statistics.Loads) bool {
	if from == to || to.loads[dim] > mean[dim]/h.cfg.DstTolerance ||
		to.loads[dim]+load[dim] > (from.loads[dim]-load[dim])*h.cfg.GreatDec {
		return false
	}
	for d := range load {
		if d != dim && to.loads[d]+load[d] > max(mean[d]*h.cfg.SrcTolerance, from.loads[d]) {
			return false
		}
	}
	return true
}

func (h *hotRegion) start(ctx context.Context, c *Controller, p hotProblem, r *core.Region, peer statistics.HotPeer, to *hotStore) bool {
	var op *Operator
	if !p.peers {
		op = NewOperator("transfer-hot-"+p.kind.String()+"-leader", KindHot, r, TransferLeader{To: to.store.ID()})
	} else {
		var err error
		op, err = c.replace(ctx, "move-hot-"+p.kind.String()+"-peer", KindHot, r, r.StorePeer(peer.StoreID), to.store)
		if err != nil {
			c.log.Warn("pd: move a hot region", "region", r.ID(), "err", err)
			return false
		}
		if p.leads { // the load goes where the leader goes
			op.Steps = append(op.Steps, TransferLeader{To: to.store.ID()})
		}
	}
	if !c.Add(op) {
		return false
	}
	h.moves = append(h.moves, hotMove{op: op, kind: p.kind, from: peer.StoreID, to: to.store.ID(),
		leads: p.leads, bears: p.bears, loads: peer.Loads})
	return true
}

// Observe takes in a region's heartbeat for the statistics.
func (c *Controller) Observe(r *core.Region) { c.hot.Observe(r, c.now()) }

// ObserveStore takes in a store's heartbeat for the statistics.
func (c *Controller) ObserveStore(stats *pdpb.StoreStats) { c.hot.ObserveStore(stats) }

// Statistics is what is known of the load.
func (c *Controller) Statistics() *statistics.Hot { return c.hot }
