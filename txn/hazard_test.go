package txn_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn"
	"github.com/copradb/copra/txn/txntest"
)

// held is a store whose writes can be held back.
type held struct {
	*testing.T
	e *txntest.Engine
	s *txn.Store

	mu   sync.Mutex
	gate chan txntest.Outcome // not nil: the next write waits for it
}

func newHeld(t *testing.T, split ...[]byte) *held {
	t.Helper()
	e, err := txntest.New(split...)
	if err != nil {
		t.Fatal(err)
	}
	h := &held{T: t, e: e}
	e.OnWrite = func(uint64, *kv.Batch) txntest.Outcome {
		h.mu.Lock()
		gate := h.gate
		h.gate = nil
		h.mu.Unlock()
		if gate == nil {
			return txntest.Apply
		}
		return <-gate
	}
	h.s = txn.NewStore(e, txn.Options{})
	t.Cleanup(func() {
		h.s.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// holdNext makes the next write wait until an outcome is sent.
func (h *held) holdNext() chan<- txntest.Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gate = make(chan txntest.Outcome)
	return h.gate
}

func put(key, value string) *kvrpcpb.Mutation {
	return &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: []byte(key), Value: []byte(value)}
}

func (h *held) prewrite(ctx context.Context, req *kvrpcpb.PrewriteRequest) *kvrpcpb.PrewriteResponse {
	req.Context = h.e.Context(req.Mutations[0].Key)
	if req.PrimaryLock == nil {
		req.PrimaryLock = req.Mutations[0].Key
	}
	r, err := h.s.KvPrewrite(ctx, req)
	if err != nil {
		h.Error(err)
		return &kvrpcpb.PrewriteResponse{}
	}
	return r
}

func (h *held) get(key string, ts uint64) *kvrpcpb.GetResponse {
	r, err := h.s.KvGet(context.Background(), &kvrpcpb.GetRequest{Context: h.e.Context([]byte(key)), Key: []byte(key), Version: ts})
	if err != nil {
		h.Fatal(err)
	}
	return r
}

// An async-commit lock on its way into the log is seen by readers at or above
// its min_commit_ts, and by nobody below; and a reader that comes first pushes
// min_commit_ts above itself.
func TestHazard18_ReadersAndPrewritesInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, kind := range []string{"async", "1pc"} {
			h := newHeld(t)
			h.get("k", 50)
			gate := h.holdNext()
			done := make(chan *kvrpcpb.PrewriteResponse)
			go func() {
				done <- h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{
					Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10,
					UseAsyncCommit: kind == "async", TryOnePc: kind == "1pc",
				})
			}()
			synctest.Wait()
			if r := h.get("k", 50); !r.NotFound {
				t.Errorf("%s: read below min_commit_ts: %v", kind, r)
			}
			if r := h.get("k", 51); r.Error.GetLocked().GetLockVersion() != 10 {
				t.Errorf("%s: read at min_commit_ts passes the lock in memory: %v", kind, r)
			}
			if r := h.get("k", newest); r.Error.GetLocked() == nil {
				t.Errorf("%s: read of the newest passes the lock in memory: %v", kind, r)
			}
			if r := h.get("j", 51); !r.NotFound {
				t.Errorf("%s: another key: %v", kind, r)
			}
			gate <- txntest.Apply
			r := <-done
			if got := max(r.MinCommitTs, r.OnePcCommitTs); got != 51 {
				t.Errorf("%s: commit timestamp %d, want 51: %v", kind, got, r)
			}
			locked := h.get("k", 60).Error.GetLocked() != nil
			if locked != (kind == "async") {
				t.Errorf("%s: after the write: %v", kind, h.get("k", 60))
			}
		}
	})
}

const newest = ^uint64(0)

