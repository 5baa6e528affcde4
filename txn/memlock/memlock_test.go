package memlock

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/copradb/copra/txn/mvcc"
)

func always([]byte, *mvcc.Lock) bool { return true }

func (t *Table) publish(key string, startTS uint64) uint64 {
	var min uint64
	t.Publish([]byte(key), func(maxTS uint64) *mvcc.Lock {
		min = maxTS + 1
		return &mvcc.Lock{StartTS: startTS, MinCommitTS: min}
	})
	return min
}

func TestTable(t *testing.T) {
	tab := New()
	tab.UpdateMaxTS(7)
	tab.UpdateMaxTS(5)
	if tab.MaxTS() != 7 {
		t.Errorf("max_ts %d", tab.MaxTS())
	}
	if got := tab.publish("b", 1); got != 8 {
		t.Errorf("min_commit_ts %d", got)
	}
	if tab.Publish([]byte("c"), func(uint64) *mvcc.Lock { return nil }) || tab.Len() != 1 {
		t.Error("nothing was published, but it is there")
	}
	tab.publish("d", 2)
	for _, c := range []struct {
		start, end, want string
	}{{"", "", "b"}, {"a", "b", ""}, {"b", "c", "b"}, {"b\x00", "", "d"}, {"c", "d", ""}, {"e", "", ""}} {
		key, _ := tab.CheckRange([]byte(c.start), []byte(c.end), always)
		if string(key) != c.want {
			t.Errorf("[%s, %s): %q, want %q", c.start, c.end, key, c.want)
		}
	}
	if tab.CheckKey([]byte("d"), always) == nil || tab.CheckKey([]byte("c"), always) != nil {
		t.Error("CheckKey")
	}
	if tab.CheckKey([]byte("d"), func(_ []byte, l *mvcc.Lock) bool { return l.StartTS == 1 }) != nil {
		t.Error("CheckKey does not ask")
	}
	tab.Withdraw([][]byte{[]byte("b"), []byte("d")})
	if tab.Len() != 0 || tab.CheckKey([]byte("d"), always) != nil {
		t.Error("withdrawn locks are still there")
	}
}

func TestWaitRange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tab := New()
		tab.publish("a", 1)
		tab.publish("b", 2)
		done := make(chan error, 1)
		go func() {
			_, _, err := tab.WaitRange(context.Background(), nil, nil, always)
			done <- err
		}()
		synctest.Wait()
		tab.Withdraw([][]byte{[]byte("a")})
		synctest.Wait()
		if len(done) != 0 {
			t.Fatal("one lock is left")
		}
		tab.Withdraw([][]byte{[]byte("b")})
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		tab.publish("c", 3)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if key, l, err := tab.WaitRange(ctx, nil, nil, always); !errors.Is(err, context.Canceled) || string(key) != "c" || l.StartTS != 3 {
			t.Errorf("cancelled: %q %v %v", key, l, err)
		}
	})
}

// Whatever the order of a reader and a prewrite: either the reader sees the
// lock, or min_commit_ts is above the reader's timestamp.
func TestHazard18_NoReaderIsMissed(t *testing.T) {
	tab := New()
	for round := uint64(1); round <= 2000; round++ {
		ts := round * 10
		var seen bool
		var minCommitTS uint64
		var wg sync.WaitGroup
		wg.Go(func() {
			tab.UpdateMaxTS(ts)
			seen = tab.CheckKey([]byte("k"), always) != nil
		})
		wg.Go(func() { minCommitTS = tab.publish("k", ts-1) })
		wg.Wait()
		if !seen && minCommitTS <= ts {
			t.Fatalf("the reader at %d missed a lock with min_commit_ts %d", ts, minCommitTS)
		}
		tab.Withdraw([][]byte{[]byte("k")})
	}
}

func TestFloor(t *testing.T) {
	m := New()
	if f := m.Floor(); f != math.MaxUint64 {
		t.Fatalf("floor of nothing: %d", f)
	}
	m.UpdateMaxTS(100)
	publish := func(key string, startTS uint64) {
		m.Publish([]byte(key), func(maxTS uint64) *mvcc.Lock {
			return &mvcc.Lock{Type: mvcc.LockPut, StartTS: startTS, MinCommitTS: max(maxTS, startTS) + 1}
		})
	}
	publish("a", 40)
	publish("b", 150)
	if f := m.Floor(); f != 100 { // a commits at 101 or later
		t.Fatalf("floor %d, want 100", f)
	}
	m.UpdateMaxTS(200)
	publish("c", 10)
	m.Withdraw([][]byte{[]byte("a")})
	if f := m.Floor(); f != 150 {
		t.Fatalf("floor %d, want 150", f)
	}
	m.Withdraw([][]byte{[]byte("b"), []byte("c")})
	if f := m.Floor(); f != math.MaxUint64 {
		t.Fatalf("floor %d", f)
	}
}
