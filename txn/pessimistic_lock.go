package txn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/lockwait"
	"github.com/copradb/copra/txn/mvcc"
)

// pessimisticLock carries one KvPessimisticLock through its tries.
type pessimisticLock struct {
	s     *Store
	req   *kvrpcpb.PessimisticLockRequest
	force bool // force-lock mode: lock in spite of newer versions

	results []lockResult
	own     *mvcc.Lock        // the share that the lock in the making replaces
	waiter  *lockwait.Waiter  // in the queue after a try that met a lock
	holder  *kvrpcpb.LockInfo // what it waits for
	refused error             // the answer, although something was written
}

// lockResult is the outcome for one key.
type lockResult struct {
	value      []byte
	exists     bool
	conflictTS uint64 // not 0: locked although this newer version exists
}

// heldLock is a lock that other transactions have on a key.
type heldLock struct {
	i    int
	lock *mvcc.Lock // without our own share of it
	// shrink is the record to write so that nobody else comes to share the key,
	// which this request wants alone; nil: nothing to write.
	shrink *mvcc.Lock
}

// KvPessimisticLock locks keys before they are written. All keys are locked or
// none. A key that is locked by another transaction is waited for:
// wait_timeout < 0 not at all, 0 Limits.LockWaitMsMax, else that many ms, at most
// Limits.LockWaitMsMax; then KeyIsLocked. Woken by a release, a request of normal
// mode is answered with a WriteConflict, so that the client retries with a new
// for_update_ts; one of force-lock mode (a single key) takes the lock itself.
//
// SharedPessimisticLock shares a key with other transactions that lock it so. A
// request for the key alone waits until they have all gone, and lets no new ones
// in; the only one left that shares a key may have it alone.
func (s *Store) KvPessimisticLock(ctx context.Context, req *kvrpcpb.PessimisticLockRequest) (*kvrpcpb.PessimisticLockResponse, error) {
	if err := checkPessimisticLock(req); err != nil {
		return nil, err
	}
	p := pessimisticLock{s: s, req: req, force: req.WakeUpMode == kvrpcpb.PessimisticLockWakeUpMode_WakeUpModeForceLock}
	err := p.run(ctx)
	re, kes, err := splitMany(err)
	if err != nil {
		return nil, err
	}
	resp := &kvrpcpb.PessimisticLockResponse{RegionError: re, Errors: kes}
	switch {
	case re != nil:
	case p.force:
		resp.Results = p.forceResults(kes)
	case kes == nil:
		p.normalResults(resp)
	}
	return resp, nil
}

func checkPessimisticLock(req *kvrpcpb.PessimisticLockRequest) error {
	if len(req.Mutations) == 0 {
		return invalid("pessimistic lock without mutations")
	}
	if req.ForUpdateTs == 0 || req.StartVersion == 0 {
		return invalid("pessimistic lock without for_update_ts or start_version")
	}
	if req.WakeUpMode == kvrpcpb.PessimisticLockWakeUpMode_WakeUpModeForceLock && len(req.Mutations) != 1 {
		return invalid("force-lock mode with %d keys; it takes one", len(req.Mutations))
	}
	for _, m := range req.Mutations {
		switch m.Op {
		case kvrpcpb.Op_PessimisticLock:
		case kvrpcpb.Op_SharedPessimisticLock:
			if req.WakeUpMode == kvrpcpb.PessimisticLockWakeUpMode_WakeUpModeForceLock {
				return invalid("a shared lock in force-lock mode")
			}
			if bytes.Equal(m.Key, req.PrimaryLock) {
				return invalid("shared lock of the primary key %x; a transaction needs a key of its own first", m.Key)
			}
		default:
			return invalid("pessimistic lock of operation %s", m.Op)
		}
	}
	return nil
}

func (p *pessimisticLock) forceResults(failed []*kvrpcpb.KeyError) []*kvrpcpb.PessimisticLockKeyResult {
	if len(failed) > 0 {
		if failed[0].Locked == nil {
			return nil // nothing to try again
		}
		return []*kvrpcpb.PessimisticLockKeyResult{{Type: kvrpcpb.PessimisticLockKeyResultType_LockResultFailed}}
	}
	r := p.results[0]
	out := &kvrpcpb.PessimisticLockKeyResult{Existence: r.exists, Value: r.value}
	if r.conflictTS != 0 {
		out.Type = kvrpcpb.PessimisticLockKeyResultType_LockResultLockedWithConflict
		out.LockedWithConflictTs = r.conflictTS
	}
	return []*kvrpcpb.PessimisticLockKeyResult{out}
}

