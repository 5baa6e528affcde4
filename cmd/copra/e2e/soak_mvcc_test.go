package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/copradb/copra/txn/mvcccheck"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// mvccWithin is how long a soak may run for its records to be all there: older
// versions are garbage then.
const mvccWithin = 8 * time.Minute

// verifyRecords reads all records of the keys that transactional clients have
// written, and holds them against what these know.
func (l *load) verifyRecords() {
	l.t.Helper()
	if time.Since(l.lists.began) > mvccWithin {
		return
	}
	ctx, cancel := within(2 * time.Minute)
	defer cancel()
	h, err := l.records(ctx)
	if err == nil {
		l.lists.mu.Lock()
		defer l.lists.mu.Unlock()
		err = h.Verify(mvcccheck.Options{Pessimistic: func(ts uint64) bool { return l.lists.locking[ts] }})
	}
	if err != nil {
		l.t.Errorf("records of transactional keys: %v", err)
		return
	}
	for _, t := range l.lists.txns {
		if err := h.Check(t); err != nil {
			l.t.Error(err)
			return
		}
	}
	keys, commits, rollbacks := h.Count()
	l.t.Logf("records: %d keys, %d commits, %d rollbacks, all those of transactions; %d transactions found as their clients know them", keys, commits, rollbacks, len(l.lists.txns))
}

// records asks the stores for all that they have of the keys of transactional
// clients, when the locks of these are resolved.
func (l *load) records(ctx context.Context) (*mvcccheck.History, error) {
	store := l.txn.KVStore
	now, err := l.txn.GetTimestamp(ctx)
	if err != nil {
		return nil, err
	}
	for _, prefix := range []string{listPrefix, "txn-"} {
		if _, err := tikv.ResolveLocksForRange(ctx, tikv.NewRegionLockResolver("soak", store), now, []byte(prefix), []byte(prefix+"\xff"),
			tikv.NewGcResolveLockMaxBackoffer, tikv.GCScanLockLimit); err != nil {
			return nil, fmt.Errorf("resolve locks: %w", err)
		}
	}
	tx, err := l.txn.Begin()
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	it, err := tx.Iter([]byte(listPrefix), []byte("txn-\xff"))
	if err != nil {
		return nil, err
	}
	defer it.Close()
	h := mvcccheck.New()
	for it.Valid() {
		key := it.Key()
		if strings.HasPrefix(string(key), listPrefix) || strings.HasPrefix(string(key), "txn-") {
			info, err := l.mvccOf(ctx, key)
			if err == nil {
				err = h.AddInfo(key, info)
			}
			if err != nil {
				return nil, fmt.Errorf("key %q: %w", key, err)
			}
		}
		if err := it.Next(); err != nil {
			return nil, err
		}
	}
	return h, nil
}

func (l *load) mvccOf(ctx context.Context, key []byte) (*kvrpcpb.MvccInfo, error) {
	bo := tikv.NewBackoffer(ctx, int(time.Minute/time.Millisecond))
	for {
		loc, err := l.txn.GetRegionCache().LocateKey(bo, key)
		if err != nil {
			return nil, err
		}
		resp, err := l.txn.SendReq(bo, tikvrpc.NewRequest(tikvrpc.CmdMvccGetByKey, &kvrpcpb.MvccGetByKeyRequest{Key: key}), loc.Region, soakOpTimeout)
		if err != nil {
			return nil, err
		}
		re, err := resp.GetRegionError()
		if err != nil {
			return nil, err
		}
		if re != nil {
			if err := bo.Backoff(tikv.BoRegionMiss(), fmt.Errorf("%v", re)); err != nil {
				return nil, err
			}
			continue
		}
		answer := resp.Resp.(*kvrpcpb.MvccGetByKeyResponse)
		if answer.Error != "" {
			return nil, fmt.Errorf("mvcc: %s", answer.Error)
		}
		return answer.Info, nil
	}
}
