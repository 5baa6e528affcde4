package clientsuite

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	ctikv "github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

// commitMethods are the ways of committing.
var commitMethods = []method{
	{name: "optimistic", run: func(s *session) { s.commits(func(*transaction.KVTxn) {}) }},
	{name: "async-commit", run: func(s *session) { s.commits(func(x *transaction.KVTxn) { x.SetEnableAsyncCommit(true) }) }},
	{name: "one-phase", run: func(s *session) { s.commits(func(x *transaction.KVTxn) { x.SetEnable1PC(true) }) }},
	{name: "async-or-one-phase", run: func(s *session) {
		s.commits(func(x *transaction.KVTxn) { x.SetEnable1PC(true); x.SetEnableAsyncCommit(true) })
	}},
	{name: "causal", run: func(s *session) {
		s.commits(func(x *transaction.KVTxn) { x.SetEnableAsyncCommit(true); x.SetCausalConsistency(true) })
	}},
	{name: "pessimistic-commit", run: func(s *session) { s.commits(func(x *transaction.KVTxn) { x.SetPessimistic(true) }) }},
	{name: "pessimistic-async", run: func(s *session) {
		s.commits(func(x *transaction.KVTxn) { x.SetPessimistic(true); x.SetEnableAsyncCommit(true) })
	}},
	{name: "pessimistic-one-phase", run: func(s *session) {
		s.commits(func(x *transaction.KVTxn) { x.SetPessimistic(true); x.SetEnable1PC(true) })
	}},
	{name: "options", run: (*session).commitOptions},
	{name: "write-conflict", run: (*session).writeConflict},
	{name: "insert", run: (*session).insert},
	{name: "assertions", run: (*session).assertions},
	{name: "commit-ts-bound", run: (*session).commitTSBound},
	{name: "rollback", run: (*session).rollback},
	{name: "large", run: (*session).large},
	{name: "heartbeat", run: (*session).heartbeat},
	{name: "sizes", run: (*session).sizes},
	{name: "keyspaces", run: (*session).keyspaces},
}

// commits commits in one region, in four, and over earlier values.
func (s *session) commits(configure func(*transaction.KVTxn)) {
	last := uint64(0)
	for round, at := range [][][]byte{nil, {s.key("b"), s.key("c"), s.key("d")}, nil} {
		s.split(at...)
		txn := s.begin()
		configure(txn)
		put := func(key, value string) {
			s.Helper()
			if txn.IsPessimistic() {
				s.must(txn.LockKeysWithWaitTime(s.ctx, kv.LockAlwaysWait, s.key("%s", key)))
			}
			if value == "-" {
				s.must(txn.Delete(s.key("%s", key)))
			} else {
				s.must(txn.Set(s.key("%s", key), []byte(value)))
			}
		}
		for _, k := range []string{"a", "b", "c", "d", "e"} {
			put(k, fmt.Sprint(k, round))
		}
		put("d", "-")
		s.wantIn(txn, "a", fmt.Sprint("a", round))
		s.wantIn(txn, "d", "-")
		s.must(txn.Commit(s.ctx))
		if txn.CommitTS() <= txn.StartTS() || txn.CommitTS() <= last {
			s.Fatalf("round %d began at %d and was committed at %d, after %d", round, txn.StartTS(), txn.CommitTS(), last)
		}
		last = txn.CommitTS()
		s.want("a", fmt.Sprint("a", round), "b", fmt.Sprint("b", round), "c", fmt.Sprint("c", round), "d", "-", "e", fmt.Sprint("e", round))
		// Another client doesn't know what this one knows.
		v, err := s.cl.GetSnapshot(math.MaxUint64).Get(s.ctx, s.key("b"), kv.WithReturnCommitTS())
		if err != nil || string(v.Value) != fmt.Sprint("b", round) || v.CommitTS != last {
			s.Fatalf("latest value %q of %d (%v), want that of %d", v.Value, v.CommitTS, err, last)
		}
	}
}