func (p *pessimisticLock) normalResults(resp *kvrpcpb.PessimisticLockResponse) {
	if !p.req.ReturnValues && !p.req.CheckExistence {
		return
	}
	for _, r := range p.results {
		resp.NotFounds = append(resp.NotFounds, !r.exists)
		if p.req.ReturnValues {
			resp.Values = append(resp.Values, r.value)
		}
	}
}

// run tries and waits until the keys are locked, or it is settled that they
// won't be.
func (p *pessimisticLock) run(ctx context.Context) error {
	keys := mutationKeys(p.req.Mutations)
	deadline := p.deadline()
	for {
		was := p.waiter // woken, this is its turn
		p.results, p.waiter, p.holder, p.refused = p.results[:0], nil, nil, nil
		err := p.s.exec(ctx, cmdPessimisticLock, p.req.Context, p.req.StartVersion, keys, p.try)
		if p.waiter == nil {
			if err == nil {
				err = p.refused
			}
			if was != nil && (err != nil || !p.locked()) {
				p.s.waiters.PassOn(was.Key)
			}
			return err
		}
		if err != nil {
			p.s.waiters.Remove(p.waiter)
			p.declineTurn()
			return err
		}
		if again, err := p.wait(ctx, deadline); !again {
			p.declineTurn()
			return err
		}
	}
}

// locked reports whether a try that did not fail has locked its keys.
func (p *pessimisticLock) locked() bool {
	return !p.req.LockOnlyIfExists || !slices.ContainsFunc(p.results, func(r lockResult) bool { return !r.exists })
}

// declineTurn is for a waiter that has left its queue: if a release has woken it
// at that very moment, the next one is.
func (p *pessimisticLock) declineTurn() {
	select {
	case w := <-p.waiter.Woken():
		if w.Reason == lockwait.Released {
			p.s.waiters.PassOn(p.waiter.Key)
		}
	default:
	}
}

func (p *pessimisticLock) deadline() time.Time {
	ms := int64(p.s.limits.LockWaitMsMax)
	if p.req.WaitTimeout > 0 {
		ms = min(ms, p.req.WaitTimeout)
	}
	return time.Now().Add(time.Duration(ms) * time.Millisecond)
}

// try is the command: it locks all keys, or joins the queue of the first one
// that is locked.
func (p *pessimisticLock) try(c *command) error {
	for i := range c.keys {
		held, err := p.lockKey(c, i)
		if err != nil {
			return err
		}
		if held == nil {
			continue
		}
		return p.blocked(c, held)
	}
	return nil
}

// blocked gives the locks of this try up, all or none, and joins the queue.
func (p *pessimisticLock) blocked(c *command, held *heldLock) error {
	enc := c.keys[held.i]
	c.batch.Reset()
	c.acquired = c.acquired[:0]
	p.results = p.results[:0]
	if held.shrink != nil {
		c.putLock(enc, held.shrink, false)
	}
	p.holder = held.lock.Info(c.plain[held.i])
	if p.req.WaitTimeout < 0 {
		p.refused = errLocked(p.holder)
		return nil
	}
	// Still under the latch: the release cannot be missed.
	w := lockwait.NewWaiter(enc, c.startTS, c.rc.RegionId, p.force)
	w.ForUpdateTS = p.req.ForUpdateTs
	if err := p.s.waiters.Add(w); err != nil {
		return busy(err.Error())
	}
	p.waiter = w
	return nil
}

