package server

import (
	"bytes"
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/copr/exec"
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
	s     *Service
	r     *plan.Request
	i     int
	mem   *exec.MemAccount
	emit  func(*plan.Event) error
	stats plan.RegionStats

	worker  *cpusched.Worker
	tracker *tracker.Tracker
}

// run runs the task and emits its end, unless the request is over.
func (t *task) run(ctx context.Context) {
	start := time.Now()
	err := t.guarded(ctx)
	t.worker.Pause()
	t.stats.Time = time.Since(start) - t.stats.Wait
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
		return
	default:
		end.Err, result = err, "error"
	}
	t.s.m.tasks.WithLabelValues(result).Inc()
	_ = t.emit(end) // whoever takes the events knows of its own error
}

// guarded turns a panic into an error of this statement: the plan comes from
// outside, and no plan may stop the store.
func (t *task) guarded(ctx context.Context) (err error) {
	defer func() {
		p := recover()
		if limit, ok := p.(*pgerror.Error); ok {
			err = limit
		} else if p != nil {
			t.s.o.Logger.Error("coprocessor task panicked", "region", t.r.Regions[t.i].ID, "panic", p, "stack", string(debug.Stack()))
			err = pgerror.New(pgerror.InternalError, "the coprocessor failed on region %d: %v", t.r.Regions[t.i].ID, p)
		}
	}()
	return t.read(ctx)
}

func (t *task) read(ctx context.Context) (err error) {
	g := &t.r.Regions[t.i]
	visit := t.visit() // before the snapshot
	defer visit.Close()
	reader, err := t.s.o.Source.OpenReader(ctx, t.r.Context(t.i), t.r.ReadTS, g.Ranges)
	if err != nil {
		return err
	}
	cols, err := t.columns(ctx, visit, reader)
	if err != nil {
		return errors.Join(err, reader.Close())
	}
	if cols != nil {
		defer func() {
			if t.stats.ColumnRows = cols.ColumnRows(); t.stats.ColumnRows > 0 {
				t.stats.ColumnRegions = 1
			}
			err = errors.Join(err, cols.Close(), reader.Close())
		}()
		return t.compute(ctx, cols)
	}
	rows := &rangeRows{
		yield: func() error { return t.yield(ctx) }, reader: reader, ranges: g.Ranges, desc: t.r.Plan.Desc(),
		keyOnly: !scan.NeedsValue(t.r.Plan.Nodes[0]),
	}
	defer func() { err = errors.Join(err, rows.close(), reader.Close()) }()
	sc, err := scan.New(t.r.Plan.Nodes[0], rows, scan.Options{
		BatchRowsMax: t.r.BatchRowsMax, BatchBytesMax: t.r.BatchBytesMax, KeyPrefix: t.r.KeyPrefix(),
	})
	if err != nil {
		return err
	}
	return t.compute(ctx, sc)
}

// compute runs the plan over the scan and emits its batches.
func (t *task) compute(ctx context.Context, sc tableScan) (err error) {
	p := t.r.Plan
	defer func() {
		st := sc.Stats()
		t.stats.RowsScanned, t.stats.BytesScanned = st.Rows, st.Bytes
	}()
	op, err := exec.BuildOn(p, exec.NewSource("Scan", sc.Types(), func(*exec.Ctx) (exec.Source, error) { return pausingScan{sc, t, ctx}, nil }))
	if err != nil {
		return err
	}
	eval, err := exec.EvalCtx(p)
	if err != nil {
		return err
	}
	eval.Context = ctx
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := t.yield(ctx); err != nil {
		return err
	}
	if err := op.Open(&exec.Ctx{Context: ctx, Eval: eval, Mem: t.mem}); err != nil {
		return err
	}
	resumable := p.Resumable()
	for {
		if err := t.yield(ctx); err != nil {
			return err
		}
		b, err := op.Next()
		if err != nil || b == nil {
			return err
		}
		t.worker.Pause()
		if err := t.send(b, sc, resumable); err != nil {
			return err
		}
	}
}

func (t *task) send(b *expr.Batch, sc tableScan, resumable bool) error {
	t.stats.Batches++
	t.stats.RowsReturned += uint64(b.N)
	e := &plan.Event{Task: t.i, Batch: b}
	if resumable {
		e.ResumeKey = bytes.Clone(sc.LastKey())
	}
	was := t.tracker.Enter(tracker.Send)
	defer func() { t.tracker.Enter(was) }()
	return t.emit(e)
}

// yield lets others compute when it is their turn, and waits for a core if the
// task has none.
func (t *task) yield(ctx context.Context) error {
	if !t.worker.Held() {
		was := t.tracker.Enter(tracker.Queue)
		defer func() { t.tracker.Enter(was) }()
	}
	before := t.worker.Waited()
	err := t.worker.Yield(ctx)
	t.stats.Wait += t.worker.Waited() - before
	return err
}

// pausingScan yields between the batches of a scan: operators may read all of
// them before they return one of their own.
type pausingScan struct {
	tableScan
	t   *task
	ctx context.Context
}

// Next implements exec.Source.
func (p pausingScan) Next() (*expr.Batch, error) {
	if err := p.t.yield(p.ctx); err != nil {
		return nil, err
	}
	return p.tableScan.Next()
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
