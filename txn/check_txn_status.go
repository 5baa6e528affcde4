package txn

import (
	"context"
	"math"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// KvCheckTxnStatus asks the primary how its transaction stands, rolls it back
// if its time to live is over, and otherwise raises its min_commit_ts above the
// caller's timestamp, so that the caller may read past its locks.
func (s *Store) KvCheckTxnStatus(ctx context.Context, req *kvrpcpb.CheckTxnStatusRequest) (*kvrpcpb.CheckTxnStatusResponse, error) {
	if req.IsTxnFile {
		return nil, unimplemented("transaction files (is_txn_file)")
	}
	for _, ts := range [...]uint64{req.LockTs, req.CallerStartTs, req.CurrentTs} {
		if err := s.raiseMaxTS(ts); err != nil {
			return nil, err
		}
	}
	q := statusQuery{req: req, resp: &kvrpcpb.CheckTxnStatusResponse{}}
	err := s.exec(ctx, cmdCheckTxnStatus, req.Context, req.LockTs, [][]byte{req.PrimaryKey}, func(c *command) error {
		q.c, q.enc = c, c.keys[0]
		on, err := c.r.LoadLock(q.enc)
		if err != nil {
			return err
		}
		l := on.Of(req.LockTs)
		switch {
		case l == nil:
			return q.missing(on)
		case on.Shared(): // no primary is locked in share mode
			return errPrimaryMismatch(on.Info(req.PrimaryKey))
		}
		return q.locked(l)
	})
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.CheckTxnStatusResponse{RegionError: re, Error: ke}, err
	}
	if q.resp.CommitVersion != 0 {
		s.status.put(req.LockTs, mvcc.TxnStatus{CommitTS: q.resp.CommitVersion})
	}
	return q.resp, nil
}

type statusQuery struct {
	c    *command
	enc  []byte
	req  *kvrpcpb.CheckTxnStatusRequest
	resp *kvrpcpb.CheckTxnStatusResponse
}

// decided answers from a commit or rollback record, if there is one.
func (q *statusQuery) decided() (rec mvcc.TxnRecord, done bool, err error) {
	rec, err = q.c.r.TxnRecord(q.enc, q.req.LockTs)
	if err != nil || rec.Fate == mvcc.FateNone {
		return rec, false, err
	}
	q.resp.CommitVersion = rec.CommitTS
	return rec, true, nil
}

// missing answers when the transaction has no lock on the primary. other is
// another transaction's lock on it, if any.
func (q *statusQuery) missing(other *mvcc.Lock) error {
	rec, done, err := q.decided()
	if err != nil || done {
		return err
	}
	if !q.req.RollbackIfNotExist {
		return errTxnNotFound(q.req.LockTs, q.req.PrimaryKey)
	}
	if q.req.ResolvingPessimisticLock {
		q.resp.Action = kvrpcpb.Action_LockNotExistDoNothing
		return nil
	}
	if err := q.c.rollbackMissing(q.enc, other, rec.Overlapped, true); err != nil {
		return err
	}
	q.resp.Action = kvrpcpb.Action_LockNotExistRollback
	return nil
}

func (q *statusQuery) locked(l *mvcc.Lock) error {
	req, c := q.req, q.c
	if req.VerifyIsPrimary && !mvcc.IsEncodingOf(q.enc, l.Primary) {
		if !l.Pessimistic() || req.ResolvingPessimisticLock {
			return errPrimaryMismatch(l.Info(req.PrimaryKey))
		}
		// A prewritten lock names this key as primary, this pessimistic one
		// names another: it is left over from before the primary was changed.
		if err := q.missing(nil); err != nil {
			return err
		}
		c.unlock(q.enc, l, l, 0)
		return nil
	}
	if l.UseAsyncCommit && !req.ForceSyncCommit {
		q.alive(l) // the secondaries decide
		return nil
	}
	expired := l.Expired(req.CurrentTs)
	if l.Pessimistic() || expired {
		if _, done, err := q.decided(); err != nil || done {
			if done {
				c.unlock(q.enc, l, l, 0) // taken by a late copy of a request
			}
			return err
		}
	}
	if expired {
		return q.expire(l)
	}
	if l.MinCommitTS != 0 && req.CallerStartTs != math.MaxUint64 && req.CallerStartTs >= l.MinCommitTS {
		l.MinCommitTS = req.CallerStartTs + 1
		if req.CurrentTs != math.MaxUint64 {
			l.MinCommitTS = max(l.MinCommitTS, req.CurrentTs)
		}
		c.putLock(q.enc, l, false)
	}
	if req.CallerStartTs == math.MaxUint64 || req.CallerStartTs != 0 && l.MinCommitTS > req.CallerStartTs {
		q.resp.Action = kvrpcpb.Action_MinCommitTSPushed
	}
	q.alive(l)
	return nil
}

func (q *statusQuery) alive(l *mvcc.Lock) {
	q.resp.LockTtl = l.TTL
	q.resp.LockInfo = l.Info(q.req.PrimaryKey)
}

func (q *statusQuery) expire(l *mvcc.Lock) error {
	if l.Pessimistic() && q.req.ResolvingPessimisticLock {
		// The transaction may still go on: only this lock is taken from it.
		q.c.unlock(q.enc, l, l, 0)
		q.resp.Action = kvrpcpb.Action_TTLExpirePessimisticRollback
		return nil
	}
	q.resp.Action = kvrpcpb.Action_TTLExpireRollback
	return q.c.rollbackLock(q.enc, l, l, true)
}