// Without a synchronised max_ts there is no async commit and no 1PC; existence
// checks are reads.
func TestHazard18_MaxTSNotSynced(t *testing.T) {
	h := newHeld(t)
	h.e.SetMaxTSSynced(1, false)
	async := &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("a", "v")}, StartVersion: 10, UseAsyncCommit: true}
	if r := h.prewrite(context.Background(), async); r.MinCommitTs != 0 || len(r.Errors) > 0 || r.RegionError != nil {
		t.Errorf("async commit: %v", r)
	}
	onePC := &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("b", "v")}, StartVersion: 11, TryOnePc: true}
	if r := h.prewrite(context.Background(), onePC); r.OnePcCommitTs != 0 || len(r.Errors) > 0 || r.RegionError != nil {
		t.Errorf("1PC: %v", r)
	}
	for _, k := range []string{"a", "b"} {
		if l := h.get(k, 20).Error.GetLocked(); l == nil || l.UseAsyncCommit {
			t.Errorf("lock of %s: %v", k, l)
		}
	}
	insert := &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Insert, Key: []byte("c")}}, StartVersion: 30}
	h.prewrite(context.Background(), insert)
	if got := h.s.MaxTS(); got < 30 {
		t.Errorf("max_ts is %d after an insert at 30", got)
	}
}

// Garbage collection's lock scan waits for locks in memory.
func TestHazard19_ScanLockSeesMemoryLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		gate := h.holdNext()
		prewritten := make(chan struct{})
		go func() {
			defer close(prewritten)
			h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10, UseAsyncCommit: true})
		}()
		synctest.Wait()
		scan := func() *kvrpcpb.ScanLockResponse {
			r, err := h.s.KvScanLock(context.Background(), &kvrpcpb.ScanLockRequest{Context: h.e.Context(nil), MaxVersion: 20, Limit: 10})
			if err != nil {
				t.Error(err)
			}
			return r
		}
		scanned := make(chan *kvrpcpb.ScanLockResponse, 1)
		go func() { scanned <- scan() }()
		synctest.Wait()
		select {
		case r := <-scanned:
			t.Fatalf("the scan did not wait: %v", r)
		default:
		}
		gate <- txntest.Apply
		<-prewritten
		if r := <-scanned; len(r.Locks) != 1 || r.Locks[0].LockVersion != 10 {
			t.Errorf("scan: %v", r)
		}

		// A lock that stays is reported as an error, not left out.
		gate = h.holdNext()
		prewritten = make(chan struct{})
		go func() {
			defer close(prewritten)
			h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("l", "v")}, StartVersion: 11, UseAsyncCommit: true})
		}()
		synctest.Wait()
		if r := scan(); r.Error.GetLocked() == nil {
			t.Errorf("scan past a lock in memory: %v", r)
		}
		gate <- txntest.Apply
		<-prewritten
	})
}

type leaderLock struct{ info *kvrpcpb.LockInfo }

func (l *leaderLock) Error() string               { return "locked on the leader" }
func (l *leaderLock) LockInfo() *kvrpcpb.LockInfo { return l.info }

// A follower read asks the leader, which raises max_ts and looks into memory;
// also for reads of the newest version.
func TestHazard20_FollowerReadsCheckTheLeadersMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		h.e.OnFollowerRead = func(o kv.SnapshotOptions) error {
			if len(o.Ranges) == 0 {
				return errors.New("a follower read without ranges")
			}
			if l := h.s.CheckMemoryLocks(o.Ranges, o.ReadTS); l != nil {
				return &leaderLock{l}
			}
			return nil
		}
		gate := h.holdNext()
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10, TryOnePc: true})
		}()
		synctest.Wait()
		for _, ts := range []uint64{20, newest} {
			if l := h.s.CheckMemoryLocks([]kv.KeyRange{{Start: codec.EncodeBytes(nil, []byte("a"))}}, ts); l == nil {
				t.Errorf("the leader lets a follower read at %d pass", ts)
			}
			rc := h.e.Context([]byte("k"))
			rc.ReplicaRead = true
			r, err := h.s.KvGet(context.Background(), &kvrpcpb.GetRequest{Context: rc, Key: []byte("k"), Version: ts})
			if err != nil || r.Error.GetLocked() == nil {
				t.Errorf("follower read at %d: %v, %v", ts, r, err)
			}
		}
		if h.s.MaxTS() != 20 {
			t.Errorf("max_ts is %d", h.s.MaxTS())
		}
		gate <- txntest.Apply
		<-done
	})
}

