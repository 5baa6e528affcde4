// Package e2e runs PD and stores in one process and drives them over sockets
// with the unmodified production client, github.com/tikv/client-go.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/pd"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/config"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/rawkv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// timeout bounds every test; nothing waits for it when all is well.
const timeout = 60 * time.Second

type cluster struct {
	t     testing.TB
	ctx   context.Context
	pd    *pd.Server
	pdURL string
	nodes []*tikv.Node
	cfgs  []tikv.Config
}

func logger(t testing.TB) *slog.Logger {
	if os.Getenv("COPRA_E2E_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func start(t testing.TB, stores int, change func(*tikv.Config)) *cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	t.Cleanup(cancel)
	c := &cluster{t: t, ctx: ctx}
	cfg := pd.Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Replicas: max(1, min(stores, 3)), Logger: logger(t)}
	var err error
	if c.pd, err = pd.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.pd.Stop)
	c.pdURL = c.pd.ClientURL()
	// All stores start at once: one of them gets the first region.
	c.nodes, c.cfgs = make([]*tikv.Node, stores), make([]tikv.Config, stores)
	errs := make([]error, stores)
	var wg sync.WaitGroup
	for i := range stores {
		c.cfgs[i] = tikv.Config{
			DataDir: t.TempDir(), Addr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0", PDEndpoints: []string{c.pdURL},
			CacheBytes: 8 << 20, MemTableBytes: 4 << 20, ReserveBytes: -1, StoreHeartbeatInterval: 200 * time.Millisecond,
			Raft:   raftstore.Config{TickInterval: 20 * time.Millisecond, RegionHeartbeatInterval: 200 * time.Millisecond, SplitCheckInterval: 200 * time.Millisecond},
			Logger: logger(t).With("node", i),
		}
		if change != nil {
			change(&c.cfgs[i])
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.nodes[i], errs[i] = tikv.Start(ctx, c.cfgs[i])
		}()
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if n != nil {
				n.Stop()
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// eventually asks cond until it holds.
func (c *cluster) eventually(what string, cond func() bool) {
	c.t.Helper()
	for !cond() {
		select {
		case <-c.ctx.Done():
			c.t.Fatalf("%s did not come to pass", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *cluster) rawClient(version kvrpcpb.APIVersion) *rawkv.Client {
	c.t.Helper()
	cl, err := rawkv.NewClientWithOpts(c.ctx, []string{c.pdURL}, rawkv.WithAPIVersion(version), rawkv.WithSecurity(config.Security{}))
	c.must(err)
	c.t.Cleanup(func() { cl.Close() })
	return cl
}

func (c *cluster) txnClient() *txnkv.Client {
	c.t.Helper()
	cl, err := txnkv.NewClient([]string{c.pdURL})
	c.must(err)
	c.t.Cleanup(func() { cl.Close() })
	// PD's client opens its stream anew right after its start; what it is asked in
	// that moment fails with "context canceled".
	c.eventually("timestamps", func() bool { _, err := cl.CurrentTimestamp("global"); return err == nil })
	return cl
}

func (c *cluster) replicated() {
	c.t.Helper()
	c.eventually("three replicas of every region", func() bool {
		for _, n := range c.nodes {
			rs := n.Raftstore().Regions()
			if len(rs) == 0 {
				return false
			}
			for _, r := range rs {
				if len(r.Region.GetPeers()) != len(c.nodes) {
					return false
				}
				for _, p := range r.Region.GetPeers() {
					if p.GetRole() != 0 {
						return false
					}
				}
			}
		}
		return true
	})
}

func TestRawKV(t *testing.T) {
	c := start(t, 1, nil)
	cl := c.rawClient(kvrpcpb.APIVersion_V1)
	ctx := c.ctx
	c.must(cl.Put(ctx, []byte("a"), []byte("1")))
	v, err := cl.Get(ctx, []byte("a"))
	c.must(err)
	if string(v) != "1" {
		t.Fatalf("get: %q", v)
	}
	if v, err = cl.Get(ctx, []byte("nope")); err != nil || v != nil {
		t.Fatalf("absent: %q %v", v, err)
	}
	var keys, values [][]byte
	for i := range 100 {
		keys, values = append(keys, fmt.Appendf(nil, "k%03d", i)), append(values, fmt.Appendf(nil, "v%d", i))
	}
	c.must(cl.BatchPut(ctx, keys, values))
	got, err := cl.BatchGet(ctx, keys)
	c.must(err)
	for i := range got {
		if !bytes.Equal(got[i], values[i]) {
			t.Fatalf("batch get %d: %q", i, got[i])
		}
	}
	ks, _, err := cl.Scan(ctx, []byte("k010"), []byte("k020"), 100)
	c.must(err)
	if len(ks) != 10 || string(ks[0]) != "k010" {
		t.Fatalf("scan: %q", ks)
	}
	ks, _, err = cl.ReverseScan(ctx, []byte("k020"), []byte("k010"), 3)
	c.must(err)
	if len(ks) != 3 || string(ks[0]) != "k019" {
		t.Fatalf("reverse scan: %q", ks)
	}
	sum, err := cl.Checksum(ctx, []byte("k"), []byte("l"))
	c.must(err)
	if sum.TotalKvs != 100 {
		t.Fatalf("checksum of %d pairs", sum.TotalKvs)
	}
	c.must(cl.DeleteRange(ctx, []byte("k000"), []byte("k090")))
	ks, _, err = cl.Scan(ctx, []byte("k"), []byte("l"), 100)
	c.must(err)
	if len(ks) != 10 {
		t.Fatalf("after delete range: %q", ks)
	}
	c.must(cl.PutWithTTL(ctx, []byte("ttl"), []byte("x"), 1000))
	ttl, err := cl.GetKeyTTL(ctx, []byte("ttl"))
	c.must(err)
	if *ttl < 900 || *ttl > 1000 {
		t.Fatalf("ttl %d", *ttl)
	}
	cl.SetAtomicForCAS(true)
	_, ok, err := cl.CompareAndSwap(ctx, []byte("a"), []byte("1"), []byte("2"))
	if err != nil || !ok {
		t.Fatalf("cas: %v %v", ok, err)
	}
	old, ok, err := cl.CompareAndSwap(ctx, []byte("a"), []byte("1"), []byte("3"))
	if err != nil || ok || string(old) != "2" {
		t.Fatalf("cas: %q %v %v", old, ok, err)
	}
}

func TestTransactions(t *testing.T) {
	c := start(t, 1, nil)
	cl := c.txnClient()
	for _, mode := range []struct {
		name                      string
		pessimistic, async, onePC bool
		keys                      int
	}{
		{"optimistic", false, false, false, 5},
		{"async commit", false, true, false, 5},
		{"1PC", false, false, true, 1},
		{"pessimistic", true, false, false, 5},
		{"pessimistic async", true, true, false, 5},
	} {
		t.Run(mode.name, func(t *testing.T) {
			begin := func() *transaction.KVTxn {
				txn, err := cl.Begin()
				if err != nil {
					t.Fatal(err)
				}
				txn.SetPessimistic(mode.pessimistic)
				txn.SetEnableAsyncCommit(mode.async)
				txn.SetEnable1PC(mode.onePC)
				return txn
			}
			key := func(i int) []byte { return fmt.Appendf(nil, "%s-%d", mode.name, i) }
			txn := begin()
			for i := range mode.keys {
				if mode.pessimistic {
					lc := kv.NewLockCtx(txn.StartTS(), kv.LockNoWait, time.Now())
					if err := txn.LockKeys(c.ctx, lc, key(i)); err != nil {
						t.Fatal(err)
					}
				}
				if err := txn.Set(key(i), fmt.Appendf(nil, "value %d", i)); err != nil {
					t.Fatal(err)
				}
			}
			if err := txn.Commit(c.ctx); err != nil {
				t.Fatal(err)
			}
			txn = begin()
			for i := range mode.keys {
				v, err := txn.Get(c.ctx, key(i))
				if err != nil || string(v.Value) != fmt.Sprintf("value %d", i) {
					t.Fatalf("key %d: %q %v", i, v.Value, err)
				}
			}
			it, err := txn.Iter(key(0), append([]byte(mode.name), '.'))
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; it.Valid(); n++ {
				if err := it.Next(); err != nil {
					t.Fatal(err)
				}
			}
			if n != mode.keys {
				t.Fatalf("scan found %d of %d keys", n, mode.keys)
			}
			if err := txn.Rollback(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestConflicts: a write conflict, a lock wait, and a deadlock.
func TestConflicts(t *testing.T) {
	c := start(t, 1, nil)
	cl := c.txnClient()
	begin := func(pessimistic bool) *transaction.KVTxn {
		txn, err := cl.Begin()
		c.must(err)
		txn.SetPessimistic(pessimistic)
		return txn
	}
	one, two := begin(false), begin(false)
	c.must(one.Set([]byte("k"), []byte("one")))
	c.must(two.Set([]byte("k"), []byte("two")))
	c.must(one.Commit(c.ctx))
	if err := two.Commit(c.ctx); !tikverr.IsErrWriteConflict(err) {
		t.Fatalf("second commit: %v", err)
	}

	lock := func(txn *transaction.KVTxn, key string, wait int64) error {
		now, err := cl.CurrentTimestamp("global")
		c.must(err)
		return txn.LockKeys(c.ctx, kv.NewLockCtx(now, wait, time.Now()), []byte(key))
	}
	a, b := begin(true), begin(true)
	c.must(lock(a, "a", 1000))
	c.must(lock(b, "b", 1000))
	if err := lock(b, "a", kv.LockNoWait); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
		t.Fatalf("no wait: %v", err)
	}
	waiting := make(chan error, 1)
	go func() { waiting <- lock(a, "b", 10_000) }()
	c.eventually("the wait", func() bool {
		resp, err := c.nodes[0].Service().GetLockWaitInfo(c.ctx, &kvrpcpb.GetLockWaitInfoRequest{})
		return err == nil && len(resp.Entries) == 1
	})
	var deadlock *tikverr.ErrDeadlock
	if err := lock(b, "a", 10_000); !errors.As(err, &deadlock) {
		t.Fatalf("no deadlock: %v", err)
	}
	c.must(b.Rollback())
	// The key was released by a rollback: the waiter has it now, or is told to
	// ask again with a newer timestamp.
	if err := <-waiting; tikverr.IsErrWriteConflict(err) {
		c.must(lock(a, "b", 10_000))
	} else {
		c.must(err)
	}
	c.must(a.Rollback())
}

// TestSplit: a client splits regions, reads across them, and the sizes make
// regions split by themselves.
func TestSplit(t *testing.T) {
	c := start(t, 1, func(cfg *tikv.Config) { cfg.RegionSplitBytes, cfg.RegionMaxBytes = 256<<10, 384<<10 })
	cl := c.txnClient()
	ids, err := cl.SplitRegions(c.ctx, [][]byte{[]byte("b"), []byte("d")}, false, nil)
	c.must(err)
	if len(ids) != 2 {
		t.Fatalf("split gave regions %v", ids)
	}
	txn, err := cl.Begin()
	c.must(err)
	for _, k := range []string{"a", "b", "c", "d", "e"} {
		c.must(txn.Set([]byte(k), []byte(k)))
	}
	c.must(txn.Commit(c.ctx))
	txn, err = cl.Begin()
	c.must(err)
	it, err := txn.Iter(nil, nil)
	c.must(err)
	var got strings.Builder
	for it.Valid() {
		got.Write(it.Value())
		c.must(it.Next())
	}
	if got.String() != "abcde" {
		t.Fatalf("scan over regions: %q", got.String())
	}
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	value := bytes.Repeat([]byte("0123456789abcdef"), 256)
	for i := range 300 {
		c.must(raw.Put(c.ctx, fmt.Appendf(nil, "%04d", i), value))
	}
	c.eventually("a split by size", func() bool { return len(c.nodes[0].Raftstore().Regions()) >= 5 })
	ks, _, err := raw.Scan(c.ctx, []byte("0000"), []byte("1000"), 1000)
	c.must(err)
	if len(ks) != 300 {
		t.Fatalf("scan over split regions found %d of 300 keys", len(ks))
	}
}

func TestRestart(t *testing.T) {
	c := start(t, 1, nil)
	cl := c.rawClient(kvrpcpb.APIVersion_V1)
	for i := range 50 {
		c.must(cl.Put(c.ctx, fmt.Appendf(nil, "%d", i), []byte("v")))
	}
	id, addr := c.nodes[0].StoreID(), c.nodes[0].Addr()
	c.nodes[0].Stop()
	c.cfgs[0].Addr = addr
	c.cfgs[0].Registerer, c.cfgs[0].Gatherer = nil, nil
	var err error
	c.nodes[0], err = tikv.Start(c.ctx, c.cfgs[0])
	c.must(err)
	if c.nodes[0].StoreID() != id {
		t.Fatalf("store %d came back as %d", id, c.nodes[0].StoreID())
	}
	ks, _, err := cl.Scan(c.ctx, nil, nil, 100)
	c.must(err)
	if len(ks) != 50 {
		t.Fatalf("%d of 50 keys after a restart", len(ks))
	}
}

func TestWrongClusterIsRefused(t *testing.T) {
	a, b := start(t, 1, nil), start(t, 1, nil)
	a.nodes[0].Stop()
	cfg := a.cfgs[0]
	cfg.PDEndpoints, cfg.Registerer, cfg.Gatherer = []string{b.pdURL}, nil, nil
	_, err := tikv.Start(a.ctx, cfg)
	for _, id := range []uint64{a.pd.ClusterID(), b.pd.ClusterID()} {
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("cluster %d", id)) {
			t.Fatalf("%v does not name cluster %d", err, id)
		}
	}
	cfg.PDEndpoints = []string{a.pdURL}
	n, err := tikv.Start(a.ctx, cfg)
	a.must(err)
	defer n.Stop()
	cfg.Addr = "127.0.0.1:0"
	if _, err := tikv.Start(a.ctx, cfg); err == nil || !strings.Contains(err.Error(), "does another copra use it") {
		t.Fatalf("a second process on the directory: %v", err)
	}
}

func TestStatusPages(t *testing.T) {
	c := start(t, 1, nil)
	get := func(path string) []byte {
		resp, err := http.Get("http://" + c.nodes[0].StatusAddr() + path)
		c.must(err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		c.must(err)
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s", path, resp.Status)
		}
		return body
	}
	var cfg struct {
		Storage struct {
			APIVersion int `json:"api-version"`
		}
	}
	c.must(json.Unmarshal(get("/config"), &cfg))
	if cfg.Storage.APIVersion != 1 {
		t.Errorf("config %+v", cfg)
	}
	var regions []map[string]any
	c.must(json.Unmarshal(get("/regions"), &regions))
	if len(regions) != 1 {
		t.Errorf("regions %v", regions)
	}
	if m := get("/metrics"); !bytes.Contains(m, []byte("tikv_engine_size_bytes")) {
		t.Errorf("metrics: %.300s", m)
	}
	get("/status")
	get("/debug/pprof/goroutine?debug=1")
}

// TestThreeStores: the first region gets three replicas, and reads and writes
// go on when a store stops.
func TestThreeStores(t *testing.T) {
	c := start(t, 3, nil)
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	for i := range 50 {
		c.must(raw.Put(c.ctx, fmt.Appendf(nil, "%d", i), []byte("v")))
	}
	c.replicated()
	stopped := 0
	for i, n := range c.nodes {
		for _, r := range n.Raftstore().Regions() {
			if r.Leader {
				stopped = i
			}
		}
	}
	c.nodes[stopped].Stop()
	for i := range 50 {
		c.must(raw.Put(c.ctx, fmt.Appendf(nil, "%d", 100+i), []byte("v")))
	}
	ks, _, err := raw.Scan(c.ctx, nil, nil, 1000)
	c.must(err)
	if len(ks) != 100 {
		t.Fatalf("%d of 100 keys after the loss of a store", len(ks))
	}
	txns := c.txnClient()
	txn, err := txns.Begin()
	c.must(err)
	c.must(txn.Set([]byte("k"), []byte("v")))
	c.must(txn.Commit(c.ctx))
	// The store comes back and catches up.
	cfg := c.cfgs[stopped]
	cfg.Registerer, cfg.Gatherer = nil, nil
	c.nodes[stopped], err = tikv.Start(c.ctx, cfg)
	c.must(err)
	c.eventually("catching up", func() bool {
		var applied []uint64
		for _, n := range c.nodes {
			for _, r := range n.Raftstore().Regions() {
				applied = append(applied, r.AppliedIndex)
			}
		}
		return len(applied) == 3 && applied[0] == applied[1] && applied[1] == applied[2]
	})
}
