package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/copradb/copra/tikv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// regionOf returns the region that holds a plain key, as its leader sees it.
func (c *cluster) regionOf(key string) (leader int, info raftstore.RegionInfo, ok bool) {
	enc := codec.EncodeBytes(nil, []byte(key))
	for i, n := range c.nodes {
		for _, r := range n.Raftstore().Regions() {
			end := r.Region.GetEndKey()
			if r.Leader && bytes.Compare(r.Region.GetStartKey(), enc) <= 0 && (len(end) == 0 || bytes.Compare(enc, end) < 0) {
				return i, r, true
			}
		}
	}
	return 0, info, false
}

// moveLeader makes a store lead the region of key, by what PD would send.
func (c *cluster) moveLeader(key string, to int) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("leadership of %q at node %d", key, to), func() bool {
		at, info, ok := c.regionOf(key)
		if !ok || at == to {
			return ok
		}
		for _, p := range info.Region.GetPeers() {
			if p.GetStoreId() == c.nodes[to].StoreID() {
				c.nodes[at].Raftstore().OnPDResponse(&pdpb.RegionHeartbeatResponse{
					RegionId: info.Region.GetId(), RegionEpoch: info.Region.GetRegionEpoch(), TargetPeer: info.Region.GetPeers()[0],
					TransferLeader: &pdpb.TransferLeader{Peer: p, Peers: []*metapb.Peer{p}},
				})
			}
		}
		return false
	})
}

// TestDeadlockAcrossStores closes a cycle between locks on two stores, neither
// of which has the graph.
func TestDeadlockAcrossStores(t *testing.T) {
	c := start(t, 3, nil)
	cl := c.txnClient()
	c.replicated()
	_, err := cl.SplitRegions(c.ctx, [][]byte{[]byte("m"), []byte("t")}, false, nil)
	c.must(err)
	c.moveLeader("a", 0)
	c.moveLeader("n", 1)
	c.moveLeader("u", 2)
	begin := func() *transaction.KVTxn {
		txn, err := cl.Begin()
		c.must(err)
		txn.SetPessimistic(true)
		return txn
	}
	lock := func(txn *transaction.KVTxn, key string) error {
		ts, err := cl.CurrentTimestamp("global")
		c.must(err)
		return txn.LockKeys(c.ctx, kv.NewLockCtx(ts, 10_000, time.Now()), []byte(key))
	}
	// Lock waits end and start again until the edges have reached the graph, so
	// a deadlock is found even while leaders settle.
	one, two := begin(), begin()
	c.must(lock(one, "n"))
	c.must(lock(two, "u"))
	waiting := make(chan error, 1)
	go func() { waiting <- lock(one, "u") }()
	c.eventually("the wait", func() bool {
		resp, err := c.nodes[2].Service().GetLockWaitInfo(c.ctx, &kvrpcpb.GetLockWaitInfoRequest{})
		return err == nil && len(resp.Entries) == 1
	})
	err = lock(two, "n")
	var deadlock *tikverr.ErrDeadlock
	switch {
	case errors.As(err, &deadlock):
		c.must(two.Rollback())
		if err := <-waiting; err != nil && !tikverr.IsErrWriteConflict(err) {
			t.Fatal(err)
		}
		c.must(one.Rollback())
	default:
		// Either of the two may be the one that is refused.
		if other := <-waiting; !errors.As(other, &deadlock) {
			t.Fatalf("no deadlock: %v, %v", err, other)
		}
	}
}

// TestHazard18_AsyncCommitAfterLeaderChange: every new leader synchronises
// max_ts with PD, and async commit works again under it.
func TestHazard18_AsyncCommitAfterLeaderChange(t *testing.T) {
	c := start(t, 3, nil)
	cl := c.txnClient()
	c.replicated()
	for i := range 6 {
		to := i % 3
		c.moveLeader("k", to)
		ts, err := cl.CurrentTimestamp("global")
		c.must(err)
		c.eventually("a synchronised max_ts", func() bool { return c.nodes[to].Txn().MaxTS() != 0 })
		txn, err := cl.Begin()
		c.must(err)
		txn.SetEnableAsyncCommit(true)
		txn.SetEnable1PC(i%2 == 0)
		c.must(txn.Set([]byte("k"), fmt.Appendf(nil, "%d", i)))
		c.must(txn.Commit(c.ctx))
		if txn.CommitTS() <= ts {
			t.Fatalf("round %d committed at %d, before the earlier timestamp %d", i, txn.CommitTS(), ts)
		}
		read, err := cl.Begin()
		c.must(err)
		v, err := read.Get(c.ctx, []byte("k"))
		if err != nil || string(v.Value) != fmt.Sprint(i) {
			t.Fatalf("round %d reads %q: %v", i, v.Value, err)
		}
	}
}

