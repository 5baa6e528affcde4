package pd

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	pdclient "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/clients/router"
	pdhttp "github.com/tikv/pd/client/http"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"

	"github.com/copradb/copra/pd/gcstate"
)

// TestRealClientTimestamps starts the clients' own PD client and takes
// timestamps from many goroutines: each sees its own increase, and none comes
// twice.
func TestRealClientTimestamps(t *testing.T) {
	s := startPD(t, nil)
	c := realClient(t, s)
	const workers, each = 50, 200
	results := make([][]uint64, workers)
	var wg sync.WaitGroup
	ctx := testContext(t)
	for w := range workers {
		wg.Go(func() {
			for range each {
				p, l, err := c.GetTS(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				results[w] = append(results[w], uint64(p)<<18|uint64(l))
			}
		})
	}
	wg.Wait()
	var all []uint64
	for w, ts := range results {
		if !slices.IsSorted(ts) {
			t.Fatalf("worker %d saw timestamps go back", w)
		}
		all = append(all, ts...)
	}
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != workers*each {
		t.Fatalf("%d different timestamps, want %d", n, workers*each)
	}
}

// TestRealClientStartsQuickly fails on anything that makes the client wait for
// one of its time-outs, all of them above a second: a start takes milliseconds,
// and each call that it makes is answered.
func TestRealClientStartsQuickly(t *testing.T) {
	s := startPD(t, nil)
	bootstrap(t, s, 1)
	began := time.Now()
	c, err := pdclient.NewClientWithContext(testContext(t), caller.TestComponent, []string{s.ClientURL()}, pdclient.SecurityOption{},
		opt.WithCustomTimeoutOption(30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Fatalf("the client took %v to start: it waited for an answer", took)
	}
}

func TestRealClientRegionsAndStores(t *testing.T) {
	s := startPD(t, nil)
	raw := bootstrap(t, s, 1)
	st := openStream(t, s, raw)
	peers := []*metapb.Peer{{Id: 3, StoreId: 1}}
	bounds := []string{"", "c", "f", "k", ""}
	for i := range 4 {
		id := uint64(2)
		if i > 0 {
			id = uint64(10 + i)
		}
		st.report(&metapb.Region{Id: id, StartKey: []byte(bounds[i]), EndKey: []byte(bounds[i+1]),
			RegionEpoch: &metapb.RegionEpoch{Version: 4, ConfVer: 1}, Peers: peers}, peers[0])
	}
	until(t, "the regions are known", func() bool { return s.term.Load().cluster.regions.Len() == 4 })
	c := realClient(t, s)
	ctx := testContext(t)
	for key, want := range map[string]uint64{"a": 2, "c": 11, "j": 12, "z": 13} {
		r, err := c.GetRegion(ctx, []byte(key))
		if err != nil || r.Meta.Id != want || r.Leader.GetStoreId() != 1 {
			t.Fatalf("key %s: %+v %v", key, r, err)
		}
	}
	if r, err := c.GetPrevRegion(ctx, []byte("g")); err != nil || r.Meta.Id != 11 {
		t.Fatal(r, err)
	}
	if r, err := c.GetRegionByID(ctx, 12); err != nil || string(r.Meta.StartKey) != "f" {
		t.Fatal(r, err)
	}
	if rs, err := c.ScanRegions(ctx, []byte("d"), nil, 2); err != nil || len(rs) != 2 || rs[0].Meta.Id != 11 { //nolint:staticcheck // older clients call it
		t.Fatal(rs, err)
	}
	rs, err := c.BatchScanRegions(ctx, []router.KeyRange{{StartKey: []byte("a"), EndKey: []byte("b")}, {StartKey: []byte("b"), EndKey: []byte("d")}, {StartKey: []byte("x")}}, 10)
	if err != nil || len(rs) != 3 || rs[0].Meta.Id != 2 || rs[1].Meta.Id != 11 || rs[2].Meta.Id != 13 {
		t.Fatal(rs, err)
	}
	if m, err := c.GetStore(ctx, 1); err != nil || m.Address != "127.0.0.1:1" {
		t.Fatal(m, err)
	}
	if _, err := c.GetStore(ctx, 99); err == nil || !strings.Contains(err.Error(), "invalid store ID 99, not found") {
		t.Fatal(err)
	}
	op, err := c.GetOperator(ctx, 2)
	if err != nil || op.GetStatus() == pdpb.OperatorStatus_RUNNING {
		t.Fatal(op, err)
	}
}

func TestQueryRegionAnswersInOrder(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 1)
	stream, err := c.QueryRegion(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pdpb.QueryRegionRequest{Header: header(s), Ids: []uint64{2, 9},
		Keys: [][]byte{[]byte("a"), []byte("b")}, PrevKeys: [][]byte{[]byte("b")}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil || !slices.Equal(resp.KeyIdMap, []uint64{2, 2}) || !slices.Equal(resp.PrevKeyIdMap, []uint64{0}) || len(resp.RegionsById) != 1 {
		t.Fatal(resp, err)
	}
}

func TestKeyspaces(t *testing.T) {
	s := startPD(t, nil)
	c := realClient(t, s)
	ctx := testContext(t)
	for name, id := range map[string]uint32{"DEFAULT": 0, "copra_sql": 1} {
		ks, err := c.LoadKeyspace(ctx, name)
		if err != nil || ks.Id != id || ks.State.String() != "ENABLED" {
			t.Fatal(ks, err)
		}
	}
	if _, err := c.LoadKeyspace(ctx, "nobody"); err == nil || !strings.Contains(err.Error(), "ENTRY_NOT_FOUND") {
		t.Fatalf("a missing keyspace: %v", err)
	}
	_, changes, cancel := s.term.Load().keyspaces.Watch()
	defer cancel()
	ks, err := s.term.Load().keyspaces.Create(ctx, "mine", map[string]string{"gc_management_type": "keyspace_level"})
	if err != nil || ks.Id != 2 {
		t.Fatal(ks, err)
	}
	if got := <-changes; got.Name != "mine" {
		t.Fatalf("the watch saw %v", got)
	}
	all, err := c.GetAllKeyspaces(ctx, 0, 10)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	if _, err := c.UpdateKeyspaceState(ctx, 2, 2); err == nil {
		t.Fatal("ENABLED to ARCHIVED was taken")
	}
	if ks, err := c.UpdateKeyspaceState(ctx, 2, 1); err != nil || ks.State.String() != "DISABLED" {
		t.Fatal(ks, err)
	}
	if _, err := c.UpdateKeyspaceState(ctx, 0, 1); err == nil {
		t.Fatal("DEFAULT was disabled")
	}
}

func TestGC(t *testing.T) {
	s := startPD(t, nil)
	c := realClient(t, s)
	ctx := testContext(t)
	gc, states := c.GetGCInternalController(gcstate.NullKeyspace), c.GetGCStatesClient(1)
	res, err := gc.AdvanceTxnSafePoint(ctx, 100)
	if err != nil || res.NewTxnSafePoint != 100 {
		t.Fatal(res, err)
	}
	raw, err := s.cli.Get(ctx, gcstate.SavedSafePointKey)
	if err != nil || string(raw.Kvs[0].Value) != "100" {
		t.Fatal("the older clients' key is not there")
	}
	if _, err := gc.AdvanceTxnSafePoint(ctx, 99); err == nil {
		t.Fatal("the transaction safe point went back")
	}
	if _, err := gc.AdvanceGCSafePoint(ctx, 101); err == nil {
		t.Fatal("the GC safe point passed the transaction safe point")
	}
	if _, err := states.SetGCBarrier(ctx, "backup", 50, time.Hour); err == nil {
		t.Fatal("a barrier behind the safe point was taken")
	}
	if _, err := states.SetGCBarrier(ctx, "backup", 150, time.Hour); err != nil {
		t.Fatal(err)
	}
	res, err = gc.AdvanceTxnSafePoint(ctx, 200)
	if err != nil || res.NewTxnSafePoint != 150 || !strings.Contains(res.BlockerDescription, "backup") {
		t.Fatal(res, err)
	}
	if r, err := gc.AdvanceGCSafePoint(ctx, 120); err != nil || r.NewGCSafePoint != 120 {
		t.Fatal(r, err)
	}
	st, err := states.GetGCState(ctx)
	if err != nil || st.TxnSafePoint != 150 || st.GCSafePoint != 120 || len(st.GCBarriers) != 1 {
		t.Fatal(st, err)
	}
	if b, err := states.DeleteGCBarrier(ctx, "backup"); err != nil || b.BarrierTS != 150 {
		t.Fatal(b, err)
	}
	// The older protocol.
	if ts, err := c.UpdateServiceGCSafePoint(ctx, "cdc", 3600, 160); err != nil || ts != 150 { //nolint:staticcheck // older clients call it
		t.Fatal(ts, err)
	}
	if ts, err := c.UpdateGCSafePoint(ctx, 300); err != nil || ts != 160 { //nolint:staticcheck // older clients call it
		t.Fatalf("the service's safe point did not hold: %d %v", ts, err)
	}
	if ts, err := c.UpdateServiceGCSafePoint(ctx, "cdc", 0, 0); err != nil || ts != 160 { //nolint:staticcheck // older clients call it
		t.Fatal(ts, err)
	}
	if _, err := c.GetGCInternalController(1).AdvanceTxnSafePoint(ctx, 400); err == nil {
		t.Fatal("a keyspace without GC of its own was advanced")
	}
	all, err := states.GetAllKeyspacesGCStates(ctx)
	if err != nil || len(all.GCStates) != 3 {
		t.Fatal(all, err)
	}
}

func TestBarrierExpires(t *testing.T) {
	s := startPD(t, nil)
	ctx := testContext(t)
	gc := s.term.Load().gc
	now := time.Now()
	gc.SetClock(func() time.Time { return now })
	if _, err := gc.SetBarrier(ctx, 0, "b", 10, 60); err != nil {
		t.Fatal(err)
	}
	if _, after, _, err := gc.AdvanceTxn(ctx, gcstate.NullKeyspace, 20); err != nil || after != 10 {
		t.Fatal(after, err)
	}
	now = now.Add(61 * time.Second)
	if _, after, _, err := gc.AdvanceTxn(ctx, gcstate.NullKeyspace, 20); err != nil || after != 20 {
		t.Fatal(after, err)
	}
}

// TestHTTP asks with PD's own HTTP client, which knows the shapes.
func TestHTTP(t *testing.T) {
	s := startPD(t, nil)
	raw := bootstrap(t, s, 2)
	st := openStream(t, s, raw)
	st.report(firstRegion(), firstRegion().Peers[0])
	until(t, "the region is reported", func() bool { return s.term.Load().cluster.regions.Reported() == 1 })
	c := pdhttp.NewClient("test", []string{s.ClientURL()})
	defer c.Close()
	ctx := testContext(t)
	stores, err := c.GetStores(ctx)
	if err != nil || stores.Count != 2 || stores.Stores[0].Store.StateName != "Up" || stores.Stores[0].Status.LeaderCount != 1 {
		t.Fatal(stores, err)
	}
	if one, err := c.GetStore(ctx, 4); err != nil || one.Store.ID != 4 {
		t.Fatal(one, err)
	}
	regions, err := c.GetRegions(ctx)
	if err != nil || regions.Count != 1 || regions.Regions[0].Leader.StoreID != 1 || regions.Regions[0].ApproximateSize != 1 {
		t.Fatal(regions, err)
	}
	if r, err := c.GetRegionByID(ctx, 2); err != nil || r.ID != 2 {
		t.Fatal(r, err)
	}
	if r, err := c.GetRegionByKey(ctx, []byte("a/b\x00\xff")); err != nil || r.ID != 2 {
		t.Fatal(r, err)
	}
	if m, err := c.GetMembers(ctx); err != nil || len(m.Members) != 1 || m.Leader.Name != "pd1" {
		t.Fatal(m, err)
	}
	if l, err := c.GetLeader(ctx); err != nil || l.Name != "pd1" {
		t.Fatal(l, err)
	}
	if h, err := c.GetHealthStatus(ctx); err != nil || len(h) != 1 || !h[0].Health {
		t.Fatal(h, err)
	}
	if v, err := c.GetPDVersion(ctx); err != nil || v != Version {
		t.Fatal(v, err)
	}
	if _, err := c.GetStatus(ctx); err != nil {
		t.Fatal(err)
	}
	if cs, err := c.GetClusterStatus(ctx); err != nil || cs.RaftBootstrapTime.IsZero() {
		t.Fatal(cs, err)
	}
	if list, err := c.GetSchedulers(ctx); err != nil || !slices.Contains(list, "balance-leader-scheduler") {
		t.Fatal(list, err)
	}
	if _, err := c.GetHotWriteRegions(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetConfig(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.SetConfig(ctx, map[string]any{"schedule.leader-schedule-limit": 7}); err != nil {
		t.Fatal(err)
	}
	if sc, err := c.GetScheduleConfig(ctx); err != nil || sc["leader-schedule-limit"] != float64(7) {
		t.Fatal(sc, err)
	}
	if err := c.SetConfig(ctx, map[string]any{"no-such-thing": 1}); err == nil {
		t.Fatal("an unknown setting was taken")
	}
	if ks, err := c.GetKeyspaceMetaByName(ctx, "copra_sql"); err != nil || ks.Id != 1 {
		t.Fatal(ks, err)
	}
	if _, _, err := c.GetMinResolvedTSByStoresIDs(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteStore(ctx, 4); err != nil {
		t.Fatal(err)
	}
	if one, err := c.GetStore(ctx, 4); err != nil || one.Store.StateName == "Up" {
		t.Fatal(one, err)
	}
}

func TestHTTPRaw(t *testing.T) {
	s := startPD(t, nil)
	for path, want := range map[string]struct {
		code int
		part string
	}{
		"/health":                     {200, `"health": "true"`},
		"/metrics":                    {200, "etcd_server_has_leader"},
		"/pd/api/v1/operators":        {200, "[]"},
		"/pd/api/v1/store/x":          {400, "no id"},
		"/pd/api/v1/store/9":          {404, "invalid store ID 9"},
		"/pd/api/v1/region/id/9":      {404, "region 9"},
		"/pd/api/v2/keyspaces":        {200, `"DEFAULT"`},
		"/pd/api/v2/keyspaces/nobody": {404, "does not exist"},
		"/pd/api/v1/gc/safepoint":     {200, "gc_worker"},
		"/pd/api/v1/stores":           {500, "not bootstrapped"},
	} {
		resp, err := http.Get(s.ClientURL() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want.code || !strings.Contains(string(body), want.part) {
			t.Errorf("%s: %d %.300s %v", path, resp.StatusCode, body, err)
		}
		if strings.HasPrefix(path, "/pd/") && !json.Valid(body) {
			t.Errorf("%s: no JSON: %.300s", path, body)
		}
	}
}
