package txn

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// KvScanLock lists the locks with start_ts <= max_version: what garbage
// collection resolves first. Locks that are still on their way into the log are
// waited for, since the safe point must not pass them (hazard 19).
func (s *Store) KvScanLock(ctx context.Context, req *kvrpcpb.ScanLockRequest) (*kvrpcpb.ScanLockResponse, error) {
	resp := &kvrpcpb.ScanLockResponse{}
	err := s.scanLock(ctx, req, resp)
	if re, ke, err := split(err); re != nil || ke != nil || err != nil {
		return &kvrpcpb.ScanLockResponse{RegionError: re, Error: ke}, err
	}
	return resp, nil
}

func (s *Store) scanLock(ctx context.Context, req *kvrpcpb.ScanLockRequest, resp *kvrpcpb.ScanLockResponse) (err error) {
	if err := s.raiseMaxTS(req.MaxVersion); err != nil {
		return err
	}
	lower, upper := encodeBounds(req.StartKey, req.EndKey)
	if err := s.waitMemory(ctx, lower, upper, req.MaxVersion); err != nil {
		return err
	}
	snap, err := s.engine.Snapshot(ctx, req.Context, kv.SnapshotOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	it, err := snap.NewIter(kv.CFLock, kv.IterOptions{Lower: lower, Upper: upper})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	bytes, n := 0, 0
	for ok := it.First(); ok && (req.Limit == 0 || len(resp.Locks) < int(req.Limit)); ok = it.Next() {
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		raw, err := it.Value()
		if err != nil {
			return err
		}
		var l mvcc.Lock
		if err := mvcc.ParseLock(raw, &l); err != nil {
			return err
		}
		if l.Shared() {
			l.Holders = slices.DeleteFunc(l.Holders, func(h mvcc.Lock) bool { return h.StartTS > req.MaxVersion })
			if len(l.Holders) == 0 {
				continue
			}
		}
		if l.StartTS > req.MaxVersion {
			continue
		}
		if bytes += len(raw); bytes > s.limits.ResponseBytesMax || len(resp.Locks) == s.limits.ScanLocksMax {
			return errAbort("more than %d locks or %d bytes; ask with a smaller limit", s.limits.ScanLocksMax, s.limits.ResponseBytesMax)
		}
		resp.Locks = append(resp.Locks, l.Info(plainKey(it.Key())))
	}
	return it.Error()
}

// waitMemory waits until no lock with start_ts <= ts is on its way into the log.
func (s *Store) waitMemory(ctx context.Context, lower, upper []byte, ts uint64) error {
	wait, cancel := context.WithTimeout(ctx, MemoryLockWaitMs*time.Millisecond)
	defer cancel()
	key, l, err := s.mem.WaitRange(wait, lower, upper, func(_ []byte, l *mvcc.Lock) bool { return l.StartTS <= ts })
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errLocked(l.Info(plainKey(key)))
}
