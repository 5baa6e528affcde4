package txn

import (
	"context"
	"errors"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// lockedKey is a key that was seen locked.
type lockedKey struct {
	key     []byte // plain
	startTS uint64
}

func plainKeys(keys []lockedKey) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = k.key
	}
	return out
}

// eachLock walks the locks of the region whose transaction is wanted, and
// hands them out in batches of ResolveKeysMax, each read from a new snapshot.
// They may be gone when do looks again under the latches.
func (s *Store) eachLock(ctx context.Context, rc *kvrpcpb.Context, want func(startTS uint64) bool, do func(keys []lockedKey) error) error {
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

// someLocks returns up to ResolveKeysMax wanted locks at or after the encoded
// key from, and where to go on; nil: the region is done.
func (s *Store) someLocks(ctx context.Context, rc *kvrpcpb.Context, from []byte, want func(startTS uint64) bool) (keys []lockedKey, next []byte, err error) {
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
	for ok, n := it.First(), 0; ok; ok, n = it.Next(), n+1 {
		if n%1024 == 1023 && ctx.Err() != nil {
			return nil, nil, context.Cause(ctx)
		}
		if len(keys) == ResolveKeysMax {
			return keys, slices.Clone(it.Key()), nil
		}
		raw, err := it.Value()
		if err != nil {
			return nil, nil, err
		}
		startTS, err := mvcc.LockStartTS(raw)
		if err != nil {
			return nil, nil, err
		}
		if want(startTS) {
			keys = append(keys, lockedKey{key: plainKey(it.Key()), startTS: startTS})
		}
	}
	return keys, nil, it.Error()
}