// A commit timestamp computed after a rollback cannot come out equal to the
// rolled back transaction's start_ts.
func TestHazard21_ComputedCommitTSMissesRollbacks(t *testing.T) {
	h := newHeld(t)
	ctx := context.Background()
	// Transaction 11 is rolled back on k without a word about max_ts.
	if r, err := h.s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: h.e.Context(nil), StartVersion: 11, Keys: [][]byte{[]byte("k")}}); err != nil || r.Error != nil {
		t.Fatal(r, err)
	}
	r := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{
		Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10, ForUpdateTs: 10, TryOnePc: true,
		PessimisticActions: []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_SKIP_PESSIMISTIC_CHECK},
	})
	if r.OnePcCommitTs <= 11 {
		t.Errorf("1PC commits at %d, over the rollback at 11", r.OnePcCommitTs)
	}
}

// The rollback record of a primary survives later rollbacks of other
// transactions, so a cleaned transaction cannot be prewritten.
func TestHazard22_ProtectedRollbacks(t *testing.T) {
	h := newHeld(t)
	ctx := context.Background()
	status := func(start uint64) *kvrpcpb.CheckTxnStatusResponse {
		r, err := h.s.KvCheckTxnStatus(ctx, &kvrpcpb.CheckTxnStatusRequest{
			Context: h.e.Context(nil), PrimaryKey: []byte("p"), LockTs: start, CurrentTs: newest, RollbackIfNotExist: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	status(10) // the primary's prewrite has not come yet
	for ts := uint64(20); ts < 30; ts++ {
		if _, err := h.s.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: h.e.Context(nil), StartVersion: ts, Keys: [][]byte{[]byte("p")}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, req := range []*kvrpcpb.PrewriteRequest{
		{StartVersion: 10},
		{StartVersion: 10, UseAsyncCommit: true},
		{StartVersion: 10, TryOnePc: true},
		{StartVersion: 10, ForUpdateTs: 40, PessimisticActions: []kvrpcpb.PrewriteRequest_PessimisticAction{kvrpcpb.PrewriteRequest_DO_PESSIMISTIC_CHECK}},
	} {
		req.Mutations = []*kvrpcpb.Mutation{put("p", "v")}
		if r := h.prewrite(ctx, req); len(r.Errors) == 0 {
			t.Errorf("a cleaned transaction was prewritten: %v", req)
		}
	}
	if r := status(10); r.Action != kvrpcpb.Action_NoAction || r.CommitVersion != 0 {
		t.Errorf("status %v", r)
	}
}

// A repeated 1PC prewrite is answered with its commit timestamp even when a
// key it only looked at was changed by others since.
func TestHazard23_RepeatedOnePCIsNotFailed(t *testing.T) {
	h := newHeld(t)
	ctx := context.Background()
	req := func() *kvrpcpb.PrewriteRequest {
		return &kvrpcpb.PrewriteRequest{
			Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_CheckNotExists, Key: []byte("a")}, put("b", "v")}, StartVersion: 10, TryOnePc: true, PrimaryLock: []byte("b"),
		}
	}
	gate := h.holdNext()
	go func() { gate <- txntest.LostApplied }()
	first := req()
	first.Context = h.e.Context(nil)
	if r, err := h.s.KvPrewrite(ctx, first); !errors.Is(err, txn.ErrUndetermined) {
		t.Fatalf("lost answer: %v, %v", r, err)
	}
	if r := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("a", "w")}, StartVersion: 20, TryOnePc: true}); r.OnePcCommitTs == 0 {
		t.Fatal(r)
	}
	again := req()
	again.Context = h.e.Context(nil)
	again.Context.IsRetryRequest = true
	r, err := h.s.KvPrewrite(ctx, again)
	if err != nil || r.OnePcCommitTs != 11 {
		t.Errorf("repeated: %v, %v", r, err)
	}
}

