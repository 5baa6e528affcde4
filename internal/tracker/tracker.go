package tracker

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Stage is what a request is doing.
type Stage byte

// The stages. Process is what is in no other: the store's own work, reads of
// the engine included.
const (
	Process  Stage = iota
	Queue          // received, and not begun
	Latch          // for requests on the same keys
	Snapshot       // for a view of the region; with a read index if there is no lease
	LockWait       // for another transaction's lock
	Throttle       // held back because compactions are behind
	Write          // from the proposal to its end
	Send           // until the client takes a piece of the answer
	stageCount
)

// WriteParts are the parts of the time that writes take in a region.
type WriteParts struct {
	Propose   time.Duration // until the region's worker gives the proposal to Raft
	Persist   time.Duration // until this store's Raft log has it, synced; 0: a quorum of others was faster
	Commit    time.Duration // until a quorum has it, from Propose's end on
	ApplyWait time.Duration // until an apply worker takes it
	Apply     time.Duration // until the data engine has it
}

// Add adds the parts of another write.
func (w *WriteParts) Add(o WriteParts) {
	w.Propose += o.Propose
	w.Persist += o.Persist
	w.Commit += o.Commit
	w.ApplyWait += o.ApplyWait
	w.Apply += o.Apply
}

// Scan says what reads of the engine have met.
type Scan struct {
	Gets  uint64 // point reads
	Seeks uint64
	Keys  uint64 // versions and raw keys that iterators looked at
	// What iterators stepped over inside the engine to get there: overwritten
	// and deleted keys, and those that range deletions cover.
	Skipped     uint64
	Tombstones  uint64
	BlockBytes  uint64        // read, from the cache or not
	CachedBytes uint64        // of these, from the block cache
	BlockTime   time.Duration // reading the others
}

// Tracker is the record of one request.
type Tracker struct {
	request, other carrier
	// derived: somebody else may still have one of these. Then they stay as they
	// are, and the tracker is not used again.
	derived atomic.Bool

	started int64 // on the package's clock
	since   int64 // of the current stage
	stage   Stage
	spent   [stageCount]time.Duration

	// ReadIndex is the part of Snapshot that went into asking a quorum.
	ReadIndex time.Duration
	Write     WriteParts
	Scan      Scan
	// WriteBytes are those of the batches that were proposed.
	WriteBytes int
	// Rows and RowBytes are what a read returned to the client.
	Rows, RowBytes int
}

// carrier is a context with a tracker.
type carrier struct {
	context.Context
	t *Tracker
}

type contextKey struct{}

// base is where the package's clock began.
var base = time.Now()

// Now is the time in nanoseconds since some moment: half as dear as time.Now.
func Now() int64 { return int64(time.Since(base)) }

// Value implements context.Context.
func (c *carrier) Value(key any) any {
	if _, ok := key.(contextKey); ok {
		return c.t
	}
	// So the context package asks when a context is derived, which may look at
	// this one from a goroutine of its own, after the request.
	c.t.derived.Store(true)
	return c.Context.Value(key)
}

var pool = sync.Pool{New: func() any { return new(Tracker) }}

// Begin starts the tracker of a request that begins now. It must be given back
// with Free.
func Begin(ctx context.Context) *Tracker { return begin(ctx, Now(), Process) }

// BeginQueued is Begin for a request that was received at a Now before, and
// waits.
func BeginQueued(ctx context.Context, received int64) *Tracker { return begin(ctx, received, Queue) }

func begin(ctx context.Context, at int64, s Stage) *Tracker {
	t := pool.Get().(*Tracker)
	*t = Tracker{started: at, since: at, stage: s}
	t.request = carrier{ctx, t}
	return t
}

// Free ends the tracker's life.
func (t *Tracker) Free() {
	if t == nil || t.derived.Load() {
		return
	}
	t.request, t.other = carrier{}, carrier{}
	pool.Put(t)
}

// Context is the request's context with the tracker in it.
func (t *Tracker) Context() context.Context { return &t.request }

// From returns the tracker of a context, or nil.
func From(ctx context.Context) *Tracker {
	if c, ok := ctx.(*carrier); ok {
		return c.t
	}
	t, _ := ctx.Value(contextKey{}).(*Tracker)
	return t
}

// Under returns ctx with the tracker in it, or just ctx if there is none. One
// such context of a tracker is in use at a time.
func (t *Tracker) Under(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	if t.derived.Load() {
		return &carrier{ctx, t}
	}
	t.other = carrier{ctx, t}
	return &t.other
}

// Enter ends the current stage and begins s. It returns the one that ended.
func (t *Tracker) Enter(s Stage) (was Stage) {
	if t == nil {
		return Process
	}
	now := Now()
	t.spent[t.stage] += time.Duration(now - t.since)
	was, t.stage, t.since = t.stage, s, now
	return was
}

// End closes the current stage and returns the time since the request was
// received.
func (t *Tracker) End() time.Duration {
	if t == nil {
		return 0
	}
	t.Enter(Process)
	return time.Duration(t.since - t.started)
}

// Spent is the time in a stage, up to the last Enter or End.
func (t *Tracker) Spent(s Stage) time.Duration { return t.spent[s] }

// Merge adds another tracker, which has ended, to a sum of trackers.
func (t *Tracker) Merge(o *Tracker) {
	for s, d := range o.spent {
		t.spent[s] += d
	}
	t.ReadIndex += o.ReadIndex
	t.Write.Add(o.Write)
	t.Scan.add(&o.Scan)
	t.WriteBytes, t.Rows, t.RowBytes = t.WriteBytes+o.WriteBytes, t.Rows+o.Rows, t.RowBytes+o.RowBytes
}

func (s *Scan) add(o *Scan) {
	s.Gets += o.Gets
	s.Seeks += o.Seeks
	s.Keys += o.Keys
	s.Skipped += o.Skipped
	s.Tombstones += o.Tombstones
	s.BlockBytes += o.BlockBytes
	s.CachedBytes += o.CachedBytes
	s.BlockTime += o.BlockTime
}

// AddWrite adds the parts of a write that has ended.
func (t *Tracker) AddWrite(w WriteParts) {
	if t != nil {
		t.Write.Add(w)
	}
}

// AddReadIndex adds the time that a read index took.
func (t *Tracker) AddReadIndex(d time.Duration) {
	if t != nil {
		t.ReadIndex += d
	}
}

// CountWrite notes that a batch of that many bytes is about to be proposed.
func (t *Tracker) CountWrite(bytes int) {
	if t != nil {
		t.WriteBytes += bytes
	}
}

// CountRows notes what a read returns, with the bytes of keys and values.
func (t *Tracker) CountRows(rows, bytes int) {
	if t != nil {
		t.Rows, t.RowBytes = t.Rows+rows, t.RowBytes+bytes
	}
}