// commitOptions are settings that go along with the requests.
func (s *session) commitOptions() {
	txn := s.begin()
	txn.SetPriority(txnkv.PriorityHigh)
	txn.SetResourceGroupTag([]byte("tag"))
	txn.SetResourceGroupName("group")
	txn.SetDiskFullOpt(kvrpcpb.DiskFullOpt_AllowedOnAlmostFull)
	txn.SetTxnSource(1)
	txn.EnableForceSyncLog()
	txn.SetRequestSourceInternal(true)
	txn.SetRequestSourceType("test")
	txn.SetCommitWaitUntilTSO(s.now())
	txn.SetPrewriteEncounterLockPolicy(transaction.NoResolvePolicy)
	told := make(chan error, 1)
	txn.SetCommitCallback(func(_ string, err error) { told <- err })
	s.must(txn.Set(s.key("a"), []byte("1")))
	s.must(txn.Set(s.key("b"), []byte("2")))
	s.must(txn.Commit(s.ctx))
	s.must(<-told)
	s.want("a", "1", "b", "2")
}

func (s *session) writeConflict() {
	s.put("k", "0")
	one, two := s.begin(), s.begin()
	s.must(one.Set(s.key("k"), []byte("1")))
	s.must(two.Set(s.key("k"), []byte("2")))
	s.must(one.Commit(s.ctx))
	e := wantErr[*tikverr.ErrWriteConflict](s, two.Commit(s.ctx))
	if e.Reason != kvrpcpb.WriteConflict_Optimistic || e.ConflictCommitTs != one.CommitTS() || !bytes.Equal(e.Key, s.key("k")) {
		s.Errorf("conflict %v, with the transaction committed at %d", e.WriteConflict, one.CommitTS())
	}
	s.want("k", "1")
	// A lock of one key does not conflict with what happened to another.
	three := s.begin()
	s.put("other", "x")
	s.must(three.Set(s.key("k"), []byte("3")))
	s.must(three.Commit(s.ctx))
	s.want("k", "3")
}

func (s *session) insert() {
	add := func(pessimistic bool, key string) error {
		txn := s.begin()
		txn.SetPessimistic(pessimistic)
		s.must(txn.GetMemBuffer().SetWithFlags(s.key("%s", key), []byte("new"), kv.SetPresumeKeyNotExists))
		if pessimistic {
			if err := txn.LockKeysWithWaitTime(s.ctx, kv.LockAlwaysWait, s.key("%s", key)); err != nil {
				_ = txn.Rollback()
				return err
			}
		}
		return txn.Commit(s.ctx)
	}
	s.put("there", "old", "gone", "old")
	txn := s.begin()
	s.must(txn.Delete(s.key("gone")))
	s.must(txn.Commit(s.ctx))
	for _, pessimistic := range []bool{false, true} {
		e := wantErr[*tikverr.ErrKeyExist](s, add(pessimistic, "there"))
		if !bytes.Equal(e.Key, s.key("there")) {
			s.Errorf("key %q exists", e.Key)
		}
		s.must(add(pessimistic, fmt.Sprint("never-", pessimistic)))
	}
	s.must(add(false, "gone"))
	s.want("there", "old", "gone", "new", "never-true", "new", "never-false", "new")
}

func (s *session) assertions() {
	s.put("there", "x")
	for _, c := range []struct {
		key  string
		flag kv.FlagsOp
		ok   bool
	}{
		{"there", kv.SetAssertExist, true}, {"absent", kv.SetAssertExist, false},
		{"there", kv.SetAssertNotExist, false}, {"absent", kv.SetAssertNotExist, true},
		{"absent", kv.SetAssertUnknown, true},
	} {
		for _, pessimistic := range []bool{false, true} {
			txn := s.begin()
			txn.SetPessimistic(pessimistic)
			txn.SetAssertionLevel(kvrpcpb.AssertionLevel_Strict)
			key := s.key("%s", c.key)
			if pessimistic { // the client checks, too, by what it heard when it locked
				lc := s.lockCtx(kv.LockAlwaysWait)
				lc.InitCheckExistence(1)
				s.must(txn.LockKeys(s.ctx, lc, key))
			}
			s.must(txn.Set(key, []byte("y")))
			txn.GetMemBuffer().UpdateFlags(key, c.flag)
			err := txn.Commit(s.ctx)
			if c.ok {
				s.must(err)
				if c.key == "absent" {
					del := s.begin()
					s.must(del.Delete(key))
					s.must(del.Commit(s.ctx))
				}
				continue
			}
			e := wantErr[*tikverr.ErrAssertionFailed](s, err)
			if !bytes.Equal(e.Key, key) || e.StartTs != txn.StartTS() {
				s.Errorf("failed assertion %v", e.AssertionFailed)
			}
			_ = txn.Rollback()
		}
	}
}