// What may have committed a transaction is not answered at all if its outcome is
// unknown: client-go takes the region error for the final word and rolls back
// the other keys. A prewrite of two-phase commit commits nothing.
func TestHazard23_WhatMayHaveCommittedIsNotAnswered(t *testing.T) {
	ctx := context.Background()
	for _, lost := range []txntest.Outcome{txntest.LostApplied, txntest.LostDropped} {
		h := newHeld(t)
		lose := func() {
			gate := h.holdNext()
			go func() { gate <- lost }()
		}
		for i, req := range []*kvrpcpb.PrewriteRequest{{UseAsyncCommit: true}, {TryOnePc: true}, {}} {
			key := fmt.Sprint("k", i)
			req.Mutations, req.StartVersion, req.PrimaryLock, req.Context = []*kvrpcpb.Mutation{put(key, "v")}, 10, []byte(key), h.e.Context(nil)
			lose()
			r, err := h.s.KvPrewrite(ctx, req)
			twoPhase := !req.UseAsyncCommit && !req.TryOnePc
			if twoPhase && (err != nil || r.RegionError.GetUndeterminedResult() == nil) || !twoPhase && !errors.Is(err, txn.ErrUndetermined) {
				t.Errorf("prewrite %d: %v, %v", i, r, err)
			}
			req.Context.IsRetryRequest = true
			if r, err := h.s.KvPrewrite(ctx, req); err != nil || r.RegionError != nil || len(r.Errors) > 0 {
				t.Errorf("prewrite %d again: %v, %v", i, r, err)
			}
		}
		commit := func() (*kvrpcpb.CommitResponse, error) {
			return h.s.KvCommit(ctx, &kvrpcpb.CommitRequest{Context: h.e.Context(nil), StartVersion: 10, CommitVersion: 20, Keys: [][]byte{[]byte("k2")}})
		}
		lose()
		if r, err := commit(); !errors.Is(err, txn.ErrUndetermined) {
			t.Errorf("commit: %v, %v", r, err)
		}
		if r, err := commit(); err != nil || r.RegionError != nil || r.Error != nil {
			t.Errorf("commit again: %v, %v", r, err)
		}
	}
}

// A write is waited for when its request is cancelled: its latches are held
// until the outcome is known.
func TestHazard23_CancelledRequestKeepsItsLatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		gate := h.holdNext()
		ctx, cancel := context.WithCancel(context.Background())
		first := make(chan *kvrpcpb.PrewriteResponse, 1)
		go func() {
			first <- h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "1")}, StartVersion: 10})
		}()
		synctest.Wait()
		cancel()
		second := make(chan *kvrpcpb.PrewriteResponse, 1)
		go func() {
			second <- h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "2")}, StartVersion: 11})
		}()
		synctest.Wait()
		if len(second) != 0 {
			t.Fatal("a second write passed one that is not applied yet")
		}
		// A third gives up waiting for the latch.
		short, stop := context.WithCancel(context.Background())
		stop()
		if _, err := h.s.KvPrewrite(short, &kvrpcpb.PrewriteRequest{Context: h.e.Context(nil), Mutations: []*kvrpcpb.Mutation{put("k", "3")}, StartVersion: 12}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while waiting: %v", err)
		}
		gate <- txntest.Apply
		if r := <-first; len(r.Errors) != 0 || r.RegionError != nil {
			t.Errorf("first: %v", r)
		}
		if r := <-second; len(r.Errors) != 1 || r.Errors[0].Locked.GetLockVersion() != 10 {
			t.Errorf("second: %v", r)
		}
	})
}

