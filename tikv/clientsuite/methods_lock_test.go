package clientsuite

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"
	"github.com/tikv/client-go/v2/txnkv/transaction"
)

var lockMethods = []method{
	{name: "lock-no-wait", run: (*session).lockNoWait},
	{name: "lock-wait", run: (*session).lockWait},
	{name: "lock-values", run: (*session).lockValues},
	{name: "lock-only-if-exists", run: (*session).lockOnlyIfExists},
	{name: "lock-conflict", run: (*session).lockConflict},
	{name: "lock-many", run: (*session).lockMany},
	{name: "fair-locking", run: (*session).fairLocking},
	{name: "deadlock", run: (*session).deadlock, calm: true},
	{name: "wake-up-order", run: (*session).wakeUpOrder, calm: true},
}

func (s *session) lockCtx(wait int64) *kv.LockCtx { return kv.NewLockCtx(s.now(), wait, time.Now()) }

func (s *session) lock(txn *transaction.KVTxn, wait int64, keys ...string) error {
	s.Helper()
	var ks [][]byte
	for _, k := range keys {
		ks = append(ks, s.key("%s", k))
	}
	return txn.LockKeys(s.ctx, s.lockCtx(wait), ks...)
}

func (s *session) lockNoWait() {
	one, two := s.pessimistic(), s.pessimistic()
	s.must(s.lock(one, kv.LockAlwaysWait, "k"))
	s.must(s.lock(one, kv.LockAlwaysWait, "k")) // again
	if err := s.lock(two, kv.LockNoWait, "k"); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
		s.Fatalf("no wait: %v", err)
	}
	if err := s.lock(two, 50, "k"); !errors.Is(err, tikverr.ErrLockWaitTimeout) {
		s.Fatalf("after 50 ms: %v", err)
	}
	s.must(s.lock(two, kv.LockNoWait, "other"))
	s.must(one.Rollback())
	eventually(s, "the released lock", func() bool { return s.lock(two, kv.LockNoWait, "k") == nil })
	s.must(two.Set(s.key("k"), []byte("two")))
	s.must(two.Commit(s.ctx))
	s.want("k", "two", "other", "-")
}

// lockWait waits for a commit and for a rollback.
func (s *session) lockWait() {
	for _, commit := range []bool{true, false} {
		key := fmt.Sprint("k-", commit)
		s.put(key, "0")
		one, two := s.pessimistic(), s.pessimistic()
		s.must(s.lock(one, kv.LockAlwaysWait, key))
		s.must(one.Set(s.key("%s", key), []byte("1")))
		done := make(chan error, 1)
		go func() {
			err := s.lock(two, kv.LockAlwaysWait, key)
			for tikverr.IsErrWriteConflict(err) { // it was committed meanwhile: lock at a newer timestamp
				err = s.lock(two, kv.LockAlwaysWait, key)
			}
			done <- err
		}()
		s.waits(1, key)
		if commit {
			s.must(one.Commit(s.ctx))
		} else {
			s.must(one.Rollback())
		}
		s.must(<-done)
		s.must(two.Set(s.key("%s", key), []byte("2")))
		s.must(two.Commit(s.ctx))
		s.want(key, "2")
	}
}

// waits waits until n requests wait for a key.
func (s *session) waits(n int, key string) {
	s.Helper()
	eventually(s, fmt.Sprintf("%d waits for %s", n, key), func() bool {
		found := 0
		for _, node := range s.running() {
			resp, err := node.Service().GetLockWaitInfo(s.ctx, &kvrpcpb.GetLockWaitInfoRequest{})
			s.must(err)
			for _, e := range resp.Entries {
				if bytes.Equal(e.Key, s.key("%s", key)) {
					found++
				}
			}
		}
		return found >= n
	})
}

