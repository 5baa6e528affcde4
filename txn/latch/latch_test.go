package latch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func keys(names ...string) (out [][]byte) {
	for _, n := range names {
		out = append(out, []byte(n))
	}
	return out
}

func TestExclusionAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(64)
		var a, b, c Guard
		// The same key twice, and keys that share slots, are no deadlock.
		if err := l.Acquire(context.Background(), &a, keys("x", "y", "x", "z")); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		got := make(chan error, 1)
		go func() { got <- l.Acquire(ctx, &b, keys("q", "y")) }()
		synctest.Wait()
		if len(got) != 0 {
			t.Fatal("a held key was acquired")
		}
		cancel()
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		// The cancelled one has left nothing behind.
		if err := l.Acquire(context.Background(), &c, keys("q")); err != nil {
			t.Fatal(err)
		}
		c.Release()
		a.Release()
		if err := l.Acquire(context.Background(), &b, keys("x", "y", "q")); err != nil {
			t.Fatal(err)
		}
		b.Release()
	})
}

func TestRandomSetsDontDeadlock(t *testing.T) {
	l := New(5) // rounded up to 8: many collisions
	if len(l.slots) != 8 {
		t.Fatalf("%d slots", len(l.slots))
	}
	var busy [8]atomic.Int32
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			var g Guard
			for range 500 {
				var ks [][]byte
				for range 1 + r.IntN(5) {
					ks = append(ks, []byte{byte(r.IntN(20))})
				}
				if err := l.Acquire(context.Background(), &g, ks); err != nil {
					t.Error(err)
					return
				}
				for _, s := range g.slots {
					if busy[s].Add(1) != 1 {
						t.Errorf("slot %d is held twice", s)
					}
				}
				for _, s := range g.slots {
					busy[s].Add(-1)
				}
				g.Release()
			}
		})
	}
	wg.Wait()
}
