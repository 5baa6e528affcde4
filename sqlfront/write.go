package sqlfront

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/tikv/client-go/v2/txnkv/transaction"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/catalog"
)

func storeKilled(p *uint32) { atomic.StoreUint32(p, 1) }

// writing is one run of a statement that writes: its transaction, its read
// timestamp, and the catalog it was bound with.
type writing struct {
	*txn
	ctx  context.Context
	ts   uint64
	snap *catalog.Snapshot
}

// write runs fn, which reads at w.ts, changes the transaction's buffer and
// takes its locks. After a write conflict it is run again on a newer snapshot,
// from the beginning, as long as nobody has seen anything of it:
//
//   - a statement of its own is a whole transaction: first optimistic, waiting for
//     its turn if others of this node write the same row, then with locks;
//   - in a READ COMMITTED transaction the statement's changes are taken back, the
//     locks it holds stay;
//   - in REPEATABLE READ there is no newer snapshot: 40001.
func (s *session) write(ctx context.Context, fn func(w *writing) error) error {
	if s.txn == nil {
		return s.writeAlone(ctx, fn)
	}
	if s.txn.readOnly {
		return readOnlyError()
	}
	return kvError(ctx, s.writeIn(ctx, s.txn, fn), s.txn.tables())
}

// writeIn runs fn in t, again after each conflict.
//
// A READ COMMITTED statement that locks a single key takes the lock as soon as
// it is free, even if the row has changed since the statement's snapshot
// (client-go's fair locking): it reads again, and the lock is there already.
// Otherwise all who wait for a row would run for it anew after each commit.
func (s *session) writeIn(ctx context.Context, t *txn, fn func(w *writing) error) error {
	for try := 0; ; try++ {
		err := s.writeStaged(ctx, t, fn)
		again := isConflict(err) && !t.repeatable || t.retryExists(err, try)
		if err == nil || !again || try == statementTriesMax {
			t.endFairLocking(ctx, err == nil)
			return err
		}
		s.costs.retried()
		s.db.metrics.retries.Inc()
		if errors.Is(err, errLockedNewer) {
			continue // it has the lock
		}
		if err := pause(ctx, try); err != nil {
			t.endFairLocking(ctx, false)
			return err
		}
	}
}

// startFairLocking begins a try of a statement.
func (t *txn) startFairLocking(ctx context.Context) {
	switch {
	case t.repeatable || !t.pessimistic:
	case t.kv.IsInAggressiveLockingMode():
		t.kv.RetryAggressiveLocking(ctx)
	default:
		t.kv.StartAggressiveLocking()
	}
}

// endFairLocking keeps the locks that the statement took, or gives them back.
func (t *txn) endFairLocking(ctx context.Context, keep bool) {
	switch {
	case t.kv == nil || !t.kv.IsInAggressiveLockingMode():
	case keep:
		t.kv.DoneAggressiveLocking(ctx)
	default:
		t.kv.CancelAggressiveLocking(ctx)
	}
}

// existsTriesMax is how often ON CONFLICT is run again for a key that turned up
// in between. One that is still in the way is another constraint's.
const existsTriesMax = 3

func (t *txn) retryExists(err error, try int) bool {
	return t.conflictRetry && !t.repeatable && try < existsTriesMax && isKeyExists(err)
}

func readOnlyError() error {
	return pgerror.New(pgerror.ReadOnlySQLTransaction, "cannot execute a statement that writes in a read-only transaction")
}

// writeStaged runs fn inside a stage of the buffer.
func (s *session) writeStaged(ctx context.Context, t *txn, fn func(w *writing) error) error {
	ts, snap, err := s.moment(ctx, t)
	if err != nil {
		return err
	}
	tx, err := t.store(ts)
	if err != nil {
		return err
	}
	t.markDiskUse(tx)
	if !t.repeatable {
		tx.GetSnapshot().SetSnapshotTS(ts)
	}
	t.conflictRetry = false
	t.startFairLocking(ctx)
	buf := tx.GetMemBuffer()
	stage := buf.Staging()
	if err := fn(&writing{txn: t, ctx: ctx, ts: ts, snap: snap}); err != nil {
		buf.Cleanup(stage)
		return err
	}
	buf.Release(stage)
	return nil
}