// commitTSBound refuses a commit timestamp at the client's wish.
func (s *session) commitTSBound() {
	for _, async := range []bool{false, true} {
		for _, allow := range []bool{true, false} {
			key := fmt.Sprint("k-", async, "-", allow)
			txn := s.begin()
			txn.SetEnableAsyncCommit(async)
			txn.SetCommitTSUpperBoundCheck(func(uint64) bool { return allow })
			s.must(txn.Set(s.key("%s", key), []byte("v")))
			switch err := txn.Commit(s.ctx); {
			case allow:
				s.must(err)
				s.want(key, "v")
			case err == nil:
				s.Errorf("async %v: committed at %d, above the bound", async, txn.CommitTS())
			default:
				s.want(key, "-")
			}
		}
	}
}

func (s *session) rollback() {
	s.put("a", "old", "b", "old")
	for _, pessimistic := range []bool{false, true} {
		txn := s.begin()
		txn.SetPessimistic(pessimistic)
		if pessimistic {
			s.must(txn.LockKeysWithWaitTime(s.ctx, kv.LockAlwaysWait, s.key("a"), s.key("b")))
		}
		s.must(txn.Set(s.key("a"), []byte("new")))
		s.must(txn.Rollback())
		if err := txn.Commit(s.ctx); err == nil {
			s.Fatal("a transaction was committed after its rollback")
		}
	}
	// A context that ends keeps a commit from beginning.
	txn := s.begin()
	s.must(txn.Set(s.key("b"), []byte("new")))
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	if err := txn.Commit(ctx); err == nil {
		s.Fatal("committed under a context that had ended")
	}
	s.want("a", "old", "b", "old")
	s.put("a", "next", "b", "next") // nothing is locked any more
}

// large writes more than fits into one request, in several regions.
func (s *session) large() {
	const n = 6000
	keys := s.keys(n)
	s.split(keys[n/4], keys[n/2], keys[3*n/4])
	value := bytes.Repeat([]byte("0123456789"), 20)
	for _, async := range []bool{false, true} {
		txn := s.begin()
		txn.SetEnableAsyncCommit(async) // too large for that: it falls back
		for i, k := range keys {
			s.must(txn.Set(k, fmt.Appendf(value, "%d-%v", i, async)))
		}
		s.must(txn.Commit(s.ctx))
		read := s.begin()
		got, err := read.BatchGet(s.ctx, keys)
		s.must(err)
		if len(got) != n {
			s.Fatalf("%d of %d keys", len(got), n)
		}
		for i, k := range keys {
			if want := fmt.Appendf(value, "%d-%v", i, async); !bytes.Equal(got[string(k)].Value, want) {
				s.Fatalf("key %d is %.40q", i, got[string(k)].Value)
			}
		}
	}
}

