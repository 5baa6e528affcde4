package cpusched

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// Worker is a goroutine that computes for a group. Not safe for concurrent use.
type Worker struct {
	g *Group

	held   bool
	since  time.Time     // the core is held and not yet charged to the group
	slice  time.Time     // its slice has begun
	waited time.Duration // for cores, in all

	// While it waits; guarded by the scheduler's mutex.
	turn    chan struct{}
	granted bool

	// Guarded by the scheduler's mutex.
	express bool      // it did not wait for its core
	looked  time.Time // or was given the core
	stalled bool      // it has lost the core, and does not know yet
}

// Worker makes a worker, which has no core yet.
func (g *Group) Worker() *Worker { return &Worker{g: g} }

// Waited is how long it has waited for cores.
func (w *Worker) Waited() time.Duration { return w.waited }

// Held reports whether it has a core.
func (w *Worker) Held() bool { return w.held }

// Start waits for a core, unless it has one. The error is ctx's.
func (w *Worker) Start(ctx context.Context) error {
	if w.held {
		return nil
	}
	now := time.Now()
	s := w.g.s
	s.mu.Lock()
	if w.g.used < ExpressMax && s.express < s.cores {
		s.express++
		s.Touch()
		w.express = true
		w.hold(now)
		w.take(now)
		s.mu.Unlock()
		return nil
	}
	return w.queue(ctx, now)
}

// queue waits in line. The caller has the lock, which it gives back.
func (w *Worker) queue(ctx context.Context, now time.Time) error {
	g, s := w.g, w.g.s
	w.turn, w.granted = make(chan struct{}), false
	g.waiters = append(g.waiters, w)
	if len(g.waiters) == 1 {
		s.waiting = append(s.waiting, g)
		if g.running == 0 { // what it did not ask for it does not get later
			g.time = max(g.time, s.clock-SliceMax)
		}
	}
	s.grant(now)
	if w.granted {
		w.hold(now)
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	if !w.wait(ctx) {
		return fmt.Errorf("waiting for a core: %w", ctx.Err())
	}
	got := time.Now()
	w.waited += got.Sub(now)
	w.hold(got)
	return nil
}

// wait waits for its turn; false: ctx has ended before.
func (w *Worker) wait(ctx context.Context) bool {
	s := w.g.s
	timer := time.NewTimer(StallMax)
	defer timer.Stop()
	for {
		select {
		case <-w.turn:
			return true
		case <-ctx.Done():
			return !w.leave()
		case now := <-timer.C:
			s.mu.Lock()
			s.unstall(now)
			s.mu.Unlock()
			timer.Reset(StallMax)
		}
	}
}

// leave takes the worker out of the line; false: it has been given a core.
func (w *Worker) leave() bool {
	g, s := w.g, w.g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.granted {
		return false
	}
	g.waiters = slices.DeleteFunc(g.waiters, func(x *Worker) bool { return x == w })
	if len(g.waiters) == 0 {
		s.waiting = slices.DeleteFunc(s.waiting, func(x *Group) bool { return x == g })
	}
	return true
}

func (w *Worker) hold(now time.Time) { w.held, w.since, w.slice = true, now, now }

// take notes that the worker has a core. The caller has the lock.
func (w *Worker) take(now time.Time) {
	w.looked, w.stalled = now, false
	w.g.s.holders[w] = struct{}{}
}

// drop notes that the worker has no core. The caller has the lock.
func (w *Worker) drop() {
	delete(w.g.s.holders, w)
	if w.express {
		w.g.s.express--
		return
	}
	w.g.s.running--
	w.g.running--
}

// charge adds to the group what it has used. The caller has the lock.
func (w *Worker) charge(now time.Time) {
	w.g.used += now.Sub(w.since)
	w.g.time += now.Sub(w.since)
	w.since, w.looked = now, now
}

// free gives the core back. The caller has the lock.
func (w *Worker) free(now time.Time) {
	w.charge(now)
	w.held = false
	if !w.stalled {
		w.drop()
	}
}

// Pause gives the core back, before the worker waits for something else and at
// its end.
func (w *Worker) Pause() {
	if !w.held {
		return
	}
	now := time.Now()
	s := w.g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	w.free(now)
	s.grant(now)
}

// Yield lets others compute if it is their turn, and starts the worker if it
// has no core. It is to be called every few hundred microseconds of work. The
// error is ctx's; the worker has no core then.
func (w *Worker) Yield(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		w.Pause()
		return err
	}
	if !w.held {
		return w.Start(ctx)
	}
	now := time.Now()
	if now.Sub(w.since) < LookMin {
		return nil
	}
	s := w.g.s
	s.mu.Lock()
	w.charge(now)
	if !w.done(now) {
		s.grant(now) // there may be one more core than a moment ago
		s.mu.Unlock()
		runtime.Gosched() // to what has become ready on this processor meanwhile
		return nil
	}
	w.free(now)
	return w.queue(ctx, now)
}

// done reports whether the worker's turn is over. The caller has the lock.
func (w *Worker) done(now time.Time) bool {
	g, s := w.g, w.g.s
	if w.stalled {
		return true
	}
	if w.express {
		return g.used >= ExpressMax
	}
	if s.running > s.limit(now) {
		return true
	}
	if now.Sub(w.slice) < SliceMax {
		return false
	}
	for _, o := range s.waiting {
		if o == g || o.time < g.time {
			return true
		}
	}
	w.slice = now
	return false
}
