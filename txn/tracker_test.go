package txn_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/txntest"
)

// A request's tracker tells a wait for a lock, and one for requests on the same
// keys, from the rest.
func TestWaitsAreTracked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHeld(t)
		gate := h.holdNext()
		done := make(chan *kvrpcpb.PrewriteResponse)
		go func() {
			done <- h.prewrite(t.Context(), &kvrpcpb.PrewriteRequest{Mutations: []*kvrpcpb.Mutation{put("k", "v")}, StartVersion: 10, LockTtl: 1000})
		}()
		synctest.Wait() // it has the latch of k

		latched := tracker.Begin(t.Context())
		defer latched.Free()
		second := make(chan error)
		go func() {
			r, err := h.s.KvPessimisticLock(latched.Context(), &kvrpcpb.PessimisticLockRequest{
				Context: h.e.Context([]byte("k")), StartVersion: 20, ForUpdateTs: 20, PrimaryLock: []byte("k"), WaitTimeout: 300,
				Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte("k")}}})
			if err == nil && (len(r.Errors) != 1 || r.Errors[0].Locked == nil) {
				t.Errorf("the lock of another transaction is not met: %v", r)
			}
			second <- err
		}()
		time.Sleep(70 * time.Millisecond)
		gate <- txntest.Apply
		<-done
		if err := <-second; err != nil {
			t.Fatal(err)
		}
		took := latched.End()
		if latch, wait := latched.Spent(tracker.Latch), latched.Spent(tracker.LockWait); latch != 70*time.Millisecond || wait <= 200*time.Millisecond || latch+wait != took {
			t.Errorf("of %s the latch took %s and the lock %s", took, latch, wait)
		}
	})
}
