package etcdkv

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// slowKV is an etcd that takes its time for a transaction, and commits it
// whether the caller still waits or not.
type slowKV struct {
	clientv3.KV
	takes     time.Duration
	err       error
	committed int
}

type slowTxn struct {
	clientv3.Txn
	kv  *slowKV
	ctx context.Context
}

func (kv *slowKV) Txn(ctx context.Context) clientv3.Txn { return &slowTxn{kv: kv, ctx: ctx} }
func (t *slowTxn) If(...clientv3.Cmp) clientv3.Txn      { return t }
func (t *slowTxn) Then(...clientv3.Op) clientv3.Txn     { return t }
func (t *slowTxn) Commit() (*clientv3.TxnResponse, error) {
	if t.kv.err != nil {
		return nil, t.kv.err
	}
	done := make(chan struct{})
	go func() {
		time.Sleep(t.kv.takes)
		t.kv.committed++
		close(done)
	}()
	select {
	case <-done:
		return &clientv3.TxnResponse{Succeeded: true}, nil
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
}

// TestHazard17_UnknownOutcomeEndsTheTerm: a write whose outcome is not known can
// arrive after a later one of the same leader and undo it, so that leader writes
// nothing more.
func TestHazard17_UnknownOutcomeEndsTheTerm(t *testing.T) {
	for _, c := range []struct {
		name         string
		kv           slowKV
		caller, term time.Duration // how long each goes on
		ends         bool          // the term, by this write
		err          error
	}{
		{name: "fast", kv: slowKV{takes: time.Millisecond}, caller: time.Hour, term: time.Hour},
		{name: "the caller gives up", kv: slowKV{takes: time.Second}, caller: time.Millisecond, term: time.Hour},
		{name: "etcd does not answer", kv: slowKV{takes: time.Hour}, caller: time.Hour, term: time.Hour, ends: true, err: context.DeadlineExceeded},
		{name: "the term ends", kv: slowKV{takes: time.Second}, caller: time.Hour, term: time.Millisecond, ends: true, err: context.Canceled},
		{name: "etcd refuses", kv: slowKV{err: rpctypes.ErrNoSpace}, caller: time.Hour, term: time.Hour, err: rpctypes.ErrNoSpace},
		{name: "etcd has no leader", kv: slowKV{err: rpctypes.ErrTimeoutDueToLeaderFail}, caller: time.Hour, term: time.Hour, ends: true, err: rpctypes.ErrTimeoutDueToLeaderFail},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				term, cancel := context.WithTimeout(t.Context(), c.term)
				defer cancel()
				if c.term < time.Hour {
					term, cancel = context.WithCancel(t.Context())
					time.AfterFunc(c.term, cancel)
				}
				caller, cancelCaller := context.WithTimeout(t.Context(), c.caller)
				defer cancelCaller()
				ended := false
				kv := c.kv
				f := NewFence(term, &kv, "leader", 7, func(error) { ended = true })
				err := f.Put(caller, "k", []byte("v"))
				if ended != c.ends || !errors.Is(err, c.err) || c.err == nil && (err != nil || kv.committed != 1) {
					t.Fatalf("%v; committed %d times; the term ended: %v", err, kv.committed, ended)
				}
				time.Sleep(2 * time.Hour) // what is under way ends
			})
		})
	}
}

// TestWriteOfWhoHasGivenUp: it is not begun.
func TestWriteOfWhoHasGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kv := &slowKV{}
	f := NewFence(t.Context(), kv, "leader", 7, func(error) { t.Error("the term ended for nothing") })
	if err := f.Put(ctx, "k", nil); !errors.Is(err, context.Canceled) || kv.committed != 0 {
		t.Fatal(err, kv.committed)
	}
}
