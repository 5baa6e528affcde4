package raftstore

import (
	"sync"
	"sync/atomic"
)

// A scheduler hands items that have work to a fixed pool of workers. An item is
// in the queue at most once and with at most one worker at a time, so what a
// worker does to it needs no lock.
//
//	idle ──enqueue──► queued ──pop──► running ──done──► idle
//	                    ▲                │ enqueue
//	                    └──done── again ◄┘
type scheduler[T any] struct {
	state func(*T) *atomic.Int32

	mu     sync.Mutex
	cond   sync.Cond
	queue  []*T
	head   int
	closed bool
}

const (
	schedIdle int32 = iota
	schedQueued
	schedRunning
	schedAgain
)

func newScheduler[T any](state func(*T) *atomic.Int32) *scheduler[T] {
	s := &scheduler[T]{state: state}
	s.cond.L = &s.mu
	return s
}

// enqueue makes sure that a worker looks at item after this call.
func (s *scheduler[T]) enqueue(item *T) {
	st := s.state(item)
	for {
		switch v := st.Load(); v {
		case schedQueued, schedAgain:
			return
		case schedIdle:
			if st.CompareAndSwap(v, schedQueued) {
				s.push(item)
				return
			}
		case schedRunning:
			if st.CompareAndSwap(v, schedAgain) {
				return
			}
		}
	}
}

func (s *scheduler[T]) push(item *T) {
	s.mu.Lock()
	s.queue = append(s.queue, item)
	s.mu.Unlock()
	s.cond.Signal()
}

// pop appends up to n items to buf, waiting for the first. It returns buf
// unchanged when the scheduler is closed.
func (s *scheduler[T]) pop(buf []*T, n int) []*T {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.head == len(s.queue) && !s.closed {
		s.cond.Wait()
	}
	if s.closed {
		return buf
	}
	for ; n > 0 && s.head < len(s.queue); n-- {
		item := s.queue[s.head]
		s.queue[s.head] = nil
		s.head++
		s.state(item).Store(schedRunning)
		buf = append(buf, item)
	}
	if s.head == len(s.queue) {
		s.queue, s.head = s.queue[:0], 0
	} else if s.head > 1024 && s.head > len(s.queue)/2 {
		s.queue = append(s.queue[:0], s.queue[s.head:]...)
		s.head = 0
	}
	return buf
}

// len is how many items wait for a worker.
func (s *scheduler[T]) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) - s.head
}

// done gives an item back; it is queued again if work came meanwhile.
func (s *scheduler[T]) done(item *T) {
	st := s.state(item)
	if st.CompareAndSwap(schedRunning, schedIdle) {
		return
	}
	st.Store(schedQueued)
	s.push(item)
}

func (s *scheduler[T]) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cond.Broadcast()
}
