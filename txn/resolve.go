package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// KvResolveLock commits or rolls back the locks of transactions whose fate is
// known: commit_version 0 rolls back. It works on the given keys, or, without,
// on all locks of one transaction (start_version) or several (txn_infos) in the
// region; then in batches of ResolveKeysMax keys and about ResolveBytesMax,
// each written by itself. Asking again after an error is safe.
func (s *Store) KvResolveLock(ctx context.Context, req *kvrpcpb.ResolveLockRequest) (*kvrpcpb.ResolveLockResponse, error) {
	if req.IsTxnFile {
		return nil, unimplemented("transaction files (is_txn_file)")
	}
	fates, err := resolveFates(req)
	if err != nil {
		return nil, err
	}
	switch {
	case len(fates) == 0:
		// client-go's garbage collection sends that to a region in which it has
		// found pessimistic locks only, which it resolves one by one.
		err = s.withSnapshot(ctx, req.Context, func(kv.Snapshot) error { return nil })
	case len(req.Keys) > 0:
		err = s.resolveKeys(ctx, req)
	default:
		err = s.resolveRegion(ctx, req.Context, fates)
	}
	re, ke, err := split(err)
	return &kvrpcpb.ResolveLockResponse{RegionError: re, Error: ke}, err
}

// resolveFates maps start_ts to commit_ts.
func resolveFates(req *kvrpcpb.ResolveLockRequest) (map[uint64]uint64, error) {
	fates := make(map[uint64]uint64, len(req.TxnInfos)+1)
	for _, t := range req.TxnInfos {
		if t.IsTxnFile {
			return nil, unimplemented("transaction files (is_txn_file)")
		}
		fates[t.Txn] = t.Status
	}
	if req.StartVersion == 0 && req.CommitVersion == 0 && len(req.TxnInfos) == 0 && len(req.Keys) == 0 {
		return nil, nil // nothing to do
	}
	switch {
	case len(req.TxnInfos) == 0:
		fates[req.StartVersion] = req.CommitVersion
	case len(req.Keys) > 0, req.StartVersion != 0:
		return nil, invalid("resolve lock with txn_infos and keys or start_version")
	}
	for startTS, commitTS := range fates {
		if startTS == 0 || commitTS != 0 && commitTS <= startTS {
			return nil, invalid("resolve lock of transaction %d with commit_version %d", startTS, commitTS)
		}
	}
	return fates, nil
}

// resolveKeys commits or rolls back one transaction on the keys it is asked for
// ("lite"), locked or not.
func (s *Store) resolveKeys(ctx context.Context, req *kvrpcpb.ResolveLockRequest) error {
	err := s.exec(ctx, cmdResolveLock, req.Context, req.StartVersion, req.Keys, func(c *command) error {
		for i, enc := range c.keys {
			on, err := c.r.LoadLock(enc)
			if err != nil {
				return err
			}
			if err := c.resolve(i, on, req.CommitVersion); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && req.CommitVersion != 0 {
		s.status.put(req.StartVersion, mvcc.TxnStatus{CommitTS: req.CommitVersion})
	}
	return err
}

func (s *Store) resolveRegion(ctx context.Context, rc *kvrpcpb.Context, fates map[uint64]uint64) error {
	wanted := func(startTS uint64) bool { _, ok := fates[startTS]; return ok }
	return s.eachLock(ctx, rc, wanted, func(keys [][]byte) error {
		for len(keys) > 0 {
			done, err := s.resolveSome(ctx, rc, fates, keys)
			if err != nil {
				return err
			}
			keys = keys[done:]
		}
		return nil
	})
}

// resolveSome resolves what is still locked of keys, all transactions in one
// write, until that is large enough. done counts the keys.
func (s *Store) resolveSome(ctx context.Context, rc *kvrpcpb.Context, fates map[uint64]uint64, keys [][]byte) (done int, err error) {
	committed := make(map[uint64]uint64, 1)
	err = s.exec(ctx, cmdResolveLock, rc, 0, keys, func(c *command) error {
		for i, enc := range c.keys {
			if c.batch.Size() >= ResolveBytesMax {
				return nil
			}
			done++
			on, err := c.r.LoadLock(enc)
			if err != nil {
				return err
			}
			for _, startTS := range on.Txns() {
				commitTS, ok := fates[startTS]
				if !ok {
					continue
				}
				c.startTS = startTS
				if err := c.resolve(i, on, commitTS); err != nil {
					return err
				}
				if commitTS != 0 {
					committed[startTS] = commitTS
				}
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for startTS, commitTS := range committed {
		s.status.put(startTS, mvcc.TxnStatus{CommitTS: commitTS})
	}
	return done, nil
}

// resolve commits or rolls back (commitTS 0) the command's transaction on key
// i, which has the lock record on.
func (c *command) resolve(i int, on *mvcc.Lock, commitTS uint64) error {
	if commitTS != 0 {
		return c.commitLock(i, on, commitTS)
	}
	locked := on.Of(c.startTS) != nil
	committed, err := c.cleanupLock(i, on, 0, false)
	if err == nil && committed != 0 && !locked { // a late lock was dropped, and that was all
		err = errCommitted(c.startTS, committed, c.plain[i])
	}
	return err
}
