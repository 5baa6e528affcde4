package pd

import (
	"context"
	"net"
	"sync"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"

	"github.com/copradb/copra/internal/codec"
)

// TestOperatorsGoBackOnTheStream lets a second store join: PD asks the leader's
// store to add a learner there, and to promote it once it is there.
func TestOperatorsGoBackOnTheStream(t *testing.T) {
	s := startPD(t, func(c *Config) { c.Replicas = 2 })
	c := bootstrap(t, s, 2)
	ctx := testContext(t)
	for _, id := range []uint64{1, 4} {
		if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: &pdpb.StoreStats{StoreId: id}}); err != nil {
			t.Fatal(err)
		}
	}
	st := openStream(t, s, c)
	r := firstRegion()
	st.report(r, r.Peers[0])
	m, err := st.stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	add := m.GetChangePeer().GetPeer()
	if m.RegionId != 2 || m.TargetPeer.GetId() != 3 || add.GetStoreId() != 4 || add.GetRole() != metapb.PeerRole_Learner {
		t.Fatalf("want a learner on store 4, got %v", m)
	}
	next := firstRegion()
	next.RegionEpoch.ConfVer = 2
	next.Peers = append(next.Peers, add)
	st.report(next, next.Peers[0])
	for {
		if m, err = st.stream.Recv(); err != nil {
			t.Fatal(err)
		}
		if p := m.GetChangePeer().GetPeer(); p.GetId() == add.Id && p.GetRole() == metapb.PeerRole_Voter {
			break
		}
	}
}

// TestStaleHeartbeatsAreIgnored sends an older epoch; the stream goes on.
func TestStaleHeartbeatsAreIgnored(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 1)
	st := openStream(t, s, c)
	newer := firstRegion()
	newer.RegionEpoch.Version = 7
	st.report(newer, newer.Peers[0])
	st.report(firstRegion(), firstRegion().Peers[0])
	broken := firstRegion()
	broken.RegionEpoch = nil
	st.report(broken, broken.Peers[0])
	m, err := st.stream.Recv()
	if err != nil || m.GetHeader().GetError() == nil {
		t.Fatalf("a region without an epoch: %v %v", m, err)
	}
	if v := s.term.Load().cluster.regions.ByID(2).Epoch().Version; v != 7 {
		t.Fatalf("version is %d", v)
	}
}

// fakeTikv splits regions as it is told.
type fakeTikv struct {
	tikvpb.UnimplementedTikvServer
	mu     sync.Mutex
	nextID uint64
	split  func(req *kvrpcpb.SplitRegionRequest) *kvrpcpb.SplitRegionResponse
}

func (f *fakeTikv) SplitRegion(_ context.Context, req *kvrpcpb.SplitRegionRequest) (*kvrpcpb.SplitRegionResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.split(req), nil
}

func TestSplitAndScatter(t *testing.T) {
	s := startPD(t, nil)
	c := pdpb.NewPDClient(rpc(t, s))
	ctx := testContext(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cl := s.term.Load().cluster
	fake := &fakeTikv{nextID: 100}
	fake.split = func(req *kvrpcpb.SplitRegionRequest) *kvrpcpb.SplitRegionResponse {
		// Boundaries, or raw keys near them, come in.
		old := cl.regions.ByID(req.Context.RegionId).Meta
		start, epoch := old.StartKey, &metapb.RegionEpoch{Version: old.RegionEpoch.Version + uint64(len(req.SplitKeys)), ConfVer: 1}
		resp := &kvrpcpb.SplitRegionResponse{}
		for i := range len(req.SplitKeys) + 1 {
			m := &metapb.Region{Id: old.Id, StartKey: start, EndKey: old.EndKey, RegionEpoch: epoch, Peers: old.Peers}
			if i < len(req.SplitKeys) {
				fake.nextID++
				m.Id, m.EndKey = fake.nextID, codec.EncodingBelow(req.SplitKeys[i])
			}
			start = m.EndKey
			resp.Regions = append(resp.Regions, m)
		}
		return resp
	}
	g := grpc.NewServer()
	tikvpb.RegisterTikvServer(g, fake)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)

	b, err := c.Bootstrap(ctx, &pdpb.BootstrapRequest{Header: header(s), Store: &metapb.Store{Id: 1, Address: l.Addr().String()}, Region: firstRegion()})
	if err != nil || b.GetHeader().GetError() != nil {
		t.Fatal(b, err)
	}
	if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: &pdpb.StoreStats{StoreId: 1}}); err != nil {
		t.Fatal(err)
	}
	st := openStream(t, s, c)
	st.report(firstRegion(), firstRegion().Peers[0])
	until(t, "the leader is known", func() bool { return cl.regions.ByID(2).Leader != nil })
	keys := [][]byte{codec.EncodeBytes(nil, []byte("b")), codec.EncodeBytes(nil, []byte("m"))}
	resp, err := c.SplitRegions(ctx, &pdpb.SplitRegionsRequest{Header: header(s), SplitKeys: keys})
	if err != nil || resp.FinishedPercentage != 100 || len(resp.RegionsId) != 2 {
		t.Fatal(resp, err)
	}
	for _, key := range keys {
		if r := cl.regions.ByKey(key); string(r.Meta.StartKey) != string(key) {
			t.Fatalf("no region starts at %x", key)
		}
	}
	if resp, err = c.SplitRegions(ctx, &pdpb.SplitRegionsRequest{Header: header(s), SplitKeys: [][]byte{[]byte("raw 1")}, RetryLimit: 1}); err != nil || resp.FinishedPercentage != 100 {
		t.Fatal(resp, err)
	}
	both, err := c.SplitAndScatterRegions(ctx, &pdpb.SplitAndScatterRegionsRequest{Header: header(s),
		SplitKeys: [][]byte{codec.EncodeBytes(nil, []byte("t"))}, Group: "g"})
	if err != nil || both.SplitFinishedPercentage != 100 || both.ScatterFinishedPercentage != 100 {
		t.Fatal(both, err)
	}
	one, err := c.ScatterRegion(ctx, &pdpb.ScatterRegionRequest{Header: header(s), RegionsId: []uint64{2, 999}})
	if err != nil || one.FinishedPercentage != 50 || len(one.FailedRegionsId) != 1 || one.FailedRegionsId[0] != 999 {
		t.Fatal(one, err)
	}
}
