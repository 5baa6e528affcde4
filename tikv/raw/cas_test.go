package raw

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

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