// lockKey locks key i, or returns the lock that another transaction has on it.
func (p *pessimisticLock) lockKey(c *command, i int) (*heldLock, error) {
	req, m := p.req, p.req.Mutations[i]
	if req.LockOnlyIfExists && !req.ReturnValues {
		return nil, errAbort("lock_only_if_exists needs return_values (transaction %d, key %x)", req.StartVersion, m.Key)
	}
	if m.Assertion == kvrpcpb.Assertion_NotExist || req.ReturnValues || req.CheckExistence {
		// These are reads at for_update_ts.
		if err := c.s.raiseMaxTS(req.ForUpdateTs); err != nil {
			return nil, err
		}
	}
	on, err := c.r.LoadLock(c.keys[i])
	if err != nil {
		return nil, err
	}
	own := on.Of(req.StartVersion)
	share := m.Op == kvrpcpb.Op_SharedPessimisticLock
	switch {
	case on == nil:
		return nil, p.acquire(c, i, nil)
	case own != nil && (share || !on.Shared()):
		return nil, p.relock(c, i, on, own)
	case !on.Shared():
		return &heldLock{i: i, lock: on}, nil
	case share && on.ShrinkOnly:
		return &heldLock{i: i, lock: on}, nil
	case share && len(on.Holders) >= mvcc.HoldersMax:
		return nil, busy(fmt.Sprintf("%d transactions share the lock of key %x, the most that may", len(on.Holders), m.Key))
	case share:
		return nil, p.acquire(c, i, on)
	}
	return p.upgrade(c, i, on, own)
}

// upgrade is for a key that is wanted alone and is shared by others, or by this
// transaction, own, or both. Two that wait for one another here are a deadlock.
func (p *pessimisticLock) upgrade(c *command, i int, on, own *mvcc.Lock) (*heldLock, error) {
	if own != nil && !own.Pessimistic() {
		return nil, errPrewritten(c.startTS, c.plain[i])
	}
	if own != nil && len(on.Holders) == 1 {
		p.own = own
		defer func() { p.own = nil }()
		return nil, p.acquire(c, i, nil)
	}
	h := &heldLock{i: i, lock: on}
	if own != nil {
		h.lock = on.Clone()
		h.lock.RemoveHolder(c.startTS)
	}
	if !on.ShrinkOnly {
		on.ShrinkOnly = true
		h.shrink = on
	}
	return h, nil
}

// newLock is the lock this request puts on a key.
func (p *pessimisticLock) newLock(forUpdateTS uint64, conflict bool) *mvcc.Lock {
	return &mvcc.Lock{
		Type: mvcc.LockPessimistic, StartTS: p.req.StartVersion, TTL: p.req.LockTtl, Primary: p.req.PrimaryLock,
		ForUpdateTS: forUpdateTS, MinCommitTS: p.req.MinCommitTs, WithConflict: conflict,
	}
}

// put writes the new lock l: alone, or as a further part of the shared lock on.
func (p *pessimisticLock) put(c *command, i int, on, l *mvcc.Lock) {
	if p.req.Mutations[i].Op != kvrpcpb.Op_SharedPessimisticLock {
		if p.own != nil {
			l.TTL, l.MinCommitTS = max(l.TTL, p.own.TTL), max(l.MinCommitTS, p.own.MinCommitTS)
		}
		c.putLock(c.keys[i], l, true)
		return
	}
	if on == nil {
		on = &mvcc.Lock{Type: mvcc.LockShared}
	}
	on.PutHolder(*l)
	c.putLock(c.keys[i], on, true)
}

// acquire locks a key that is free, or, if it is shared (on) and to be so.
func (p *pessimisticLock) acquire(c *command, i int, on *mvcc.Lock) error {
	enc, key, req := c.keys[i], c.plain[i], p.req
	forUpdateTS := req.ForUpdateTs
	var res lockResult
	commitTS, w, ok, err := c.r.SeekWrite(enc, math.MaxUint64)
	if err != nil {
		return err
	}
	n := newest{commitTS, w.Clone(), ok}
	conflict := func() error {
		c.s.metrics.conflict("acquire_pessimistic_lock_conflict")
		return errConflict(req.StartVersion, n.w, n.commitTS, key, req.PrimaryLock, kvrpcpb.WriteConflict_PessimisticRetry)
	}
	if ok {
		if commitTS > forUpdateTS {
			if !p.force {
				return conflict()
			}
			forUpdateTS, res.conflictTS = commitTS, commitTS
		}
		if err := p.checkEnded(c, i, n); err != nil {
			return err
		}
		if req.Mutations[i].Assertion == kvrpcpb.Assertion_NotExist {
			if err := checkNotExists(&c.r, enc, key, n); err != nil {
				var ke *keyError
				if res.conflictTS != 0 && errors.As(err, &ke) {
					return conflict() // it exists, but not at for_update_ts perhaps
				}
				return err
			}
		}
		if err := p.load(c, enc, n, res.conflictTS != 0, &res); err != nil {
			return err
		}
	}
	switch {
	case !req.LockOnlyIfExists || res.exists:
		l := p.newLock(forUpdateTS, res.conflictTS != 0)
		l.LastChange = mvcc.NoChange
		if n.ok {
			if l.LastChange, err = c.r.LastChange(enc, n.commitTS, &n.w); err != nil {
				return err
			}
		}
		p.put(c, i, on, l)
	case res.conflictTS != 0:
		return conflict()
	}
	p.results = append(p.results, res)
	return nil
}

