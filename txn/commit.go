package txn

import (
	"context"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// KvCommit turns the transaction's locks on the keys into commit records.
func (s *Store) KvCommit(ctx context.Context, req *kvrpcpb.CommitRequest) (*kvrpcpb.CommitResponse, error) {
	if req.CommitVersion <= req.StartVersion {
		return nil, invalid("commit_version %d is not above start_version %d", req.CommitVersion, req.StartVersion)
	}
	if req.IsTxnFile {
		return nil, unimplemented("transaction files (is_txn_file)")
	}
	resp := &kvrpcpb.CommitResponse{CommitVersion: req.CommitVersion}
	err := s.exec(ctx, cmdCommit, req.Context, req.StartVersion, req.Keys, func(c *command) error {
		for i := range c.keys {
			if err := c.commit(i, req.CommitVersion); err != nil {
				return err
			}
		}
		return nil
	})
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		if err := noAnswer(re); err != nil {
			return nil, err
		}
		return &kvrpcpb.CommitResponse{RegionError: re, Error: ke}, err
	}
	s.status.put(req.StartVersion, mvcc.TxnStatus{CommitTS: req.CommitVersion})
	return resp, nil
}

// commit commits key i of the command at commitTS. Committed already is
// success; rolled back, or not prewritten, is TxnLockNotFound.
func (c *command) commit(i int, commitTS uint64) error {
	enc := c.keys[i]
	on, err := c.r.LoadLock(enc)
	if err != nil {
		return err
	}
	if l := on.Of(c.startTS); l != nil && l.Pessimistic() {
		// Nothing was prewritten here. It may have been, before a late request
		// locked the key again; then it is committed, or it never will be.
		on = nil
	}
	return c.commitLock(i, on, commitTS)
}

// commitLock is commit for a key whose lock record, if any, is known.
func (c *command) commitLock(i int, on *mvcc.Lock, commitTS uint64) error {
	enc, key := c.keys[i], c.plain[i]
	l := on.Of(c.startTS)
	if l == nil {
		rec, err := c.r.TxnRecord(enc, c.startTS)
		if err != nil || rec.Fate == mvcc.FateCommitted {
			return err
		}
		c.s.metrics.conflict("commit_lock_not_found")
		return errLockNotFound(c.startTS, commitTS, key)
	}
	if commitTS < l.MinCommitTS {
		// A reader was promised that nothing is committed below min_commit_ts.
		// Only primaries are pushed, so only there it is to be expected.
		if !mvcc.IsEncodingOf(enc, l.Primary) {
			c.s.log.Error("commit of a secondary below its min_commit_ts", "start_ts", c.startTS,
				"commit_ts", commitTS, "min_commit_ts", l.MinCommitTS, "region", c.rc.RegionId)
		}
		c.s.metrics.conflict("commit_ts_expired")
		return &keyError{pb: &kvrpcpb.KeyError{CommitTsExpired: &kvrpcpb.CommitTsExpired{
			StartTs: c.startTS, AttemptedCommitTs: commitTS, Key: slices.Clone(key), MinCommitTs: l.MinCommitTS,
		}}}
	}
	if l.Pessimistic() {
		// Locked but never prewritten, in a transaction that is committed: the
		// key was not part of what it wrote. Only the lock goes.
		c.s.log.Warn("commit meets a pessimistic lock, which is dropped", "start_ts", c.startTS, "region", c.rc.RegionId)
		c.unlock(enc, on, l, 0)
		return nil
	}
	w := commitRecord(l)
	w.OverlappedRollback = slices.Contains(l.RollbackTS, commitTS)
	c.putWrite(enc, commitTS, &w)
	c.unlock(enc, on, l, commitTS)
	return nil
}

// commitRecord is what the prewritten lock l becomes.
func commitRecord(l *mvcc.Lock) mvcc.Write {
	w := mvcc.Write{Type: l.Type.WriteType(), StartTS: l.StartTS, HasShort: l.HasShort, ShortValue: l.ShortValue}
	if w.Type == mvcc.WriteLock {
		w.LastChange = l.LastChange
	}
	return w
}