// heartbeat holds a lock for longer than its time to live.
func (s *session) heartbeat() {
	s.put("k", "old")
	txn := s.pessimistic()
	s.must(txn.LockKeysWithWaitTime(s.ctx, kv.LockAlwaysWait, s.key("k")))
	s.must(txn.Set(s.key("k"), []byte("new")))
	begun := physical(txn.StartTS())
	var ttl uint64
	eventually(s, "a heartbeat", func() bool {
		for _, l := range s.locks(s.key("k"), s.key("l")) {
			ttl = l.TTL
		}
		return ttl > lockTTLMs+lockTTLMs/4
	})
	eventually(s, "the end of the lock's first time to live", func() bool { return physical(s.now()) > begun+lockTTLMs })
	other := s.pessimistic()
	if err := other.LockKeysWithWaitTime(s.ctx, kv.LockNoWait, s.key("k")); err == nil {
		s.Fatal("a lock that heartbeats keep was taken")
	}
	s.must(other.Rollback())
	s.must(txn.Commit(s.ctx))
	s.want("k", "new")
}

// physical is the milliseconds of a timestamp.
func physical(ts uint64) uint64 { return ts >> 18 }

// sizes are values and keys of all lengths, up to the limits.
func (s *session) sizes() {
	txn := s.begin()
	want := map[string]int{}
	for _, n := range []int{0, 1, 7, 8, 9, 255, 256, 4096, 1 << 20} {
		if n == 0 { // client-go keeps empty values to itself: they delete
			continue
		}
		key := s.key("v%d", n)
		want[string(key)] = n
		s.must(txn.Set(key, bytes.Repeat([]byte{0xff}, n)))
	}
	for _, n := range []int{1, 7, 8, 9, 1024, 4000} {
		key := append(s.key("k"), bytes.Repeat([]byte{0}, n)...)
		want[string(key)] = n
		s.must(txn.Set(key, bytes.Repeat([]byte{1}, n)))
	}
	s.must(txn.Commit(s.ctx))
	read := s.begin()
	for k, n := range want {
		v, err := read.Get(s.ctx, []byte(k))
		if err != nil || len(v.Value) != n {
			s.Fatalf("value of %d bytes has %d (%v)", n, len(v.Value), err)
		}
	}
	if got := s.drain(read.Iter([]byte(s.prefix), s.end())); len(got) != len(want) {
		s.Fatalf("a scan finds %d of %d keys", len(got), len(want))
	}
}

// keyspaces: clients of API V2 have key spaces of their own.
func (s *session) keyspaces() {
	cl, err := txnkv.NewClient([]string{s.url}, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace("DEFAULT"))
	s.must(err)
	defer cl.Close()
	key := s.key("k")
	s.put("k", "v1")
	txn, err := cl.Begin()
	s.must(err)
	if _, err := txn.Get(s.ctx, key); !tikverr.IsErrNotFound(err) {
		s.Fatalf("API V2 sees V1's key: %v", err)
	}
	s.must(txn.Set(key, []byte("v2")))
	s.must(txn.Commit(s.ctx))
	if _, err := cl.SplitRegions(s.ctx, [][]byte{s.key("j")}, false, nil); err != nil {
		s.Fatal(err)
	}
	txn, err = cl.Begin()
	s.must(err)
	v, err := txn.Get(s.ctx, key)
	if err != nil || string(v.Value) != "v2" {
		s.Fatalf("API V2 reads %q (%v)", v.Value, err)
	}
	if got := s.drain(txn.Iter([]byte(s.prefix), s.end())); len(got) != 1 || got[0] != "k" {
		s.Fatalf("API V2 scans %q", got)
	}
	s.want("k", "v1")
	if _, err := txnkv.NewClient([]string{s.url}, txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace("nobody")); err == nil {
		s.Fatal("a client of a keyspace that does not exist")
	}
}

// locks are what a scan for locks finds in a range.
func (s *session) locks(start, end []byte) []*txnkv.Lock {
	s.Helper()
	out, err := ctikv.StoreProbe{KVStore: s.cl.KVStore}.ScanLocks(s.ctx, start, end, math.MaxUint64)
	s.must(err)
	return out
}

// later returns when PD's clock is a while after a timestamp.
func (s *session) later(ts uint64, by time.Duration) {
	s.Helper()
	eventually(s, "time", func() bool { return physical(s.now()) > physical(ts)+uint64(by.Milliseconds()) })
}