// TestSQLKeyspaceIsApart: SQL's client (in process, without gRPC) and a V1
// client share a cluster and don't meet.
func TestSQLKeyspaceIsApart(t *testing.T) {
	c := start(t, 1, nil)
	local := kvclient.NewLocal()
	local.Add(c.nodes[0].Addr(), c.nodes[0].Service())
	sql, err := kvclient.Open(c.ctx, kvclient.Options{PDEndpoints: []string{c.pdURL}, Local: local})
	c.must(err)
	defer sql.Close()
	v1 := c.txnClient()

	st, err := sql.Begin()
	c.must(err)
	for i := range 10 {
		c.must(st.Set(fmt.Appendf(nil, "row%d", i), []byte("sql")))
	}
	c.must(st.Commit(c.ctx))
	vt, err := v1.Begin()
	c.must(err)
	for _, k := range []string{"a", "x", "y"} {
		c.must(vt.Set([]byte(k), []byte("v1")))
	}
	c.must(vt.Commit(c.ctx))

	vt, err = v1.Begin()
	c.must(err)
	it, err := vt.Iter(nil, nil)
	c.must(err)
	var keys []string
	for ; it.Valid(); c.must(it.Next()) {
		keys = append(keys, string(it.Key()))
	}
	if got := strings.Join(keys, " "); got != "a x y" {
		t.Errorf("V1 sees %q", got)
	}
	secret := "x\x00\x00\x01row1"
	if _, err := vt.Get(c.ctx, []byte(secret)); err == nil || !strings.Contains(err.Error(), "SQL keyspace") {
		t.Errorf("V1 read of a SQL key: %v", err)
	}
	c.must(vt.Set([]byte(secret), []byte("v1 was here")))
	if err := vt.Commit(c.ctx); err == nil || !strings.Contains(err.Error(), "SQL keyspace") {
		t.Errorf("V1 write of a SQL key: %v", err)
	}
	st, err = sql.Begin()
	c.must(err)
	v, err := st.Get(c.ctx, []byte("row1"))
	if err != nil || string(v.Value) != "sql" {
		t.Errorf("SQL reads %q: %v", v.Value, err)
	}
	si, err := st.Iter(nil, nil)
	c.must(err)
	n := 0
	for ; si.Valid(); c.must(si.Next()) {
		n++
	}
	if n != 10 {
		t.Errorf("SQL sees %d of its 10 rows", n)
	}
}

// TestSQLClientOutlivesItsStart: the context of Open is a command's, which ends
// when the process is told to stop, and commits under way still need timestamps.
func TestSQLClientOutlivesItsStart(t *testing.T) {
	c := start(t, 1, nil)
	ctx, cancel := context.WithCancel(c.ctx)
	sql, err := kvclient.Open(ctx, kvclient.Options{PDEndpoints: []string{c.pdURL}})
	c.must(err)
	defer sql.Close()
	tx, err := sql.Begin()
	c.must(err)
	c.must(tx.Set([]byte("row"), []byte("sql")))
	cancel()
	c.must(tx.Commit(c.ctx))
	if _, err := kvclient.Open(ctx, kvclient.Options{PDEndpoints: []string{c.pdURL}}); err == nil {
		t.Error("Open went on after its context had ended")
	}
}

// TestRawVersionsApart: raw clients of V1 and V2 share the store.
func TestRawVersionsApart(t *testing.T) {
	c := start(t, 1, nil)
	one, two := c.rawClient(kvrpcpb.APIVersion_V1), c.rawClient(kvrpcpb.APIVersion_V2)
	for i := range 20 {
		c.must(one.Put(c.ctx, fmt.Appendf(nil, "key %d", i), []byte("one")))
		c.must(two.Put(c.ctx, fmt.Appendf(nil, "key %d", i), []byte("two")))
	}
	for name, check := range map[string]func() ([][]byte, [][]byte, error){
		"one": func() ([][]byte, [][]byte, error) { return one.Scan(c.ctx, nil, nil, 100) },
		"two": func() ([][]byte, [][]byte, error) { return two.Scan(c.ctx, nil, nil, 100) },
	} {
		keys, values, err := check()
		c.must(err)
		if len(keys) != 20 {
			t.Fatalf("client %s sees %d keys", name, len(keys))
		}
		for i := range keys {
			if !strings.HasPrefix(string(keys[i]), "key ") || string(values[i]) != name {
				t.Fatalf("client %s sees %q=%q", name, keys[i], values[i])
			}
		}
	}
	c.must(one.DeleteRange(c.ctx, []byte("a"), []byte("z")))
	if v, err := two.Get(c.ctx, []byte("key 3")); err != nil || string(v) != "two" {
		t.Fatalf("V1's delete range took V2's key: %q %v", v, err)
	}
}

// TestLocalTransport: three stores in memory, without sockets between them.
func TestLocalTransport(t *testing.T) {
	local := &transport.Local{}
	c := start(t, 3, func(cfg *tikv.Config) {
		cfg.LocalTransport, cfg.FS, cfg.DataDir = local, vfs.NewMem(), "store"
	})
	raw := c.rawClient(kvrpcpb.APIVersion_V1)
	c.must(raw.Put(c.ctx, []byte("k"), []byte("v")))
	c.replicated()
	for i := range 3 {
		c.moveLeader("k", i)
		c.must(raw.Put(c.ctx, fmt.Appendf(nil, "%d", i), []byte("v")))
	}
	if v, err := raw.Get(c.ctx, []byte("k")); err != nil || string(v) != "v" {
		t.Fatalf("%q %v", v, err)
	}
}

// TestStopLeavesNothing: a stopped node has no goroutine left.
func TestStopLeavesNothing(t *testing.T) {
	c := start(t, 1, nil)
	c.must(c.rawClient(kvrpcpb.APIVersion_V1).Put(c.ctx, []byte("k"), []byte("v")))
	c.nodes[0].Stop()
	c.eventually("the end of all goroutines", func() bool {
		buf := make([]byte, 4<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		for _, g := range strings.Split(stacks, "\n\n") {
			for _, pkg := range []string{"copra/tikv.", "copra/tikv/deadlock.", "copra/raftstore", "copra/txn.", "copra/internal/pdclient", "pebble"} {
				if strings.Contains(g, pkg) && !strings.Contains(g, "copra/tikv/e2e") {
					return false
				}
			}
		}
		return true
	})
}
