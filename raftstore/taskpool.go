package raftstore

import "sync"

// taskPool runs functions on a fixed number of goroutines.
type taskPool struct {
	wg         sync.WaitGroup
	waitingMax int

	mu     sync.Mutex
	cond   sync.Cond
	queue  []func()
	closed bool
}

func newTaskPool(waitingMax int) *taskPool {
	t := &taskPool{waitingMax: waitingMax}
	t.cond.L = &t.mu
	return t
}

func (t *taskPool) start(workers int) {
	for range workers {
		t.wg.Go(func() {
			for f := t.next(); f != nil; f = t.next() {
				f()
			}
		})
	}
}

func (t *taskPool) next() func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) == 0 && !t.closed {
		t.cond.Wait()
	}
	if t.closed {
		return nil
	}
	f := t.queue[0]
	t.queue[0] = nil
	t.queue = t.queue[1:]
	return f
}

// submit queues f; false means that too many wait, or that the pool is closed.
func (t *taskPool) submit(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.queue) >= t.waitingMax {
		return false
	}
	t.queue = append(t.queue, f)
	t.cond.Signal()
	return true
}

// must queues a step of a region's life cycle, of which a region has one at a
// time. A pool that is closed drops it: the next start takes it up.
func (t *taskPool) must(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.queue = append(t.queue, f)
		t.cond.Signal()
	}
}

// close drops what is queued and waits for what is running.
func (t *taskPool) close() {
	t.mu.Lock()
	t.closed = true
	t.queue = nil
	t.cond.Broadcast()
	t.mu.Unlock()
	t.wg.Wait()
}
