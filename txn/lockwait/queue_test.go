package lockwait

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

func add(t *testing.T, q *Queue, startTS uint64, resumes bool) *Waiter {
	t.Helper()
	w := NewWaiter([]byte("k"), startTS, startTS%2, resumes)
	if err := q.Add(w); err != nil {
		t.Fatal(err)
	}
	return w
}

func woken(w *Waiter) Reason {
	select {
	case got := <-w.Woken():
		return got.Reason
	default:
		return 0
	}
}

func TestOrderAndDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(time.Now, 0, 0)
		w3, w1, w2 := add(t, q, 3, false), add(t, q, 1, true), add(t, q, 2, false)
		r5, r4 := add(t, q, 5, true), add(t, q, 4, true)
		q.Released([]byte("other"), 9, 0)
		q.Released([]byte("k"), 9, 10)
		if woken(w1) != Released || woken(w2) != 0 || q.Len() != 4 {
			t.Fatal("a release wakes the oldest, and nobody else yet")
		}
		time.Sleep(WakeDelayMs * time.Millisecond)
		synctest.Wait()
		if woken(w2) != Released || woken(w3) != Released || woken(r4) != Released || woken(r5) != 0 {
			t.Fatal("then those who go back to their clients, and the oldest who resumes")
		}
		q.Released([]byte("k"), 4, 0)
		if woken(r5) != Released || q.Len() != 0 || len(q.keys) != 0 {
			t.Fatal("the queue is not empty in the end")
		}
	})
}

func TestRegionHolderCloseAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := New(time.Now, 3, 0)
		w1, w2, w3 := add(t, q, 1, false), add(t, q, 2, false), add(t, q, 3, false)
		if err := q.Add(NewWaiter([]byte("k"), 4, 1, false)); !errors.Is(err, ErrFull) {
			t.Fatal(err)
		}
		if q.Age("k") != 0 {
			t.Error("an age before any change")
		}
		for ts := range uint64(3) {
			q.Acquired([]byte("k"), func() *kvrpcpb.LockInfo { return &kvrpcpb.LockInfo{LockVersion: ts} })
		}
		if got := <-w1.Holders(); got.LockVersion != 2 {
			t.Errorf("the newest holder is %v", got)
		}
		time.Sleep(time.Second)
		if q.Age("k") != time.Second {
			t.Errorf("age %v", q.Age("k"))
		}
		q.WakeRegion(1)
		if woken(w1) != RegionLost || woken(w3) != RegionLost || woken(w2) != 0 {
			t.Error("the waiters of a lost region, and no others, are woken")
		}
		q.Remove(w1)
		q.Remove(w1)
		q.Close()
		if woken(w2) != Closed || woken(add(t, q, 9, false)) != Closed || q.Len() != 0 {
			t.Error("close wakes everybody, late comers too")
		}
	})
}
