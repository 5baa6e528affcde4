package e2e

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/copradb/copra/txn/mvcccheck"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/txnkv"
)

// mvccWithin is how long a soak may run for its records to be all there: older
// versions are garbage then.
const mvccWithin = 8 * time.Minute

// sqlKeysMax is how many keys of SQL's are looked at, from the first and from
// the last on, unless the test is a long one.
const sqlKeysMax = 1500

// verifyRecords reads all records of the keys that transactional clients have
// written, and holds them against what these know; and those of SQL's keys, of
// whose transactions nothing else is known.
func (l *load) verifyRecords() {
	l.t.Helper()
	if time.Since(l.lists.began) > mvccWithin {
		return
	}
	ctx, cancel := within(5 * time.Minute)
	defer cancel()
	l.verifySQLRecords(ctx)
	h := mvcccheck.New()
	err := records(ctx, l.txn, h, [][2]string{{listPrefix, listPrefix + "\xff"}, {"txn-", "txn-\xff"}}, 0)
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

// verifySQLRecords does the same for the keyspace of SQL. Its transactions take
// locks at timestamps of their own.
func (l *load) verifySQLRecords(ctx context.Context) {
	l.t.Helper()
	client, err := txnkv.NewClient(strings.Split(l.c.pd, ","), txnkv.WithAPIVersion(kvrpcpb.APIVersion_V2), txnkv.WithKeyspace(kvclient.Keyspace))
	if err != nil {
		l.t.Errorf("client of SQL's keyspace: %v", err)
		return
	}
	defer func() { _ = client.Close() }()
	limit := sqlKeysMax
	if testSettings["LONG"] != "" {
		limit = 0
	}
	h := mvcccheck.New()
	if err = records(ctx, client, h, [][2]string{{"", ""}}, limit); err == nil {
		err = h.Verify(mvcccheck.Options{Pessimistic: func(uint64) bool { return true }})
	}
	if err != nil {
		l.t.Errorf("records of SQL's keys: %v", err)
		return
	}
	keys, commits, rollbacks := h.Count()
	l.t.Logf("records of SQL: %d keys, %d commits, %d rollbacks, all those of transactions", keys, commits, rollbacks)
}

// records asks the stores for all that they have of a client's keys in some
// ranges, when their locks are resolved: of all keys, or of a number of them from
// both ends.
func records(ctx context.Context, client *txnkv.Client, h *mvcccheck.History, ranges [][2]string, limit int) error {
	now, err := client.GetTimestamp(ctx)
	if err != nil {
		return err
	}
	tx, err := client.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, r := range ranges {
		start, end := []byte(r[0]), []byte(r[1])
		if _, err := tikv.ResolveLocksForRange(ctx, tikv.NewRegionLockResolver("soak", client.KVStore), now, start, end,
			tikv.NewGcResolveLockMaxBackoffer, tikv.GCScanLockLimit); err != nil {
			return fmt.Errorf("resolve locks: %w", err)
		}
		for _, open := range []func() (unionIterator, error){
			func() (unionIterator, error) { return tx.Iter(start, end) },
			func() (unionIterator, error) { return tx.IterReverse(end, start) },
		} {
			it, err := open()
			if err != nil {
				return err
			}
			n := 0
			for ; err == nil && it.Valid() && (limit == 0 || n < limit); n++ {
				if err = addRecords(ctx, client, h, it.Key()); err == nil {
					err = it.Next()
				}
			}
			it.Close()
			if err != nil {
				return err
			}
			if limit == 0 {
				break // all were there
			}
		}
	}
	return nil
}

// unionIterator is client-go's.
type unionIterator interface {
	Valid() bool
	Key() []byte
	Next() error
	Close()
}

func addRecords(ctx context.Context, client *txnkv.Client, h *mvcccheck.History, key []byte) error {
	if h.Keys[string(key)] != nil {
		return nil
	}
	info, err := mvccOf(ctx, client, key)
	if err == nil {
		err = h.AddInfo(key, info)
	}
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	return nil
}

func mvccOf(ctx context.Context, client *txnkv.Client, key []byte) (*kvrpcpb.MvccInfo, error) {
	bo := tikv.NewBackoffer(ctx, int(time.Minute/time.Millisecond))
	for {
		loc, err := client.GetRegionCache().LocateKey(bo, key)
		if err != nil {
			return nil, err
		}
		resp, err := client.SendReq(bo, tikvrpc.NewRequest(tikvrpc.CmdMvccGetByKey, &kvrpcpb.MvccGetByKeyRequest{Key: key}), loc.Region, soakOpTimeout)
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
