package sqlfront

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/pgerror"
)

// Limits of the queues for hot rows.
const (
	// rowWaitersMax is how many statements of a node may stand in queues for
	// rows. Those beyond contend in the store.
	rowWaitersMax = 4096
	// queuedKeysMax is how many keys a statement may write that queues: of those
	// that write more, the first key says too little.
	queuedKeysMax = 8
)

// rowQueues lets the statements of this node that write the same row do so one
// after the other. Statements that are transactions of their own commit in one
// phase, without locks, and all but one of those that write a row at the same
// time fail. Here they wait in the order of their coming, so that each tries
// once; what other nodes and transactions do is the store's business.
//
// Nobody who holds a lock in the store waits here, so no deadlock goes through
// these queues.
type rowQueues struct {
	rows    atomic.Int64 // len(queues), to be read without mu
	mu      sync.Mutex
	queues  map[string]*rowQueue // by row key; there while somebody has the turn
	waiters int
}

// rowQueue are those who wait for their turn, the first at the front.
type rowQueue struct{ waiting []chan struct{} }

// busy reports whether somebody has the row's turn.
func (q *rowQueues) busy(key []byte) bool {
	if q.rows.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.queues[string(key)] != nil
}

// enter waits for the row's turn, at most wait (0: for as long as ctx lives).
// leave gives it on. Without room in the queues the turn is not waited for.
func (q *rowQueues) enter(ctx context.Context, key string, wait time.Duration) (leave func(), err error) {
	q.mu.Lock()
	row := q.queues[key]
	if row == nil {
		if q.queues == nil {
			q.queues = map[string]*rowQueue{}
		}
		q.queues[key] = &rowQueue{}
		q.rows.Add(1)
		q.mu.Unlock()
		return func() { q.leave(key) }, nil
	}
	if q.waiters == rowWaitersMax {
		q.mu.Unlock()
		return func() {}, nil
	}
	turn := make(chan struct{})
	row.waiting = append(row.waiting, turn)
	q.waiters++
	q.mu.Unlock()

	var expired <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-turn:
		return func() { q.leave(key) }, nil
	case <-ctx.Done():
		err = cancelError(ctx)
	case <-expired:
		err = pgerror.New(pgerror.LockNotAvailable, "canceling statement due to lock timeout")
	}
	q.withdraw(key, turn)
	return nil, err
}

// withdraw leaves the queue, or passes on a turn that came at the last moment.
func (q *rowQueues) withdraw(key string, turn chan struct{}) {
	q.mu.Lock()
	row := q.queues[key]
	if row != nil {
		if i := slices.Index(row.waiting, turn); i >= 0 {
			row.waiting = slices.Delete(row.waiting, i, i+1)
			q.waiters--
			q.mu.Unlock()
			return
		}
	}
	q.mu.Unlock()
	q.leave(key)
}

func (q *rowQueues) leave(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	row := q.queues[key]
	if len(row.waiting) == 0 {
		delete(q.queues, key)
		q.rows.Add(-1)
		return
	}
	close(row.waiting[0])
	row.waiting = slices.Delete(row.waiting, 0, 1)
	q.waiters--
}
