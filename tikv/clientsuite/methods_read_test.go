package clientsuite

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/tikvrpc/interceptor"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/txnsnapshot"
)

var readMethods = []method{
	{name: "scan", run: (*session).scan},
	{name: "history", run: (*session).history},
	{name: "batch-get", run: (*session).batchGet},
	{name: "sample", run: (*session).sample, calm: true},
	{name: "own-writes", run: (*session).ownWrites},
	{name: "read-committed", run: (*session).readCommitted},
	{name: "replica-reads", run: (*session).replicaReads},
	{name: "stale-reads", run: (*session).staleReads},
	{name: "read-options", run: (*session).readOptions},
	{name: "snapshot-isolation", run: (*session).snapshotIsolation},
}

// snapshot is a snapshot of now.
func (s *session) snapshot() *txnkv.KVSnapshot { return s.cl.GetSnapshot(s.now()) }

// scan goes forward and backward over regions, in batches of several sizes.
func (s *session) scan() {
	const n = 100
	s.fill(n, 4)
	keys := s.keys(n)
	names := make([]string, n)
	for i, k := range keys {
		names[i] = strings.TrimPrefix(string(k), s.prefix)
	}
	backward := slices.Clone(names)
	slices.Reverse(backward)
	for _, batch := range []int{2, 7, 25, 256} {
		for _, keyOnly := range []bool{false, true} {
			snap := s.snapshot()
			snap.SetScanBatchSize(batch)
			snap.SetKeyOnly(keyOnly)
			if got := s.drain(snap.Iter([]byte(s.prefix), s.end())); !slices.Equal(got, names) {
				s.Fatalf("batches of %d: forward %q", batch, got)
			}
			if got := s.drain(snap.IterReverse(s.end(), []byte(s.prefix))); !slices.Equal(got, backward) {
				s.Fatalf("batches of %d: backward %q", batch, got)
			}
			if got := s.drain(snap.Iter(keys[20], keys[60])); !slices.Equal(got, names[20:60]) {
				s.Fatalf("batches of %d: 20 to 60 %q", batch, got)
			}
			if got := s.drain(snap.IterReverse(keys[60], keys[20])); !slices.Equal(got, backward[40:80]) {
				s.Fatalf("batches of %d: 60 to 20 %q", batch, got)
			}
			if got := s.drain(snap.Iter(keys[30], keys[30])); len(got) != 0 {
				s.Fatalf("batches of %d: an empty range has %q", batch, got)
			}
			it, err := snap.Iter(keys[5], keys[6])
			s.must(err)
			if want := map[bool]string{false: "v5", true: ""}[keyOnly]; string(it.Value()) != want {
				s.Fatalf("key only %v: value %q", keyOnly, it.Value())
			}
		}
	}
}

// history reads every state that a key had.
func (s *session) history() {
	type state struct {
		ts    uint64
		value string
	}
	states := []state{{s.now(), "-"}}
	for i := range 6 {
		txn := s.begin()
		if i == 3 {
			s.must(txn.Delete(s.key("k")))
		} else {
			s.must(txn.Set(s.key("k"), fmt.Append(nil, i)))
		}
		s.must(txn.Commit(s.ctx))
		states = append(states, state{txn.CommitTS(), map[bool]string{true: "-", false: fmt.Sprint(i)}[i == 3]})
	}
	for i, at := range states {
		s.wantIn(s.cl.GetSnapshot(at.ts), "k", at.value)
		if i > 0 {
			s.wantIn(s.cl.GetSnapshot(at.ts-1), "k", states[i-1].value)
		}
		snap := s.cl.GetSnapshot(at.ts)
		if got := s.drain(snap.Iter([]byte(s.prefix), s.end())); len(got) != map[bool]int{true: 0, false: 1}[at.value == "-"] {
			s.Errorf("scan at state %d: %q", i, got)
		}
	}
}

func (s *session) batchGet() {
	s.fill(60, 3)
	ask := append(s.keys(70), s.key("nobody"))
	snap := s.snapshot()
	got, err := snap.BatchGet(s.ctx, ask, kv.WithReturnCommitTS())
	s.must(err)
	if len(got) != 60 {
		s.Fatalf("%d of 60 keys", len(got))
	}
	commitTS := got[string(ask[0])].CommitTS
	for i, k := range ask[:60] {
		v := got[string(k)]
		if string(v.Value) != fmt.Sprint("v", i) || v.CommitTS != commitTS || commitTS == 0 {
			s.Fatalf("key %d is %q of %d, the first is of %d", i, v.Value, v.CommitTS, commitTS)
		}
		if one, err := s.snapshot().Get(s.ctx, k, kv.WithReturnCommitTS()); i%20 == 0 && (err != nil || one.CommitTS != commitTS) {
			s.Fatalf("get of key %d: %d (%v), want %d", i, one.CommitTS, err, commitTS)
		}
	}
	empty, err := snap.BatchGet(s.ctx, nil)
	if err != nil || len(empty) != 0 {
		s.Fatal(empty, err)
	}
}

// sample reads every nth key of each region.
func (s *session) sample() {
	s.fill(40, 1)
	snap := s.snapshot()
	snap.SetSampleStep(8)
	got := s.drain(snap.Iter([]byte(s.prefix), s.end()))
	if len(got) < 5 || len(got) > 12 { // a scan that is cut by regions begins anew
		s.Fatalf("a sample of every 8th of 40 keys has %q", got)
	}
}