// A batch that was checked under one leadership is not written under another,
// though this store leads again.
func TestHazard23_LeadershipLostBetweenCheckAndWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		gate := h.holdNext()
		done := make(chan *kvrpcpb.PrewriteResponse)
		go func() {
			done <- h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10})
		}()
		synctest.Wait()
		h.e.SetLeader(1, false)
		h.e.SetLeader(1, true)
		gate <- txntest.Apply
		if r := <-done; r.RegionError.GetStaleCommand() == nil {
			t.Errorf("the write went through: %v", r)
		}
		if r := h.get("k", 20); !r.NotFound {
			t.Errorf("k: %v", r)
		}
	})
}

// Pessimistic locks survive a leader change, since they are replicated.
func TestHazard24_PessimisticLocksSurviveLeaderChange(t *testing.T) {
	h := newHeld(t)
	lock := func(start uint64) *kvrpcpb.PessimisticLockResponse {
		r, err := h.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
			Context: h.e.Context(nil), Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte("k")}},
			PrimaryLock: []byte("k"), StartVersion: start, ForUpdateTs: start, WaitTimeout: -1,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := lock(10); len(r.Errors) > 0 || r.RegionError != nil {
		t.Fatal(r)
	}
	h.e.SetLeader(1, false)
	h.e.SetLeader(1, true)
	h.e.Split([]byte("j"))
	r, err := h.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
		Context: h.e.Context([]byte("k")), Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte("k")}},
		PrimaryLock: []byte("k"), StartVersion: 11, ForUpdateTs: 11, WaitTimeout: -1,
	})
	if err != nil || len(r.Errors) != 1 || r.Errors[0].Locked.GetLockVersion() != 10 {
		t.Errorf("the lock is lost: %v, %v", r, err)
	}
}

// A waiter of normal mode is never retried behind the client's back.
func TestHazard25_WokenWaiterGoesBackToTheClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10})
		done := make(chan *kvrpcpb.PessimisticLockResponse)
		go func() {
			r, err := h.s.KvPessimisticLock(context.Background(), &kvrpcpb.PessimisticLockRequest{
				Context: h.e.Context(nil), Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte("k")}},
				PrimaryLock: []byte("k"), StartVersion: 11, ForUpdateTs: 11, ReturnValues: true,
			})
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		synctest.Wait()
		if _, err := h.s.KvCommit(context.Background(), &kvrpcpb.CommitRequest{Context: h.e.Context(nil), Keys: [][]byte{[]byte("k")}, StartVersion: 10, CommitVersion: 12}); err != nil {
			t.Fatal(err)
		}
		r := <-done
		if len(r.Errors) != 1 || r.Errors[0].Conflict == nil || r.Errors[0].Conflict.ConflictCommitTs != 12 {
			t.Errorf("woken: %v", r)
		}
	})
}

// Closing the store wakes waiters and refuses what comes later.
func TestCloseWakesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10})
		req := &kvrpcpb.PessimisticLockRequest{
			Context: h.e.Context(nil), Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte("k")}},
			PrimaryLock: []byte("k"), StartVersion: 11, ForUpdateTs: 11,
		}
		done := make(chan error)
		go func() {
			_, err := h.s.KvPessimisticLock(context.Background(), req)
			done <- err
		}()
		synctest.Wait()
		h.s.Close()
		if err := <-done; !errors.Is(err, txn.ErrClosed) {
			t.Errorf("waiter: %v", err)
		}
		if _, err := h.s.KvPessimisticLock(context.Background(), req); !errors.Is(err, txn.ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}