// lockValues returns the values, or whether there are any, with the locks.
func (s *session) lockValues() {
	s.fill(6, 2)
	keys := append(s.keys(6), s.key("absent"))
	for _, values := range []bool{true, false} {
		txn := s.pessimistic()
		lc := s.lockCtx(kv.LockAlwaysWait)
		if values {
			lc.InitReturnValues(len(keys))
		} else {
			lc.InitCheckExistence(len(keys))
		}
		s.must(txn.LockKeys(s.ctx, lc, keys...))
		for i, k := range keys {
			v, ok := lc.Values[string(k)]
			if !ok || v.Exists != (i < 6) || values && i < 6 && string(v.Value) != fmt.Sprint("v", i) {
				s.Errorf("values %v, key %d: %+v %v", values, i, v, ok)
			}
		}
		s.must(txn.Rollback())
	}
}

func (s *session) lockOnlyIfExists() {
	s.put("there", "x")
	txn := s.pessimistic()
	s.must(s.lock(txn, kv.LockAlwaysWait, "primary"))
	lc := s.lockCtx(kv.LockAlwaysWait)
	lc.InitReturnValues(2)
	lc.LockOnlyIfExists = true
	s.must(txn.LockKeys(s.ctx, lc, s.key("there"), s.key("absent")))
	if v := lc.Values[string(s.key("there"))]; !v.Exists || string(v.Value) != "x" {
		s.Errorf("value %+v", v)
	}
	other := s.pessimistic()
	s.must(s.lock(other, kv.LockNoWait, "absent"))
	if err := s.lock(other, kv.LockNoWait, "there"); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
		s.Errorf("the key that exists is not locked: %v", err)
	}
	s.must(other.Rollback())
	s.must(txn.Rollback())
}

// lockConflict: a lock at a timestamp behind which there is a newer version.
func (s *session) lockConflict() {
	txn := s.pessimistic()
	lc := s.lockCtx(kv.LockAlwaysWait)
	commit := s.put("k", "newer")
	e := wantErr[*tikverr.ErrWriteConflict](s, txn.LockKeys(s.ctx, lc, s.key("k")))
	if e.Reason != kvrpcpb.WriteConflict_PessimisticRetry || e.ConflictCommitTs != commit {
		s.Errorf("conflict %v with a commit at %d", e.WriteConflict, commit)
	}
	s.must(s.lock(txn, kv.LockAlwaysWait, "k"))
	s.must(txn.Set(s.key("k"), []byte("mine")))
	s.must(txn.Commit(s.ctx))
	s.want("k", "mine")
}

// lockMany locks keys of several regions at once, and writes some of them.
func (s *session) lockMany() {
	const n = 300
	keys := s.keys(n)
	s.split(keys[100], keys[200])
	txn := s.pessimistic()
	s.must(txn.LockKeys(s.ctx, s.lockCtx(kv.LockAlwaysWait), keys...))
	for i := 0; i < n; i += 3 {
		s.must(txn.Set(keys[i], []byte("x")))
	}
	s.must(txn.Commit(s.ctx))
	if got := s.drain(s.begin().Iter([]byte(s.prefix), s.end())); len(got) != n/3 {
		s.Fatalf("%d keys", len(got))
	}
	eventually(s, "the end of the locks that wrote nothing", func() bool { return len(s.locks([]byte(s.prefix), s.end())) == 0 })
}

// fairLocking gets the lock though there is a newer version, and says so.
func (s *session) fairLocking() {
	s.put("k", "0", "l", "0")
	one, two := s.pessimistic(), s.pessimistic()
	s.must(s.lock(one, kv.LockAlwaysWait, "k"))
	two.StartAggressiveLocking()
	done := make(chan *kv.LockCtx, 1)
	go func() {
		lc := s.lockCtx(kv.LockAlwaysWait)
		lc.InitReturnValues(1)
		if err := two.LockKeys(s.ctx, lc, s.key("k")); err != nil {
			s.Errorf("fair locking: %v", err)
		}
		done <- lc
	}()
	s.waits(1, "k")
	s.must(one.Set(s.key("k"), []byte("1")))
	s.must(one.Commit(s.ctx))
	lc := <-done
	v := lc.Values[string(s.key("k"))]
	if v.LockedWithConflictTS != one.CommitTS() || string(v.Value) != "1" {
		s.Fatalf("locked with %+v; the other was committed at %d", v, one.CommitTS())
	}
	// The statement runs again and needs the other key instead.
	two.RetryAggressiveLocking(s.ctx)
	s.must(s.lock(two, kv.LockAlwaysWait, "l"))
	two.DoneAggressiveLocking(s.ctx)
	three := s.pessimistic()
	eventually(s, "the lock that is not needed", func() bool { return s.lock(three, kv.LockNoWait, "k") == nil })
	if err := s.lock(three, kv.LockNoWait, "l"); !errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet) {
		s.Errorf("the needed lock: %v", err)
	}
	s.must(three.Rollback())
	two.StartAggressiveLocking()
	s.must(s.lock(two, kv.LockAlwaysWait, "m"))
	two.CancelAggressiveLocking(s.ctx)
	s.must(two.Set(s.key("l"), []byte("2")))
	s.must(two.Commit(s.ctx))
	s.want("k", "1", "l", "2")
}

