package pd

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/schedule"
)

// TestSchedulersOutliveTheLeader restarts PD: what was added and removed is so
// still.
func TestSchedulersOutliveTheLeader(t *testing.T) {
	dir := t.TempDir()
	s := startPD(t, func(c *Config) { c.DataDir = dir })
	bootstrap(t, s, 2)
	ctx := testContext(t)
	sched := s.term.Load().cluster.sched
	if err := sched.AddScheduler(ctx, schedule.EvictLeaderName, []string{"4"}); err != nil {
		t.Fatal(err)
	}
	if err := sched.AddScheduler(ctx, schedule.ShuffleLeaderName, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{schedule.ShuffleLeaderName, schedule.HotRegionName} {
		if err := sched.RemoveScheduler(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop()
	s = startPD(t, func(c *Config) { c.DataDir = dir })
	sched = s.term.Load().cluster.sched
	var names []string
	for _, info := range sched.ListSchedulers() {
		names = append(names, info.Name)
	}
	want := []string{schedule.BalanceLeaderName, schedule.BalanceRegionName, schedule.EvictLeaderName, schedule.EvictSlowStoreName}
	if !slices.Equal(names, want) {
		t.Fatalf("schedulers are %v", names)
	}
	if raw, err := sched.SchedulerConfig(schedule.EvictLeaderName); err != nil || string(raw) != `{"store-id-ranges":{"4":null},"batch":4}` {
		t.Fatalf("%s %v", raw, err)
	}
}

// TestHotspot reads over HTTP what heartbeats told.
func TestHotspot(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 1)
	st := openStream(t, s, c)
	r := &metapb.Region{Id: 2, RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}, Peers: []*metapb.Peer{{Id: 3, StoreId: 1}}}
	if err := st.stream.Send(&pdpb.RegionHeartbeatRequest{Header: header(s), Region: r, Leader: r.Peers[0], Term: 5,
		BytesWritten: 60 << 20, KeysWritten: 60_000, QueryStats: &pdpb.QueryStats{Put: 6000},
		Interval: &pdpb.TimeInterval{StartTimestamp: 1000, EndTimestamp: 1060}}); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		AsPeer, AsLeader map[string]struct {
			Count      int       `json:"regions_count"`
			Statistics []hotJSON `json:"statistics"`
		}
	}
	get := func(kind string) (a answer) {
		resp, err := http.Get(s.ClientURL() + "/pd/api/v1/hotspot/regions/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		raw := map[string]json.RawMessage{}
		if err := json.NewDecoder(resp.Body).Decode(&raw); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw["as_peer"], &a.AsPeer); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw["as_leader"], &a.AsLeader); err != nil {
			t.Fatal(err)
		}
		return a
	}
	until(t, "the region is hot", func() bool { return get("write").AsLeader["1"].Count == 1 })
	hot := get("write").AsPeer["1"].Statistics
	if len(hot) != 1 || hot[0].RegionID != 2 || hot[0].ByteRate != 1<<20 || hot[0].KeyRate != 1000 || hot[0].QueryRate != 100 || !hot[0].IsLeader {
		t.Fatalf("%+v", hot)
	}
	if a := get("read"); len(a.AsLeader)+len(a.AsPeer) != 0 {
		t.Fatalf("reads: %+v", a)
	}
}
