package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/internal/codec"
	ikv "github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/tikv"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/prometheus/client_golang/prometheus"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/oracle"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

func fastResolved(cfg *tikv.Config) {
	cfg.ResolvedTSInterval = 50 * time.Millisecond
	cfg.Registerer = prometheus.NewRegistry()
}

// metric sums a counter of a node that was started with fastResolved.
func (c *cluster) metric(node int, name string) (sum float64) {
	c.t.Helper()
	families, err := c.cfgs[node].Registerer.(*prometheus.Registry).Gather()
	c.must(err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// staleScan reads the keys with the prefix from one store's own replicas.
func staleScan(ctx context.Context, n *tikv.Node, prefix string, ts uint64) (map[string]string, error) {
	start, end := []byte(prefix), codec.PrefixNext([]byte(prefix))
	encStart, encEnd := codec.EncodeBytes(nil, start), codec.EncodeBytes(nil, end)
	out := map[string]string{}
	pos := encStart
	for bytes.Compare(pos, encEnd) < 0 {
		found := false
		for _, r := range n.Raftstore().Regions() {
			if bytes.Compare(r.Region.GetStartKey(), pos) > 0 || len(r.Region.GetEndKey()) > 0 && bytes.Compare(pos, r.Region.GetEndKey()) >= 0 {
				continue
			}
			rd, err := n.Txn().OpenReader(ctx, &kvrpcpb.Context{
				RegionId: r.Region.GetId(), RegionEpoch: r.Region.GetRegionEpoch(), StaleRead: true,
				Peer: &metapb.Peer{Id: r.PeerID, StoreId: n.StoreID()},
			}, txn.ReaderOptions{TS: ts, Ranges: []ikv.KeyRange{{Start: start, End: end}}})
			if err != nil {
				return nil, err
			}
			if err := scanInto(rd, start, end, out); err != nil {
				return nil, err
			}
			found, pos = true, r.Region.GetEndKey()
			break
		}
		if !found {
			return nil, fmt.Errorf("no region at %x", pos)
		}
		if len(pos) == 0 {
			break
		}
	}
	return out, nil
}

func scanInto(rd *txn.Reader, start, end []byte, out map[string]string) (err error) {
	defer func() { err = errors.Join(err, rd.Close()) }()
	sc, err := rd.NewScanner(txn.ScanOptions{Start: start, End: end})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sc.Close()) }()
	for {
		k, v, ok, err := sc.Next()
		if err != nil || !ok {
			return err
		}
		out[string(k)] = string(v)
	}
}

func account(i int) []byte { return fmt.Appendf(nil, "account-%02d", i) }

const accounts, money = 12, 1000

// transfer moves money between two accounts, in one of the ways of committing.
func transfer(ctx context.Context, cl *txnkv.Client, rng *rand.Rand) error {
	tx, err := cl.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // fails if it has ended
	mode := rng.IntN(4)
	tx.SetEnableAsyncCommit(mode == 1)
	tx.SetEnable1PC(mode == 2)
	tx.SetPessimistic(mode == 3)
	from, to := rng.IntN(accounts), rng.IntN(accounts)
	if mode == 2 { // of one region, so that one phase is enough
		to = from ^ 1
	}
	if from == to {
		return nil
	}
	if mode == 3 {
		if err := tx.LockKeys(ctx, kv.NewLockCtx(tx.StartTS(), 200, time.Now()), account(from), account(to)); err != nil {
			return err
		}
	}
	a, err := balance(ctx, tx, from)
	if err != nil {
		return err
	}
	b, err := balance(ctx, tx, to)
	if err != nil {
		return err
	}
	n := rng.IntN(100)
	if err := errors.Join(tx.Set(account(from), strconv.AppendInt(nil, int64(a-n), 10)),
		tx.Set(account(to), strconv.AppendInt(nil, int64(b+n), 10))); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

func balance(ctx context.Context, tx *transaction.KVTxn, i int) (int, error) {
	v, err := tx.Get(ctx, account(i))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(v.Value))
}