// deadlock closes a cycle of three; who closes it hears of all.
func (s *session) deadlock() {
	names := []string{"a", "b", "c"}
	s.split(s.key("b"), s.key("c"))
	txns := make([]*transaction.KVTxn, 3)
	for i, k := range names {
		txns[i] = s.pessimistic()
		s.must(s.lock(txns[i], kv.LockAlwaysWait, k))
	}
	type result struct {
		i   int
		err error
	}
	results := make(chan result, 3)
	for i := range 3 {
		go func() { results <- result{i, s.lock(txns[i], 20_000, names[(i+1)%3])} }()
	}
	// One is told, and its rollback lets the next go on. Edges that cross leader
	// changes are told again, so more than one may be refused.
	told := 0
	for range 3 {
		r := <-results
		var e *tikverr.ErrDeadlock
		switch {
		case errors.As(r.err, &e):
			told++
			var chain []uint64
			for _, w := range e.WaitChain {
				chain = append(chain, w.Txn)
				if len(w.Key) == 0 {
					s.Errorf("an entry of the chain has no key: %v", w)
				}
			}
			if told == 1 && (len(chain) != 3 || !slices.Contains(chain, txns[r.i].StartTS())) {
				s.Errorf("transaction %d hears of the chain %d", txns[r.i].StartTS(), chain)
			}
			if !bytes.HasPrefix(e.LockKey, []byte(s.prefix)) || !bytes.HasPrefix(e.DeadlockKey, []byte(s.prefix)) || e.DeadlockKeyHash == 0 {
				s.Errorf("deadlock %v", e.Deadlock)
			}
		case r.err != nil && !tikverr.IsErrWriteConflict(r.err):
			s.Errorf("transaction %d: %v", r.i, r.err)
		}
		s.must(txns[r.i].Rollback())
	}
	if told == 0 {
		s.Fatal("no deadlock was found")
	}
}

// wakeUpOrder: a lock goes to those who wait in the order of their transactions.
// A split or a new leader, as others of these tests bring about, makes everybody
// ask again, so that not every round is in order.
func (s *session) wakeUpOrder() {
	round := 0
	eventually(s, "a round in order", func() bool {
		round++
		order := s.wakeUps(fmt.Sprint("k", round))
		s.Logf("woken in the order %v", order)
		return slices.IsSorted(order)
	})
}

// wakeUps lets five wait for a key, and returns the order in which they get it.
func (s *session) wakeUps(key string) (order []int) {
	holder := s.pessimistic()
	s.must(s.lock(holder, kv.LockAlwaysWait, key))
	const n = 5
	got := make(chan int, n)
	for i := range n {
		txn := s.pessimistic()
		txn.StartAggressiveLocking() // the lock is passed on
		go func() {
			if err := s.lock(txn, kv.LockAlwaysWait, key); err != nil {
				s.Errorf("waiter %d: %v", i, err)
			}
			got <- i
			txn.CancelAggressiveLocking(s.ctx)
			_ = txn.Rollback()
		}()
		s.waits(i+1, key)
	}
	s.must(holder.Rollback())
	for range n {
		order = append(order, <-got)
	}
	return order
}
