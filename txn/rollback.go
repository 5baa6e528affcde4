package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// KvBatchRollback rolls the transaction back on the keys; it never prewrites
// them again.
func (s *Store) KvBatchRollback(ctx context.Context, req *kvrpcpb.BatchRollbackRequest) (*kvrpcpb.BatchRollbackResponse, error) {
	if req.IsTxnFile {
		return nil, unimplemented("transaction files (is_txn_file)")
	}
	err := s.exec(ctx, cmdRollback, req.Context, req.StartVersion, req.Keys, func(c *command) error {
		for i := range c.keys {
			committed, err := c.cleanup(i, 0, false)
			if err != nil {
				return err
			}
			if committed != 0 {
				return errCommitted(req.StartVersion, committed, c.plain[i])
			}
		}
		return nil
	})
	re, ke, err := split(err)
	return &kvrpcpb.BatchRollbackResponse{RegionError: re, Error: ke}, err
}

// KvCleanup rolls one key back if its lock is expired at current_ts (0: in any
// case), and answers the commit timestamp if it was committed.
func (s *Store) KvCleanup(ctx context.Context, req *kvrpcpb.CleanupRequest) (*kvrpcpb.CleanupResponse, error) {
	resp := &kvrpcpb.CleanupResponse{}
	err := s.exec(ctx, cmdCleanup, req.Context, req.StartVersion, [][]byte{req.Key}, func(c *command) (err error) {
		resp.CommitVersion, err = c.cleanup(0, req.CurrentTs, true)
		return err
	})
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.CleanupResponse{RegionError: re, Error: ke}, err
	}
	return resp, nil
}

// cleanup rolls key i back. currentTS != 0 spares a lock that is not expired
// (KeyIsLocked). committed is the transaction's commit timestamp if it cannot be
// rolled back any more.
func (c *command) cleanup(i int, currentTS uint64, protect bool) (committed uint64, err error) {
	on, err := c.r.LoadLock(c.keys[i])
	if err != nil {
		return 0, err
	}
	return c.cleanupLock(i, on, currentTS, protect)
}

// cleanupLock is cleanup for a key whose lock record, if any, is known.
func (c *command) cleanupLock(i int, on *mvcc.Lock, currentTS uint64, protect bool) (committed uint64, err error) {
	enc := c.keys[i]
	if l := on.Of(c.startTS); l != nil {
		if l.Pessimistic() {
			rec, err := c.r.TxnRecord(enc, c.startTS)
			if err != nil {
				return 0, err
			}
			if rec.Fate == mvcc.FateCommitted { // taken by a late copy of a request
				c.unlock(enc, on, l, 0)
				return rec.CommitTS, nil
			}
		}
		if currentTS != 0 && !l.Expired(currentTS) {
			return 0, errLocked(on.Info(c.plain[i]))
		}
		return 0, c.rollbackLock(enc, on, l, !protect)
	}
	rec, err := c.r.TxnRecord(enc, c.startTS)
	if err != nil || rec.Fate == mvcc.FateRolledBack {
		return 0, err
	}
	if rec.Fate == mvcc.FateCommitted {
		c.s.metrics.conflict("rollback_committed")
		return rec.CommitTS, nil
	}
	return 0, c.rollbackMissing(enc, on, rec.Overlapped, protect)
}

// rollbackLock removes the transaction's lock l, which is or is part of the
// key's lock record on, and leaves a rollback record. On the primary, and for flushed keys, the record is protected: it alone keeps a
// late prewrite or commit from succeeding (hazard 22).
func (c *command) rollbackLock(enc []byte, on, l *mvcc.Lock, collapse bool) error {
	rec, err := c.r.TxnRecord(enc, c.startTS)
	if err != nil {
		return err
	}
	if rec.Fate != mvcc.FateNone {
		// The key is decided; the lock is what a late copy of a request left.
		if rec.Fate == mvcc.FateCommitted && !l.Pessimistic() {
			c.s.log.Error("a lock and a commit record of one transaction on a key; the lock is dropped",
				"start_ts", c.startTS, "commit_ts", rec.CommitTS, "region", c.rc.RegionId)
		}
		c.unlock(enc, on, l, 0)
		return nil
	}
	if l.Type == mvcc.LockPut && !l.HasShort {
		c.deleteValue(enc, l.StartTS)
	}
	protected := mvcc.IsEncodingOf(enc, l.Primary) || l.Generation > 0
	if err := c.putRollback(enc, protected, rec.Overlapped, !on.Shared()); err != nil {
		return err
	}
	if collapse {
		if err := c.collapse(enc); err != nil {
			return err
		}
	}
	c.unlock(enc, on, l, 0)
	return nil
}

// rollbackMissing leaves a rollback record for a transaction that has no lock
// on the key. other is the lock of another transaction on it, if any.
func (c *command) rollbackMissing(enc []byte, other *mvcc.Lock, overlapped *mvcc.Write, protect bool) error {
	if !protect {
		if err := c.collapse(enc); err != nil {
			return err
		}
	}
	if other != nil && overlapped == nil && protect {
		c.rememberRollback(enc, other)
	}
	return c.putRollback(enc, protect, overlapped, other == nil)
}

// rememberRollback notes this protected rollback in another transaction's lock
// whose commit could be written over it: one with a computed commit timestamp
// that may come out equal to our start_ts (hazard 21).
func (c *command) rememberRollback(enc []byte, other *mvcc.Lock) {
	if !other.UseAsyncCommit || c.startTS < other.MinCommitTS {
		return
	}
	other.RollbackTS = append(other.RollbackTS, c.startTS)
	c.putLock(enc, other, false)
}

// putRollback writes the rollback record of this transaction. Where another
// one's commit record is in its place, a protected rollback becomes a flag on
// that record, and one that is not is left out.
//
// alone says that no other transaction has a lock on the key. Only then can the
// record say where the last change is: a transaction that holds the key now may
// have a commit timestamp below our start_ts already, one that locks it later
// gets a larger one, from PD or from max_ts.
func (c *command) putRollback(enc []byte, protected bool, overlapped *mvcc.Write, alone bool) error {
	// A commit timestamp computed from now on cannot come out equal to start_ts.
	c.s.mem.UpdateMaxTS(c.startTS)
	if overlapped != nil {
		if protected {
			w := *overlapped
			w.OverlappedRollback = true
			c.putWrite(enc, c.startTS, &w)
		}
		return nil
	}
	w := mvcc.Write{Type: mvcc.WriteRollback, StartTS: c.startTS, Protected: protected}
	if alone {
		commitTS, below, ok, err := c.r.SeekWrite(enc, c.startTS)
		if err != nil {
			return err
		}
		w.LastChange = mvcc.NoChange
		if ok {
			w.LastChange = mvcc.LastChangeHint(commitTS, &below)
		}
	}
	c.putWrite(enc, c.startTS, &w)
	return nil
}

// collapse deletes the newest rollback record before this one, if it is not
// protected: of a row of them only the last is needed.
func (c *command) collapse(enc []byte) error {
	commitTS, w, ok, err := c.r.SeekWrite(enc, c.startTS)
	if err != nil || !ok || w.Type != mvcc.WriteRollback || w.Protected {
		return err
	}
	c.deleteWrite(enc, commitTS)
	return nil
}
