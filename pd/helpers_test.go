package pd

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	pdclient "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/copradb/copra/internal/testaddr"
	"github.com/copradb/copra/pd/schedule"
)

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// startPD starts a member on free ports, alone unless change says otherwise.
func startPD(t *testing.T, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		RegionSaveInterval: 10 * time.Millisecond,
		Schedule:           schedule.Options{PatrolInterval: 5 * time.Millisecond, BalanceInterval: 10 * time.Millisecond},
	}
	if change != nil {
		change(&cfg)
	}
	s, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func addr(s *Server) string { return strings.TrimPrefix(s.ClientURL(), "http://") }

// rpc is a plain connection to one member.
func rpc(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr(s), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func realClient(t *testing.T, s *Server) pdclient.Client {
	t.Helper()
	c, err := pdclient.NewClientWithContext(testContext(t), caller.TestComponent, []string{s.ClientURL()},
		pdclient.SecurityOption{}, opt.WithCustomTimeoutOption(3*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func header(s *Server) *pdpb.RequestHeader { return &pdpb.RequestHeader{ClusterId: s.ClusterID()} }

func firstRegion() *metapb.Region {
	return &metapb.Region{
		Id: 2, RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}, Peers: []*metapb.Peer{{Id: 3, StoreId: 1}},
	}
}

// bootstrap makes store 1 with region 2, and stores 4 to 2+n where more are
// asked for.
func bootstrap(t *testing.T, s *Server, stores int) pdpb.PDClient {
	t.Helper()
	c := pdpb.NewPDClient(rpc(t, s))
	ctx := testContext(t)
	resp, err := c.Bootstrap(ctx, &pdpb.BootstrapRequest{Header: header(s),
		Store: &metapb.Store{Id: 1, Address: "127.0.0.1:1"}, Region: firstRegion()})
	if err != nil || resp.GetHeader().GetError() != nil {
		t.Fatal(resp, err)
	}
	for i := 1; i < stores; i++ {
		put, err := c.PutStore(ctx, &pdpb.PutStoreRequest{Header: header(s),
			Store: &metapb.Store{Id: uint64(3 + i), Address: "127.0.0.1:" + string(rune('1'+i))}})
		if err != nil || put.GetHeader().GetError() != nil {
			t.Fatal(put, err)
		}
	}
	return c
}

// storeStream is a store's heartbeat stream.
type storeStream struct {
	t      *testing.T
	s      *Server
	mu     sync.Mutex
	stream pdpb.PD_RegionHeartbeatClient
}

func openStream(t *testing.T, s *Server, c pdpb.PDClient) *storeStream {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	t.Cleanup(cancel)
	stream, err := c.RegionHeartbeat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &storeStream{t: t, s: s, stream: stream}
}

func (st *storeStream) report(r *metapb.Region, leader *metapb.Peer) {
	st.t.Helper()
	st.mu.Lock()
	defer st.mu.Unlock()
	if err := st.stream.Send(&pdpb.RegionHeartbeatRequest{Header: header(st.s), Region: r, Leader: leader, Term: 5,
		ApproximateSize: 1 << 20, ApproximateKeys: 10}); err != nil {
		st.t.Fatal(err)
	}
}

// until waits for cond, which something else makes true.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// freeAddr is an address that nobody listens on now.
func freeAddr(t *testing.T) string {
	t.Helper()
	return testaddr.Free(t)
}
