package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn/mvcc"
)

// KvCheckSecondaryLocks answers the locks of an async-commit transaction on
// its secondary keys. A key that has none is decided: the answer then ends
// there, with the commit timestamp, or 0 after the key was rolled back, so that
// it will never be locked.
func (s *Store) KvCheckSecondaryLocks(ctx context.Context, req *kvrpcpb.CheckSecondaryLocksRequest) (*kvrpcpb.CheckSecondaryLocksResponse, error) {
	if err := s.raiseMaxTS(req.StartVersion); err != nil {
		return nil, err
	}
	resp := &kvrpcpb.CheckSecondaryLocksResponse{}
	err := s.exec(ctx, cmdCheckSecondaryLocks, req.Context, req.StartVersion, req.Keys, func(c *command) error {
		for i := range c.keys {
			l, commitTS, err := c.checkSecondary(i)
			if err != nil {
				return err
			}
			if l == nil {
				resp.Locks, resp.CommitTs = nil, commitTS
				return nil
			}
			resp.Locks = append(resp.Locks, l.Info(c.plain[i]))
		}
		return nil
	})
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.CheckSecondaryLocksResponse{RegionError: re, Error: ke}, err
	}
	if resp.CommitTs != 0 {
		s.status.put(req.StartVersion, mvcc.TxnStatus{CommitTS: resp.CommitTs})
	}
	return resp, nil
}

// checkSecondary returns the transaction's prewritten lock on key i, or, with
// nil, how it ended there (0: rolled back, if need be by this call).
func (c *command) checkSecondary(i int) (*mvcc.Lock, uint64, error) {
	enc := c.keys[i]
	on, err := c.r.LoadLock(enc)
	if err != nil {
		return nil, 0, err
	}
	l := on.Of(c.startTS)
	if l != nil && !l.Pessimistic() {
		return l, 0, nil
	}
	rec, err := c.r.TxnRecord(enc, c.startTS)
	if err != nil {
		return nil, 0, err
	}
	if l != nil {
		c.unlock(enc, on, l, 0)
	}
	if rec.Fate != mvcc.FateNone {
		return nil, rec.CommitTS, nil
	}
	if l == nil && on != nil && rec.Overlapped == nil {
		c.rememberRollback(enc, on)
	}
	if err := c.putRollback(enc, true, rec.Overlapped, on == nil || l != nil && !on.Shared()); err != nil {
		return nil, 0, err
	}
	return nil, 0, c.collapse(enc)
}
