package server

import (
	"context"
	"errors"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// TestFirstErrorIsBeforeTheCancel: workers that end because another one has
// failed must not be able to say so first.
func TestFirstErrorIsBeforeTheCancel(t *testing.T) {
	first := errors.New("division by zero")
	w := &task{}
	var seen error
	w.cancel = func(error) {
		if seen == nil {
			seen = w.err
		}
		w.fail(nil)
	}
	w.fail(first)
	w.fail(context.Canceled)
	if !errors.Is(seen, first) || !errors.Is(w.err, first) {
		t.Errorf("at the cancel %v, at the end %v", seen, w.err)
	}
}

// TestMergerStaysFull: when a region that had many groups fails, nothing is kept
// again: of others a part is on its way to the reader already, for whom their end
// must not be in another region's answer.
func TestMergerStaysFull(t *testing.T) {
	q := &request{mem: exec.NewMemAccount(0, nil), total: &costs{}, r: &plan.Request{Regions: make([]plan.RegionTask, 2)}}
	var ends, sent int
	q.emit = func(e *plan.Event) error {
		if e.Done {
			ends++
			if len(e.Also) > 0 {
				t.Errorf("region %d ends with %v", e.Task, e.Also)
			}
		} else {
			sent += e.Batch.N
		}
		return nil
	}
	q.merger = &merger{q: q}
	batch := func(n int) *expr.Batch {
		b := colvec.NewBuilder(sqltypes.Int8, n)
		for i := range n {
			b.AppendInt(int64(i))
		}
		a, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		return &expr.Batch{N: n, Cols: []arrow.Array{a}}
	}
	keep := func(w *task, n int) {
		if err := w.keep(batch(n)); err != nil {
			t.Fatal(err)
		}
	}
	good, bad := &task{q: q}, &task{q: q}
	keep(good, 10)
	keep(bad, MergeRowsMax)
	if q.merger.keeps() {
		t.Fatal("there is room for more")
	}
	bad.unkeep() // it has met a lock
	if q.merger.keeps() {
		t.Fatal("it keeps again: of some the rest has been sent")
	}
	q.merger.add(&plan.Event{Task: 0, Done: true}, good.kept)
	q.merger.add(&plan.Event{Task: 1, Done: true}, nil)
	q.merger.finish(t.Context())
	q.merger.close()
	if ends != 2 || sent != 10 || q.mem.Used() != 0 {
		t.Errorf("%d ends, %d rows, %d bytes are charged", ends, sent, q.mem.Used())
	}
}
