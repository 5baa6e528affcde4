package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

// memStorage keeps schedulers in memory.
type memStorage map[string][]byte

func (m memStorage) SaveScheduler(_ context.Context, name string, value []byte) error {
	if len(value) == 0 {
		delete(m, name)
	} else {
		m[name] = value
	}
	return nil
}

func (m memStorage) LoadSchedulers(context.Context) (map[string][]byte, error) {
	return maps.Clone(m), nil
}

// schedulerSim is a sim with n stores and regions on the first three, with all
// that balances by default switched off, and without merges.
func schedulerSim(t *testing.T, stores, regions int) *sim {
	s := newSim(t)
	s.options.DisableBalance, s.options.MergeLimit = true, -1
	for i := range stores {
		s.addStore(uint64(i + 1))
	}
	for i := range regions {
		start, end := fmt.Sprintf("%04d", i), fmt.Sprintf("%04d", i+1)
		if i == 0 {
			start = ""
		}
		if i == regions-1 {
			end = ""
		}
		s.addRegion(uint64(i+1), start, end, []uint64{1, 2, 3})
	}
	return s
}

func (s *sim) leadersOf(store uint64) int { return s.regions.StoreCounts(store).Leaders }

func (s *sim) add(name string, args ...string) {
	s.t.Helper()
	if err := s.ctl.AddScheduler(context.Background(), name, args); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) remove(name string) {
	s.t.Helper()
	if err := s.ctl.RemoveScheduler(context.Background(), name); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sim) want(what string, got, want int) {
	s.t.Helper()
	if got != want {
		s.t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

func TestEvictLeader(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.options.DisableBalance = false
	s.rounds(40)
	s.want("leaders of store 1 after balance", s.leadersOf(1), 10)
	s.add(EvictLeaderName, "1")
	s.rounds(40)
	s.want("leaders of store 1 while evicted", s.leadersOf(1), 0)
	s.want("leaders of store 2", s.leadersOf(2), 15)
	// Another store joins those that are evicted, in the same scheduler.
	s.add(EvictLeaderName, "2")
	s.rounds(60)
	s.want("leaders of store 3", s.leadersOf(3), 30)
	s.remove(EvictLeaderName)
	s.rounds(100)
	for id := uint64(1); id <= 3; id++ {
		s.want("leaders after the eviction", s.leadersOf(id), 10)
	}
}

// TestEvictLeaderRange leaves the leaders outside of the range where they are.
func TestEvictLeaderRange(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.add(EvictLeaderName, "1", hexOf("0010"), hexOf("0020"))
	s.rounds(30)
	s.want("leaders of store 1", s.leadersOf(1), 20)
	for id := uint64(11); id <= 20; id++ {
		if s.leaders[id] == 1 {
			t.Errorf("region %d lies in the range and is led by store 1", id)
		}
	}
}

func TestGrantLeader(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.options.DisableBalance = false
	s.add(GrantLeaderName, "2")
	s.rounds(80)
	s.want("leaders of store 2", s.leadersOf(2), 30)
	s.remove(GrantLeaderName)
	s.rounds(80)
	s.want("leaders of store 2 afterwards", s.leadersOf(2), 10)
}

func (s *sim) setSlow(id, score uint64) {
	next := *s.stores.Get(id)
	next.Stats = &pdpb.StoreStats{StoreId: id, SlowScore: score}
	s.stores.Put(&next)
}

func TestEvictSlowStore(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.options.DisableBalance = false
	s.rounds(40)
	s.setSlow(1, 100)
	s.rounds(40)
	s.want("leaders of the slow store", s.leadersOf(1), 0)
	s.setSlow(1, 1)
	s.rounds(60)
	s.want("leaders before it has recovered", s.leadersOf(1), 0)
	s.now = s.now.Add(defaultSlowRecovery)
	s.rounds(60)
	s.want("leaders after it has recovered", s.leadersOf(1), 10)
}

// TestManySlowStores moves nothing where the whole cluster is slow.
func TestManySlowStores(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.setSlow(1, 100)
	s.setSlow(2, 100)
	s.rounds(40)
	s.want("leaders of store 1", s.leadersOf(1), 30)
}

func TestShuffle(t *testing.T) {
	for _, name := range []string{ShuffleLeaderName, ShuffleRegionName} {
		s := schedulerSim(t, 4, 12)
		s.add(name)
		s.rounds(100)
		moved := 0
		for id, m := range s.truth {
			if s.leaders[id] != 1 || !slices.ContainsFunc(m.Peers, func(p *metapb.Peer) bool { return p.StoreId == 1 }) {
				moved++
			}
		}
		if moved < 4 {
			t.Errorf("%s: only %d regions moved", name, moved)
		}
		s.remove(name)
		s.rounds(20)
		for _, r := range s.regions.Scan(nil, nil, 0) {
			if len(r.Meta.Peers) != 3 || r.InJoint() {
				t.Errorf("%s left region %d with %v", name, r.ID(), r.Meta.Peers)
			}
		}
	}
}

// TestScatterRange spreads a range over all stores although the rest stays.
func TestScatterRange(t *testing.T) {
	s := schedulerSim(t, 6, 40)
	s.add(ScatterRangeName, hexOf("0010"), hexOf("0022"), "t")
	s.rounds(200)
	peers, leaders := map[uint64]int{}, map[uint64]int{}
	for id, m := range s.truth {
		in := id > 10 && id <= 22
		if on := slices.ContainsFunc(m.Peers, func(p *metapb.Peer) bool { return p.StoreId > 3 }); on && !in {
			t.Errorf("region %d is not in the range and moved", id)
		}
		if !in {
			continue
		}
		leaders[s.leaders[id]]++
		for _, p := range m.Peers {
			peers[p.StoreId]++
		}
	}
	for id := uint64(1); id <= 6; id++ {
		if peers[id] < 5 || peers[id] > 7 || leaders[id] < 1 || leaders[id] > 3 {
			t.Errorf("store %d has %d peers and %d leaders of the range; 6 and 2 are even", id, peers[id], leaders[id])
		}
	}
	if names := names(s.ctl); !slices.Contains(names, "scatter-range-t") {
		t.Errorf("schedulers: %v", names)
	}
}

// TestHotReads has five busy regions on one store; they spread by transfers of
// leaders, one each, and then stay.
func TestHotReads(t *testing.T) {
	s := schedulerSim(t, 3, 12)
	s.rounds(2)
	heat := func() {
		loads := map[uint64]uint64{}
		for id := uint64(1); id <= 6; id++ {
			r := *s.regions.ByID(id)
			r.IntervalSeconds, r.ReadBytes, r.ReadKeys, r.ReadQueries = 60, 60<<20, 60_000, 60_000
			s.ctl.Observe(&r)
			loads[r.Leader.StoreId]++
		}
		for id := uint64(1); id <= 3; id++ {
			s.ctl.ObserveStore(&pdpb.StoreStats{StoreId: id, Interval: &pdpb.TimeInterval{StartTimestamp: 0, EndTimestamp: 60},
				BytesRead: loads[id] * 60 << 20, KeysRead: loads[id] * 60_000, QueryStats: &pdpb.QueryStats{Get: loads[id] * 60_000}})
		}
	}
	s.options.DisableBalance = false
	for _, name := range []string{BalanceLeaderName, BalanceRegionName} {
		if err := s.ctl.PauseScheduler(name, time.Hour*24); err != nil {
			t.Fatal(err)
		}
	}
	minutes := func(n int) {
		for range n {
			s.now = s.now.Add(time.Minute)
			heat()
			s.rounds(3)
		}
	}
	minutes(2)
	s.want("leaders of store 1 before the load is sure", s.leadersOf(1), 12)
	minutes(25)
	hot := map[uint64]int{}
	for id := uint64(1); id <= 6; id++ {
		hot[s.leaders[id]]++
	}
	for id := uint64(1); id <= 3; id++ {
		s.want(fmt.Sprintf("hot leaders of store %d", id), hot[id], 2)
	}
	s.want("leaders of store 1: the cold ones stay", s.leadersOf(1), 8)
	if h := s.ctl.Statistics().History.Between(time.Unix(0, 0), s.now.Add(1)); len(h) == 0 {
		t.Error("no history of hot regions")
	}
}

func TestSchedulerSettings(t *testing.T) {
	ctx, storage := context.Background(), memStorage{}
	s := schedulerSim(t, 3, 3)
	if err := s.ctl.LoadSchedulers(ctx, storage); err != nil {
		t.Fatal(err)
	}
	s.add(EvictLeaderName, "2")
	s.add(EvictLeaderName, "3", "61", "62")
	s.add(ScatterRangeName, "61", "", "x")
	s.add(ShuffleLeaderName)
	s.remove(ShuffleLeaderName)
	s.remove(HotRegionName)
	if err := s.ctl.SetSchedulerConfig(ctx, BalanceLeaderName, json.RawMessage(`{"batch": 7}`)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{s.ctl.AddScheduler(ctx, "balance-everything", nil), "there is no scheduler"},
		{s.ctl.AddScheduler(ctx, BalanceLeaderName, nil), "exists already"},
		{s.ctl.AddScheduler(ctx, GrantLeaderName, nil), "needs a store's id"},
		{s.ctl.AddScheduler(ctx, GrantLeaderName, []string{"0"}), "no store's id"},
		{s.ctl.AddScheduler(ctx, GrantLeaderName, []string{"77"}), "there is no store 77"},
		{s.ctl.AddScheduler(ctx, ShuffleLeaderName, []string{"61"}), "has no end key"},
		{s.ctl.AddScheduler(ctx, ShuffleLeaderName, []string{"zz", "61"}), "not hexadecimal"},
		{s.ctl.AddScheduler(ctx, ShuffleLeaderName, []string{"62", "61"}), "is empty"},
		{s.ctl.AddScheduler(ctx, ScatterRangeName, []string{"61"}), "a start key, an end key and a name"},
		{s.ctl.RemoveScheduler(ctx, GrantLeaderName), "does not run"},
		{s.ctl.PauseScheduler(GrantLeaderName, time.Second), "does not run"},
		{s.ctl.PauseScheduler(BalanceLeaderName, -1), "a pause of"},
		{s.ctl.SetSchedulerConfig(ctx, BalanceLeaderName, json.RawMessage(`{"batch": 0}`)), "outside of 1 to"},
		{s.ctl.SetSchedulerConfig(ctx, BalanceLeaderName, json.RawMessage(`{"btach": 1}`)), "unknown field"},
		{s.ctl.SetSchedulerConfig(ctx, EvictLeaderName, json.RawMessage(`{"store-id-ranges": {"9": []}}`)), "no store 9"},
		{s.ctl.SetSchedulerConfig(ctx, EvictSlowStoreName, json.RawMessage(`[]`)), "no JSON object"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("got %v, want %q", c.err, c.want)
		}
	}
	if !errors.Is(s.ctl.AddScheduler(ctx, BalanceLeaderName, nil), ErrSchedulerExists) {
		t.Error("no ErrSchedulerExists")
	}
	// PD's next leader has the same schedulers, and holds the same stores.
	next := newController(s, s.ctl.log, nil, s.ctl.now)
	if err := next.LoadSchedulers(ctx, storage); err != nil {
		t.Fatal(err)
	}
	want := []string{BalanceLeaderName, BalanceRegionName, EvictLeaderName, EvictSlowStoreName, "scatter-range-x"}
	for _, c := range []*Controller{s.ctl, next} {
		if got := names(c); !slices.Equal(got, want) {
			t.Errorf("schedulers are %v", got)
		}
		for name, config := range map[string]string{
			BalanceLeaderName: `{"batch":7}`,
			EvictLeaderName:   `{"store-id-ranges":{"2":null,"3":[{"start-key":"61","end-key":"62"}]},"batch":4}`,
			"scatter-range-x": `{"range-name":"x","start-key":"61","end-key":""}`,
		} {
			if got, err := c.SchedulerConfig(name); err != nil || string(got) != config {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		}
	}
	if !s.stores.Get(2).LeadersPaused(core.LeadersIn) {
		t.Error("store 2 may get leaders")
	}
}

// TestPauseScheduler gives no turns for a while, by name or to all.
func TestPauseScheduler(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.options.DisableBalance = false
	if err := s.ctl.PauseScheduler("all", time.Minute); err != nil {
		t.Fatal(err)
	}
	s.rounds(30)
	s.want("leaders of store 1 in the pause", s.leadersOf(1), 30)
	if info := s.ctl.ListSchedulers()[0]; info.Status != "paused" {
		t.Errorf("%+v", info)
	}
	s.rounds(80)
	s.want("leaders of store 1 after it", s.leadersOf(1), 10)
}

// TestDisableBalance stops what balances, not what somebody asked for.
func TestDisableBalance(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	s.rounds(20)
	s.want("leaders of store 1", s.leadersOf(1), 30)
	for _, info := range s.ctl.ListSchedulers() {
		if want := map[bool]string{true: "running", false: "disabled"}[info.Name == EvictSlowStoreName]; info.Status != want {
			t.Errorf("%s is %s", info.Name, info.Status)
		}
	}
	s.add(EvictLeaderName, "1")
	s.rounds(40)
	s.want("leaders of store 1 evicted", s.leadersOf(1), 0)
}

// TestMetrics reads a few figures by PD's names.
func TestMetrics(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	m := NewMetrics()
	s.ctl.UseMetrics(m)
	s.add(EvictLeaderName, "1")
	s.rounds(40)
	s.ctl.ReportStores()
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, v := range f.Metric {
			name := f.GetName()
			for _, l := range v.Label {
				name += " " + l.GetValue()
			}
			got[name] = v.GetGauge().GetValue() + v.GetCounter().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"pd_scheduler_store_status s1 1 leader_count":         0,
		"pd_scheduler_store_status s2 2 leader_count":         15,
		"pd_scheduler_store_status s2 2 region_score":         30,
		"pd_hotspot_status s1 1 hot_read_region_as_leader":    0,
		"pd_scheduler_status " + EvictLeaderName + " allow":   1,
		"pd_scheduler_status " + BalanceLeaderName + " allow": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", name, v, ok, want)
		}
	}
	if got["pd_scheduler_event_count new-operator "+EvictLeaderName] < 5 {
		t.Errorf("turns: %v", got)
	}
}

// TestInfluenceIsKeptUp compares the totals with what the operators under way
// amount to, in the midst of balance.
func TestInfluenceIsKeptUp(t *testing.T) {
	s := schedulerSim(t, 6, 60)
	s.options.DisableBalance = false
	for i := range 60 {
		s.slow = i%7 != 0
		s.round()
		want := map[uint64]influence{}
		running := [kindCount]int{}
		for id, op := range s.ctl.ops {
			running[op.Kind]++
			for _, sh := range op.influences(s.regions.ByID(id), nil) {
				want[sh.store] = want[sh.store].plus(sh.influence, 1)
			}
		}
		maps.DeleteFunc(want, func(_ uint64, v influence) bool { return v == influence{} })
		if got := s.ctl.influence(); !maps.Equal(got, want) || running != s.ctl.running {
			t.Fatalf("round %d: %v and %v are kept, %v and %v are under way", i, got, s.ctl.running, want, running)
		}
	}
	if len(s.ctl.records) == 0 {
		t.Fatal("nothing was moved")
	}
}

// hexOf is a region's boundary as schedulers take it.
func hexOf(key string) string { return fmt.Sprintf("%x", codec.EncodeBytes(nil, []byte(key))) }

func names(c *Controller) []string {
	var out []string
	for _, info := range c.ListSchedulers() {
		out = append(out, info.Name)
	}
	return out
}