// TestStaleReadsSeeOneState: whatever is written meanwhile, by whatever way of
// committing, and while leaders move and regions split, every replica that
// serves a timestamp shows what the leaders show at it, and money neither comes
// nor goes.
func TestStaleReadsSeeOneState(t *testing.T) {
	c := start(t, 3, fastResolved)
	cl := c.txnClient()
	c.replicated()
	tx, err := cl.Begin()
	c.must(err)
	for i := range accounts {
		c.must(tx.Set(account(i), strconv.AppendInt(nil, money, 10)))
	}
	c.must(tx.Commit(c.ctx))
	begun := tx.CommitTS()
	_, err = cl.SplitRegions(c.ctx, [][]byte{account(4), account(8)}, false, nil)
	c.must(err)

	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	var stopOnce sync.Once
	end := func() { stopOnce.Do(func() { close(stop) }) }
	defer end()
	var done atomic.Int64
	for w := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(7, uint64(w)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if transfer(c.ctx, cl, rng) == nil {
					done.Add(1)
				}
			}
		})
	}
	read, last, locked := 0, begun, 0
	rng := rand.New(rand.NewPCG(3, 3))
	for round := 0; round < 30 || done.Load() < 50; round++ {
		switch {
		case round%10 == 3:
			c.moveLeader(string(account(rng.IntN(accounts))), rng.IntN(3))
		case round == 15:
			_, err := cl.SplitRegions(c.ctx, [][]byte{account(2), account(10)}, false, nil)
			c.must(err)
		}
		c.eventually("a newer safe timestamp on all stores", func() bool {
			ts := uint64(0)
			for i, n := range c.nodes {
				resp, err := n.Service().GetStoreSafeTS(c.ctx, &kvrpcpb.StoreSafeTSRequest{
					KeyRange: &kvrpcpb.KeyRange{StartKey: []byte("account"), EndKey: []byte("accounu")}})
				c.must(err)
				if i == 0 || resp.SafeTs < ts {
					ts = resp.SafeTs
				}
			}
			if ts <= last {
				return false
			}
			last = ts
			return true
		})
		var want map[string]string
		for i, n := range c.nodes {
			got, err := staleScan(c.ctx, n, "account", last)
			var lock *txn.LockedError
			if errors.As(err, &lock) {
				locked++ // written after the timestamp was safe, by an older transaction
				continue
			}
			if re := ikv.AsRegionError(err); re != nil {
				if re.DataIsNotReady != nil {
					t.Fatalf("round %d: store %d was safe at %d: %v", round, i, last, err)
				}
				continue // it split
			}
			c.must(err)
			sum := 0
			for _, v := range got {
				n, err := strconv.Atoi(v)
				c.must(err)
				sum += n
			}
			if sum != accounts*money {
				t.Fatalf("round %d: store %d at %d has %d in %d accounts: %v", round, i, last, sum, len(got), got)
			}
			if want == nil {
				want = leaderScan(c, cl, last)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("round %d: store %d at %d has %v, the leaders %v", round, i, last, got, want)
			}
			read++
		}
	}
	end()
	t.Logf("%d stale scans agreed, %d met locks, %d transfers", read, locked, done.Load())
	if read < 30 {
		t.Fatalf("only %d stale scans were served, %d met locks", read, locked)
	}
}

func leaderScan(c *cluster, cl *txnkv.Client, ts uint64) map[string]string {
	c.t.Helper()
	it, err := cl.GetSnapshot(ts).Iter([]byte("account"), []byte("accounu"))
	c.must(err)
	defer it.Close()
	out := map[string]string{}
	for ; it.Valid(); c.must(it.Next()) {
		out[string(it.Key())] = string(it.Value())
	}
	return out
}

