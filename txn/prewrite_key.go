package txn

import (
	"math"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// prewriteKey is one mutation of a prewrite.
type prewriteKey struct {
	*prewriter
	enc                 []byte
	m                   *kvrpcpb.Mutation
	action              kvrpcpb.PrewriteRequest_PessimisticAction
	expectedForUpdateTS uint64 // 0: any

	// What its own lock says, if there is one.
	lockTTL     uint64
	minCommit   uint64
	forUpdate   uint64
	pessimLock  bool // the key holds the transaction's pessimistic lock
	ownLock     *mvcc.Lock
	ownMinTS    uint64
	alreadyLock bool       // prewritten before
	shared      *mvcc.Lock // ownLock is part of it
	lastChange  mvcc.LastChange
}

func (k *prewriteKey) mustNotExist() bool {
	return k.m.Op == kvrpcpb.Op_Insert || k.m.Op == kvrpcpb.Op_CheckNotExists
}

// prewrite checks the key and adds its lock to the pending ones. The result is
// the lock's min_commit_ts where the commit timestamp is computed, and 0 for a
// plain lock.
//
//	the key has                      optimistic        pessimistic, must hold a lock
//	nothing                          lock it           lock it if unchanged since start_ts
//	a lock of another transaction    KeyIsLocked       lock lost
//	its own lock                     done already      done already
//	its own pessimistic lock         refused           turn it into a lock
//	a lock shared by others          KeyIsLocked       KeyIsLocked; SharedLock: lock lost
//	a lock shared with it            refused           refused; SharedLock: turn its part into a lock
//	a newer commit record            WriteConflict     not checked: the lock guards it
//	its own rollback record          WriteConflict     lock lost
func (k *prewriteKey) prewrite() (minCommitTS uint64, err error) {
	if k.mustNotExist() {
		// A check for existence is a read at start_ts (hazard 18).
		if err := k.c.s.raiseMaxTS(k.startTS); err != nil {
			return 0, err
		}
	}
	k.lockTTL, k.minCommit, k.forUpdate = k.ttl, k.minCommitTS, k.forUpdateTS
	on, err := k.c.r.LoadLock(k.enc)
	if err != nil {
		return 0, err
	}
	lock, err := k.mine(on)
	if err != nil {
		return 0, err
	}
	amended := false
	switch {
	case lock != nil:
		if stop, err := k.checkLock(lock); stop || err != nil {
			return 0, err // a stale flush: nothing to do
		}
	case k.pessimistic() && k.action == kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK:
		amended = true
		if err := k.amendLostLock(); err != nil {
			return 0, err
		}
	}
	if k.alreadyLock && k.generation == 0 {
		if k.kind == onePhase {
			return 0, nil // a lock of an earlier try: no 1PC any more
		}
		return k.ownMinTS, nil
	}
	if err := k.checkRecords(amended); err != nil {
		return 0, err
	}
	if k.m.Op == kvrpcpb.Op_CheckNotExists {
		return max(k.minCommitTS, k.startTS+1), nil
	}
	if max := k.c.s.limits.ValueBytesMax; len(k.m.Value) > max {
		return 0, errAbort("the value of key %x has %d bytes, allowed are %d", k.m.Key, len(k.m.Value), max)
	}
	return k.addLock(), nil
}

// mine picks the lock to check from the key's lock record: a part of a shared
// lock only where the mutation is for it. A key to be prewritten as shared must
// have been locked before: nobody can tell whether a lost share was safe.
func (k *prewriteKey) mine(on *mvcc.Lock) (*mvcc.Lock, error) {
	share := k.m.Op == kvrpcpb.Op_SharedLock
	if !on.Shared() {
		if share && on.Of(k.startTS) == nil {
			return nil, errLockLost(k.startTS, k.m.Key, "it was a shared lock")
		}
		return on, nil
	}
	own := on.Of(k.startTS)
	switch {
	case own != nil && !share:
		return nil, errAbort("prewrite (%s) of transaction %d on key %x, which it has locked in share mode only; lock it alone first", k.m.Op, k.startTS, k.m.Key)
	case own != nil:
		k.shared = on
		return own, nil
	case share:
		return nil, errLockLost(k.startTS, k.m.Key, "other transactions share the key")
	}
	k.c.s.metrics.conflict("prewrite_locked")
	return nil, errLocked(on.Info(k.m.Key))
}

// checkLock looks at the lock on the key. stop says that the mutation is to be
// left out.
func (k *prewriteKey) checkLock(l *mvcc.Lock) (stop bool, err error) {
	if l.StartTS != k.startTS {
		if k.pessimistic() && k.action == kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK {
			k.c.s.metrics.conflict("pessimistic_lock_lost")
			return false, errLockLost(k.startTS, k.m.Key, "another transaction holds the key")
		}
		info := l.Info(k.m.Key)
		if k.pessimistic() {
			info.LockTtl = 0 // the client resolves it at once: the row lock is ours
		}
		k.c.s.metrics.conflict("prewrite_locked")
		return false, errLocked(info)
	}
	k.ownLock, k.lastChange = l, l.LastChange
	if l.Pessimistic() {
		if !k.pessimistic() {
			return false, errAbort("optimistic prewrite of transaction %d on key %x, which it holds a pessimistic lock of", k.startTS, k.m.Key)
		}
		if k.expectedForUpdateTS != 0 && l.ForUpdateTS != k.expectedForUpdateTS {
			return false, errLockLost(k.startTS, k.m.Key, "it was lost and taken again since (for_update_ts differs)")
		}
		k.pessimLock = true
		k.lockTTL = max(k.lockTTL, l.TTL) // heartbeats may have raised them
		k.minCommit = max(k.minCommit, l.MinCommitTS)
		k.forUpdate = max(k.forUpdate, l.ForUpdateTS)
		return false, nil
	}
	if k.generation > 0 {
		if l.Generation >= k.generation {
			return true, nil // a late copy of an earlier flush
		}
		if l.Generation > 0 && k.mustNotExist() && l.Type == mvcc.LockPut {
			return false, errAlreadyExist(k.m.Key)
		}
		k.lockTTL = max(k.lockTTL, l.TTL)
		k.minCommit = max(k.minCommit, l.MinCommitTS)
	}
	k.alreadyLock = true
	if l.UseAsyncCommit {
		k.ownMinTS = l.MinCommitTS
	}
	return false, nil
}

// amendLostLock lets a pessimistic prewrite pass whose lock is gone, if nobody
// has touched the key since the transaction began.
func (k *prewriteKey) amendLostLock() error {
	commitTS, w, ok, err := k.c.r.SeekWrite(k.enc, math.MaxUint64)
	if err != nil {
		return err
	}
	if ok && commitTS >= k.startTS {
		k.c.s.metrics.conflict("pessimistic_lock_lost")
		return errLockLost(k.startTS, k.m.Key, "the key was changed since")
	}
	n := newest{commitTS, w.Clone(), ok}
	if err := k.findLastChange(n); err != nil {
		return err
	}
	if k.m.Assertion == kvrpcpb.Assertion_None || k.level == kvrpcpb.AssertionLevel_Off {
		return nil
	}
	return k.assert(n)
}

// findLastChange is for mutations whose commit record changes nothing: n is the
// key's newest record that counts.
func (k *prewriteKey) findLastChange(n newest) (err error) {
	if lockTypeOf(k.m.Op) != mvcc.LockLock || k.m.Op == kvrpcpb.Op_CheckNotExists {
		return nil
	}
	if !n.ok {
		k.lastChange = mvcc.NoChange
		return nil
	}
	k.lastChange, err = k.c.r.LastChange(k.enc, n.commitTS, &n.w)
	return err
}

// newest is the newest commit record of a key, if there is one.
type newest struct {
	commitTS uint64
	w        mvcc.Write
	ok       bool
}

// checkRecords checks conflicts, existence and assertions against the commit
// records.
func (k *prewriteKey) checkRecords(amended bool) error {
	if k.generation > 0 && k.alreadyLock {
		// Only the first flush of a key can conflict: since then it is locked.
		// Its value is the lock's, except that a LockLock leaves the old one.
		if k.mustNotExist() && k.ownLock.Type == mvcc.LockLock {
			_, err := k.checkNewer()
			return err
		}
		return nil
	}
	var n newest
	loaded := !k.skipConstraints()
	if loaded {
		var err error
		if n, err = k.checkNewer(); err != nil {
			return err
		}
		if k.ownLock == nil {
			if err = k.findLastChange(n); err != nil {
				return err
			}
		}
	}
	if !loaded && k.pessimistic() && k.ownLock == nil && !amended {
		if err := k.checkRolledBack(); err != nil {
			return err
		}
	}
	if amended || k.m.Assertion == kvrpcpb.Assertion_None || k.level == kvrpcpb.AssertionLevel_Off {
		return nil
	}
	if !loaded {
		if k.level != kvrpcpb.AssertionLevel_Strict {
			return nil
		}
		commitTS, w, ok, err := k.c.r.SeekWrite(k.enc, math.MaxUint64)
		if err != nil {
			return err
		}
		n = newest{commitTS, w.Clone(), ok}
	}
	err := k.assert(n)
	if err != nil && !loaded {
		// The assertion may fail because the transaction was rolled back here.
		if _, newer := k.checkNewer(); newer != nil {
			return newer
		}
	}
	return err
}

// checkRolledBack is what even a key that is not to be checked is checked for:
// an async commit whose secondary was found missing is rolled back by the record
// left there, and must not come to have all its locks after that (hazard 22).
func (k *prewriteKey) checkRolledBack() error {
	commitTS, w, ok, err := k.c.r.SeekWrite(k.enc, k.startTS)
	if err != nil || !ok || commitTS != k.startTS || w.Type != mvcc.WriteRollback && !w.OverlappedRollback {
		return err
	}
	k.c.s.metrics.conflict("rolled_back")
	return k.conflict(w, commitTS, kvrpcpb.WriteConflict_SelfRolledBack)
}

func (k *prewriteKey) skipConstraints() bool {
	if !k.pessimistic() {
		return k.skipChecks
	}
	if k.shared != nil {
		return true
	}
	switch k.action {
	case kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK:
		return true
	case kvrpcpb.PrewriteRequest_SKIP_PESSIMISTIC_CHECK:
		// Not for a retry: its first copy may have been committed and the key
		// changed by others since.
		return !k.retry
	}
	return false
}

// checkNewer reports conflicts with commit records, and whether a key that must
// not exist does. It returns the newest record that counts.
func (k *prewriteKey) checkNewer() (newest, error) {
	seek := uint64(math.MaxUint64)
	for {
		commitTS, w, ok, err := k.c.r.SeekWrite(k.enc, seek)
		if err != nil || !ok {
			return newest{}, err
		}
		if commitTS == k.startTS && (w.Type == mvcc.WriteRollback || w.OverlappedRollback) {
			k.c.s.metrics.conflict("rolled_back")
			return newest{}, k.conflict(w, commitTS, kvrpcpb.WriteConflict_SelfRolledBack)
		}
		switch {
		case w.StartTS == k.startTS && w.Type != mvcc.WriteRollback:
			// It has committed here already; see prewriter.alreadyCommitted.
			return newest{}, k.conflict(w, commitTS, kvrpcpb.WriteConflict_Unknown)
		case !k.pessimistic() && commitTS > k.startTS:
			k.c.s.metrics.conflict("prewrite_write_conflict")
			return newest{}, k.conflict(w, commitTS, kvrpcpb.WriteConflict_Optimistic)
		case k.pessimistic() && k.action == kvrpcpb.PrewriteRequest_DO_CONSTRAINT_CHECK && commitTS > k.startTS:
			k.c.s.metrics.conflict("prewrite_write_conflict")
			return newest{}, k.conflict(w, commitTS, kvrpcpb.WriteConflict_LazyUniquenessCheck)
		case k.pessimistic() && commitTS > k.forUpdateTS:
			if w.Type == mvcc.WriteRollback {
				seek = commitTS - 1
				continue
			}
			return newest{}, errLockLost(k.startTS, k.m.Key, "a key that was not locked was changed after for_update_ts")
		}
		n := newest{commitTS, w.Clone(), true}
		if k.mustNotExist() {
			err = checkNotExists(&k.c.r, k.enc, k.m.Key, n)
		}
		return n, err
	}
}

// checkNotExists fails if the key has a value at n.
func checkNotExists(r *mvcc.Reader, enc, key []byte, n newest) error {
	if !n.ok || n.w.Type == mvcc.WriteDelete {
		return nil
	}
	if n.w.Type != mvcc.WritePut {
		_, _, exists, err := r.GetWrite(enc, n.commitTS)
		if err != nil || !exists {
			return err
		}
	}
	return errAlreadyExist(key)
}

// assert checks what the client believes of the key's newest value.
func (k *prewriteKey) assert(n newest) error {
	if n.ok && n.w.Type != mvcc.WritePut && n.w.Type != mvcc.WriteDelete {
		commitTS, w, ok, err := k.c.r.GetWrite(k.enc, n.commitTS)
		if err != nil {
			return err
		}
		n = newest{commitTS, w.Clone(), ok}
	}
	exists := n.ok && n.w.Type == mvcc.WritePut
	if (k.m.Assertion == kvrpcpb.Assertion_Exist) == exists {
		return nil
	}
	k.c.s.metrics.conflict("assertion_failed")
	return &keyError{pb: &kvrpcpb.KeyError{AssertionFailed: &kvrpcpb.AssertionFailed{
		StartTs: k.startTS, Key: slices.Clone(k.m.Key), Assertion: k.m.Assertion,
		ExistingStartTs: n.w.StartTS, ExistingCommitTs: n.commitTS,
	}}}
}

func (k *prewriteKey) conflict(w mvcc.Write, commitTS uint64, why kvrpcpb.WriteConflict_Reason) error {
	return errConflict(k.startTS, w, commitTS, k.m.Key, k.primary, why)
}

// addLock makes the key's lock pending. For async commit and 1PC it publishes
// the lock in memory and computes min_commit_ts; where that is not possible the
// result is 0 and the lock is a plain one.
func (k *prewriteKey) addLock() uint64 {
	l := &mvcc.Lock{
		Type: lockTypeOf(k.m.Op), StartTS: k.startTS, TTL: k.lockTTL, ForUpdateTS: k.forUpdate,
		MinCommitTS: k.minCommit, TxnSize: k.txnSize, Generation: k.generation, Primary: k.primary,
	}
	pl := pendingLock{
		enc: k.enc, lock: l, baseMin: k.minCommit,
		fresh: k.ownLock == nil, pessim: k.pessimLock,
	}
	if l.Type == mvcc.LockLock {
		l.LastChange = k.lastChange
	}
	if k.shared != nil {
		pl.shared = k.shared
		k.pending = append(k.pending, pl)
		return 0 // shared locks are committed in two phases
	}
	if k.ownLock != nil {
		l.RollbackTS = k.ownLock.RollbackTS
		pl.stale = k.ownLock.Type == mvcc.LockPut && !k.ownLock.HasShort
	}
	if l.Type == mvcc.LockPut {
		if len(k.m.Value) <= mvcc.ShortValueBytesMax {
			l.HasShort, l.ShortValue = true, k.m.Value
		} else {
			pl.value = k.m.Value
		}
	}
	ts := uint64(0)
	if k.kind != twoPhase {
		ts = k.publish(l)
	}
	k.pending = append(k.pending, pl)
	return ts
}

// publish completes l with a min_commit_ts that no reader has seen past, and
// puts it into the memory lock table. 0: not possible.
func (k *prewriteKey) publish(l *mvcc.Lock) uint64 {
	if !k.c.snap.MaxTSSynced() {
		return 0 // hazard 18: reads on the former leader are not known yet
	}
	published := k.c.s.mem.Publish(k.enc, func(maxTS uint64) *mvcc.Lock {
		// A lock that was taken in spite of a conflict is of the conflict's
		// timestamp, which the transaction's for_update_ts may be below.
		ts := max(l.MinCommitTS, max(maxTS, k.startTS, l.ForUpdateTS)+1)
		if k.maxCommitTS != 0 && ts > k.maxCommitTS {
			return nil
		}
		l.MinCommitTS = ts
		if k.kind == onePhase {
			l.UseOnePC = true
			return l
		}
		l.UseAsyncCommit = true
		if mvcc.IsEncodingOf(k.enc, k.primary) {
			l.Secondaries = k.secondaries
		}
		return l
	})
	if !published {
		return 0
	}
	k.c.published = append(k.c.published, k.enc)
	return l.MinCommitTS
}

func lockTypeOf(op kvrpcpb.Op) mvcc.LockType {
	switch op {
	case kvrpcpb.Op_Put, kvrpcpb.Op_Insert:
		return mvcc.LockPut
	case kvrpcpb.Op_Del:
		return mvcc.LockDelete
	}
	return mvcc.LockLock
}
