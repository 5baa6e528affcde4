// Package lockwait is where pessimistic lock requests wait for other
// transactions' locks.
//
// A request that meets a lock joins its key's queue while it still holds the
// key's latch, so that no release goes unseen, and then waits without latches:
//
//	release of k ─► wakes the waiter with the smallest start_ts, at once
//	  + WakeDelayMs ─► wakes everybody who only wants to retry, and the next
//	                   one who locks by itself (force-lock mode)
//	that one does not lock ─► wakes the next of its kind
//
// The oldest transaction thus gets the lock in peace, and nobody sleeps until
// the timeout because the one that was woken never came back.
//
// It does not take locks and knows nothing of deadlocks; package txn does both.
// Invariants: a waiter is woken at most once; every waiter leaves the queue by
// being woken or by Remove. Bounded by the number of waiters.
package lockwait

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// Defaults and limits.
const (
	// WaitersMax is the number of requests that may wait on a store.
	WaitersMax = 100_000
	// WakeDelayMs is how long after a release the waiters behind the first are woken.
	WakeDelayMs = 20
)

// ErrFull says that too many requests wait already.
var ErrFull = errors.New("lockwait: too many requests wait for locks")

// Reason says why a waiter was woken.
type Reason byte

// The reasons.
const (
	Released   Reason = iota + 1 // the lock it waited for is gone
	RegionLost                   // this store does not lead the region any more
	Closed                       // the store is closing
	Withdrawn                    // its client has given up
)

// Wake is what a woken waiter learns.
type Wake struct {
	Reason Reason
	// Of a released lock: who held it, and the timestamp it was committed at (0: not committed).
	StartTS, CommitTS uint64
}

// Waiter is one waiting request.
type Waiter struct {
	Key      string // encoded
	StartTS  uint64
	RegionID uint64
	// Resumes marks a waiter that takes the lock itself when woken; the others
	// go back to their client first.
	Resumes bool

	// ForUpdateTS is the timestamp of the statement that waits.
	ForUpdateTS uint64

	woken   chan Wake
	holders chan *kvrpcpb.LockInfo
	queued  bool
}

// NewWaiter returns a waiter that is in no queue.
func NewWaiter(key []byte, startTS, regionID uint64, resumes bool) *Waiter {
	return &Waiter{
		Key: string(key), StartTS: startTS, RegionID: regionID, Resumes: resumes,
		woken: make(chan Wake, 1), holders: make(chan *kvrpcpb.LockInfo, 1),
	}
}

// Woken delivers at most one Wake.
func (w *Waiter) Woken() <-chan Wake { return w.woken }

// Holders delivers the key's new lock when another transaction got it while w
// waits; only the newest is kept.
func (w *Waiter) Holders() <-chan *kvrpcpb.LockInfo { return w.holders }

type keyQueue struct {
	waiters     []*Waiter // by start_ts
	lastRelease Wake
	timer       *time.Timer
	changed     time.Time // when the key last got a new holder while there were waiters
}

// Queue holds the waiters of one store. Safe for concurrent use.
type Queue struct {
	max   int
	delay time.Duration
	now   func() time.Time
	count atomic.Int64

	mu     sync.Mutex
	keys   map[string]*keyQueue
	closed bool
}

// New returns an empty queue. waitersMax <= 0 and delay <= 0 mean the defaults.
func New(now func() time.Time, waitersMax int, delay time.Duration) *Queue {
	if waitersMax <= 0 {
		waitersMax = WaitersMax
	}
	if delay <= 0 {
		delay = WakeDelayMs * time.Millisecond
	}
	return &Queue{max: waitersMax, delay: delay, now: now, keys: make(map[string]*keyQueue)}
}

// Len is the number of waiters.
func (q *Queue) Len() int { return int(q.count.Load()) }

// Add puts w into its key's queue. The caller holds the key's latch.
func (q *Queue) Add(w *Waiter) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		w.woken <- Wake{Reason: Closed}
		return nil
	}
	if int(q.count.Load()) >= q.max {
		return ErrFull
	}
	k := q.keys[w.Key]
	if k == nil {
		k = &keyQueue{}
		q.keys[w.Key] = k
	}
	i, _ := slices.BinarySearchFunc(k.waiters, w, func(a, b *Waiter) int {
		if a.StartTS <= b.StartTS {
			return -1 // behind its equals
		}
		return 1
	})
	k.waiters = slices.Insert(k.waiters, i, w)
	w.queued = true
	q.count.Add(1)
	return nil
}

