package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/copradb/copra/pd/core"
)

// scatterRangeRegionsMax is how many regions of its range scatter-range looks
// at; they are all read in each turn.
const scatterRangeRegionsMax = 1 << 16

type scatterRangeConfig struct {
	Name  string `json:"range-name"`
	Start hexKey `json:"start-key"`
	End   hexKey `json:"end-key"`
}

// scatterRange spreads the leaders and peers of one range of keys evenly over
// all stores, whatever else they hold.
type scatterRange struct{ cfg scatterRangeConfig }

func newScatterRange(raw json.RawMessage) (Scheduler, error) {
	s := &scatterRange{}
	if err := decodeConfig(ScatterRangeName, raw, &s.cfg); err != nil {
		return nil, err
	}
	if s.cfg.Name == "" {
		return nil, errors.New("pd: " + ScatterRangeName + ": the range has no name")
	}
	return s, keyRanges{{s.cfg.Start, s.cfg.End}}.check()
}

func scatterRangeArgs(have json.RawMessage, args []string) (json.RawMessage, error) {
	if len(args) != 3 {
		return nil, fmt.Errorf("%w: it needs a start key, an end key and a name, not %q", errArguments, args)
	}
	return mergeJSON(have, map[string]any{"start-key": args[0], "end-key": args[1], "range-name": args[2]})
}

func (s *scatterRange) Name() string { return ScatterRangeName + "-" + s.cfg.Name }
func (*scatterRange) Kind() Kind     { return KindRegion }
func (s *scatterRange) Config() any  { return s.cfg }

// Schedule waits until the operators of its range are through: then what it
// counts is how things are.
func (s *scatterRange) Schedule(ctx context.Context, c *Controller, room int) int {
	regions := c.cluster.Regions().Scan(s.cfg.Start, s.cfg.End, scatterRangeRegionsMax)
	peers, leaders := map[uint64]int{}, map[uint64]int{}
	for _, r := range regions {
		if r.Leader == nil || c.busy(r.ID()) {
			return 0
		}
		leaders[r.Leader.StoreId]++
		for _, p := range r.Meta.Peers {
			peers[p.StoreId]++
		}
	}
	started := s.spreadPeers(ctx, c, regions, peers, room)
	return started + s.spreadLeaders(c, regions, leaders, room-started)
}

func (s *scatterRange) loads(c *Controller, counts map[uint64]int, takes func(*core.Store) bool) *loads {
	count := func(_ *core.Store, n float64) float64 { return n }
	var list []*load
	for _, st := range c.cluster.Stores().All() {
		list = append(list, &load{store: st, scoreOf: count, amount: float64(counts[st.ID()]), count: counts[st.ID()],
			from: st.IsUp() && st.IsConnected(c.now()), to: takes(st)})
	}
	return newLoads(list, 1)
}

func (s *scatterRange) spreadPeers(ctx context.Context, c *Controller, regions []*core.Region, counts map[uint64]int, room int) int {
	in, started := c.influence(), 0
	ls := s.loads(c, counts, func(st *core.Store) bool { return c.acceptsPeers(st, in[st.ID()]) })
	for _, r := range regions {
		if started >= room || !c.movable(r) {
			continue
		}
		for _, p := range r.Meta.Peers {
			from, to := ls.byID[p.StoreId], ls.lowest()
			if from == nil || to == nil || !ls.worth(from, to, 1) || !c.mayReplace(r, p.StoreId, to.store.ID()) {
				continue
			}
			op, err := c.replace(ctx, "scatter-range-region", KindRegion, r, p, to.store)
			if err == nil && c.Add(op) {
				ls.moved(from, to, 1)
				started++
				break
			}
		}
	}
	return started
}

func (s *scatterRange) spreadLeaders(c *Controller, regions []*core.Region, counts map[uint64]int, room int) int {
	ls, started := s.loads(c, counts, c.acceptsLeaders), 0
	for _, r := range regions {
		if started >= room || !c.leaderMovable(r) {
			continue
		}
		from, to := ls.byID[r.Leader.StoreId], c.nextLeader(r, ls)
		if from == nil || to == nil || !ls.worth(from, to, 1) {
			continue
		}
		if c.Add(NewOperator("scatter-range-leader", KindRegion, r, TransferLeader{To: to.store.ID()})) {
			ls.moved(from, to, 1)
			started++
		}
	}
	return started
}
