// Package clientsuite asks a cluster of three stores for everything that TiKV's
// clients can ask for, over real sockets and with the unmodified client-go.
//
//	methods_*_test.go   what client-go offers; each method also runs while the
//	                    nemesis splits, moves and stops things underneath
//	wire_*_test.go      each method of the Tikv service, alone and as a command
//	                    of a batch: both ways give the same answer
//	*errors_test.go     each region error and key error that a client acts on
//	malformed_test.go   what no client sends
//	nemesis_test.go     a checked workload under faults
//	examples_test.go    the flows of client-go's examples
//
// The stores are nodes of one process. The calm tests share one cluster.
package clientsuite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/log"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
	"go.uber.org/zap"
)

// timeout bounds every test; nothing waits for it when all is well.
const timeout = 90 * time.Second

// lockTTLMs is the time to live of locks that heartbeats keep alive. Shorter than
// client-go's, so that a test can outlive it.
const lockTTLMs = 4000

// long reports whether the long variants are asked for.
func long() bool { return os.Getenv("COPRA_TEST_LONG") != "" }

// cluster is PD and stores in this process.
type cluster struct {
	dir string
	pd  *pd.Server
	url string

	mu    sync.Mutex
	nodes []*tikv.Node // nil while stopped
	cfgs  []tikv.Config
	txn   *txnkv.Client
	raws  map[kvrpcpb.APIVersion]*rawkv.Client
}

