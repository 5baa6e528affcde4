package clientsuite

import (
	"errors"
	"math"
	"time"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

var sharedMethods = []method{
	{name: "shared-locks", run: (*session).sharedLocks},
	{name: "shared-locks-resolved", run: (*session).sharedLocksResolved},
	{name: "read-committed-check-ts", run: (*session).readCommittedCheckTS},
}

// share locks a key in share mode; the transaction's primary is a key of its own.
func (s *session) share(txn *transaction.KVTxn, wait int64, primary, key string) error {
	s.Helper()
	s.must(s.lock(txn, kv.LockAlwaysWait, primary))
	lc := s.lockCtx(wait)
	lc.InShareMode = true
	return txn.LockKeys(s.ctx, lc, s.key("%s", key))
}

// sharedLocks keep out who wants a key alone, and are kept out by who has it.
func (s *session) sharedLocks() {
	s.split(s.key("k"))
	for _, commit := range []bool{true, false} {
		one, two, alone := s.pessimistic(), s.pessimistic(), s.pessimistic()
		s.must(s.share(one, kv.LockAlwaysWait, "p1", "k"))
		s.must(s.share(two, kv.LockAlwaysWait, "p2", "k"))
		if err := s.lock(alone, kv.LockNoWait, "k"); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
			s.Fatalf("alone beside two who share: %v", err)
		}
		if n := len(s.locks(s.key("k"), s.key("l"))); n != 2 {
			s.Fatalf("%d locks on a key that two share", n)
		}
		s.want("k", "-") // readers pass
		for _, txn := range []*transaction.KVTxn{one, two} {
			if commit {
				s.must(txn.Set(s.key("by-%d", txn.StartTS()), []byte("x")))
				s.must(txn.Commit(s.ctx))
			} else {
				s.must(txn.Rollback())
			}
		}
		eventually(s, "the key alone", func() bool { return s.lock(alone, kv.LockNoWait, "k") == nil })
		late := s.pessimistic()
		if err := s.share(late, kv.LockNoWait, "p3", "k"); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
			s.Fatalf("sharing with who is alone: %v", err)
		}
		s.must(alone.Rollback())
		s.must(late.Rollback())
	}
}

// sharedLocksResolved: of those who share a key, one is gone.
func (s *session) sharedLocksResolved() {
	gone, living := s.pessimistic(), s.pessimistic()
	s.must(s.share(gone, kv.LockAlwaysWait, "p1", "k"))
	s.must(s.share(living, kv.LockAlwaysWait, "p2", "k"))
	transaction.TxnProbe{KVTxn: gone}.GetCommitter().CloseTTLManager()
	s.later(gone.StartTS(), lockTTLMs*time.Millisecond)
	other := s.pessimistic()
	eventually(s, "the end of the lock whose owner is gone", func() bool {
		if err := s.lock(other, kv.LockNoWait, "k"); err == nil {
			s.Fatal("a key that somebody shares was locked alone")
		}
		locks := s.locks(s.key("k"), s.key("l"))
		return len(locks) == 1 && locks[0].TxnID == living.StartTS()
	})
	s.must(living.Set(s.key("p2"), []byte("x")))
	s.must(living.Commit(s.ctx))
	eventually(s, "the key alone", func() bool { return s.lock(other, kv.LockNoWait, "k") == nil })
	s.must(other.Rollback())
	s.want("p2", "x")
}

// readCommittedCheckTS refuses to miss a newer version.
func (s *session) readCommittedCheckTS() {
	s.put("k", "1")
	at := s.now()
	s.put("k", "2")
	snap := s.cl.GetSnapshot(at)
	snap.SetIsolationLevel(txnkv.RCCheckTS)
	_, err := snap.Get(s.ctx, s.key("k"))
	if e := wantErr[*tikverr.ErrWriteConflict](s, err); e.StartTs != at {
		s.Errorf("conflict %v with a read at %d", e.WriteConflict, at)
	}
	snap = s.cl.GetSnapshot(at)
	snap.SetIsolationLevel(txnkv.RCCheckTS)
	if _, err := snap.BatchGet(s.ctx, [][]byte{s.key("k")}); !tikverr.IsErrWriteConflict(err) {
		s.Errorf("batch get: %v", err)
	}
	snap = s.snapshot()
	snap.SetIsolationLevel(txnkv.RCCheckTS)
	s.wantIn(snap, "k", "2")
	s.wantIn(s.cl.GetSnapshot(math.MaxUint64), "k", "2")
}
