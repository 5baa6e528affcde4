package pd

import (
	"io"
	"math"
	"net/http"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	pdhttp "github.com/tikv/pd/client/http"
)

// TestMinResolvedTS: the least of the stores that lead regions, for PD's own
// client in all its ways of asking.
func TestMinResolvedTS(t *testing.T) {
	s := startPD(t, nil)
	raw := bootstrap(t, s, 3) // stores 1, 4 and 5; 5 leads nothing
	right := &metapb.Region{Id: 20, StartKey: []byte("m"), RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 1}, Peers: []*metapb.Peer{{Id: 21, StoreId: 4}, {Id: 22, StoreId: 5}}}
	left := firstRegion()
	left.EndKey, left.RegionEpoch.Version = right.StartKey, 2
	openStream(t, s, raw).report(left, left.Peers[0])
	openStream(t, s, raw).report(right, right.Peers[0])
	until(t, "the regions are reported", func() bool { return s.term.Load().cluster.regions.StoreCounts(4).Leaders == 1 })
	c := pdhttp.NewClient("test", []string{s.ClientURL()})
	defer c.Close()
	ctx := testContext(t)
	report := func(store, ts uint64) {
		t.Helper()
		resp, err := raw.ReportMinResolvedTS(ctx, &pdpb.ReportMinResolvedTsRequest{Header: header(s), StoreId: store, MinResolvedTs: ts})
		if err != nil || resp.GetHeader().GetError() != nil {
			t.Fatal(resp, err)
		}
	}
	want := func(want uint64, stores map[uint64]uint64, scope ...uint64) {
		t.Helper()
		got, each, err := c.GetMinResolvedTSByStoresIDs(ctx, scope)
		if err != nil || got != want || len(each) != len(stores) {
			t.Fatal(got, each, err)
		}
		for id, ts := range stores {
			if each[id] != ts {
				t.Fatalf("store %d: %d, want %d", id, each[id], ts)
			}
		}
	}
	want(0, nil)
	report(1, 100)
	want(0, nil) // store 4 has not said anything
	report(4, 70)
	want(70, nil)
	report(4, 60) // late
	want(70, nil)
	want(100, map[uint64]uint64{1: 100}, 1)
	want(70, map[uint64]uint64{1: 100, 4: 70}, 1, 4)
	want(math.MaxUint64, map[uint64]uint64{5: math.MaxUint64, 77: math.MaxUint64}, 5, 77)
	for path, status := range map[string]int{
		"?scope=cluster": http.StatusOK, "?scope=1,x": http.StatusBadRequest, "/4": http.StatusOK, "/77": http.StatusNotFound,
	} {
		resp, err := http.Get(s.ClientURL() + "/pd/api/v1/min-resolved-ts" + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != status {
			t.Errorf("%s: %s %s %v", path, resp.Status, body, err)
		}
	}
	if _, err := raw.ReportMinResolvedTS(ctx, &pdpb.ReportMinResolvedTsRequest{Header: header(s), StoreId: 77, MinResolvedTs: 5}); err == nil {
		t.Error("a store that does not exist was believed")
	}
}
