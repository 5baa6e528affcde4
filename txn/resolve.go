package txn

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// KvResolveLock commits or rolls back the locks of transactions whose fate is
// known: commit_version 0 rolls back. It works on the given keys, or, without,
// on all locks of one transaction (start_version) or several (txn_infos) in the
// region; then in batches of ResolveKeysMax, each written by itself. Asking
// again after an error is safe.
func (s *Store) KvResolveLock(ctx context.Context, req *kvrpcpb.ResolveLockRequest) (*kvrpcpb.ResolveLockResponse, error) {
	if req.IsTxnFile {
		return nil, unimplemented("transaction files (is_txn_file)")
	}
	fates, err := resolveFates(req)
	if err != nil {
		return nil, err
	}
	if len(req.Keys) > 0 {
		err = s.resolveKeys(ctx, req.Context, req.StartVersion, req.CommitVersion, req.Keys, false)
	} else {
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
	if len(req.TxnInfos) == 0 {
		fates[req.StartVersion] = req.CommitVersion
	} else if len(req.Keys) > 0 {
		return nil, invalid("resolve lock with keys and txn_infos")
	}
	for startTS, commitTS := range fates {
		if startTS == 0 || commitTS != 0 && commitTS <= startTS {
			return nil, invalid("resolve lock of transaction %d with commit_version %d", startTS, commitTS)
		}
	}
	return fates, nil
}

func (s *Store) resolveRegion(ctx context.Context, rc *kvrpcpb.Context, fates map[uint64]uint64) error {
	wanted := func(startTS uint64) bool { _, ok := fates[startTS]; return ok }
	return s.eachLock(ctx, rc, wanted, func(keys []lockedKey) error {
		byTxn := make(map[uint64][][]byte, 1)
		for _, k := range keys {
			byTxn[k.startTS] = append(byTxn[k.startTS], k.key)
		}
		for startTS, keys := range byTxn {
			if err := s.resolveKeys(ctx, rc, startTS, fates[startTS], keys, true); err != nil {
				return err
			}
		}
		return nil
	})
}

// resolveKeys commits or rolls back the transaction's locks on keys. lockedOnly
// leaves keys alone whose lock has gone since it was seen.
func (s *Store) resolveKeys(ctx context.Context, rc *kvrpcpb.Context, startTS, commitTS uint64, keys [][]byte, lockedOnly bool) error {
	return s.exec(ctx, cmdResolveLock, rc, startTS, keys, func(c *command) error {
		for i, enc := range c.keys {
			if lockedOnly {
				l, err := c.r.LoadLock(enc)
				if err != nil {
					return err
				}
				if l == nil || l.StartTS != startTS {
					continue
				}
			}
			if err := c.resolve(i, commitTS); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *command) resolve(i int, commitTS uint64) error {
	if commitTS != 0 {
		return c.commit(i, commitTS)
	}
	committed, err := c.cleanup(i, 0, false)
	if err == nil && committed != 0 {
		err = errAbort("transaction %d is committed at %d on key %x and cannot be rolled back", c.startTS, committed, c.plain[i])
	}
	return err
}
