package clientsuite

import (
	"fmt"
	"math"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/kv"
	ctikv "github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

var resolveMethods = []method{
	{name: "resolve-by-get", run: func(s *session) { s.resolves(func(k string) { s.wantAny(k) }) }},
	{name: "resolve-by-batch-get", run: func(s *session) {
		s.resolves(func(k string) {
			_, err := s.snapshot().BatchGet(s.ctx, [][]byte{s.key("%s", k)})
			s.must(err)
		})
	}},
	{name: "resolve-by-scan", run: func(s *session) {
		s.resolves(func(k string) {
			snap := s.snapshot()
			s.drain(snap.Iter(s.key("%s", k), kv.PrefixNextKey(s.key("%s", k))))
		})
	}},
	{name: "resolve-by-reverse-scan", run: func(s *session) {
		s.resolves(func(k string) {
			snap := s.snapshot()
			s.drain(snap.IterReverse(kv.PrefixNextKey(s.key("%s", k)), s.key("%s", k)))
		})
	}},
	{name: "resolve-by-lock", run: func(s *session) {
		s.resolves(func(k string) {
			txn := s.pessimistic()
			s.must(s.lock(txn, kv.LockAlwaysWait, k))
			s.must(txn.Rollback())
		})
	}},
	{name: "resolve-by-range", run: func(s *session) {
		s.resolves(func(k string) {
			_, err := ctikv.ResolveLocksForRange(s.ctx, ctikv.NewRegionLockResolver("test", s.cl), math.MaxUint64,
				s.key("%s", k), kv.PrefixNextKey(s.key("%s", k)), ctikv.NewGcResolveLockMaxBackoffer, 1024)
			s.must(err)
		})
	}},
	{name: "resolve-living", run: (*session).resolveLiving},
	{name: "resolve-pessimistic", run: (*session).resolvePessimistic},
	{name: "txn-status", run: (*session).txnStatus},
}

// left is how a transaction is left lying around.
type left struct {
	ttl     uint64 // of its locks, in milliseconds
	async   bool   // prewritten for async commit
	primary bool   // the primary was committed
	partly  bool   // only the first key was prewritten
}

// leave writes keys and values, in pairs, by a transaction whose client is gone.
func (s *session) leave(l left, kvs ...string) *transaction.KVTxn {
	s.Helper()
	txn := s.begin()
	for i := 0; i < len(kvs); i += 2 {
		s.must(txn.Set(s.key("%s", kvs[i]), []byte(kvs[i+1])))
	}
	c, err := transaction.TxnProbe{KVTxn: txn}.NewCommitter(1)
	s.must(err)
	primary := s.key("%s", kvs[0])
	c.SetPrimaryKey(primary)
	c.SetLockTTL(l.ttl)
	if l.async {
		c.SetUseAsyncCommit()
		c.SetMinCommitTS(txn.StartTS() + 1)
	}
	if l.partly {
		s.must(c.PrewriteMutations(s.ctx, c.MutationsOfKeys([][]byte{primary})))
	} else {
		s.must(c.PrewriteAllMutations(s.ctx))
	}
	if l.async && !c.IsAsyncCommit() { // a new leader without max_ts declined
		c.Cleanup(s.ctx)
		return s.leave(l, kvs...)
	}
	if l.primary {
		s.commitKey(primary, txn.StartTS(), s.now())
	}
	return txn
}

// commitKey commits one key of a transaction.
func (s *session) commitKey(key []byte, startTS, commitTS uint64) {
	s.Helper()
	bo := ctikv.NewBackoffer(s.ctx, 20_000)
	for {
		loc, err := s.cl.GetRegionCache().LocateKey(bo, key)
		s.must(err)
		resp, err := s.cl.SendReq(bo, tikvrpc.NewRequest(tikvrpc.CmdCommit, &kvrpcpb.CommitRequest{
			StartVersion: startTS, CommitVersion: commitTS, Keys: [][]byte{key}, PrimaryKey: key}), loc.Region, 10*time.Second)
		s.must(err)
		r := resp.Resp.(*kvrpcpb.CommitResponse)
		if r.Error != nil {
			s.Fatal(r.Error)
		}
		if r.RegionError == nil {
			return
		}
	}
}

func (s *session) wantAny(key string) { _, _ = s.begin().Get(s.ctx, s.key("%s", key)) }

// resolves leaves transactions in every state and lets touch clean up after them.
func (s *session) resolves(touch func(key string)) {
	s.split(s.key("c-s")) // primaries and secondaries are apart
	for i, c := range []struct {
		left left
		want string
	}{
		{left{ttl: 1}, "old"},
		{left{ttl: 1, primary: true}, "new"},
		{left{ttl: 1, async: true}, "new"},
		{left{ttl: 1, async: true, partly: true}, "old"},
	} {
		primary, secondary := fmt.Sprint("c-p", i), fmt.Sprint("c-s", i)
		s.put(primary, "old", secondary, "old")
		txn := s.leave(c.left, primary, "new", secondary, "new")
		s.later(txn.StartTS(), 1)
		touch(secondary)
		touch(primary)
		s.want(primary, c.want, secondary, c.want)
		s.put(primary, "next", secondary, "next")
	}
}

// resolveLiving reads past the lock of a transaction that lives, whose commit is
// pushed behind the read; after the read it commits.
func (s *session) resolveLiving() {
	s.put("p", "old", "s", "old")
	txn := s.begin()
	s.must(txn.Set(s.key("p"), []byte("new")))
	s.must(txn.Set(s.key("s"), []byte("new")))
	c, err := transaction.TxnProbe{KVTxn: txn}.NewCommitter(1)
	s.must(err)
	c.SetPrimaryKey(s.key("p"))
	c.SetLockTTL(60_000)
	c.SetMinCommitTS(txn.StartTS() + 1) // as large transactions do: it can be pushed
	s.must(c.PrewriteAllMutations(s.ctx))
	read := s.begin()
	s.wantIn(read, "s", "old")
	s.wantIn(read, "p", "old")
	c.SetCommitTS(s.now())
	s.must(c.CommitMutations(s.ctx))
	s.wantIn(read, "s", "old")
	s.want("p", "new", "s", "new")
}

// resolvePessimistic takes over locks whose owner is gone.
func (s *session) resolvePessimistic() {
	txn := s.pessimistic()
	s.must(s.lock(txn, kv.LockAlwaysWait, "p", "s"))
	transaction.TxnProbe{KVTxn: txn}.GetCommitter().CloseTTLManager() // no heartbeats any more
	s.want("p", "-", "s", "-")                                        // readers don't mind
	other := s.pessimistic()
	s.must(s.lock(other, kv.LockAlwaysWait, "s", "p"))
	s.must(other.Set(s.key("p"), []byte("taken")))
	s.must(other.Commit(s.ctx))
	if err := func() error {
		s.must(txn.Set(s.key("p"), []byte("late")))
		return txn.Commit(s.ctx)
	}(); err == nil {
		s.Fatal("a transaction that lost its locks was committed")
	}
	s.want("p", "taken")
}

// txnStatus asks what became of transactions.
func (s *session) txnStatus() {
	ask := func(txn *transaction.KVTxn, key string) (committed bool, ts uint64) {
		s.Helper()
		st, err := s.cl.GetLockResolver().GetTxnStatus(txn.StartTS(), s.now(), s.key("%s", key))
		s.must(err)
		return st.IsCommitted(), st.CommitTS()
	}
	txn := s.begin()
	s.must(txn.Set(s.key("committed"), []byte("x")))
	s.must(txn.Commit(s.ctx))
	if ok, ts := ask(txn, "committed"); !ok || ts != txn.CommitTS() {
		s.Errorf("committed %v at %d, want %d", ok, ts, txn.CommitTS())
	}
	gone := s.leave(left{ttl: 1}, "gone", "x")
	s.later(gone.StartTS(), 1)
	if ok, _ := ask(gone, "gone"); ok {
		s.Error("an abandoned transaction is committed")
	}
	living := s.leave(left{ttl: 60_000}, "living", "x")
	st, err := s.cl.GetLockResolver().GetTxnStatus(living.StartTS(), s.now(), s.key("living"))
	s.must(err)
	if st.TTL() == 0 {
		s.Error("a living transaction has no time to live")
	}
}
