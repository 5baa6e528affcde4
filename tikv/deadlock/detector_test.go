package deadlock

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	graph "github.com/copradb/copra/txn/deadlock"
	"github.com/pingcap/kvproto/pkg/deadlock"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// cluster is some detectors with real servers, and a PD that names one of them.
type cluster struct {
	mu        sync.Mutex
	leader    int
	addrs     []string
	detectors []*Detector
}

func newCluster(t *testing.T, n int) *cluster {
	c := &cluster{}
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d := New(Options{
			StoreID: uint64(i + 1),
			Leader: func(context.Context) (uint64, string, error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.leader < 0 {
					return 0, "", errors.New("no leader")
				}
				return uint64(c.leader + 1), c.addrs[c.leader], nil
			},
			DialOptions: []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())},
		})
		server := grpc.NewServer()
		deadlock.RegisterDeadlockServer(server, d.Server())
		done := make(chan error, 1)
		go func() { done <- server.Serve(l) }()
		t.Cleanup(func() {
			d.Close()
			server.Stop()
			if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				t.Error(err)
			}
		})
		c.addrs, c.detectors = append(c.addrs, l.Addr().String()), append(c.detectors, d)
	}
	return c
}

func (c *cluster) lead(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leader = i
	for j, d := range c.detectors {
		d.SetLeader(j == i)
	}
}

func edge(txn, holder uint64) graph.WaitFor {
	return graph.WaitFor{Txn: txn, HolderTxn: holder, KeyHash: txn*100 + holder, Key: []byte{byte(txn), byte(holder)}}
}

// TestCycleAcrossStores: transactions wait on different stores, and the cycle
// is found wherever it closes.
func TestCycleAcrossStores(t *testing.T) {
	c := newCluster(t, 3)
	c.lead(0)
	ctx := context.Background()
	for i, w := range []graph.WaitFor{edge(1, 2), edge(2, 3)} {
		if cycle, err := c.detectors[i].Detect(ctx, w); err != nil || cycle != nil {
			t.Fatalf("edge %d: %v %v", i, cycle, err)
		}
	}
	cycle, err := c.detectors[2].Detect(ctx, edge(3, 1))
	if err != nil || cycle == nil {
		t.Fatalf("no cycle: %v", err)
	}
	if cycle.LockTs != 1 || len(cycle.WaitChain) != 3 || cycle.DeadlockKeyHash != edge(2, 3).KeyHash {
		t.Fatalf("cycle %+v", cycle)
	}
	if n := len(c.detectors[2].History()); n != 3 {
		t.Errorf("history of %d waits", n)
	}
	// The waits are listed where they are.
	if w := c.detectors[1].Waits(); len(w) != 1 || w[0].Txn != 2 || w[0].WaitForTxn != 3 {
		t.Errorf("waits %v", w)
	}
	// A wait that ended breaks the cycle. Requests of one store keep their order.
	c.detectors[1].CleanUpWaitFor(edge(2, 3))
	if cycle, err := c.detectors[1].Detect(ctx, edge(3, 1)); err != nil || cycle != nil {
		t.Fatalf("after clean-up: %v %v", cycle, err)
	}
	c.detectors[1].CleanUp(3)
	if cycle, err := c.detectors[1].Detect(ctx, edge(2, 3)); err != nil || cycle != nil {
		t.Fatalf("after the end of a transaction: %v %v", cycle, err)
	}
	if w := c.detectors[1].Waits(); len(w) != 1 || w[0].Txn != 2 {
		t.Errorf("waits %v", w)
	}
}

// TestLeaderMoves: the graph is empty after a change of leader, and detection
// works again at the new one; errors in between are errors, not answers.
func TestLeaderMoves(t *testing.T) {
	c := newCluster(t, 3)
	c.lead(0)
	ctx := context.Background()
	if _, err := c.detectors[1].Detect(ctx, edge(1, 2)); err != nil {
		t.Fatal(err)
	}
	c.lead(2)
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := c.detectors[1].Detect(ctx, edge(1, 2))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	cycle, err := c.detectors[2].Detect(ctx, edge(2, 1))
	if err != nil || cycle == nil {
		t.Fatalf("no cycle at the new leader: %v", err)
	}
}

func TestNoLeader(t *testing.T) {
	c := newCluster(t, 1)
	c.mu.Lock()
	c.leader = -1
	c.mu.Unlock()
	if _, err := c.detectors[0].Detect(context.Background(), edge(1, 2)); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.detectors[0].Detect(ctx, edge(1, 2)); err == nil {
		t.Fatal("a canceled detection gave an answer")
	}
	c.detectors[0].CleanUp(1) // must not block
}

// TestHazard24_WaitsAreBounded: the list of waits does not grow for ever.
func TestHazard24_WaitsAreBounded(t *testing.T) {
	c := newCluster(t, 1)
	d := c.detectors[0]
	for i := range uint64(waitsMax + 10) {
		d.addWait(graph.WaitFor{Txn: i, HolderTxn: i + 1})
	}
	if n := len(d.Waits()); n != waitsMax {
		t.Fatalf("%d waits", n)
	}
	for i := range uint64(waitsMax + 10) {
		d.dropWait(i, func(graph.WaitFor) bool { return true })
	}
	if n := len(d.Waits()); n != 0 {
		t.Fatalf("%d waits are left", n)
	}
}
