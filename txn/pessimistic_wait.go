package txn

import (
	"context"
	"time"

	"github.com/dgryski/go-farm"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/deadlock"
	"github.com/copradb/copra/txn/lockwait"
	"github.com/copradb/copra/txn/mvcc"
)

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

	edges := p.edges()
	defer func() { p.forget(edges) }()
	if err := p.detect(ctx, edges, deadline); err != nil {
		return false, err
	}
	for {
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-timeout.C:
			setAge(p.holder, uint64(p.s.waiters.Age(p.waiter.Key).Milliseconds()))
			return false, errLocked(p.holder)
		case holder := <-p.waiter.Holders():
			p.forget(edges)
			p.holder = p.others(holder)
			if edges = p.edges(); len(edges) == 0 {
				return true, nil // only our own share is left: it can be upgraded
			}
			if err := p.detect(ctx, edges, deadline); err != nil {
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
	case lockwait.Withdrawn:
		return false, errLocked(p.holder)
	}
	if p.force {
		return true, nil
	}
	return false, errConflict(p.req.StartVersion, mvcc.Write{StartTS: w.StartTS}, w.CommitTS,
		p.holder.Key, p.req.PrimaryLock, kvrpcpb.WriteConflict_PessimisticRetry)
}

// holders lists the locks that are waited for: one, or the parts of a shared one.
func holders(info *kvrpcpb.LockInfo) []*kvrpcpb.LockInfo {
	if info.LockType == kvrpcpb.Op_SharedLock {
		return info.SharedLockInfos
	}
	return []*kvrpcpb.LockInfo{info}
}

// others is the lock without our own share of it. info is every waiter's; the
// result is ours to change.
func (p *pessimisticLock) others(info *kvrpcpb.LockInfo) *kvrpcpb.LockInfo {
	out := *info
	out.SharedLockInfos = nil
	for _, h := range info.SharedLockInfos {
		if h.LockVersion != p.req.StartVersion {
			other := *h
			out.SharedLockInfos = append(out.SharedLockInfos, &other)
		}
	}
	return &out
}

func setAge(info *kvrpcpb.LockInfo, ms uint64) {
	for _, h := range holders(info) {
		h.DurationToLastUpdateMs = ms
	}
}

// edges are the wait-for edges of the current wait, one for each transaction
// that holds the key. Key hashes are over the plain key, as clients compute them.
func (p *pessimisticLock) edges() []deadlock.WaitFor {
	var out []deadlock.WaitFor
	for _, h := range holders(p.holder) {
		out = append(out, deadlock.WaitFor{
			Txn: p.req.StartVersion, HolderTxn: h.LockVersion, KeyHash: farm.Fingerprint64(p.holder.Key),
			Key: p.holder.Key, Tag: p.req.Context.GetResourceGroupTag(),
		})
	}
	return out
}

func (p *pessimisticLock) forget(edges []deadlock.WaitFor) {
	for _, e := range edges {
		p.s.detector.CleanUpWaitFor(e)
	}
}

// detect asks the detector. A transaction without locks (is_first_lock) is
// waited for by nobody, so it closes no cycle.
func (p *pessimisticLock) detect(ctx context.Context, edges []deadlock.WaitFor, deadline time.Time) error {
	if p.req.IsFirstLock {
		for _, e := range edges {
			p.s.detector.AddWait(e)
		}
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	for _, edge := range edges {
		cycle, err := p.s.detector.Detect(ctx, edge)
		if err != nil {
			p.s.log.Warn("deadlock detection failed; the wait ends by its timeout", "start_ts", edge.Txn, "err", err)
			return nil
		}
		if cycle != nil {
			p.s.metrics.deadlocks.Inc()
			return &keyError{pb: &kvrpcpb.KeyError{Deadlock: cycle}}
		}
	}
	return nil
}