// writeAlone runs fn as a transaction of its own.
func (s *session) writeAlone(ctx context.Context, fn func(w *writing) error) error {
	if s.settings.Bool("default_transaction_read_only") {
		return readOnlyError()
	}
	locking := false
	var turn turn
	defer turn.end()
	for try := 0; ; try++ {
		t := s.newTxn(false)
		t.pessimistic = locking || try >= optimisticTriesMax
		t.hasTurn = turn.leave != nil
		err := s.writeOnce(ctx, t, fn)
		locking = t.pessimistic || metLock(err)
		if err == nil || !isConflict(err) && !t.retryExists(err, try) || try == statementTriesMax {
			return kvError(ctx, err, t.tables())
		}
		s.costs.retried()
		s.db.metrics.retries.Inc()
		if err := turn.wait(ctx, t, try); err != nil {
			return err
		}
	}
}

// turn is a statement's place in the queue of the row that it writes.
type turn struct{ leave func() }

// wait waits before a statement whose try t failed is run again: the first time
// for its turn, later only a little.
func (u *turn) wait(ctx context.Context, t *txn, try int) (err error) {
	if u.leave != nil || t.row == nil {
		return pause(ctx, try)
	}
	t.s.db.metrics.rowWaits.Inc()
	u.leave, err = t.s.db.rows.enter(ctx, string(t.row), t.s.settings.Millis("lock_timeout"))
	return err
}

func (u *turn) end() {
	if u.leave != nil {
		u.leave()
	}
}

func (s *session) writeOnce(ctx context.Context, t *txn, fn func(w *writing) error) error {
	defer t.rollbackOpen()
	if t.pessimistic {
		if err := s.writeIn(ctx, t, fn); err != nil {
			return err
		}
	} else if err := s.writeFirst(ctx, t, fn); err != nil {
		return err
	}
	if e := cancelError(ctx); e != nil {
		return e
	}
	return t.commit(ctx)
}

// writeFirst runs fn as the first thing that t does.
func (s *session) writeFirst(ctx context.Context, t *txn, fn func(w *writing) error) error {
	ts, snap, err := s.moment(ctx, t)
	if err != nil {
		return err
	}
	tx, err := t.store(ts)
	if err != nil {
		return err
	}
	t.markDiskUse(tx)
	if !t.pessimistic {
		// A commit cannot be cancelled and knows no lock_timeout. Waiting for a
		// lock can, and does: that is the next try's.
		tx.SetPrewriteEncounterLockPolicy(transaction.NoResolvePolicy)
	}
	return fn(&writing{txn: t, ctx: ctx, ts: ts, snap: snap})
}

// rollbackOpen rolls back unless it was committed.
func (t *txn) rollbackOpen() {
	defer t.held.release()
	if t.kv != nil && t.kv.Valid() {
		t.rollback()
	}
}

// moment is when a statement of t that starts now reads, and the catalog that it
// is bound with.
func (s *session) moment(ctx context.Context, t *txn) (ts uint64, snap *catalog.Snapshot, err error) {
	newest := t.change == nil && !t.repeatable
	if newest {
		// The catalog first: what it has is there at any later timestamp. At an
		// earlier one, what a bulk load has put there would be seen without what
		// was committed before it.
		if snap, err = s.snapshot(ctx, t, 0); err != nil {
			return 0, nil, err
		}
	}
	if ts, err = t.readTS(ctx); err != nil {
		return 0, nil, err
	}
	if !newest {
		snap, err = s.snapshot(ctx, t, ts)
	}
	return ts, snap, err
}

// snapshot is the catalog that a statement reading at ts is bound with.
func (s *session) snapshot(ctx context.Context, t *txn, ts uint64) (*catalog.Snapshot, error) {
	var (
		snap *catalog.Snapshot
		err  error
	)
	switch {
	case t != nil && t.change != nil:
		return t.change.Snapshot(), nil
	case t != nil && t.repeatable:
		if t.catalog == nil {
			t.catalog, err = s.db.catalog.At(ctx, ts)
		}
		snap = t.catalog
	default:
		snap, err = s.db.catalog.Latest(ctx)
	}
	return snap, kvError(ctx, err, nil)
}
