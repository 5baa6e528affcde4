// Package deadlock finds cycles in the wait-for graph of pessimistic
// transactions.
//
//	T1 holds a, waits for b  ─►  T2 holds b, waits for a  ─►  T1
//
// An edge is added when a transaction begins to wait for a lock; the wait that
// would close a cycle is refused instead. A transaction's edges go when its
// wait ends, and all of them when it ends.
//
// Local is the detector of one process. In a cluster one store is the detector
// leader and the others forward to it: the interface for that is txn.Detector,
// which Local implements.
//
// Bounded (hazard 24): edges expire, since a lost clean-up would keep them for
// ever, and there is a limit to their number. A lost edge costs a wait until
// the lock wait times out, never a wrong answer.
package deadlock

import (
	"context"
	"slices"
	"sync"
	"time"

	deadlockpb "github.com/pingcap/kvproto/pkg/deadlock"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// Limits of a Local detector.
const (
	// EdgesMax is the number of wait-for edges kept.
	EdgesMax = 100_000
	// EdgeTTLMs is how long an edge lives that is not renewed; lock waits are
	// far shorter.
	EdgeTTLMs = 30_000
)

// WaitFor is one edge: Txn waits for HolderTxn's lock on Key. Transactions are
// named by start timestamp.
type WaitFor struct {
	Txn, HolderTxn uint64
	KeyHash        uint64 // fingerprint of the plain key, as the clients compute it
	Key            []byte // plain
	Tag            []byte // resource group tag of the waiting request
}

type edge struct {
	WaitFor
	expires time.Time
}

// Local is a detector in memory. Safe for concurrent use.
type Local struct {
	now      func() time.Time
	edgesMax int

	mu    sync.Mutex
	graph map[uint64][]edge // by waiting transaction
	count int
}

// NewLocal returns an empty detector. now is the clock; edgesMax <= 0 means
// EdgesMax.
func NewLocal(now func() time.Time, edgesMax int) *Local {
	if edgesMax <= 0 {
		edgesMax = EdgesMax
	}
	return &Local{now: now, edgesMax: edgesMax, graph: make(map[uint64][]edge)}
}

// Detect adds the edge w. If it would close a cycle it is not added and the
// cycle is returned: LockTs and LockKey are what w waits for, DeadlockKey is
// the key by which w.Txn is waited for.
func (d *Local) Detect(_ context.Context, w WaitFor) (*kvrpcpb.Deadlock, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if path := d.path(w.HolderTxn, w.Txn, now); path != nil {
		chain := make([]*deadlockpb.WaitForEntry, 0, len(path)+1)
		for _, e := range path {
			chain = append(chain, e.entry())
		}
		chain = append(chain, (&edge{WaitFor: w}).entry())
		last := path[len(path)-1]
		return &kvrpcpb.Deadlock{
			LockTs: w.HolderTxn, LockKey: slices.Clone(w.Key),
			DeadlockKeyHash: last.KeyHash, DeadlockKey: last.Key, WaitChain: chain,
		}, nil
	}
	d.add(w, now.Add(EdgeTTLMs*time.Millisecond), now)
	return nil, nil
}

func (e *edge) entry() *deadlockpb.WaitForEntry {
	return &deadlockpb.WaitForEntry{
		Txn: e.Txn, WaitForTxn: e.HolderTxn, KeyHash: e.KeyHash,
		Key: slices.Clone(e.Key), ResourceGroupTag: e.Tag,
	}
}

// path returns the edges that lead from one transaction to another, or nil.
func (d *Local) path(from, to uint64, now time.Time) []edge {
	came := map[uint64]edge{} // by the transaction the edge leads to
	queue := []uint64{from}
	for len(queue) > 0 {
		txn := queue[0]
		queue = queue[1:]
		d.dropExpired(txn, now)
		for _, e := range d.graph[txn] {
			if _, seen := came[e.HolderTxn]; seen || e.HolderTxn == from {
				continue
			}
			came[e.HolderTxn] = e
			if e.HolderTxn == to {
				return walkBack(came, from, to)
			}
			queue = append(queue, e.HolderTxn)
		}
	}
	return nil
}

func walkBack(came map[uint64]edge, from, to uint64) []edge {
	var out []edge
	for at := to; at != from; {
		e := came[at]
		out = append(out, e)
		at = e.Txn
	}
	slices.Reverse(out)
	return out
}

func (d *Local) add(w WaitFor, expires, now time.Time) {
	edges := d.graph[w.Txn]
	for i := range edges {
		if edges[i].HolderTxn == w.HolderTxn && edges[i].KeyHash == w.KeyHash {
			edges[i].expires = expires
			return
		}
	}
	if d.count >= d.edgesMax {
		d.sweep(now)
	}
	if d.count >= d.edgesMax {
		return // see the package comment: the wait then ends by its timeout
	}
	w.Key, w.Tag = slices.Clone(w.Key), slices.Clone(w.Tag)
	d.graph[w.Txn] = append(edges, edge{WaitFor: w, expires: expires})
	d.count++
}

func (d *Local) sweep(now time.Time) {
	for txn := range d.graph {
		d.dropExpired(txn, now)
	}
}

func (d *Local) dropExpired(txn uint64, now time.Time) {
	d.drop(txn, func(e edge) bool { return now.After(e.expires) })
}

func (d *Local) drop(txn uint64, which func(edge) bool) {
	edges, ok := d.graph[txn]
	if !ok {
		return
	}
	before := len(edges)
	edges = slices.DeleteFunc(edges, which)
	d.count -= before - len(edges)
	if len(edges) == 0 {
		delete(d.graph, txn)
	} else {
		d.graph[txn] = edges
	}
}

// AddWait does nothing: an edge that can't close a cycle isn't needed here.
func (d *Local) AddWait(WaitFor) {}

// CleanUpWaitFor removes the edge w: that wait is over.
func (d *Local) CleanUpWaitFor(w WaitFor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(w.Txn, func(e edge) bool { return e.HolderTxn == w.HolderTxn && e.KeyHash == w.KeyHash })
}

// CleanUp removes every edge that starts at the transaction: it has ended.
func (d *Local) CleanUp(txn uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.drop(txn, func(edge) bool { return true })
}

// Len is the number of edges.
func (d *Local) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}
