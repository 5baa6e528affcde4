package cpusched_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/cpusched"
)

// busy lets n workers of a group compute in steps of 200 µs until ctx ends, and
// counts the steps.
func busy(ctx context.Context, wg *sync.WaitGroup, g *cpusched.Group, n int, steps *int) {
	var mu sync.Mutex
	for range n {
		wg.Go(func() {
			w := g.Worker()
			defer w.Pause()
			for w.Yield(ctx) == nil {
				time.Sleep(200 * time.Microsecond) // the work
				mu.Lock()
				*steps++
				mu.Unlock()
			}
		})
	}
}

func TestQueriesShareTheCores(t *testing.T) {
	for _, cores := range []int{1, 2, 4} {
		for _, workers := range [][]int{{8, 1}, {4, 4, 4}, {1, 9, 3, 2, 7}} {
			t.Run(fmt.Sprint(cores, workers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := cpusched.New(cores)
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					var wg sync.WaitGroup
					steps := make([]int, len(workers))
					for i, n := range workers {
						g := s.Group(uint64(i))
						defer g.Close()
						busy(ctx, &wg, g, n, &steps[i])
					}
					wg.Wait()
					total := 0
					for _, n := range steps {
						total += n
					}
					if want := cores * 5000; total < want*95/100 || total > want*102/100+len(workers)*20 {
						t.Errorf("%d steps, %d cores have %d", total, cores, want)
					}
					for i, n := range steps {
						fair := total / len(workers)
						if workers[i] == 1 { // it cannot use more than a core
							fair = min(fair, 5000)
						}
						if n < fair*85/100 {
							t.Errorf("query %d with %d workers got %d of %d steps: %v", i, workers[i], n, total, steps)
						}
					}
					if running, express, waiting := s.Stats(); running+express+waiting != 0 {
						t.Errorf("%d running, %d express, %d waiting at the end", running, express, waiting)
					}
				})
			})
		}
	}
}

// TestShortQueriesDoNotWait: while long ones have all the cores.
func TestShortQueriesDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := cpusched.New(2)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var steps int
		long := s.Group(1)
		defer long.Close()
		busy(ctx, &wg, long, 8, &steps)
		time.Sleep(50 * time.Millisecond)
		for i := range 20 {
			g := s.Group(uint64(100 + i))
			w := g.Worker()
			if err := w.Start(ctx); err != nil || w.Waited() != 0 {
				t.Errorf("query %d waited %v, %v", i, w.Waited(), err)
			}
			time.Sleep(time.Millisecond)
			w.Pause()
			if g.Used() != time.Millisecond {
				t.Errorf("query %d used %v", i, g.Used())
			}
			g.Close()
		}
		// What takes long after all waits its turn.
		g := s.Group(99)
		defer g.Close()
		w := g.Worker()
		for range 40 {
			if err := w.Yield(ctx); err != nil {
				t.Fatal(err)
			}
			time.Sleep(500 * time.Microsecond)
		}
		if w.Waited() == 0 || w.Waited() > 3*cpusched.SliceMax {
			t.Errorf("a query of 20 ms waited %v", w.Waited())
		}
		w.Pause()
		cancel()
		wg.Wait()
	})
}

// TestTouchLeavesACoreFree: soon, and for TouchedFor; not for a single one.
func TestTouchLeavesACoreFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := cpusched.New(4)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var steps int
		g := s.Group(1)
		defer g.Close()
		busy(ctx, &wg, g, 6, &steps)
		running := func() int {
			n, _, _ := s.Stats()
			return n
		}
		touch := func(n int, pause time.Duration) {
			for range n {
				s.Touch()
				time.Sleep(pause)
			}
		}
		time.Sleep(20 * time.Millisecond)
		for range 3 {
			if n := running(); n != 4 {
				t.Fatalf("%d workers run on 4 cores", n)
			}
			touch(20, cpusched.TouchedFor) // now and then
			touch(1000, 100*time.Nanosecond)
			if n := running(); n != 4 {
				t.Fatalf("%d workers run after some short requests", n)
			}
			time.Sleep(cpusched.TouchedFor)
			touch(cpusched.TouchesMin+2, 2*cpusched.LookMin)
			for range 10 {
				if n := running(); n != 3 {
					t.Fatalf("%d workers run while there are many short requests", n)
				}
				touch(20, cpusched.TouchedFor/20)
			}
			time.Sleep(cpusched.TouchedFor + 2*cpusched.LookMin)
		}
		cancel()
		wg.Wait()
	})
}

// TestCancelWhileWaiting gives up the place in the line, and no core is lost,
// whoever comes first.
func TestCancelWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := cpusched.New(2)
		rng := rand.New(rand.NewPCG(1, 2))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		var steps int
		g := s.Group(1)
		defer g.Close()
		busy(ctx, &wg, g, 3, &steps)
		canceled := 0
		for i := range 100 {
			d := time.Duration(rng.IntN(8000)) * time.Microsecond
			wg.Go(func() {
				h := s.Group(uint64(2 + i%3))
				defer h.Close()
				one, stop := context.WithTimeout(ctx, d)
				defer stop()
				w := h.Worker()
				for w.Yield(one) == nil {
					time.Sleep(100 * time.Microsecond)
				}
				if w.Held() {
					t.Error("it has a core after an error")
				}
				if err := w.Start(one); err == nil { // express, or free
					w.Pause()
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				} else {
					canceled++
				}
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if running, express, waiting := s.Stats(); running+express+waiting != 0 || canceled == 0 {
			t.Errorf("%d running, %d express, %d waiting at the end; %d cancelled", running, express, waiting, canceled)
		}
	})
}

// TestStalledWorkersLoseTheirCores: they wait for somebody who waits for a core.
func TestStalledWorkersLoseTheirCores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const cores = 2
		s := cpusched.New(cores)
		g := s.Group(1)
		defer g.Close()
		start := func() *cpusched.Worker { // past its express time
			w := g.Worker()
			for g.Used() < cpusched.ExpressMax || !w.Held() {
				if err := w.Yield(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(cpusched.LookMin)
			}
			return w
		}
		done := make(chan struct{})
		var wg sync.WaitGroup
		for range cores {
			w := start()
			wg.Go(func() {
				if err := w.Yield(t.Context()); err != nil {
					t.Error(err)
				}
				<-done
				if err := w.Yield(t.Context()); err != nil || !w.Held() {
					t.Errorf("has a core: %v, %v", w.Held(), err)
				}
				w.Pause()
			})
		}
		time.Sleep(time.Millisecond)
		for range 2 * cores {
			wg.Go(func() {
				w := g.Worker()
				if err := w.Start(t.Context()); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Millisecond)
				w.Pause()
			})
		}
		time.Sleep(3 * cpusched.StallMax)
		if running, _, waiting := s.Stats(); running+waiting != 0 {
			t.Errorf("%d running, %d waiting", running, waiting)
		}
		close(done)
		wg.Wait()
		if running, express, waiting := s.Stats(); running+express+waiting != 0 {
			t.Errorf("%d running, %d express, %d waiting at the end", running, express, waiting)
		}
	})
}

func BenchmarkYield(b *testing.B) {
	s := cpusched.New(1)
	g := s.Group(1)
	defer g.Close()
	w := g.Worker()
	defer w.Pause()
	for b.Loop() {
		if err := w.Yield(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTouch(b *testing.B) {
	s := cpusched.New(1)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Touch()
		}
	})
}
