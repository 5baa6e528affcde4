package server

import (
	"bytes"
	"context"
	"errors"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/tracker"
)

// pipeline is the plan over (a share of) a region's scan, by one worker.
type pipeline struct {
	t       *task
	ctx     context.Context
	worker  *cpusched.Worker
	tracker *tracker.Tracker // nil: of a helper, until it begins
	scan    tableScan
	stats   plan.RegionStats
}

// help runs a helper's pipeline. Its error fails the task.
func (p *pipeline) help() {
	t := p.t
	defer t.helpers.Done()
	p.tracker = tracker.Begin(p.ctx)
	p.ctx = p.tracker.Context()
	t.fail(t.guarded(p.run))
	t.fail(p.scan.Close())
	t.q.total.addHelper(p.tracker)
}

// run computes, and emits batches.
func (p *pipeline) run() (err error) {
	t, plan := p.t, p.t.r.Plan
	defer func() {
		st := p.scan.Stats()
		p.stats.RowsScanned, p.stats.BytesScanned = st.Rows, st.Bytes
		if c, ok := p.scan.(*columnar.Scan); ok {
			p.stats.ColumnRows = c.ColumnRows()
		}
		t.add(&p.stats)
	}()
	op, err := exec.BuildOn(plan, exec.NewSource("Scan", p.scan.Types(), func(*exec.Ctx) (exec.Source, error) { return pausingScan{p.scan, p}, nil }))
	if err != nil {
		return err
	}
	eval, err := exec.EvalCtx(plan)
	if err != nil {
		return err
	}
	eval.Context = p.ctx
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := p.yield(); err != nil {
		return err
	}
	if err := op.Open(&exec.Ctx{Context: p.ctx, Eval: eval, Mem: t.q.mem}); err != nil {
		return err
	}
	resumable := plan.Resumable()
	for {
		if err := p.yield(); err != nil {
			return err
		}
		b, err := op.Next()
		if err != nil || b == nil {
			return err
		}
		if c, ok := p.scan.(*columnar.Scan); ok {
			c.Keep(b.Cols)
		}
		if err := p.send(b, resumable); err != nil {
			return err
		}
	}
}

func (p *pipeline) send(b *expr.Batch, resumable bool) error {
	p.stats.Batches++
	p.stats.RowsReturned += uint64(b.N)
	if p.t.q.merger.keeps() {
		return p.t.keep(b)
	}
	p.t.mu.Lock()
	p.t.sent = true
	p.t.mu.Unlock()
	e := &plan.Event{Task: p.t.i, Batch: b}
	if resumable {
		e.ResumeKey = bytes.Clone(p.scan.LastKey())
	}
	p.worker.Pause() // the reader may be slow
	was := p.tracker.Enter(tracker.Send)
	defer func() { p.tracker.Enter(was) }()
	return p.t.q.emit(e)
}

// yield lets others compute when it is their turn, and waits for a core if the
// worker has none.
func (p *pipeline) yield() error {
	if !p.worker.Held() {
		was := p.tracker.Enter(tracker.Queue)
		defer func() { p.tracker.Enter(was) }()
	}
	before := p.worker.Waited()
	err := p.worker.Yield(p.ctx)
	p.stats.Wait += p.worker.Waited() - before
	return err
}

// pausingScan yields between the batches of a scan: operators may read all of
// them before they return one of their own.
type pausingScan struct {
	tableScan
	p *pipeline
}

// Next implements exec.Source.
func (s pausingScan) Next() (*expr.Batch, error) {
	if err := s.p.yield(); err != nil {
		return nil, err
	}
	return s.tableScan.Next()
}

// NextRaw implements exec.RawSource.
func (s pausingScan) NextRaw() (exec.Raw, error) {
	if err := s.p.yield(); err != nil {
		return exec.Raw{}, err
	}
	if raw, ok := s.tableScan.(exec.RawSource); ok {
		return raw.NextRaw()
	}
	b, err := s.tableScan.Next()
	return exec.Raw{Batch: b}, err
}

// Close leaves the scan to who made it: it is asked for its statistics, still.
func (s pausingScan) Close() error { return nil }
