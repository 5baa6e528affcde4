package server

import (
	"context"
	"errors"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn"
)

// task is one region of a request.
type task struct {
	s *Service
	q *request
	r *plan.Request
	i int

	base    context.Context // ends with the task
	cancel  context.CancelCauseFunc
	ctx     context.Context  // base, with the tracker
	tracker *tracker.Tracker // of the worker that began it
	cols    *columnar.Scan   // nil: it reads rows
	helpers sync.WaitGroup

	mu     sync.Mutex
	err    error // of those who read its columns, the first
	kept   []*expr.Batch
	sent   bool // a part of the answer was not kept
	stats  plan.RegionStats
	waited time.Duration // of the worker that began it
}

// run runs the task and emits its end, unless the request is over.
func (t *task) run(ctx context.Context, w *cpusched.Worker) {
	start := time.Now()
	t.base, t.cancel = context.WithCancelCause(ctx)
	t.tracker = tracker.Begin(t.base)
	t.ctx = t.tracker.Context()
	defer t.q.total.add(t)
	err := t.guarded(func() error { return t.read(ctx, w) })
	w.Pause()
	t.cancel(nil)
	t.stats.Time = time.Since(start) - t.waited
	t.s.m.rows.Add(float64(t.stats.RowsScanned))
	t.s.m.bytes.Add(float64(t.stats.BytesScanned))
	end := &plan.Event{Task: t.i, Done: true, Stats: t.stats}
	result := "ok"
	var locked *txn.LockedError
	var old *txn.SafePointError
	switch re := kv.AsRegionError(err); {
	case err == nil:
	case re != nil:
		end.RegionError, result = re, "region_error"
	case errors.As(err, &locked):
		end.Locks, result = append([]*kvrpcpb.LockInfo{locked.Info}, locked.More...), "locked"
	case errors.As(err, &old):
		end.Err, result = pgerror.Wrap(err, pgerror.SnapshotTooOld, "snapshot too old").WithDetail("%s", old.Error()).
			WithHint("The transaction has been open for longer than old versions of rows are kept."), "too_old"
	case errors.Is(err, context.DeadlineExceeded):
		end.Err, result = pgerror.Wrap(err, pgerror.QueryCanceled, "canceling statement due to statement timeout"), "timeout"
	case errors.Is(err, context.Canceled):
		t.s.m.tasks.WithLabelValues("canceled").Inc()
		t.unkeep()
		return
	default:
		end.Err, result = err, "error"
	}
	t.s.m.tasks.WithLabelValues(result).Inc()
	if result == "ok" && t.q.merger != nil {
		t.q.merger.add(end, t.kept)
		return
	}
	t.unkeep()
	_ = t.q.emit(end) // whoever takes the events knows of its own error
}

// fail ends the pipelines of a task of several. The first error counts: what
// they say when they are ended for it must not come before.
func (t *task) fail(err error) {
	if err == nil {
		return
	}
	t.mu.Lock()
	if t.err == nil {
		t.err = err
	}
	t.mu.Unlock()
	t.cancel(err)
}

// guarded turns a panic into an error of this statement: the plan comes from
// outside, and no plan may stop the store.
func (t *task) guarded(f func() error) (err error) {
	defer func() { err = t.s.recovered(recover(), t.r.Regions[t.i].ID, err) }()
	return f()
}

// recovered makes an error of what was recovered, if that is anything.
func (s *Service) recovered(p any, region uint64, err error) error {
	if p == nil {
		return err
	}
	if limit, ok := p.(*pgerror.Error); ok {
		return limit
	}
	s.o.Logger.Error("coprocessor task panicked", "region", region, "panic", p, "stack", string(debug.Stack()))
	return pgerror.New(pgerror.InternalError, "the coprocessor failed on region %d: %v", region, p)
}

func (t *task) read(ctx context.Context, w *cpusched.Worker) (err error) {
	g := &t.r.Regions[t.i]
	visit := t.visit() // before the snapshot
	defer visit.Close()
	reader, err := t.s.o.Source.OpenReader(t.ctx, t.r.Context(t.i), t.r.ReadTS, g.Ranges)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	found, keep := t.known(visit, reader)
	if found {
		return nil
	}
	if t.cols, err = t.columns(t.ctx, visit, reader); err != nil {
		return err
	}
	p := &pipeline{t: t, ctx: t.ctx, worker: w, tracker: t.tracker}
	if t.cols == nil {
		return t.readRows(p, reader)
	}
	p.scan = t.cols
	n := t.cols.Pieces()
	if t.q.forks && n > 1 {
		t.q.share(ctx, t, n)
	}
	t.fail(t.guarded(p.run))
	t.q.unshare(t)
	w.Pause()
	t.helpers.Wait()
	t.waited = p.stats.Wait
	if t.stats.ColumnRows > 0 {
		t.stats.ColumnRegions = 1
	}
	if err = errors.Join(t.err, t.cols.Close()); err == nil && keep != nil {
		keep()
	}
	return err
}

func (t *task) readRows(p *pipeline, reader Reader) (err error) {
	rows := &rangeRows{
		yield: p.yield, reader: reader, ranges: t.r.Regions[t.i].Ranges, desc: t.r.Plan.Desc(),
		keyOnly: !scan.NeedsValue(t.r.Plan.Nodes[0]),
	}
	defer func() { err = errors.Join(err, rows.close()) }()
	p.scan, err = scan.New(t.r.Plan.Nodes[0], rows, scan.Options{
		BatchRowsMax: t.r.BatchRowsMax, BatchBytesMax: t.r.BatchBytesMax, KeyPrefix: t.r.KeyPrefix(),
	})
	if err != nil {
		return err
	}
	err = p.run()
	t.waited = p.stats.Wait
	return err
}

// add counts what a pipeline has done.
func (t *task) add(s *plan.RegionStats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Add(s)
}

// keep keeps a batch of the answer for the merger.
func (t *task) keep(b *expr.Batch) error {
	if err := t.q.mem.Grow(batchBytes(b)); err != nil {
		return err
	}
	t.q.merger.keep(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, b)
	return nil
}

// unkeep forgets what was kept.
func (t *task) unkeep() {
	for _, b := range t.kept {
		t.q.merger.free(b)
	}
	t.kept = nil
}

// yieldRows is how many rows are read between two looks at the context, and at
// whether it is somebody else's turn.
const yieldRows = 256

// rangeRows reads the ranges of a region one after the other.
type rangeRows struct {
	yield   func() error
	reader  Reader
	ranges  []kv.KeyRange
	desc    bool
	keyOnly bool
	at      int // ranges begun
	cur     Rows
	rows    int
}

// Next implements scan.RowSource.
func (r *rangeRows) Next() (key, value []byte, ok bool, err error) {
	if r.rows++; r.rows%yieldRows == 0 {
		if err := r.yield(); err != nil {
			return nil, nil, false, err
		}
	}
	for {
		if r.cur == nil {
			if r.at == len(r.ranges) {
				return nil, nil, false, nil
			}
			k := r.ranges[r.at]
			if r.desc {
				k = r.ranges[len(r.ranges)-1-r.at]
			}
			r.at++
			if r.cur, err = r.reader.Rows(k, r.desc, r.keyOnly); err != nil {
				return nil, nil, false, err
			}
		}
		key, value, ok, err = r.cur.Next()
		if err != nil || ok {
			return key, value, ok, err
		}
		if err := r.close(); err != nil {
			return nil, nil, false, err
		}
	}
}

func (r *rangeRows) close() error {
	if r.cur == nil {
		return nil
	}
	cur := r.cur
	r.cur = nil
	return cur.Close()
}
