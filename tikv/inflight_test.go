package tikv

import (
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// lockKey asks for a pessimistic lock.
func (f *fixture) lockKey(ts uint64, waitMS int64, key string) (*kvrpcpb.PessimisticLockResponse, error) {
	return f.client.KvPessimisticLock(bg, &kvrpcpb.PessimisticLockRequest{Context: v2(), PrimaryLock: []byte(key), StartVersion: ts, ForUpdateTs: ts,
		LockTtl: 60_000, WaitTimeout: waitMS, Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_PessimisticLock, Key: []byte(key)}}})
}

// Requests that wait for a lock use the store's limit up: others are refused as
// busy, what ends the lock's transaction is not, and then everybody is served.
func TestHazard16_RequestsInFlight(t *testing.T) {
	f := newFixture(t)
	f.put(v2(), "other", "value")
	f.ts += 10
	holder := f.ts
	if resp, err := f.lockKey(holder, 0, "k"); err != nil || len(resp.Errors) > 0 || resp.RegionError != nil {
		t.Fatalf("lock: %v, %v", resp, err)
	}
	f.inFlight.countMax = 4 // one of them for what ends transactions
	var waiters sync.WaitGroup
	for i := range uint64(3) {
		waiters.Go(func() {
			if resp, err := f.lockKey(holder+1+i, 60_000, "k"); err != nil || resp.RegionError != nil {
				t.Errorf("waiter %d: %v, %v", i, resp, err)
			}
		})
	}
	for f.inFlight.count.Load() < 3 {
		runtime.Gosched()
	}
	get := &kvrpcpb.GetRequest{Context: v2(), Key: []byte("other"), Version: f.ts}
	resp, err := f.client.KvGet(bg, get)
	if b := resp.GetRegionError().GetServerIsBusy(); err != nil || b.GetBackoffMs() == 0 || b.GetEstimatedWaitMs() == 0 {
		t.Fatalf("get: %v, %v", resp, err)
	}
	stream, err := f.client.BatchCommands(bg)
	if err != nil {
		t.Fatal(err)
	}
	batched := func() *kvrpcpb.GetResponse {
		if err := stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{1}, Requests: []*batchRequest{
			{Cmd: &tikvpb.BatchCommandsRequest_Request_Get{Get: get}}}}); err != nil {
			t.Fatal(err)
		}
		answer, err := stream.Recv()
		if err != nil || len(answer.Responses) != 1 {
			t.Fatalf("batch: %v, %v", answer, err)
		}
		return answer.Responses[0].GetGet()
	}
	if r := batched(); r.GetRegionError().GetServerIsBusy() == nil {
		t.Fatalf("batched get: %v", r)
	}
	if _, err := f.client.UnsafeDestroyRange(bg, &kvrpcpb.UnsafeDestroyRangeRequest{Context: v2(), StartKey: []byte("x"), EndKey: []byte("y")}); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("a request without region errors: %v", err)
	}
	for ts := holder; ts < holder+4; ts++ { // each lets the next waiter have the lock
		r, err := f.client.KVPessimisticRollback(bg, &kvrpcpb.PessimisticRollbackRequest{Context: v2(), StartVersion: ts, ForUpdateTs: ts, Keys: [][]byte{[]byte("k")}})
		if err != nil || r.RegionError != nil || len(r.Errors) > 0 {
			t.Fatalf("rollback: %v, %v", r, err)
		}
		for ts < holder+3 && f.inFlight.count.Load() > int64(holder+2-ts) {
			runtime.Gosched()
		}
	}
	waiters.Wait()
	if resp, err := f.client.KvGet(bg, get); err != nil || string(resp.Value) != "value" {
		t.Fatalf("get behind them: %v, %v", resp, err)
	}
	if r := batched(); string(r.GetValue()) != "value" {
		t.Fatalf("batched get behind them: %v", r)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for f.inFlight.count.Load() != 0 || f.inFlight.bytes.Load() != 0 {
		runtime.Gosched()
	}
}

// One request alone is served whatever its size; beside others it is not.
func TestHazard16_RequestBytes(t *testing.T) {
	f := newFixture(t)
	f.inFlight.bytesMax = 4 << 10
	f.put(v2(), "large", strings.Repeat("x", 8<<10))
	if why := f.inFlight.admit(100, false); why != "" {
		t.Fatal(why)
	}
	resp, err := f.client.KvPrewrite(bg, &kvrpcpb.PrewriteRequest{Context: v2(), PrimaryLock: []byte("k"), StartVersion: f.ts + 10, LockTtl: 3000,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte("k"), Value: make([]byte, 8<<10)}}})
	if err != nil || resp.GetRegionError().GetServerIsBusy() == nil {
		t.Fatalf("prewrite: %v, %v", resp, err)
	}
	f.put(v2(), "small", "x")
	f.inFlight.done(100)
	f.put(v2(), "large", strings.Repeat("y", 8<<10))
	if n := f.inFlight.bytes.Load(); n != 0 {
		t.Fatalf("%d bytes are still counted", n)
	}
}
