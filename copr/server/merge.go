package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/tracker"
)

// MergeRowsMax is with how many groups, of all regions of a request together,
// partial aggregates are merged before they leave the store. With more of them
// merging does not make the answer much smaller, and whoever is above does it by
// several goroutines.
const MergeRowsMax = 1 << 15

// merger keeps the partial aggregates of regions that ended well until the
// request is over, and makes one answer of them. Regions that failed have told
// their own end by then, and nothing of them is in it. The regions in it are done
// together, with the last batch of the answer, or not at all.
type merger struct {
	q    *request
	agg  *plan.Aggregation
	rows atomic.Int64 // kept, of regions that are not at their end, too
	full atomic.Bool  // there were too many; for good: some are on their way

	mu   sync.Mutex
	ends []*plan.Event
	kept [][]*expr.Batch // by end
}

// newMerger returns nil where the order of rows is to be seen in the answer.
func newMerger(q *request) *merger {
	if agg := q.r.Plan.Merges(); agg != nil {
		return &merger{q: q, agg: agg}
	}
	return nil
}

// keeps reports whether batches are to be kept; not when there are too many.
func (m *merger) keeps() bool { return m != nil && !m.full.Load() }

// keep counts a batch that is kept.
func (m *merger) keep(b *expr.Batch) {
	if m.rows.Add(int64(b.N)) > MergeRowsMax {
		m.full.Store(true)
	}
}

// add takes the end of a region that ended well, and what was kept of it.
func (m *merger) add(end *plan.Event, kept []*expr.Batch) {
	m.mu.Lock()
	m.ends, m.kept = append(m.ends, end), append(m.kept, kept)
	m.mu.Unlock()
	if !m.keeps() {
		m.flush()
	}
}

// flush sends what there is, region by region.
func (m *merger) flush() {
	m.mu.Lock()
	ends, kept := m.ends, m.kept
	m.ends, m.kept = nil, nil
	m.mu.Unlock()
	var failed error
	for i, end := range ends {
		for _, b := range kept[i] {
			if failed == nil {
				failed = m.q.emit(&plan.Event{Task: end.Task, Batch: b})
			}
			m.free(b)
		}
		if failed == nil {
			failed = m.q.emit(end)
		}
	}
}

// free gives the memory of a kept batch back.
func (m *merger) free(b *expr.Batch) {
	m.rows.Add(-int64(b.N))
	m.q.mem.Shrink(batchBytes(b))
}

// finish sends the answer when all regions have ended.
func (m *merger) finish(ctx context.Context) {
	if m == nil {
		return
	}
	t := tracker.Begin(ctx)
	defer func() { m.q.total.addHelper(t) }()
	t.Enter(tracker.Send)
	all := slices.Concat(m.kept...)
	if len(m.ends) == 0 || len(all) <= 1 && len(m.ends) == 1 || !m.keeps() {
		m.flush()
		return
	}
	merged := all
	if len(all) > 1 {
		var err error
		if merged, err = m.merge(t, all); err != nil { // whoever merges above has the same reason, or none
			m.flush()
			return
		}
	}
	end := *m.ends[0]
	for _, e := range m.ends[1:] {
		end.Also = append(end.Also, e.Task)
		end.Stats.Add(&e.Stats)
	}
	for _, b := range merged {
		if m.q.emit(&plan.Event{Task: end.Task, Batch: b}) != nil {
			return
		}
	}
	_ = m.q.emit(&end) // whoever takes the events knows of its own error
}

func (m *merger) merge(t *tracker.Tracker, in []*expr.Batch) (out []*expr.Batch, err error) {
	ctx := t.Context()
	w := m.q.group.Worker()
	defer w.Pause()
	was := t.Enter(tracker.Queue)
	defer func() { t.Enter(was) }()
	err = w.Yield(ctx)
	t.Enter(tracker.Process)
	if err != nil {
		return nil, err
	}
	types, err := m.q.r.Plan.OutputTypes()
	if err != nil {
		return nil, err
	}
	op, err := exec.NewHashAgg(exec.NewBatches(types, in...), exec.MergeAgg, m.agg.GroupBy, m.agg.Aggs)
	if err != nil {
		return nil, err
	}
	eval, err := exec.EvalCtx(m.q.r.Plan)
	if err != nil {
		return nil, err
	}
	defer func() { err = m.q.s.recovered(recover(), m.q.r.Regions[0].ID, err) }()
	defer func() { err = errors.Join(err, op.Close()) }()
	return exec.Collect(&exec.Ctx{Context: ctx, Eval: eval, Mem: m.q.mem}, op)
}

// close gives back what is charged for batches that were not sent.
func (m *merger) close() {
	if m == nil {
		return
	}
	for _, kept := range m.kept {
		for _, b := range kept {
			m.free(b)
		}
	}
}

func batchBytes(b *expr.Batch) int64 {
	n := int64(0)
	for _, c := range b.Cols {
		n += colvec.ArrayBytes(c)
	}
	return n
}