// checkEnded refuses to lock a key on which the transaction, by another copy of
// the request, has gone on to be committed or rolled back. A commit record under
// others' is not looked for, there may be thousands: the lock is then one taken
// with a conflict, and whoever asks for its transaction looks.
func (p *pessimisticLock) checkEnded(c *command, i int, n newest) error {
	startTS := p.req.StartVersion
	if n.w.StartTS == startTS && n.w.Type != mvcc.WriteRollback {
		return errCommitted(startTS, n.commitTS, c.plain[i])
	}
	if n.commitTS > startTS {
		commitTS, w, ok, err := c.r.SeekWrite(c.keys[i], startTS)
		if err != nil || !ok {
			return err
		}
		n = newest{commitTS, w, ok}
	}
	if n.commitTS == startTS && (n.w.Type == mvcc.WriteRollback || n.w.OverlappedRollback) {
		return errAbort("transaction %d was rolled back on key %x; it cannot lock it again", startTS, c.plain[i])
	}
	return nil
}

// load fills in the value or the existence, as of the newest record n.
func (p *pessimisticLock) load(c *command, enc []byte, n newest, wantValue bool, res *lockResult) error {
	wantValue = wantValue || p.req.ReturnValues
	if !n.ok || !wantValue && !p.req.CheckExistence {
		return nil
	}
	if n.w.Type != mvcc.WritePut {
		commitTS, w, ok, err := c.r.GetWrite(enc, n.commitTS)
		if err != nil || !ok {
			return err
		}
		n = newest{commitTS, w.Clone(), ok}
	}
	res.exists = true
	if !wantValue {
		return nil
	}
	var err error
	res.value, err = c.r.LoadValue(enc, n.w)
	return err
}

// relock answers a request for a key that its transaction has locked already,
// by l, which is the key's lock record on or, where a share is asked for, a part
// of it.
func (p *pessimisticLock) relock(c *command, i int, on, l *mvcc.Lock) error {
	enc, req := c.keys[i], p.req
	if !l.Pessimistic() {
		return errPrewritten(req.StartVersion, c.plain[i])
	}
	forUpdateTS := req.ForUpdateTs
	var res lockResult
	if p.force && forUpdateTS < l.ForUpdateTS {
		// An earlier copy of this request has locked the key with a conflict.
		forUpdateTS, res.conflictTS = l.ForUpdateTS, l.ForUpdateTS
	}
	notExist := req.Mutations[i].Assertion == kvrpcpb.Assertion_NotExist
	if notExist || req.ReturnValues || req.CheckExistence || res.conflictTS != 0 {
		commitTS, w, ok, err := c.r.GetWrite(enc, forUpdateTS)
		if err != nil {
			return err
		}
		n := newest{commitTS, w.Clone(), ok}
		if ok && notExist {
			if commitTS > req.ForUpdateTs {
				return errConflict(req.StartVersion, n.w, commitTS, c.plain[i], req.PrimaryLock, kvrpcpb.WriteConflict_PessimisticRetry)
			}
			return errAlreadyExist(c.plain[i])
		}
		if err := p.load(c, enc, n, res.conflictTS != 0, &res); err != nil {
			return err
		}
	}
	if forUpdateTS > l.ForUpdateTS {
		next := p.newLock(forUpdateTS, l.WithConflict)
		next.TTL, next.MinCommitTS = max(next.TTL, l.TTL), max(next.MinCommitTS, l.MinCommitTS)
		next.LastChange = l.LastChange
		if on.Shared() {
			on.PutHolder(*next)
			next = on
		}
		c.putLock(enc, next, false)
	}
	p.results = append(p.results, res)
	return nil
}
