package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/tikv/client-go/v2/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// door is what clients dial instead of a store. It can be shut for them, while
// stores reach each other past it.
type door struct {
	l      net.Listener
	mu     sync.Mutex
	target string
	shut   bool
	open   map[net.Conn]bool
	wg     sync.WaitGroup
}

func newDoor(t testing.TB) *door {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &door{l: l, open: map[net.Conn]bool{}}
	d.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.wg.Go(func() { d.serve(c) })
		}
	})
	t.Cleanup(func() {
		d.close()
		d.wg.Wait()
	})
	return d
}

func (d *door) track(c net.Conn) (target string, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		_ = c.Close()
		return "", false
	}
	d.open[c] = true
	return d.target, true
}

func (d *door) serve(c net.Conn) {
	target, ok := d.track(c)
	if !ok {
		return
	}
	defer func() { _ = c.Close() }()
	up, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = up.Close() }()
	if _, ok := d.track(up); !ok {
		return
	}
	go func() {
		_, _ = io.Copy(up, c)
		_ = up.Close()
	}()
	_, _ = io.Copy(c, up)
}

// close shuts the door; connections end, new ones are refused.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = true
	_ = d.l.Close()
	for c := range d.open {
		_ = c.Close()
	}
	clear(d.open)
}

// forwarding starts three stores behind doors and has clients use other stores
// to reach those that are shut.
func forwarding(t *testing.T) (*cluster, []*door) {
	old := config.GetGlobalConfig()
	now := *old
	now.EnableForwarding = true
	config.StoreGlobalConfig(&now)
	t.Cleanup(func() { config.StoreGlobalConfig(old) })

	doors := make([]*door, 3)
	behind := map[string]*door{}
	for i := range doors {
		doors[i] = newDoor(t)
		behind[doors[i].l.Addr().String()] = doors[i]
	}
	// Stores go past the doors.
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		if d := behind[addr]; d != nil {
			d.mu.Lock()
			addr = d.target
			d.mu.Unlock()
		}
		return new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	var mu sync.Mutex
	next := 0
	c := start(t, 3, func(cfg *tikv.Config) {
		mu.Lock()
		defer mu.Unlock()
		d := doors[next]
		next++
		l, err := net.Listen("tcp", "127.0.0.1:0") // a free port
		if err != nil {
			t.Fatal(err)
		}
		cfg.Addr, cfg.AdvertiseAddr, d.target = l.Addr().String(), d.l.Addr().String(), l.Addr().String()
		_ = l.Close()
		cfg.DialOptions = []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial)}
	})
	return c, doors
}

// TestForwarding: a client that cannot reach the leader gets through another
// store. (TestForwardingRefuses has the calls that are not batched.)
func TestForwarding(t *testing.T) {
	c, doors := forwarding(t)
	cl := c.txnClient()
	c.replicated()
	c.moveLeader("k", 0)
	write := func(n int) {
		t.Helper()
		txn, err := cl.Begin()
		c.must(err)
		txn.SetPessimistic(n%2 == 0)
		c.must(txn.Set([]byte("k"), fmt.Appendf(nil, "%d", n)))
		c.must(txn.Commit(c.ctx))
		read, err := cl.Begin()
		c.must(err)
		v, err := read.Get(c.ctx, []byte("k"))
		if err != nil || string(v.Value) != fmt.Sprint(n) {
			t.Fatalf("write %d reads %q: %v", n, v.Value, err)
		}
	}
	write(0)
	doors[0].close()
	for n := 1; n < 6; n++ {
		write(n)
	}
	if at, _, ok := c.regionOf("k"); !ok || at != 0 {
		t.Fatalf("the leader moved to node %d: nothing was passed on", at)
	}
}

// TestForwardingRefuses: what is not of this cluster is not dialled, calls to
// oneself are served, and deadlines travel.
func TestForwardingRefuses(t *testing.T) {
	c := start(t, 2, nil)
	conn, err := grpc.NewClient(c.nodes[0].Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	c.must(err)
	defer func() { _ = conn.Close() }()
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	c.must(err)
	dialled := make(chan struct{}, 1)
	go func() {
		if s, err := stranger.Accept(); err == nil {
			dialled <- struct{}{}
			_ = s.Close()
		}
	}()
	to := func(host string) context.Context {
		return metadata.AppendToOutgoingContext(c.ctx, "tikv-forwarded-host", host)
	}
	kv := tikvpb.NewTikvClient(conn)
	health := func(host string) (uint64, error) {
		resp, err := kv.GetHealthFeedback(to(host), &kvrpcpb.GetHealthFeedbackRequest{})
		return resp.GetHealthFeedback().GetStoreId(), err
	}
	for i, n := range c.nodes {
		if id, err := health(n.Addr()); err != nil || id != n.StoreID() {
			t.Errorf("node %d: answered by store %d, %v", i, id, err)
		}
	}
	if _, err := health(stranger.Addr().String()); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "PD knows no store") {
		t.Errorf("a stranger: %v", err)
	}
	stream, err := kv.BatchCommands(to(stranger.Addr().String()))
	c.must(err)
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream to a stranger: %v", err)
	}
	_ = stranger.Close()
	select {
	case <-dialled:
		t.Error("the stranger was dialled")
	default:
	}
	raft, err := kv.BatchRaft(transport.WithTarget(to(c.nodes[1].Addr()), c.nodes[0].ClusterID(), 1, 2))
	c.must(err)
	if _, err := raft.CloseAndRecv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a Raft stream: %v", err)
	}

	// A stream to the other store is its BatchCommands: answers, then its end.
	stream, err = kv.BatchCommands(to(c.nodes[1].Addr()))
	c.must(err)
	c.must(stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{7}, Requests: []*tikvpb.BatchCommandsRequest_Request{
		{Cmd: &tikvpb.BatchCommandsRequest_Request_Empty{Empty: &tikvpb.BatchCommandsEmptyRequest{TestId: 9}}}}}))
	resp, err := stream.Recv()
	if err != nil || resp.GetRequestIds()[0] != 7 || resp.GetResponses()[0].GetEmpty().GetTestId() != 9 || resp.GetHealthFeedback().GetStoreId() != c.nodes[1].StoreID() {
		t.Errorf("%v, %v", resp, err)
	}
	c.must(stream.CloseSend())
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the end of the stream: %v", err)
	}
	// The delay is in the store that is asked: the deadline went with the call.
	ctx, cancel := context.WithTimeout(to(c.nodes[1].Addr()), 50*time.Millisecond)
	defer cancel()
	stream, err = kv.BatchCommands(ctx)
	c.must(err)
	if _, err := stream.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("after the deadline: %v", err)
	}
	// A store that died is Unavailable, not a call that hangs.
	c.nodes[1].Stop()
	if _, err := health(c.nodes[1].Addr()); status.Code(err) != codes.Unavailable {
		t.Errorf("a dead store: %v", err)
	}
}
