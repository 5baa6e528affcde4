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
				return errAbort("transaction %d is committed at %d on key %x and cannot be rolled back", req.StartVersion, committed, c.plain[i])
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
	enc := c.keys[i]
	l, err := c.r.LoadLock(enc)
	if err != nil {
		return 0, err
	}
	if l != nil && l.StartTS == c.startTS {
		if currentTS != 0 && !l.Expired(currentTS) {
			return 0, errLocked(l.Info(c.plain[i]))
		}
		return 0, c.rollbackLock(enc, l, !protect)
	}
	rec, err := c.r.TxnRecord(enc, c.startTS)
	if err != nil || rec.Fate == mvcc.FateRolledBack {
		return 0, err
	}
	if rec.Fate == mvcc.FateCommitted {
		c.s.metrics.conflict("rollback_committed")
		return rec.CommitTS, nil
	}
	return 0, c.rollbackMissing(enc, l, rec.Overlapped, protect)
}

// rollbackLock removes the transaction's lock and leaves a rollback record. On
// the primary, and for flushed keys, the record is protected: it alone keeps a
// late prewrite or commit from succeeding (hazard 22).
func (c *command) rollbackLock(enc []byte, l *mvcc.Lock, collapse bool) error {
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
		c.unlock(enc, l, 0)
		return nil
	}
	if l.Type == mvcc.LockPut && !l.HasShort {
		c.deleteValue(enc, l.StartTS)
	}
	protected := mvcc.IsEncodingOf(enc, l.Primary) || l.Generation > 0
	c.putRollback(enc, protected, rec.Overlapped)
	if collapse {
		if err := c.collapse(enc); err != nil {
			return err
		}
	}
	c.unlock(enc, l, 0)
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
	c.putRollback(enc, protect, overlapped)
	return nil
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
func (c *command) putRollback(enc []byte, protected bool, overlapped *mvcc.Write) {
	// A commit timestamp computed from now on cannot come out equal to start_ts.
	c.s.mem.UpdateMaxTS(c.startTS)
	if overlapped == nil {
		c.putWrite(enc, c.startTS, &mvcc.Write{Type: mvcc.WriteRollback, StartTS: c.startTS, Protected: protected})
		return
	}
	if protected {
		w := *overlapped
		w.OverlappedRollback = true
		c.putWrite(enc, c.startTS, &w)
	}
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
