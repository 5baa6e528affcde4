package raw

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/answers"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/tikv/internal/oneregion"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// slowEngine applies the first write when it is told to, whether or not its
// caller still waits: a proposal cannot be taken back.
type slowEngine struct {
	*oneregion.Engine
	gate    chan struct{}
	applied chan struct{}
}

func (e *slowEngine) Write(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error {
	gate := e.gate
	if gate == nil {
		return e.Engine.Write(ctx, rc, b)
	}
	e.gate = nil
	var own kv.Batch
	for r := kv.ReadBatch(b.Bytes()); ; {
		_, cf, key, value, ok, err := r.Next()
		if err != nil || !ok {
			break
		}
		own.Put(cf, key, value)
	}
	done := make(chan error, 1)
	go func() {
		<-gate
		done <- e.Engine.Write(context.Background(), rc, &own)
		close(e.applied)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A compare-and-swap whose client has gone holds the key until its write is
// applied: else the next one would compare with a value that is on its way out.
func TestHazard23_CancelledCASHoldsTheKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, err := oneregion.New()
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		e := &slowEngine{Engine: one, gate: make(chan struct{}), applied: make(chan struct{})}
		gate := e.gate
		s := New(e, nil)
		cas := func(ctx context.Context, value string) (*kvrpcpb.RawCASResponse, error) {
			return s.RawCompareAndSwap(ctx, &kvrpcpb.RawCASRequest{Context: v1, Key: []byte("k"), Value: []byte(value), PreviousNotExist: true})
		}
		ctx, cancel := context.WithCancel(context.Background())
		first := make(chan struct{})
		go func() {
			defer close(first)
			if r, err := cas(ctx, "1"); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(r, err)
			}
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		second := make(chan *kvrpcpb.RawCASResponse, 1)
		go func() {
			r, err := cas(context.Background(), "2")
			if err != nil {
				t.Error(err)
			}
			second <- r
		}()
		synctest.Wait()
		close(gate)
		<-e.applied
		<-first
		if r := <-second; r.GetSucceed() || string(r.GetPreviousValue()) != "1" {
			t.Errorf("the second found no value and wrote over the first: %v", r)
		}
	})
}

// A write that has waited for its key longer than its client does is not made
// behind the client's back, and a scan that nobody waits for any more ends.
func TestHazard23_LateRawRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, err := oneregion.New()
		if err != nil {
			t.Fatal(err)
		}
		defer one.Close()
		e := &slowEngine{Engine: one, gate: make(chan struct{}), applied: make(chan struct{})}
		gate := e.gate
		s := New(e, nil)
		cas := func(rc *kvrpcpb.Context, value string) *kvrpcpb.RawCASResponse {
			r, err := s.RawCompareAndSwap(context.Background(), &kvrpcpb.RawCASRequest{Context: rc, Key: []byte("k"), Value: []byte(value), PreviousNotExist: true})
			if err != nil {
				t.Error(err)
			}
			return r
		}
		hurried := &kvrpcpb.Context{RegionId: 1, MaxExecutionDurationMs: 100}
		var wg sync.WaitGroup
		wg.Go(func() { cas(v1, "1") })
		synctest.Wait()
		var late *kvrpcpb.RawCASResponse
		var put *kvrpcpb.RawPutResponse
		wg.Go(func() { late = cas(hurried, "2") })
		wg.Go(func() {
			var err error
			if put, err = s.RawPut(context.Background(), &kvrpcpb.RawPutRequest{Context: hurried, Key: []byte("k"), Value: []byte("3"), ForCas: true}); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(time.Second)
		close(gate)
		wg.Wait()
		if late.Succeed {
			t.Errorf("swap: %v", late)
		}
		if put.RegionError.GetServerIsBusy().GetReason() != deadlineExceeded {
			t.Errorf("put: %v", put)
		}
		if r, err := s.RawGet(context.Background(), &kvrpcpb.RawGetRequest{Context: v1, Key: []byte("k")}); err != nil || string(r.Value) != "1" {
			t.Errorf("the key has %v, %v", r, err)
		}
		var b kv.Batch
		for i := range 2 * contextCheckKeys {
			value, _ := encodeValue(nil, 0, time.Now())
			b.Put(kv.CFRaw, fmt.Appendf(nil, "s%04d", i), value)
		}
		if err := one.Write(context.Background(), v1, &b); err != nil {
			t.Fatal(err)
		}
		r, err := s.RawScan(context.Background(), &kvrpcpb.RawScanRequest{Context: &kvrpcpb.Context{RegionId: 1, MaxExecutionDurationMs: 1}, Limit: 1000})
		if err != nil || r.RegionError != nil || len(r.Kvs) != 2*contextCheckKeys+1 {
			t.Errorf("a scan in time: %d pairs, %v, %v", len(r.GetKvs()), r.GetRegionError(), err)
		}
		passed := deadline(time.Now().Add(-time.Millisecond))
		snap, err := one.Snapshot(context.Background(), v1, kv.SnapshotOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer snap.Close()
		_, err = s.collect(context.Background(), snap, scan{codec: keyCodec(v1), limit: 1000, until: passed}, &answers.Meter{BytesMax: ResponseBytesMax}, nil)
		if kv.AsRegionError(err).GetServerIsBusy() == nil {
			t.Errorf("a scan that is late: %v", err)
		}
	})
}
