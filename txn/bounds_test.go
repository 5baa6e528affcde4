package txn_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dgryski/go-farm"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// TestHazard24_DeadlockAcrossRegions: a cycle of three transactions over keys in
// three regions is reported with all its waits, their keys and tags.
func TestHazard24_DeadlockAcrossRegions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t, []byte("b"), []byte("c"))
		lock := func(ts uint64, key string) *kvrpcpb.PessimisticLockResponse {
			rc := h.e.Context([]byte(key))
			rc.ResourceGroupTag = fmt.Appendf(nil, "tag of %d", ts)
			r, err := h.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
				Context: rc, Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte(key)}},
				StartVersion: ts, ForUpdateTs: ts, PrimaryLock: []byte(key), LockTtl: 1000,
			})
			if err != nil || r.RegionError != nil {
				t.Error(r, err)
			}
			return r
		}
		keys := map[uint64]string{10: "a", 20: "b", 30: "c"}
		for ts, key := range keys {
			lock(ts, key)
		}
		done := make(chan *kvrpcpb.PessimisticLockResponse, 2)
		for ts, key := range map[uint64]string{10: "b", 20: "c"} {
			go func() { done <- lock(ts, key) }()
			synctest.Wait()
		}
		r := lock(30, "a")
		if len(r.Errors) != 1 || r.Errors[0].Deadlock == nil {
			t.Fatal(r)
		}
		d := r.Errors[0].Deadlock
		if d.LockTs != 10 || string(d.LockKey) != "a" || string(d.DeadlockKey) != "c" || d.DeadlockKeyHash != farm.Fingerprint64([]byte("c")) || len(d.WaitChain) != 3 {
			t.Errorf("deadlock %v", d)
		}
		for i, want := range []struct {
			txn, holder uint64
			key         string
		}{{10, 20, "b"}, {20, 30, "c"}, {30, 10, "a"}} {
			w := d.WaitChain[i]
			if w.Txn != want.txn || w.WaitForTxn != want.holder || string(w.Key) != want.key || string(w.ResourceGroupTag) != fmt.Sprintf("tag of %d", want.txn) {
				t.Errorf("wait %d is %v", i, w)
			}
		}
		<-done
		<-done
	})
}

// A request whose client has given up on it is not written.
func TestExecutionDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		gate := h.holdNext()
		first := make(chan struct{})
		go func() {
			defer close(first)
			h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "1")}, StartVersion: 10})
		}()
		synctest.Wait()
		var late *kvrpcpb.PrewriteResponse
		second := make(chan struct{})
		go func() {
			defer close(second)
			rc := h.e.Context([]byte("k"))
			rc.MaxExecutionDurationMs = 100
			var err error
			late, err = h.s.KvPrewrite(context.Background(), &kvrpcpb.PrewriteRequest{
				Context: rc, Mutations: []*kvrpcpb.Mutation{put("k", "2")}, PrimaryLock: []byte("k"), StartVersion: 20,
			})
			if err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(200 * time.Millisecond)
		gate <- txntest.Refuse
		<-first
		<-second
		if reason := late.RegionError.GetServerIsBusy().GetReason(); reason != "deadline is exceeded" {
			t.Errorf("answer %v", late)
		}
		if g := h.get("k", 100); !g.NotFound {
			t.Errorf("written: %v", g)
		}
	})
}

// A region-wide resolve works in bounded writes and bounded snapshots, however
// many locks the region has and whosever they are, and a shared lock counts by
// what has to be written for it.
func TestResolveIsBounded(t *testing.T) {
	ctx := context.Background()
	e, err := txntest.New()
	if err != nil {
		t.Fatal(err)
	}
	var writes, bytesMax atomic.Int64
	e.OnWrite = func(_ uint64, b *kv.Batch) txntest.Outcome {
		writes.Add(1)
		bytesMax.Store(max(bytesMax.Load(), int64(b.Size())))
		return txntest.Apply
	}
	s := txn.NewStore(e, txn.Options{})
	defer func() {
		s.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	rc := e.Context(nil)
	const n, txns = txn.LockStepsMax + 5000, 50
	for from := 0; from < n; from += 1000 {
		for start := range uint64(txns) {
			var ms []*kvrpcpb.Mutation
			for i := from; i < min(from+1000, n); i++ {
				if uint64(i%txns) == start {
					ms = append(ms, put(fmt.Sprintf("%06d", i), "v"))
				}
			}
			r, err := s.KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{Context: rc, Mutations: ms, PrimaryLock: ms[0].Key, StartVersion: 10 + start})
			if err != nil || r.RegionError != nil || len(r.Errors) > 0 {
				t.Fatal(r, err)
			}
		}
	}
	for i := range uint64(500) {
		r, err := s.KvPessimisticLock(ctx, &kvrpcpb.PessimisticLockRequest{
			Context: rc, Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_SharedPessimisticLock, Key: []byte("shared")}},
			StartVersion: 1000 + i, ForUpdateTs: 2000, PrimaryLock: []byte("p"), LockTtl: 1000,
		})
		if err != nil || r.RegionError != nil || len(r.Errors) > 0 {
			t.Fatal(r, err)
		}
	}
	writes.Store(0)
	bytesMax.Store(0)
	req := &kvrpcpb.ResolveLockRequest{Context: rc}
	for start := range uint64(txns) {
		status := uint64(0)
		if start%2 == 0 {
			status = 3000 + start
		}
		req.TxnInfos = append(req.TxnInfos, &kvrpcpb.TxnInfo{Txn: 10 + start, Status: status})
	}
	for i := range uint64(500) {
		req.TxnInfos = append(req.TxnInfos, &kvrpcpb.TxnInfo{Txn: 1000 + i})
	}
	r, err := s.KvResolveLock(ctx, req)
	if err != nil || r.RegionError != nil || r.Error != nil {
		t.Fatal(r, err)
	}
	if most := int64(n/txn.ResolveKeysMax + 4); writes.Load() > most {
		t.Errorf("%d writes for %d locks, want at most %d", writes.Load(), n, most)
	}
	if bytesMax.Load() > 2*txn.ResolveBytesMax {
		t.Errorf("a write of %d bytes", bytesMax.Load())
	}
	locks, err := s.KvScanLock(ctx, &kvrpcpb.ScanLockRequest{Context: rc, MaxVersion: 5000})
	if err != nil || len(locks.Locks) != 0 {
		t.Errorf("locks are left: %d, %v", len(locks.Locks), err)
	}
	// A transaction without locks costs no write.
	writes.Store(0)
	if r, err := s.KvResolveLock(ctx, &kvrpcpb.ResolveLockRequest{Context: rc, StartVersion: 7}); err != nil || r.RegionError != nil || writes.Load() != 0 {
		t.Error(r, err, writes.Load())
	}
}

// The transactions that share a lock are bounded.
func TestSharedLockIsBounded(t *testing.T) {
	h := newHeld(t)
	var last *kvrpcpb.PessimisticLockResponse
	for i := range uint64(1025) {
		var err error
		last, err = h.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
			Context: h.e.Context([]byte("k")), Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_SharedPessimisticLock, Key: []byte("k")}},
			StartVersion: 10 + i, ForUpdateTs: 2000, PrimaryLock: []byte("p"), LockTtl: 1000,
		})
		if err != nil || len(last.Errors) > 0 || (last.RegionError != nil) != (i == 1024) {
			t.Fatal(i, last, err)
		}
	}
	if busy := last.RegionError.ServerIsBusy; busy == nil || !strings.Contains(busy.Reason, "share the lock") {
		t.Errorf("answer %v", last)
	}
}
