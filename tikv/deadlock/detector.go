package deadlock

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	graph "github.com/copradb/copra/txn/deadlock"
	"github.com/pingcap/kvproto/pkg/deadlock"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc"
)

// Limits.
const (
	detectTimeout   = time.Second            // of one forwarded detection
	leaderCacheTime = 5 * time.Second        // before PD is asked again
	retryDelay      = 200 * time.Millisecond // after a failed connection
	waitsMax        = 100_000                // waits remembered
	historyMax      = 64                     // deadlocks remembered
	forwardQueueMax = 4096                   // requests waiting for the stream
)

// Options of New.
type Options struct {
	StoreID uint64
	// Leader returns the store that leads the region with the empty start key,
	// and its address, as PD knows it.
	Leader func(ctx context.Context) (storeID uint64, addr string, err error)
	// DialOptions must include transport credentials.
	DialOptions []grpc.DialOption
	Logger      *slog.Logger
	Clock       func() time.Time // time.Now if nil
}

// Detector implements txn.Detector for one store. Its methods may be called
// concurrently.
type Detector struct {
	o     Options
	local *atomicGraph
	fwd   *forwarder

	mu      sync.Mutex
	waits   map[uint64][]wait // by waiting transaction
	count   int
	history []*deadlock.WaitForEntry
}

type wait struct {
	graph.WaitFor
	since time.Time
}

// atomicGraph is the graph of this store's leadership; nil while another store
// leads.
type atomicGraph struct{ atomic.Pointer[graph.Local] }

// New returns a detector. It must be closed.
func New(o Options) *Detector {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	d := &Detector{o: o, local: &atomicGraph{}, waits: map[uint64][]wait{}}
	d.fwd = newForwarder(o)
	return d
}

// Close ends the stream to the leader.
func (d *Detector) Close() { d.fwd.close() }

// SetLeader tells whether this store leads the region with the empty start key.
// A new leadership begins with an empty graph.
func (d *Detector) SetLeader(leads bool) {
	if !leads {
		d.local.Store(nil)
		return
	}
	d.local.CompareAndSwap(nil, graph.NewLocal(d.o.Clock, 0))
}

// Detect implements txn.Detector.
func (d *Detector) Detect(ctx context.Context, w graph.WaitFor) (*kvrpcpb.Deadlock, error) {
	var cycle *kvrpcpb.Deadlock
	var err error
	if g := d.local.Load(); g != nil {
		cycle, err = g.Detect(ctx, w)
	} else {
		cycle, err = d.fwd.detect(ctx, w)
	}
	if err != nil {
		return nil, fmt.Errorf("deadlock detection for transaction %d: %w", w.Txn, err)
	}
	if cycle != nil {
		d.remember(cycle)
		return cycle, nil
	}
	d.addWait(w)
	return nil, nil
}

// AddWait implements txn.Detector.
func (d *Detector) AddWait(w graph.WaitFor) { d.addWait(w) }

// CleanUpWaitFor implements txn.Detector.
func (d *Detector) CleanUpWaitFor(w graph.WaitFor) {
	d.dropWait(w.Txn, func(o graph.WaitFor) bool { return o.HolderTxn == w.HolderTxn && o.KeyHash == w.KeyHash })
	if g := d.local.Load(); g != nil {
		g.CleanUpWaitFor(w)
		return
	}
	d.fwd.send(&deadlock.DeadlockRequest{Tp: deadlock.DeadlockRequestType_CleanUpWaitFor, Entry: entryOf(w)})
}

// CleanUp implements txn.Detector.
func (d *Detector) CleanUp(txn uint64) {
	d.dropWait(txn, func(graph.WaitFor) bool { return true })
	if g := d.local.Load(); g != nil {
		g.CleanUp(txn)
		return
	}
	d.fwd.send(&deadlock.DeadlockRequest{Tp: deadlock.DeadlockRequestType_CleanUp, Entry: deadlock.WaitForEntry{Txn: txn}})
}

func entryOf(w graph.WaitFor) deadlock.WaitForEntry {
	return deadlock.WaitForEntry{Txn: w.Txn, WaitForTxn: w.HolderTxn, KeyHash: w.KeyHash, Key: w.Key, ResourceGroupTag: w.Tag}
}

func (d *Detector) addWait(w graph.WaitFor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count >= waitsMax {
		return // the list is for people; it may be short
	}
	for _, o := range d.waits[w.Txn] {
		if o.HolderTxn == w.HolderTxn && o.KeyHash == w.KeyHash {
			return
		}
	}
	w.Key, w.Tag = append([]byte(nil), w.Key...), append([]byte(nil), w.Tag...)
	d.waits[w.Txn] = append(d.waits[w.Txn], wait{w, d.o.Clock()})
	d.count++
}

func (d *Detector) dropWait(txn uint64, which func(graph.WaitFor) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old, ok := d.waits[txn]
	if !ok {
		return
	}
	var kept []wait
	for _, w := range old {
		if !which(w.WaitFor) {
			kept = append(kept, w)
		}
	}
	d.count -= len(old) - len(kept)
	if len(kept) == 0 {
		delete(d.waits, txn)
	} else {
		d.waits[txn] = kept
	}
}

func (d *Detector) remember(cycle *kvrpcpb.Deadlock) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history = append(d.history, cycle.WaitChain...)
	if n := len(d.history) - historyMax; n > 0 {
		d.history = append(d.history[:0], d.history[n:]...)
	}
}

// Waits lists the lock waits of this store, with their ages.
func (d *Detector) Waits() []*deadlock.WaitForEntry {
	now := d.o.Clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]*deadlock.WaitForEntry, 0, d.count)
	for _, ws := range d.waits {
		for _, w := range ws {
			e := entryOf(w.WaitFor)
			e.WaitTime = uint64(max(0, now.Sub(w.since).Milliseconds()))
			out = append(out, &e)
		}
	}
	return out
}

// History lists the waits of the last deadlocks that this store's transactions
// ran into, oldest first.
func (d *Detector) History() []*deadlock.WaitForEntry {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*deadlock.WaitForEntry(nil), d.history...)
}