// TestPrewriteHoldsSafeTSBack: a transaction under way holds the safe timestamp
// of its region's replicas below its start, and no others'.
func TestPrewriteHoldsSafeTSBack(t *testing.T) {
	c := start(t, 3, fastResolved)
	cl := c.txnClient()
	c.replicated()
	_, err := cl.SplitRegions(c.ctx, [][]byte{[]byte("m")}, false, nil)
	c.must(err)
	tx, err := cl.Begin()
	c.must(err)
	c.must(tx.Set([]byte("k"), []byte("v")))
	startTS := tx.StartTS()
	prewrite := func() bool {
		at, info, ok := c.regionOf("k")
		if !ok {
			return false
		}
		resp, err := c.nodes[at].Txn().KvPrewrite(c.ctx, &kvrpcpb.PrewriteRequest{
			Context: &kvrpcpb.Context{RegionId: info.Region.GetId(), RegionEpoch: info.Region.GetRegionEpoch(),
				Peer: &metapb.Peer{Id: info.PeerID, StoreId: c.nodes[at].StoreID()}, Term: info.Term},
			Mutations:   []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte("k"), Value: []byte("v")}},
			PrimaryLock: []byte("k"), StartVersion: startTS, LockTtl: 60_000, TxnSize: 1,
		})
		return err == nil && resp.RegionError == nil && len(resp.Errors) == 0
	}
	c.eventually("the prewrite", prewrite)
	safe := func(key string, node int) uint64 {
		resp, err := c.nodes[node].Service().GetStoreSafeTS(c.ctx, &kvrpcpb.StoreSafeTSRequest{
			KeyRange: &kvrpcpb.KeyRange{StartKey: []byte(key), EndKey: []byte(key + "\x00")}})
		c.must(err)
		return resp.SafeTs
	}
	now, err := cl.CurrentTimestamp("global")
	c.must(err)
	c.eventually("the other region goes on", func() bool {
		return safe("z", 0) > now && safe("z", 1) > now && safe("z", 2) > now
	})
	// The leader's tracker begins again elsewhere, and finds the lock in a scan.
	c.moveLeader("k", 1)
	c.moveLeader("k", 2)
	now, err = cl.CurrentTimestamp("global")
	c.must(err)
	c.eventually("the other region goes on", func() bool {
		return safe("z", 0) > now && safe("z", 1) > now && safe("z", 2) > now
	})
	for i := range c.nodes {
		if ts := safe("k", i); ts >= startTS {
			t.Fatalf("node %d serves stale reads up to %d, a transaction started at %d is under way", i, ts, startTS)
		}
		_, err := staleScan(c.ctx, c.nodes[i], "k", startTS)
		if re := ikv.AsRegionError(err); re == nil || re.DataIsNotReady == nil {
			t.Fatalf("node %d: %v, want DataIsNotReady", i, err)
		}
	}
	c.must(tx.Commit(c.ctx)) // prewrites again, which is nothing new
	commitTS := tx.CommitTS()
	c.eventually("the region goes on", func() bool {
		return safe("k", 0) > commitTS && safe("k", 1) > commitTS && safe("k", 2) > commitTS
	})
	for i, n := range c.nodes {
		for ts, want := range map[uint64]string{commitTS: "v", commitTS - 1: ""} {
			got, err := staleScan(c.ctx, n, "k", ts)
			c.must(err)
			if got["k"] != want {
				t.Fatalf("node %d at %d: %q, want %q", i, ts, got["k"], want)
			}
		}
	}
}

// TestClientStaleReads: client-go's stale and follower reads, over sockets, and
// the timestamp that it reads PD and the stores for.
func TestClientStaleReads(t *testing.T) {
	c := start(t, 3, fastResolved)
	cl := c.txnClient()
	c.replicated()
	var versions []uint64
	for i := range 5 {
		tx, err := cl.Begin()
		c.must(err)
		c.must(tx.Set([]byte("k"), fmt.Appendf(nil, "%d", i)))
		c.must(tx.Commit(c.ctx))
		versions = append(versions, tx.CommitTS())
	}
	c.eventually("a safe timestamp at PD and in the client", func() bool {
		return cl.GetMinSafeTS(oracle.GlobalTxnScope) > versions[4]
	})
	for i := range 30 {
		v := i % 5
		snap := cl.GetSnapshot(versions[v])
		snap.SetReplicaRead(kv.ReplicaReadMixed)
		snap.SetIsStalenessReadOnly(true)
		got, err := snap.Get(c.ctx, []byte("k"))
		if err != nil || string(got.Value) != fmt.Sprint(v) {
			t.Fatalf("stale read at %d: %q %v, want %d", versions[v], got.Value, err, v)
		}
	}
	served := 0.0
	for i := range c.nodes {
		served += c.metric(i, "tikv_raftstore_local_read_executed_stale_read_requests")
	}
	if served < 30 {
		t.Errorf("%v stale reads were served, not 30", served)
	}
	// Too new: a replica refuses, and the client turns to the leader.
	tx, err := cl.Begin()
	c.must(err)
	c.must(tx.Set([]byte("k"), []byte("new")))
	c.must(tx.Commit(c.ctx))
	snap := cl.GetSnapshot(tx.CommitTS())
	snap.SetReplicaRead(kv.ReplicaReadMixed)
	snap.SetIsStalenessReadOnly(true)
	if got, err := snap.Get(c.ctx, []byte("k")); err != nil || string(got.Value) != "new" {
		t.Fatalf("%q %v", got.Value, err)
	}
	snap = cl.GetSnapshot(versions[0] - 1)
	snap.SetReplicaRead(kv.ReplicaReadMixed)
	snap.SetIsStalenessReadOnly(true)
	if _, err := snap.Get(c.ctx, []byte("k")); !tikverr.IsErrNotFound(err) {
		t.Fatalf("before the first version: %v", err)
	}
	ts, err := cl.CurrentTimestamp("global")
	c.must(err)
	for range 10 {
		snap := cl.GetSnapshot(ts)
		snap.SetReplicaRead(kv.ReplicaReadFollower)
		if got, err := snap.Get(c.ctx, []byte("k")); err != nil || string(got.Value) != "new" {
			t.Fatalf("follower read: %q %v", got.Value, err)
		}
	}
}