// ownWrites are what a transaction has not committed yet, over what it reads.
func (s *session) ownWrites() {
	s.fill(10, 2)
	keys := s.keys(10)
	txn := s.begin()
	s.must(txn.Delete(keys[2]))
	s.must(txn.Set(keys[3], []byte("mine")))
	s.must(txn.Set(s.key("00003x"), []byte("mine")))
	want := []string{"00000", "00001", "00003", "00003x", "00004", "00005", "00006", "00007", "00008", "00009"}
	if got := s.drain(txn.Iter([]byte(s.prefix), s.end())); !slices.Equal(got, want) {
		s.Fatalf("forward %q", got)
	}
	slices.Reverse(want)
	if got := s.drain(txn.IterReverse(s.end(), []byte(s.prefix))); !slices.Equal(got, want) {
		s.Fatalf("backward %q", got)
	}
	got, err := txn.BatchGet(s.ctx, keys)
	s.must(err)
	if len(got) != 9 || string(got[string(keys[3])].Value) != "mine" {
		s.Fatalf("batch get %d keys, %q", len(got), got[string(keys[3])].Value)
	}
	s.must(txn.Rollback())
}

// readCommitted passes locks.
func (s *session) readCommitted() {
	s.put("k", "old", "l", "l")
	s.leave(left{ttl: 60_000}, "k", "new") // for a reader at SI there is no way past it
	snap := s.snapshot()
	snap.SetIsolationLevel(txnkv.RC)
	s.wantIn(snap, "k", "old")
	snap = s.snapshot()
	snap.SetIsolationLevel(txnkv.RC)
	if got, err := snap.BatchGet(s.ctx, [][]byte{s.key("k"), s.key("l")}); err != nil || len(got) != 2 {
		s.Fatal(got, err)
	}
	snap = s.snapshot()
	snap.SetIsolationLevel(txnkv.RC)
	if got := s.drain(snap.Iter([]byte(s.prefix), s.end())); len(got) != 2 {
		s.Fatal(got)
	}
}

// replicaReads see every write that was acknowledged, whoever serves them.
func (s *session) replicaReads() {
	s.split(s.key("5"))
	types := []kv.ReplicaReadType{kv.ReplicaReadLeader, kv.ReplicaReadFollower, kv.ReplicaReadMixed, kv.ReplicaReadPreferLeader, kv.ReplicaReadLearner}
	for round := range 4 {
		value := fmt.Sprint("round ", round)
		s.put("1", value, "9", value)
		for _, typ := range types {
			var mu sync.Mutex
			targets := map[string]bool{}
			snap := s.snapshot()
			snap.SetReplicaRead(typ)
			snap.SetRPCInterceptor(interceptor.NewRPCInterceptor("who", func(next interceptor.RPCInterceptorFunc) interceptor.RPCInterceptorFunc {
				return func(target string, req *tikvrpc.Request) (*tikvrpc.Response, error) {
					mu.Lock()
					targets[target] = true
					mu.Unlock()
					return next(target, req)
				}
			}))
			s.wantIn(snap, "1", value)
			got, err := snap.BatchGet(s.ctx, [][]byte{s.key("1"), s.key("9")})
			if err != nil || string(got[string(s.key("9"))].Value) != value {
				s.Fatalf("type %d, round %d: %v (%v)", typ, round, got, err)
			}
			if got := s.drain(snap.Iter([]byte(s.prefix), s.end())); len(got) != 2 {
				s.Fatalf("type %d, round %d: %q", typ, round, got)
			}
			mu.Lock()
			if len(targets) == 0 {
				s.Errorf("type %d: nobody was asked", typ)
			}
			mu.Unlock()
		}
	}
}

// staleReads are of the past, from any replica.
func (s *session) staleReads() {
	s.split(s.key("5"))
	first := s.put("1", "first", "9", "first")
	s.put("1", "second", "9", "second")
	for range 6 { // the replicas take turns
		snap := s.cl.GetSnapshot(first)
		snap.SetReplicaRead(kv.ReplicaReadMixed)
		snap.SetIsStalenessReadOnly(true)
		s.wantIn(snap, "1", "first")
		if got := s.drain(snap.Iter([]byte(s.prefix), s.end())); len(got) != 2 {
			s.Fatalf("stale scan %q", got)
		}
		got, err := snap.BatchGet(s.ctx, [][]byte{s.key("1"), s.key("9")})
		if err != nil || string(got[string(s.key("9"))].Value) != "first" {
			s.Fatalf("stale batch get %v (%v)", got, err)
		}
	}
	// Locks that other methods leave hold it back.
	eventually(s, "a safe timestamp on all stores", func() bool { return s.cl.GetMinSafeTS("global") > 0 })
}

func (s *session) readOptions() {
	s.put("k", "v")
	snap := s.snapshot()
	snap.SetNotFillCache(true)
	snap.SetPriority(txnkv.PriorityLow)
	snap.SetTaskID(7)
	snap.SetResourceGroupTag([]byte("tag"))
	stats := &txnsnapshot.SnapshotRuntimeStats{}
	snap.SetRuntimeStats(stats)
	s.wantIn(snap, "k", "v")
	if n := stats.GetCmdRPCCount(tikvrpc.CmdGet); n < 1 {
		s.Errorf("%d gets were counted", n)
	}
	if stats.String() == "" {
		s.Error("no execution details came back")
	}
	latest := s.cl.GetSnapshot(math.MaxUint64)
	s.wantIn(latest, "k", "v")
}

// snapshotIsolation: a transaction sees the state of its beginning.
func (s *session) snapshotIsolation() {
	s.fill(20, 2)
	reader := s.begin()
	s.wantIn(reader, "00000", "v0")
	s.put("00000", "changed", "00019", "changed", "00020", "added")
	s.wantIn(reader, "00000", "v0")
	s.wantIn(reader, "00019", "v19")
	if got := s.drain(reader.Iter([]byte(s.prefix), s.end())); len(got) != 20 {
		s.Fatalf("the snapshot has %d keys", len(got))
	}
	s.want("00000", "changed", "00020", "added")
}
