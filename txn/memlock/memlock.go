// Package memlock has the two things in memory that make computed commit
// timestamps safe: max_ts, the largest timestamp anything was read at on this
// store, and the locks that are on their way into the Raft log.
//
// Async commit and one-phase commit choose min_commit_ts = max_ts + 1 instead
// of asking PD. A reader at ts must then never miss a transaction whose commit
// timestamp turns out <= ts:
//
//	reader                          prewrite
//	1 max_ts = max(max_ts, ts)      a publish the lock's key
//	2 look for published locks      b min_commit_ts = max_ts + 1
//	3 take the snapshot             c publish the lock, write, apply
//	                                d withdraw the lock
//
// Either 2 sees the lock, or 2 came before a, then 1 came before b and
// min_commit_ts > ts, or 2 came after d and the snapshot has the lock.
//
// It is not the lock table: locks live in the replicated lock family. After a
// leader change the table is empty, which is safe only once max_ts was
// synchronised with PD in the new term (hazard 18).
//
// Invariants: max_ts only grows; at most one published lock a key (the caller
// holds the key's latch).
package memlock

import (
	"bytes"
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/btree"

	"github.com/copradb/copra/txn/mvcc"
)

// btreeDegree: nodes of up to 63 entries.
const btreeDegree = 32

type entry struct {
	key  []byte // encoded
	lock *mvcc.Lock
	gone chan struct{} // made when somebody waits
}

// Table is max_ts and the published locks of one store.
type Table struct {
	maxTS atomic.Uint64
	count atomic.Int64

	mu   sync.RWMutex
	tree *btree.BTreeG[*entry]
}

// New returns an empty table with max_ts 0.
func New() *Table {
	return &Table{tree: btree.NewG(btreeDegree, func(a, b *entry) bool { return bytes.Compare(a.key, b.key) < 0 })}
}

// MaxTS is the largest timestamp that was read at.
func (t *Table) MaxTS() uint64 { return t.maxTS.Load() }

// UpdateMaxTS raises max_ts to ts.
func (t *Table) UpdateMaxTS(ts uint64) {
	for {
		cur := t.maxTS.Load()
		if cur >= ts || t.maxTS.CompareAndSwap(cur, ts) {
			return
		}
	}
}

// Len is the number of published locks.
func (t *Table) Len() int { return int(t.count.Load()) }

// Publish puts a lock on the encoded key into the table. assign is called with
// max_ts while readers are held off; it returns the finished lock, or nil to
// publish nothing. The lock must not be changed afterwards; the key is copied.
func (t *Table) Publish(key []byte, assign func(maxTS uint64) *mvcc.Lock) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// Count first, then read max_ts: a reader that sees a count of 0 has raised
	// max_ts before we read it.
	t.count.Add(1)
	l := assign(t.maxTS.Load())
	if l == nil {
		t.count.Add(-1)
		return false
	}
	if _, replaced := t.tree.ReplaceOrInsert(&entry{key: slices.Clone(key), lock: l}); replaced {
		panic("memlock: key published twice; its latch is not held")
	}
	return true
}

// Withdraw takes the keys' locks out of the table.
func (t *Table) Withdraw(keys [][]byte) {
	if len(keys) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var probe entry
	for _, k := range keys {
		probe.key = k
		e, ok := t.tree.Delete(&probe)
		if !ok {
			panic("memlock: withdrawn key was not published")
		}
		t.count.Add(-1)
		if e.gone != nil {
			close(e.gone)
		}
	}
}

// Floor is a timestamp that no published lock commits at or below, and at which
// reads pass it; MaxUint64 if none is published. Call it after UpdateMaxTS(ts): then no
// lock that is published later commits at or below ts, either.
func (t *Table) Floor() uint64 {
	floor := uint64(math.MaxUint64)
	if t.count.Load() == 0 {
		return floor
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	t.tree.Ascend(func(e *entry) bool {
		// A transaction commits behind its start, and not below min_commit_ts.
		floor = min(floor, max(e.lock.StartTS, e.lock.MinCommitTS, 1)-1)
		return true
	})
	return floor
}

// CheckKey returns the lock on the encoded key if conflict says it is in the way.
func (t *Table) CheckKey(key []byte, conflict func(key []byte, l *mvcc.Lock) bool) *mvcc.Lock {
	if t.count.Load() == 0 {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e, ok := t.tree.Get(&entry{key: key}); ok && conflict(e.key, e.lock) {
		return e.lock
	}
	return nil
}

// CheckRange returns the first lock in [start, end) that conflict says is in
// the way, with its encoded key. An empty end is unbounded.
func (t *Table) CheckRange(start, end []byte, conflict func(key []byte, l *mvcc.Lock) bool) ([]byte, *mvcc.Lock) {
	e := t.find(start, end, conflict)
	if e == nil {
		return nil, nil
	}
	return e.key, e.lock
}

func (t *Table) find(start, end []byte, conflict func(key []byte, l *mvcc.Lock) bool) *entry {
	if t.count.Load() == 0 {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	var found *entry
	t.tree.AscendGreaterOrEqual(&entry{key: start}, func(e *entry) bool {
		if len(end) > 0 && bytes.Compare(e.key, end) >= 0 {
			return false
		}
		if conflict(e.key, e.lock) {
			found = e
			return false
		}
		return true
	})
	return found
}

// WaitRange waits until no lock in [start, end) conflicts: they are all
// applied, or given up. It returns the lock that was still there when ctx
// ended, and ctx's cause.
func (t *Table) WaitRange(ctx context.Context, start, end []byte, conflict func(key []byte, l *mvcc.Lock) bool) ([]byte, *mvcc.Lock, error) {
	for {
		e := t.find(start, end, conflict)
		if e == nil {
			return nil, nil, nil
		}
		gone := t.goneChan(e)
		select {
		case <-gone:
		case <-ctx.Done():
			return e.key, e.lock, context.Cause(ctx)
		}
	}
}

// goneChan returns a channel that is closed when e leaves the table.
func (t *Table) goneChan(e *entry) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cur, ok := t.tree.Get(e); !ok || cur != e {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	if e.gone == nil {
		e.gone = make(chan struct{})
	}
	return e.gone
}
