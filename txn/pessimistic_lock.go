package txn

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/dgryski/go-farm"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/deadlock"
	"github.com/copradb/copra/txn/lockwait"
	"github.com/copradb/copra/txn/mvcc"
)

// pessimisticLock carries one KvPessimisticLock through its tries.
type pessimisticLock struct {
	s     *Store
	req   *kvrpcpb.PessimisticLockRequest
	force bool // force-lock mode: lock in spite of newer versions

	results []lockResult
	waiter  *lockwait.Waiter  // in the queue after a try that met a lock
	holder  *kvrpcpb.LockInfo // what it waits for
}

// lockResult is the outcome for one key.
type lockResult struct {
	value      []byte
	exists     bool
	conflictTS uint64 // not 0: locked although this newer version exists
}

// KvPessimisticLock locks keys before they are written. All keys are locked or
// none. A key that is locked by another transaction is waited for:
// wait_timeout < 0 not at all, 0 Limits.LockWaitMsMax, else that many ms, at most
// Limits.LockWaitMsMax; then KeyIsLocked. Woken by a release, a request of normal
// mode is answered with a WriteConflict, so that the client retries with a new
// for_update_ts; one of force-lock mode (a single key) takes the lock itself.
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
			return unimplemented("shared locks (%s)", m.Op)
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
		p.results, p.waiter, p.holder = p.results[:0], nil, nil
		err := p.s.exec(ctx, cmdPessimisticLock, p.req.Context, p.req.StartVersion, keys, p.try)
		if p.waiter == nil {
			return err
		}
		if err != nil {
			p.s.waiters.Remove(p.waiter)
			return err
		}
		if again, err := p.wait(ctx, deadline); !again {
			return err
		}
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
		p.holder = held.Info(c.plain[i])
		if p.req.WaitTimeout < 0 {
			return errLocked(p.holder)
		}
		// Still under the latch: the release cannot be missed.
		w := lockwait.NewWaiter(c.keys[i], c.startTS, c.rc.RegionId, p.force)
		if err := p.s.waiters.Add(w); err != nil {
			return busy(err.Error())
		}
		p.waiter = w
		c.batch.Reset() // all or none
		c.acquired = c.acquired[:0]
		return nil
	}
	return nil
}

// lockKey locks key i, or returns the lock that another transaction has on it.
func (p *pessimisticLock) lockKey(c *command, i int) (held *mvcc.Lock, err error) {
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
	l, err := c.r.LoadLock(c.keys[i])
	if err != nil {
		return nil, err
	}
	if l != nil && l.StartTS != req.StartVersion {
		return l, nil
	}
	if l != nil {
		return nil, p.relock(c, i, l)
	}
	return nil, p.acquire(c, i)
}

// newLock is the lock this request puts on a key.
func (p *pessimisticLock) newLock(forUpdateTS uint64, conflict bool) *mvcc.Lock {
	return &mvcc.Lock{
		Type: mvcc.LockPessimistic, StartTS: p.req.StartVersion, TTL: p.req.LockTtl, Primary: p.req.PrimaryLock,
		ForUpdateTS: forUpdateTS, MinCommitTS: p.req.MinCommitTs, WithConflict: conflict,
	}
}

// acquire locks a key that is free.
func (p *pessimisticLock) acquire(c *command, i int) error {
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
		if err := p.checkRolledBack(c, i, n); err != nil {
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
		c.putLock(enc, p.newLock(forUpdateTS, res.conflictTS != 0), true)
	case res.conflictTS != 0:
		return conflict()
	}
	p.results = append(p.results, res)
	return nil
}

// checkRolledBack refuses to lock a key on which the transaction was rolled back.
func (p *pessimisticLock) checkRolledBack(c *command, i int, n newest) error {
	startTS := p.req.StartVersion
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

// relock answers a request for a key that its transaction has locked already.
func (p *pessimisticLock) relock(c *command, i int, l *mvcc.Lock) error {
	enc, req := c.keys[i], p.req
	if !l.Pessimistic() {
		return errAbort("pessimistic lock of transaction %d on key %x, which it has prewritten", req.StartVersion, c.plain[i])
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
		c.putLock(enc, next, false)
	}
	p.results = append(p.results, res)
	return nil
}

// wait waits in the queue. again says that the lock should be tried for once
// more; if not, err is the answer.
func (p *pessimisticLock) wait(ctx context.Context, deadline time.Time) (again bool, err error) {
	t := tracker.From(ctx)
	was := t.Enter(tracker.LockWait)
	defer func() { t.Enter(was) }()
	began := time.Now()
	defer func() { p.s.metrics.lockWait.Observe(time.Since(began).Seconds()) }()
	defer p.s.waiters.Remove(p.waiter)
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()

	edge := p.edge()
	defer func() { p.s.detector.CleanUpWaitFor(edge) }()
	if err := p.detect(ctx, edge, deadline); err != nil {
		return false, err
	}
	for {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-timeout.C:
			p.holder.DurationToLastUpdateMs = uint64(p.s.waiters.Age(p.waiter.Key).Milliseconds())
			return false, errLocked(p.holder)
		case holder := <-p.waiter.Holders():
			p.s.detector.CleanUpWaitFor(edge)
			p.holder = holder
			edge = p.edge()
			if err := p.detect(ctx, edge, deadline); err != nil {
				return false, err
			}
		case w := <-p.waiter.Woken():
			return p.woken(w)
		}
	}
}

func (p *pessimisticLock) woken(w lockwait.Wake) (again bool, err error) {
	switch w.Reason {
	case lockwait.RegionLost:
		return false, notLeader(p.req.Context.GetRegionId())
	case lockwait.Closed:
		return false, ErrClosed
	}
	if p.force {
		return true, nil
	}
	return false, errConflict(p.req.StartVersion, mvcc.Write{StartTS: w.StartTS}, w.CommitTS,
		p.holder.Key, p.req.PrimaryLock, kvrpcpb.WriteConflict_PessimisticRetry)
}

// edge is the wait-for edge of the current wait. Key hashes are over the plain
// key, as clients compute them.
func (p *pessimisticLock) edge() deadlock.WaitFor {
	return deadlock.WaitFor{
		Txn: p.req.StartVersion, HolderTxn: p.holder.LockVersion, KeyHash: farm.Fingerprint64(p.holder.Key),
		Key: p.holder.Key, Tag: p.req.Context.GetResourceGroupTag(),
	}
}

// detect asks the detector. A transaction without locks (is_first_lock) is
// waited for by nobody, so it closes no cycle.
func (p *pessimisticLock) detect(ctx context.Context, edge deadlock.WaitFor, deadline time.Time) error {
	if p.req.IsFirstLock {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	cycle, err := p.s.detector.Detect(ctx, edge)
	if err != nil {
		p.s.log.Warn("deadlock detection failed; the wait ends by its timeout", "start_ts", edge.Txn, "err", err)
		return nil
	}
	if cycle == nil {
		return nil
	}
	p.s.metrics.deadlocks.Inc()
	return &keyError{pb: &kvrpcpb.KeyError{Deadlock: cycle}}
}
