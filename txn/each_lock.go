package txn

import (
	"context"
	"errors"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// eachLock walks the locked keys of the region, and hands those out that a
// wanted transaction has a lock on, in batches of at most ResolveKeysMax plain
// keys. No snapshot is held for more than LockStepsMax locks, so a region with a
// million of them holds nothing up. The locks may be gone when do looks again
// under the latches.
func (s *Store) eachLock(ctx context.Context, rc *kvrpcpb.Context, want func(startTS uint64) bool, do func(keys [][]byte) error) error {
	var from []byte
	for {
		keys, next, err := s.someLocks(ctx, rc, from, want)
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := do(keys); err != nil {
				return err
			}
		}
		if next == nil {
			return nil
		}
		from = next
	}
}

// someLocks returns wanted locked keys at or after the encoded key from, and
// where to go on; nil: the region is done.
func (s *Store) someLocks(ctx context.Context, rc *kvrpcpb.Context, from []byte, want func(startTS uint64) bool) (keys [][]byte, next []byte, err error) {
	c := kvrpcpb.Context{}
	if rc != nil {
		c = *rc
	}
	c.ReplicaRead, c.StaleRead = false, false
	snap, err := s.engine.Snapshot(ctx, &c, kv.SnapshotOptions{})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	it, err := snap.NewIter(kv.CFLock, kv.IterOptions{Lower: from})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	var txns []uint64
	for ok, n := it.First(), 0; ok; ok, n = it.Next(), n+1 {
		if n%1024 == 1023 && ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if len(keys) == ResolveKeysMax || n == LockStepsMax {
			return keys, slices.Clone(it.Key()), nil
		}
		raw, err := it.Value()
		if err != nil {
			return nil, nil, err
		}
		if txns, err = mvcc.LockTxns(txns[:0], raw); err != nil {
			return nil, nil, err
		}
		if slices.ContainsFunc(txns, want) {
			keys = append(keys, plainKey(it.Key()))
		}
	}
	return keys, nil, it.Error()
}
