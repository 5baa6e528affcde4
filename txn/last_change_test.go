package txn_test

import (
	"context"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/txn"
)

// scanned reads key at ts in both directions and returns its value and how many
// commit records were looked at.
func (h *held) scanned(key string, ts uint64) (value string, versions uint64) {
	h.Helper()
	r, err := h.s.OpenReader(context.Background(), h.e.Context([]byte(key)), txn.ReaderOptions{TS: ts})
	if err != nil {
		h.Fatal(err)
	}
	for _, desc := range []bool{false, true} {
		sc, err := r.NewScanner(txn.ScanOptions{Start: []byte(key), End: []byte(key + "\x00"), Desc: desc})
		if err != nil {
			h.Fatal(err)
		}
		_, v, ok, err := sc.Next()
		if err != nil || !ok {
			h.Fatalf("scan of %s: %v, %t", key, err, ok)
		}
		value, versions = string(v), max(versions, sc.Versions())
		if err := sc.Close(); err != nil {
			h.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		h.Fatal(err)
	}
	return value, versions
}

// Reads of a key with thousands of records that change nothing do not step
// over them one by one, whoever left them.
func TestLastChangeBoundsReads(t *testing.T) {
	ctx := context.Background()
	const n = 2000
	ops := map[string]func(h *held, key string, ts uint64){
		"locked and committed": func(h *held, key string, ts uint64) {
			h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Lock, Key: []byte(key)}}, StartVersion: ts})
			h.commit(key, ts, ts+1)
		},
		"pessimistic": func(h *held, key string, ts uint64) {
			h.lock(key, ts, kvrpcpb.Op_PessimisticLock)
			h.prewrite(ctx, &kvrpcpb.PrewriteRequest{
				Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Lock, Key: []byte(key)}}, StartVersion: ts, ForUpdateTs: ts,
				PessimisticActions: []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK},
			})
			h.commit(key, ts, ts+1)
		},
		"1PC": func(h *held, key string, ts uint64) {
			h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Lock, Key: []byte(key)}}, StartVersion: ts, TryOnePc: true})
		},
		"shared": func(h *held, key string, ts uint64) {
			h.lock(key, ts, kvrpcpb.Op_SharedPessimisticLock)
			h.prewrite(ctx, &kvrpcpb.PrewriteRequest{
				Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_SharedLock, Key: []byte(key)}}, StartVersion: ts, ForUpdateTs: ts,
				PessimisticActions: []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK},
			})
			h.commit(key, ts, ts+1)
		},
		"protected rollbacks": func(h *held, key string, ts uint64) {
			h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put(key, "x")}, StartVersion: ts})
			if _, err := h.s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: h.e.Context([]byte(key)), Keys: [][]byte{[]byte(key)}, StartVersion: ts}); err != nil {
				h.Fatal(err)
			}
		},
	}
	for name, op := range ops {
		t.Run(name, func(t *testing.T) {
			h := newHeld(t)
			h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10})
			h.commit("k", 10, 11)
			for i := range uint64(n) {
				op(h, "k", 20+2*i)
			}
			for _, ts := range []uint64{20 + 2*n, 20 + n} {
				if v, versions := h.scanned("k", ts); v != "v" || versions > 24 {
					t.Errorf("at %d: %q after %d records", ts, v, versions)
				}
			}
		})
	}
}

// A rollback under a lock of another transaction, which may have a smaller
// commit timestamp already, says nothing of the last change; and reads find
// that transaction's version below it.
func TestRollbackUnderALockKnowsNoLastChange(t *testing.T) {
	ctx := context.Background()
	h := newHeld(t)
	h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "old")}, StartVersion: 1})
	h.commit("k", 1, 2)
	h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "new")}, StartVersion: 5})
	for _, ts := range []uint64{20, 21} { // both kinds of rollback of a missing lock
		if ts == 20 {
			_, err := h.s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: h.e.Context([]byte("k")), Keys: [][]byte{[]byte("k")}, StartVersion: ts})
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		r, err := h.s.KvCheckTxnStatus(ctx, &kvrpcpb.CheckTxnStatusRequest{Context: h.e.Context([]byte("k")), PrimaryKey: []byte("k"), LockTs: ts, RollbackIfNotExist: true})
		if err != nil || r.Action != kvrpcpb.Action_LockNotExistRollback {
			t.Fatal(r, err)
		}
	}
	h.commit("k", 5, 10)
	for _, ts := range []uint64{20, 30} {
		if v, _ := h.scanned("k", ts); v != "new" {
			t.Errorf("at %d: %q", ts, v)
		}
	}
	if v, _ := h.scanned("k", 9); v != "old" {
		t.Errorf("below: %q", v)
	}
}

func (h *held) commit(key string, startTS, commitTS uint64) {
	h.Helper()
	r, err := h.s.KvCommit(context.Background(), &kvrpcpb.CommitRequest{Context: h.e.Context([]byte(key)), Keys: [][]byte{[]byte(key)}, StartVersion: startTS, CommitVersion: commitTS})
	if err != nil || r.RegionError != nil || r.Error != nil {
		h.Fatalf("commit of %d: %v, %v", startTS, r, err)
	}
}

func (h *held) lock(key string, ts uint64, op kvrpcpb.Op) {
	h.Helper()
	r, err := h.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
		Context: h.e.Context([]byte(key)), Mutations: []*kvrpcpb.Mutation{{Op: op, Key: []byte(key)}},
		StartVersion: ts, ForUpdateTs: ts, PrimaryLock: []byte("primary"), LockTtl: 1000, WaitTimeout: -1,
	})
	if err != nil || r.RegionError != nil || len(r.Errors) != 0 {
		h.Fatalf("lock of %d: %v, %v", ts, r, err)
	}
}
