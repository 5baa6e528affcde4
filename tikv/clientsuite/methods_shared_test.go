package clientsuite

import (
	"errors"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

var sharedMethods = []method{
	{name: "shared-lock", run: (*session).sharedLock},
	{name: "shared-lock-guards", run: (*session).sharedLockGuards},
	{name: "shared-lock-many", run: (*session).sharedLockMany},
	{name: "shared-deadlock", run: (*session).sharedDeadlock, calm: true},
}

// share locks keys in share mode. client-go wants a key of its own locked
// before, as the primary.
func (s *session) share(txn *transaction.KVTxn, wait int64, keys ...string) error {
	s.Helper()
	var ks [][]byte
	for _, k := range keys {
		ks = append(ks, s.key("%s", k))
	}
	lc := s.lockCtx(wait)
	lc.InShareMode = true
	return txn.LockKeys(s.ctx, lc, ks...)
}

// sharing is a pessimistic transaction with a primary of its own.
func (s *session) sharing(own string) *transaction.KVTxn {
	s.Helper()
	txn := s.pessimistic()
	s.must(s.lock(txn, kv.LockAlwaysWait, own))
	return txn
}

// sharedLock: transactions share a key, and one that wants it alone gets it when
// they have ended, each in its own way.
func (s *session) sharedLock() {
	s.put("k", "0")
	one, two, three := s.sharing("one"), s.sharing("two"), s.sharing("three")
	for _, txn := range []*transaction.KVTxn{one, two, three} {
		s.must(s.share(txn, kv.LockNoWait, "k"))
		s.must(s.share(txn, kv.LockNoWait, "k")) // again
		s.wantIn(txn, "k", "0")
	}
	alone := s.pessimistic()
	if err := s.lock(alone, kv.LockNoWait, "k"); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
		s.Fatalf("no wait: %v", err)
	}
	if err := s.lock(alone, 50, "k"); !errors.Is(err, tikverr.ErrLockWaitTimeout) {
		s.Fatalf("after 50 ms: %v", err)
	}
	s.want("k", "0") // readers do not wait
	s.must(one.Set(s.key("one"), []byte("1")))
	s.must(one.Commit(s.ctx))
	s.must(two.Rollback())
	s.must(three.Set(s.key("three"), []byte("3")))
	done := make(chan error, 1)
	go func() {
		err := s.lock(alone, kv.LockAlwaysWait, "k")
		for tikverr.IsErrWriteConflict(err) {
			err = s.lock(alone, kv.LockAlwaysWait, "k")
		}
		done <- err
	}()
	s.must(three.Commit(s.ctx))
	s.must(<-done)
	s.must(alone.Set(s.key("k"), []byte("alone")))
	s.must(alone.Commit(s.ctx))
	s.want("k", "alone", "one", "1", "two", "-", "three", "3")
}

// sharedLockGuards: what a transaction has locked in share mode does not change
// under it: an optimistic writer cannot commit before it has ended.
func (s *session) sharedLockGuards() {
	s.put("parent", "there")
	child := s.sharing("child")
	s.must(s.share(child, kv.LockAlwaysWait, "parent"))
	s.must(child.Set(s.key("child"), []byte("of parent")))
	done := make(chan error, 1)
	go func() {
		txn := s.begin()
		if err := txn.Delete(s.key("parent")); err != nil {
			done <- err
			return
		}
		done <- txn.Commit(s.ctx)
	}()
	s.wantIn(child, "parent", "there")
	s.must(child.Commit(s.ctx))
	// It conflicts with the lock's commit record, or has waited it out.
	if err := <-done; err != nil && !tikverr.IsErrWriteConflict(err) {
		s.Fatalf("delete: %v", err)
	} else if err == nil {
		s.want("parent", "-", "child", "of parent")
	} else {
		s.want("parent", "there", "child", "of parent")
	}
}

// sharedLockMany shares keys of several regions with many transactions.
func (s *session) sharedLockMany() {
	s.fill(12, 3)
	var names []string
	for _, k := range s.keys(12) {
		names = append(names, string(k[len(s.prefix):]))
	}
	var txns []*transaction.KVTxn
	for i := range 8 {
		txn := s.sharing("own-" + string(rune('a'+i)))
		s.must(s.share(txn, kv.LockAlwaysWait, names...))
		txns = append(txns, txn)
	}
	for i, txn := range txns {
		s.must(txn.Set(s.key("own-%c", 'a'+i), []byte("x")))
		if i%2 == 0 {
			s.must(txn.Commit(s.ctx))
		} else {
			s.must(txn.Rollback())
		}
	}
	alone := s.pessimistic()
	eventually(s, "the keys are free", func() bool {
		err := s.lock(alone, 1000, names...)
		if err != nil && !errors.Is(err, tikverr.ErrLockWaitTimeout) && !tikverr.IsErrWriteConflict(err) {
			s.Fatal(err)
		}
		return err == nil
	})
	s.must(alone.Rollback())
}

// sharedDeadlock closes a cycle over one of several transactions that share a key.
func (s *session) sharedDeadlock() {
	one, two := s.sharing("one"), s.sharing("two")
	s.must(s.share(one, kv.LockAlwaysWait, "k"))
	s.must(s.share(two, kv.LockAlwaysWait, "k"))
	alone := s.sharing("x")
	done := make(chan error, 1)
	go func() { done <- s.lock(alone, kv.LockAlwaysWait, "k") }()
	s.waits(1, "k")
	err := s.lock(two, kv.LockAlwaysWait, "x")
	var deadlock *tikverr.ErrDeadlock
	if !errors.As(err, &deadlock) {
		s.Fatalf("error %v, want a deadlock", err)
	}
	if n := len(deadlock.WaitChain); n != 2 || string(deadlock.DeadlockKey) != string(s.key("k")) {
		s.Errorf("chain of %d waits, over %q: %v", n, deadlock.DeadlockKey, deadlock.WaitChain)
	}
	s.must(two.Rollback())
	s.must(one.Rollback())
	if err := <-done; err != nil && !tikverr.IsErrWriteConflict(err) {
		s.Fatal(err)
	}
	s.must(alone.Rollback())
}
