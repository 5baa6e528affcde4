package tikv

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/copradb/copra/internal/gossip"
	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// failingEngine answers with err.
type failingEngine struct{ err error }

func (e *failingEngine) Snapshot(context.Context, *kvrpcpb.Context, kv.SnapshotOptions) (kv.Snapshot, error) {
	return nil, e.err
}

func (e *failingEngine) Write(context.Context, *kvrpcpb.Context, *kv.Batch) error { return e.err }

// gossiper starts a store's part in the gossip, without the store.
func gossiper(t *testing.T, id uint64, seed string, events chan gossip.Event) (*gossip.Node, string, func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, svc := grpc.NewServer(), gossip.NewService()
	svc.Register(server)
	go func() { _ = server.Serve(l) }()
	g, err := gossip.Start(gossip.Options{
		ClusterID: testCluster, Kind: gossip.KindStore, ID: id, Address: l.Addr().String(), Service: svc,
		Seeds: func() []string { return []string{seed} }, OnChange: func(e gossip.Event) { events <- e },
		DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := func() { g.Close(); server.Stop() }
	t.Cleanup(stop)
	return g, l.Addr().String(), stop
}

// TestDeadLeaderIsNotPointedTo: clients are sent to a leader only while its
// store lives.
func TestDeadLeaderIsNotPointedTo(t *testing.T) {
	events := make(chan gossip.Event, 100)
	await := func(want gossip.EventType) {
		t.Helper()
		for {
			select {
			case e := <-events:
				if e.Member.ID == 2 && e.Type == want {
					return
				}
			case <-time.After(30 * time.Second):
				t.Fatalf("store 2 is not %v", want)
			}
		}
	}
	ours, addr, _ := gossiper(t, 1, "127.0.0.1:1", events)
	_, _, stop := gossiper(t, 2, addr, make(chan gossip.Event, 100))
	await(gossip.EventAlive)

	n := &Node{}
	e := &failingEngine{}
	s := steered{e, n}
	leaderTold := func() uint64 {
		t.Helper()
		e.err = &kv.RegionError{Err: &errorpb.Error{Message: "no", NotLeader: &errorpb.NotLeader{RegionId: 9, Leader: &metapb.Peer{Id: 5, StoreId: 2}}}}
		_, rerr := s.Snapshot(t.Context(), nil, kv.SnapshotOptions{})
		werr := s.Write(t.Context(), nil, nil)
		r, w := kv.AsRegionError(rerr).GetNotLeader(), kv.AsRegionError(werr).GetNotLeader()
		if r.GetRegionId() != 9 || w.GetRegionId() != 9 || r.GetLeader().GetStoreId() != w.GetLeader().GetStoreId() {
			t.Fatalf("reads are told %v, writes %v", r, w)
		}
		return r.GetLeader().GetStoreId()
	}
	if got := leaderTold(); got != 2 {
		t.Fatalf("before there is gossip, clients are sent to %d", got)
	}
	n.gossip.Store(ours)
	if got := leaderTold(); got != 2 {
		t.Fatalf("while it lives, clients are sent to %d", got)
	}
	stop()
	await(gossip.EventDead)
	if got := leaderTold(); got != 0 {
		t.Fatalf("when it is dead, clients are sent to %d", got)
	}
	for _, err := range []error{nil, errors.New("disk"), &kv.RegionError{Err: &errorpb.Error{Message: "x"}}} {
		if e.err = err; s.Write(t.Context(), nil, nil) != err {
			t.Errorf("%v came back changed", err)
		}
	}
}
