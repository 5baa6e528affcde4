package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// KvTxnHeartBeat prolongs the life of a transaction by its primary lock, and
// raises min_commit_ts of a pipelined one.
func (s *Store) KvTxnHeartBeat(ctx context.Context, req *kvrpcpb.TxnHeartBeatRequest) (*kvrpcpb.TxnHeartBeatResponse, error) {
	if req.IsTxnFile {
		return nil, unimplemented("transaction files (is_txn_file)")
	}
	resp := &kvrpcpb.TxnHeartBeatResponse{}
	err := s.exec(ctx, cmdHeartBeat, req.Context, req.StartVersion, [][]byte{req.PrimaryLock}, func(c *command) error {
		on, err := c.r.LoadLock(c.keys[0])
		if err != nil {
			return err
		}
		l := on.Of(req.StartVersion)
		if l == nil {
			return errTxnNotFound(req.StartVersion, req.PrimaryLock)
		}
		if on.Shared() { // no primary is locked in share mode
			return errPrimaryMismatch(on.Info(req.PrimaryLock))
		}
		changed := false
		if l.TTL < req.AdviseLockTtl {
			l.TTL, changed = req.AdviseLockTtl, true
		}
		if l.Generation > 0 && !l.UseAsyncCommit && l.MinCommitTS < req.MinCommitTs {
			l.MinCommitTS, changed = req.MinCommitTs, true
		}
		if changed {
			c.putLock(c.keys[0], l, false)
		}
		resp.LockTtl = l.TTL
		return nil
	})
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.TxnHeartBeatResponse{RegionError: re, Error: ke}, err
	}
	return resp, nil
}