// Remove takes w out, if it was not woken; then Woken delivers nothing any more.
func (q *Queue) Remove(w *Waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if k := q.keys[w.Key]; k != nil && w.queued {
		k.waiters = slices.DeleteFunc(k.waiters, func(x *Waiter) bool { return x == w })
		w.queued = false
		q.count.Add(-1)
		q.tidy(w.Key, k)
	}
}

// Age is the time since the key last changed hands among its waiters; 0 when
// that is not known.
func (q *Queue) Age(key string) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keys[key]
	if k == nil || k.changed.IsZero() {
		return 0
	}
	return q.now().Sub(k.changed)
}

// tidy drops an empty queue.
func (q *Queue) tidy(key string, k *keyQueue) {
	if len(k.waiters) > 0 {
		return
	}
	if k.timer != nil {
		k.timer.Stop()
	}
	delete(q.keys, key)
}

// wake takes the waiters for which pick is true out of k and wakes them.
func (q *Queue) wake(k *keyQueue, with Wake, pick func(*Waiter) bool) {
	k.waiters = slices.DeleteFunc(k.waiters, func(w *Waiter) bool {
		if !pick(w) {
			return false
		}
		w.queued = false
		q.count.Add(-1)
		w.woken <- with
		return true
	})
}

// Released tells the queue that the transaction startTS does not hold the key
// any more. commitTS is 0 if it was rolled back.
func (q *Queue) Released(key []byte, startTS, commitTS uint64) {
	if q.count.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keys[string(key)]
	if k == nil {
		return
	}
	k.lastRelease = Wake{Reason: Released, StartTS: startTS, CommitTS: commitTS}
	first := k.waiters[0]
	q.wake(k, k.lastRelease, func(w *Waiter) bool { return w == first })
	if len(k.waiters) > 0 && k.timer == nil {
		name := first.Key
		k.timer = time.AfterFunc(q.delay, func() { q.wakeRest(name, k) })
	}
	q.tidy(first.Key, k)
}

// wakeRest runs WakeDelayMs after a release.
func (q *Queue) wakeRest(key string, k *keyQueue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys[key] != k {
		return // emptied, and perhaps begun anew
	}
	k.timer = nil
	resumed := false
	q.wake(k, k.lastRelease, func(w *Waiter) bool {
		if w.Resumes && resumed {
			return false
		}
		resumed = resumed || w.Resumes
		return true
	})
	q.tidy(key, k)
}

// Withdraw wakes the waiters of a transaction for the key that are not newer than
// a for_update_ts: they shall not come to have the lock.
func (q *Queue) Withdraw(key []byte, startTS, forUpdateTS uint64) {
	if q.count.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if k := q.keys[string(key)]; k != nil {
		q.wake(k, Wake{Reason: Withdrawn}, func(w *Waiter) bool { return w.StartTS == startTS && w.ForUpdateTS <= forUpdateTS })
		q.tidy(string(key), k)
	}
}

// PassOn is for a waiter that was to take the key's lock by itself and has not
// done so: it wakes the next one of these, whom nothing else would wake.
func (q *Queue) PassOn(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keys[key]
	if k == nil || k.lastRelease.Reason == 0 { // a queue for a later lock
		return
	}
	i := slices.IndexFunc(k.waiters, func(w *Waiter) bool { return w.Resumes })
	if i < 0 {
		return // the others are woken by the timer
	}
	next := k.waiters[i]
	q.wake(k, k.lastRelease, func(w *Waiter) bool { return w == next })
	q.tidy(key, k)
}

// Acquired tells those who wait for the key who holds it now, so that their
// wait-for edges follow.
func (q *Queue) Acquired(key []byte, info func() *kvrpcpb.LockInfo) {
	if q.count.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keys[string(key)]
	if k == nil {
		return
	}
	k.changed = q.now()
	holder := info()
	for _, w := range k.waiters {
		select {
		case <-w.holders:
		default:
		}
		w.holders <- holder
	}
}

// WakeRegion wakes all waiters of a region that this store does not lead any more.
func (q *Queue) WakeRegion(regionID uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, k := range q.keys {
		q.wake(k, Wake{Reason: RegionLost}, func(w *Waiter) bool { return w.RegionID == regionID })
		q.tidy(key, k)
	}
}

// Close wakes everybody; later waiters are woken at once.
func (q *Queue) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for key, k := range q.keys {
		q.wake(k, Wake{Reason: Closed}, func(*Waiter) bool { return true })
		q.tidy(key, k)
	}
}