// Limits are refused with errors that say what to do.
func TestLimits(t *testing.T) {
	e, err := txntest.New([]byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	s := txn.NewStore(e, txn.Options{Limits: txn.Limits{KeyBytesMax: 16, ValueBytesMax: 400, EntryBytesMax: 1000, ResponseBytesMax: 300, ScanLocksMax: 2}})
	h := &held{T: t, e: e, s: s}
	defer func() {
		s.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx := context.Background()
	long := make([]byte, 17)
	for i := range long {
		long[i] = 'a'
	}
	if r := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put(string(long), "")}, StartVersion: 1}); len(r.Errors) != 1 || r.Errors[0].Abort == "" {
		t.Errorf("long key: %v", r)
	}
	big := string(make([]byte, 390))
	ms := []*kvrpcpb.Mutation{put("a", big), put("b", big), put("c", big)}
	if r := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: ms, StartVersion: 2}); r.RegionError.GetRaftEntryTooLarge() == nil {
		t.Errorf("large entry: %v", r)
	}
	if r := h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: ms[:1], StartVersion: 3, TryOnePc: true}); r.OnePcCommitTs == 0 {
		t.Fatal(r)
	}
	scan, err := s.KvScan(ctx, &kvrpcpb.ScanRequest{Context: e.Context(nil), Limit: 10, Version: 100})
	if err != nil || scan.Error.GetAbort() == "" {
		t.Errorf("large scan answer: %v, %v", scan, err)
	}
	for i, k := range []string{"x", "y", "z"} {
		h.prewrite(ctx, &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put(k, "")}, StartVersion: uint64(10 + i)})
	}
	locks, err := s.KvScanLock(ctx, &kvrpcpb.ScanLockRequest{Context: e.Context([]byte("x")), MaxVersion: 100})
	if err != nil || locks.Error.GetAbort() == "" {
		t.Errorf("many locks: %v, %v", locks, err)
	}
	// A key of another region is never answered "not found".
	for _, level := range []kvrpcpb.IsolationLevel{kvrpcpb.IsolationLevel_SI, kvrpcpb.IsolationLevel_RC, kvrpcpb.IsolationLevel_RCCheckTS} {
		rc := e.Context([]byte("x"))
		rc.IsolationLevel = level
		g, err := s.KvGet(ctx, &kvrpcpb.GetRequest{Context: rc, Key: []byte("a"), Version: 100})
		if err != nil || g.RegionError.GetKeyNotInRegion() == nil {
			t.Errorf("%v: get outside the region: %v, %v", level, g, err)
		}
		b, err := s.KvBatchGet(ctx, &kvrpcpb.BatchGetRequest{Context: rc, Keys: [][]byte{[]byte("a")}, Version: 100})
		if err != nil || b.RegionError.GetKeyNotInRegion() == nil {
			t.Errorf("%v: batch get outside the region: %v, %v", level, b, err)
		}
	}
	rc := e.Context(nil)
	rc.IsolationLevel = 99
	if _, err := s.KvGet(ctx, &kvrpcpb.GetRequest{Context: rc, Key: []byte("a"), Version: 100}); !errors.Is(err, txn.ErrUnimplemented) {
		t.Errorf("unknown isolation level: %v", err)
	}
}

// A request with a key twice is refused, not half of it done: with a computed
// commit timestamp it once stopped the process.
func TestPrewriteRefusesKeyTwice(t *testing.T) {
	h := newHeld(t)
	for _, ms := range [][]*kvrpcpb.Mutation{
		{put("k", "1"), put("k", "2")},
		{put("k", "1"), put("a", "1"), put("k", "2")},
	} {
		_, err := h.s.KvPrewrite(context.Background(), &kvrpcpb.PrewriteRequest{
			Context: h.e.Context([]byte("k")), Mutations: ms, PrimaryLock: []byte("k"), StartVersion: 10, UseAsyncCommit: true})
		if !errors.Is(err, txn.ErrInvalidArgument) {
			t.Errorf("prewrite: %v", err)
		}
		_, err = h.s.KvFlush(context.Background(), &kvrpcpb.FlushRequest{
			Context: h.e.Context([]byte("k")), Mutations: ms, PrimaryKey: []byte("k"), StartTs: 10, Generation: 1})
		if !errors.Is(err, txn.ErrInvalidArgument) {
			t.Errorf("flush: %v", err)
		}
	}
	r := h.prewrite(context.Background(), &kvrpcpb.PrewriteRequest{
		Mutations: []*kvrpcpb.Mutation{put("k", "1"), put("a", "1")}, StartVersion: 10, UseAsyncCommit: true})
	if len(r.Errors) != 0 || r.RegionError != nil {
		t.Errorf("keys out of order: %v", r)
	}
}
