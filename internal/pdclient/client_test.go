package pdclient_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/pdclient"
	"github.com/copradb/copra/internal/testaddr"
	"github.com/copradb/copra/pd"
	"github.com/copradb/copra/pd/schedule"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func freeAddr(t *testing.T) string {
	t.Helper()
	return testaddr.Free(t)
}

// fixedPD can be stopped and started again at the same place.
type fixedPD struct {
	t   *testing.T
	cfg pd.Config
	*pd.Server
}

func newPD(t *testing.T) *fixedPD {
	p := &fixedPD{t: t, cfg: pd.Config{
		DataDir: t.TempDir(), ClientAddr: freeAddr(t), PeerAddr: freeAddr(t), RegionSaveInterval: 10 * time.Millisecond,
		Schedule: schedule.Options{PatrolInterval: 5 * time.Millisecond},
	}}
	p.start()
	t.Cleanup(func() { p.Stop() })
	return p
}

func (p *fixedPD) start() {
	p.t.Helper()
	s, err := pd.Start(testContext(p.t), p.cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.Server = s
}

func newClient(t *testing.T, p *fixedPD, o pdclient.Options) *pdclient.Client {
	t.Helper()
	c, err := pdclient.New(testContext(t), []string{p.ClientURL()}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func bootstrap(t *testing.T, c *pdclient.Client) (*metapb.Store, *metapb.Region) {
	t.Helper()
	ctx := testContext(t)
	var ids [3]uint64
	for i := range ids {
		var err error
		if ids[i], err = c.AllocID(ctx); err != nil {
			t.Fatal(err)
		}
	}
	store := &metapb.Store{Id: ids[0], Address: "127.0.0.1:1"}
	region := &metapb.Region{Id: ids[1], RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1},
		Peers: []*metapb.Peer{{Id: ids[2], StoreId: ids[0]}}}
	if err := c.Bootstrap(ctx, store, region); err != nil {
		t.Fatal(err)
	}
	return store, region
}

func TestLifeOfAStore(t *testing.T) {
	p := newPD(t)
	c := newClient(t, p, pdclient.Options{})
	ctx := testContext(t)
	if ok, err := c.IsBootstrapped(ctx); err != nil || ok {
		t.Fatal(ok, err)
	}
	store, region := bootstrap(t, c)
	if err := c.Bootstrap(ctx, store, region); !pdclient.IsAlreadyBootstrapped(err) {
		t.Fatalf("a second bootstrap: %v", err)
	}
	if ok, err := c.IsBootstrapped(ctx); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := c.PutStore(ctx, &metapb.Store{Id: 99, Address: store.Address}); err == nil || !strings.Contains(err.Error(), "duplicated") {
		t.Fatalf("a taken address: %v", err)
	}
	if got, err := c.GetStore(ctx, store.Id); err != nil || got.Address != store.Address {
		t.Fatal(got, err)
	}
	if _, err := c.GetStore(ctx, 98); err == nil || !strings.Contains(err.Error(), "invalid store ID 98") {
		t.Fatal(err)
	}
	if all, err := c.GetAllStores(ctx); err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreStats{StoreId: store.Id}); err != nil {
		t.Fatal(err)
	}
	ids, err := c.AskBatchSplit(ctx, region, 2)
	if err != nil || len(ids) != 2 || len(ids[0].NewPeerIds) != 1 {
		t.Fatal(ids, err)
	}
	left := &metapb.Region{Id: region.Id, EndKey: []byte("k"), RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 1}, Peers: region.Peers}
	right := &metapb.Region{Id: ids[0].NewRegionId, StartKey: []byte("k"), RegionEpoch: left.RegionEpoch,
		Peers: []*metapb.Peer{{Id: ids[0].NewPeerIds[0], StoreId: store.Id}}}
	if err := c.ReportBatchSplit(ctx, []*metapb.Region{left, right}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.GetRegion(ctx, []byte("z")); err != nil || r.Meta.Id != right.Id {
		t.Fatal(r, err)
	}
	if r, err := c.GetRegionByID(ctx, left.Id); err != nil || string(r.Meta.EndKey) != "k" {
		t.Fatal(r, err)
	}
	if _, err := c.GetRegionByID(ctx, 12345); err != pdclient.ErrRegionNotFound {
		t.Fatal(err)
	}
	if ts, err := c.GetGCSafePoint(ctx); err != nil || ts != 0 {
		t.Fatal(ts, err)
	}
}

func TestTimestampsOfManyCallers(t *testing.T) {
	p := newPD(t)
	c := newClient(t, p, pdclient.Options{})
	ctx := testContext(t)
	const workers, each = 50, 200
	all := make([][]uint64, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				ts, err := c.GetTS(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				all[w] = append(all[w], ts)
			}
		})
	}
	wg.Wait()
	var flat []uint64
	for w := range all {
		if !slices.IsSorted(all[w]) {
			t.Fatalf("worker %d saw timestamps go back", w)
		}
		flat = append(flat, all[w]...)
	}
	slices.Sort(flat)
	if n := len(slices.Compact(flat)); n != workers*each {
		t.Fatalf("%d different timestamps of %d", n, workers*each)
	}
}