func logger() *slog.Logger {
	if os.Getenv("COPRA_E2E_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// startCluster starts PD and stores; change, if not nil, adjusts a store's
// configuration. The caller stops it.
func startCluster(stores int, change func(i int, c *tikv.Config)) (c *cluster, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c = &cluster{raws: map[kvrpcpb.APIVersion]*rawkv.Client{}, nodes: make([]*tikv.Node, stores), cfgs: make([]tikv.Config, stores)}
	if c.dir, err = os.MkdirTemp("", "clientsuite"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	c.pd, err = pd.Start(ctx, pd.Config{DataDir: filepath.Join(c.dir, "pd"), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Replicas: min(stores, 3), Logger: logger()})
	if err != nil {
		return nil, err
	}
	c.url = c.pd.ClientURL()
	errs := make([]error, stores)
	var wg sync.WaitGroup
	for i := range stores {
		c.cfgs[i] = tikv.Config{
			DataDir: filepath.Join(c.dir, fmt.Sprintf("store%d", i)), Addr: "127.0.0.1:0", PDEndpoints: []string{c.url},
			CapacityBytes: 2 << 30, ReserveBytes: -1, // whatever else fills the machine's disk
			CacheBytes: 16 << 20, MemTableBytes: 4 << 20, StoreHeartbeatInterval: 500 * time.Millisecond, ResolvedTSInterval: 100 * time.Millisecond,
			Raft:   raftstore.Config{TickInterval: 20 * time.Millisecond, RegionHeartbeatInterval: 300 * time.Millisecond},
			Logger: logger().With("node", i),
		}
		if change != nil {
			change(i, &c.cfgs[i])
		}
		wg.Go(func() { c.nodes[i], errs[i] = tikv.Start(ctx, c.cfgs[i]) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for i := range stores { // a restarted store has its address again
		c.cfgs[i].Addr = c.nodes[i].Addr()
	}
	if c.txn, err = txnkv.NewClient([]string{c.url}); err != nil {
		return nil, err
	}
	for _, v := range []kvrpcpb.APIVersion{kvrpcpb.APIVersion_V1, kvrpcpb.APIVersion_V2} {
		if c.raws[v], err = rawkv.NewClientWithOpts(context.Background(), []string{c.url}, rawkv.WithAPIVersion(v)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cluster) stop() {
	for _, r := range c.raws {
		_ = r.Close()
	}
	if c.txn != nil {
		_ = c.txn.Close()
	}
	for _, n := range c.nodes {
		if n != nil {
			n.Stop()
		}
	}
	if c.pd != nil {
		c.pd.Stop()
	}
	_ = os.RemoveAll(c.dir)
}

// shared is the cluster of the calm tests, started by the first that needs it.
var shared = sync.OnceValues(func() (*cluster, error) { return startCluster(3, nil) })

var sharedUsed atomic.Bool

func sharedCluster(t *testing.T) *cluster {
	t.Helper()
	sharedUsed.Store(true)
	c, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	c.replicated(t)
	return c
}

func ownCluster(t *testing.T, stores int, change func(i int, c *tikv.Config)) *cluster {
	t.Helper()
	c, err := startCluster(stores, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	c.replicated(t)
	return c
}

func TestMain(m *testing.M) {
	if os.Getenv("COPRA_E2E_LOG") == "" {
		log.ReplaceGlobals(zap.NewNop(), &log.ZapProperties{Level: zap.NewAtomicLevelAt(zap.FatalLevel)})
	}
	transaction.ManagedLockTTL = lockTTLMs
	code := m.Run()
	if sharedUsed.Load() {
		if c, err := shared(); err == nil {
			c.stop()
		}
	}
	os.Exit(code)
}

// node returns a store, nil while it is stopped.
func (c *cluster) node(i int) *tikv.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i]
}

// running returns the stores that run.
func (c *cluster) running() (out []*tikv.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.nodes {
		if n != nil {
			out = append(out, n)
		}
	}
	return out
}

func (c *cluster) stopNode(i int) {
	n := c.node(i)
	c.mu.Lock()
	c.nodes[i] = nil
	c.mu.Unlock()
	n.Stop()
}

func (c *cluster) startNode(ctx context.Context, i int) error {
	cfg := c.cfgs[i]
	cfg.Registerer, cfg.Gatherer = nil, nil
	n, err := tikv.Start(ctx, cfg)
	if err == nil {
		c.mu.Lock()
		c.nodes[i] = n
		c.mu.Unlock()
	}
	return err
}

// eventually asks cond until it holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not come to pass", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// replicated waits until each region has its voters.
func (c *cluster) replicated(t testing.TB) {
	t.Helper()
	want := min(len(c.nodes), 3)
	eventually(t, "the replicas of every region", func() bool {
		for _, n := range c.running() {
			rs := n.Raftstore().Regions()
			if len(rs) == 0 {
				return false
			}
			for _, r := range rs {
				if len(r.Region.GetPeers()) != want {
					return false
				}
				for _, p := range r.Region.GetPeers() {
					if p.GetRole() != metapb.PeerRole_Voter {
						return false
					}
				}
			}
		}
		return true
	})
}

// place is a region and the store of its leader.
type place struct {
	node *tikv.Node
	info raftstore.RegionInfo
}

// peerOn returns the region's peer on a store, nil if it has none.
func (p place) peerOn(store uint64) *metapb.Peer {
	for _, peer := range p.info.Region.GetPeers() {
		if peer.GetStoreId() == store {
			return peer
		}
	}
	return nil
}

// find returns the region that holds a plain key, as its leader sees it.
func (c *cluster) find(key []byte) (place, bool) {
	enc := codec.EncodeBytes(nil, key)
	for _, n := range c.running() {
		for _, r := range n.Raftstore().Regions() {
			end := r.Region.GetEndKey()
			if r.Leader && bytes.Compare(r.Region.GetStartKey(), enc) <= 0 && (len(end) == 0 || bytes.Compare(enc, end) < 0) {
				return place{n, r}, true
			}
		}
	}
	return place{}, false
}

func (c *cluster) mustFind(t testing.TB, key []byte) (p place) {
	t.Helper()
	eventually(t, fmt.Sprintf("a leader for %q", key), func() (ok bool) { p, ok = c.find(key); return ok })
	return p
}

// transfer asks the leader of a region to hand it to a store, as PD would.
func (p place) transfer(store uint64) {
	peer := p.peerOn(store)
	if peer == nil {
		return
	}
	p.node.Raftstore().OnPDResponse(&pdpb.RegionHeartbeatResponse{
		RegionId: p.info.Region.GetId(), RegionEpoch: p.info.Region.GetRegionEpoch(), TargetPeer: p.peerOn(p.node.StoreID()),
		TransferLeader: &pdpb.TransferLeader{Peer: peer, Peers: []*metapb.Peer{peer}},
	})
}