// TestSurvivesRestart stops PD under all that a client does: calls go on until
// PD is back at its place, and streams are opened again.
func TestSurvivesRestart(t *testing.T) {
	p := newPD(t)
	opened := make(chan struct{}, 100)
	c := newClient(t, p, pdclient.Options{OnHeartbeatStream: func() { opened <- struct{}{} }})
	ctx := testContext(t)
	store, region := bootstrap(t, c)
	<-opened
	before, err := c.GetTS(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.Stop()
	type answer struct {
		v   uint64
		err error
	}
	ts, id := make(chan answer, 1), make(chan answer, 1)
	go func() { v, err := c.GetTS(ctx); ts <- answer{v, err} }()
	go func() { v, err := c.AllocID(ctx); id <- answer{v, err} }()
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.GetAllStores(short); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Fatalf("a call without PD: %v", err)
	}
	p.start()
	if a := <-ts; a.err != nil || a.v <= before {
		t.Fatal(a, before)
	}
	if a := <-id; a.err != nil || a.v <= region.Peers[0].Id {
		t.Fatal(a)
	}
	<-opened
	// The new stream works both ways: another store joins, and PD asks for a
	// peer there.
	asked := make(chan *pdpb.RegionHeartbeatResponse, 100)
	c.HandleRegionHeartbeatResponse(func(m *pdpb.RegionHeartbeatResponse) {
		select {
		case asked <- m:
		default:
		}
	})
	if err := c.PutStore(ctx, &metapb.Store{Id: 77, Address: "127.0.0.1:2"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []uint64{store.Id, 77} {
		if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreStats{StoreId: s}); err != nil {
			t.Fatal(err)
		}
	}
	for {
		if !c.ReportRegion(&pdpb.RegionHeartbeatRequest{Region: region, Leader: region.Peers[0]}) {
			t.Fatal("the report was dropped")
		}
		select {
		case m := <-asked:
			if m.RegionId != region.Id || m.GetChangePeer().GetPeer().GetStoreId() != 77 {
				t.Fatalf("want a peer on store 77, got %v", m)
			}
			return
		case <-time.After(20 * time.Millisecond): // the stream may have ended under the report
		case <-ctx.Done():
			t.Fatal("PD asked for nothing")
		}
	}
}

// TestQueueIsBounded fills the queue while PD is away.
func TestQueueIsBounded(t *testing.T) {
	p := newPD(t)
	c := newClient(t, p, pdclient.Options{})
	p.Stop()
	dropped := false
	for range 100_000 {
		if !c.ReportRegion(&pdpb.RegionHeartbeatRequest{}) {
			dropped = true
			break
		}
	}
	if !dropped {
		t.Fatal("the queue took 100,000 reports")
	}
}

func TestOtherClusterIsRefused(t *testing.T) {
	p := newPD(t)
	c := newClient(t, p, pdclient.Options{})
	p.Stop()
	p.cfg.DataDir = t.TempDir()
	p.start()
	_, err := c.AllocID(testContext(t))
	if err == nil || !strings.Contains(err.Error(), "cluster") {
		t.Fatalf("a new cluster at the old address was taken: %v", err)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	p := newPD(t)
	c := newClient(t, p, pdclient.Options{})
	p.Stop()
	done := make(chan error, 2)
	go func() { _, err := c.GetTS(context.Background()); done <- err }()
	go func() { _, err := c.AllocID(context.Background()); done <- err }()
	c.Close()
	for range 2 {
		if err := <-done; err == nil {
			t.Fatal("a call succeeded without PD")
		}
	}
}

func TestNewGivesUpWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := pdclient.New(ctx, []string{freeAddr(t)}, pdclient.Options{}); err == nil {
		t.Fatal("connected to nobody")
	}
	if _, err := pdclient.New(ctx, nil, pdclient.Options{}); err == nil {
		t.Fatal("connected to nothing")
	}
}
