package plan

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

type arrowArray = arrow.Array

// canceled is why a context ended, as PostgreSQL says it.
func canceled(ctx *exec.Ctx) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return pgerror.Wrap(ctx.Err(), pgerror.QueryCanceled, "canceling statement due to statement timeout")
	}
	if cause := context.Cause(ctx.Context); cause != nil && cause != ctx.Err() {
		return cause
	}
	return pgerror.Wrap(ctx.Err(), pgerror.QueryCanceled, "canceling statement due to user request")
}

// batchBytes is about the memory of a batch.
func batchBytes(b *expr.Batch) int64 {
	n := int64(0)
	for _, c := range b.Cols {
		n += colvec.ArrayBytes(c)
	}
	return n
}

func (n *physApply) build(b *builder) (exec.Operator, error) {
	l, err := b.build(n.l)
	if err != nil {
		return nil, err
	}
	return newUnary("Nested Loop Apply", n.types, l, func(ctx *exec.Ctx, batch *expr.Batch, emit func(*expr.Batch) error) error {
		for i := range batch.N {
			if ctx.Err() != nil {
				return canceled(ctx)
			}
			if err := n.row(ctx, b, batch, i, emit); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// row joins one left row with what the right side gives for it.
func (n *physApply) row(ctx *exec.Ctx, b *builder, batch *expr.Batch, i int, emit func(*expr.Batch) error) (err error) {
	eval := b.evalWith(ctx.Eval)
	for _, r := range n.outer {
		eval.Params[r.slot] = sqltypes.DatumAt(r.typ, batch.Cols[r.pos], i)
	}
	sub := b.under(eval, n.ctes)
	defer func() { err = errors.Join(err, b.freeCTEs(sub)) }()
	right, err := sub.build(n.r)
	if err != nil {
		return err
	}
	conds, err := b.readyAll(n.conds)
	if err != nil {
		return err
	}
	left := exec.NewBatches(n.l.base().types, expr.SliceBatch(batch, i, i+1))
	join, err := exec.NewNestedLoopJoin(exec.NestedLoopSpec{Kind: n.kind, Left: left, Right: right, Conds: conds})
	if err != nil {
		return err
	}
	out, err := exec.Collect(ctx, join)
	if err != nil {
		return err
	}
	for _, o := range out {
		if err := emit(o); err != nil {
			return err
		}
	}
	return nil
}

// newDistinctOn keeps the first row of each group of rows equal in the columns
// at, in the order of the input.
func newDistinctOn(in exec.Operator, at []int) exec.Operator {
	seen := map[string]bool{}
	var held charge
	u := newUnary("Distinct On", in.Types(), in, func(ctx *exec.Ctx, b *expr.Batch, emit func(*expr.Batch) error) error {
		keys, err := rowKeys(b, in.Types(), at)
		if err != nil {
			return err
		}
		var sel []int32
		grown := int64(0)
		for i, k := range keys {
			if !seen[k] {
				seen[k] = true
				grown += int64(len(k)) + 64
				sel = append(sel, int32(i))
			}
		}
		if err := held.grow(ctx.Mem, grown); err != nil {
			return err
		}
		if len(sel) == 0 {
			return nil
		}
		return emit(expr.TakeBatch(b, sel))
	})
	u.reset = func() { clear(seen) }
	u.free = func() { clear(seen); held.free() }
	return u
}

func (n *physProjectSet) build(b *builder) (exec.Operator, error) {
	in, err := b.build(n.in)
	if err != nil {
		return nil, err
	}
	evs := make([][]expr.Evaluator, len(n.calls))
	for i, c := range n.calls {
		args, err := b.readyAll(c.args)
		if err != nil {
			return nil, err
		}
		if evs[i], err = expr.CompileAll(args); err != nil {
			return nil, err
		}
	}
	return newUnary("ProjectSet", n.types, in, func(ctx *exec.Ctx, batch *expr.Batch, emit func(*expr.Batch) error) error {
		args := make([][]arrow.Array, len(evs))
		for i, list := range evs {
			for _, ev := range list {
				a, err := ev.Eval(ctx.Eval, batch, nil)
				if err != nil {
					return err
				}
				args[i] = append(args[i], a)
			}
		}
		for row := range batch.N {
			if err := n.expand(ctx, batch, row, args, emit); err != nil {
				return err
			}
		}
		return nil
	}), nil
}

// expand makes the output rows of one input row: as many as the longest set
// has, the shorter ones filled up with NULLs.
func (n *physProjectSet) expand(ctx *exec.Ctx, batch *expr.Batch, row int, args [][]arrow.Array, emit func(*expr.Batch) error) error {
	sets := make([][][]sqltypes.Datum, len(n.calls))
	most := 0
	for i, c := range n.calls {
		vals, types := make([]sqltypes.Datum, len(c.args)), make([]sqltypes.Type, len(c.args))
		for k, a := range c.args {
			types[k] = a.Type()
			vals[k] = sqltypes.DatumAt(types[k], args[i][k], row)
		}
		single := len(n.calls) == 1
		err := c.def.Rows(ctx.Eval, vals, types, func(r []sqltypes.Datum) bool {
			sets[i] = append(sets[i], r)
			return ctx.Err() == nil && (!single || len(sets[i]) < setRowsMax)
		})
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return canceled(ctx)
		}
		if len(sets[i]) >= setRowsMax {
			return pgerror.New(pgerror.ProgramLimitExceeded, "function %s returned more than %d rows", c.name, setRowsMax)
		}
		most = max(most, len(sets[i]))
	}
	for lo := 0; lo < most; lo += exec.BatchRowsMax {
		b, err := n.block(batch, row, sets, lo, min(most, lo+exec.BatchRowsMax))
		if err != nil {
			return err
		}
		if err := emit(b); err != nil {
			return err
		}
	}
	return nil
}

// setRowsMax is the most rows of one call of a set-returning function.
const setRowsMax = 1 << 24

func (n *physProjectSet) block(batch *expr.Batch, row int, sets [][][]sqltypes.Datum, lo, hi int) (*expr.Batch, error) {
	out := &expr.Batch{N: hi - lo}
	sel := make([]int32, hi-lo)
	for i := range sel {
		sel[i] = int32(row)
	}
	for _, c := range batch.Cols {
		out.Cols = append(out.Cols, expr.Take(c, sel))
	}
	for i, c := range n.calls {
		bs := colvec.NewBuilders(c.types, hi-lo)
		for k := lo; k < hi; k++ {
			for j := range bs {
				d := sqltypes.Null
				if k < len(sets[i]) {
					d = sets[i][k][j]
				}
				if err := bs[j].AppendDatum(d); err != nil {
					return nil, err
				}
			}
		}
		cols, err := colvec.FinishAll(bs)
		if err != nil {
			return nil, err
		}
		out.Cols = append(out.Cols, cols...)
	}
	if n.ordinality {
		ord := make([]sqltypes.Datum, hi-lo)
		for k := range ord {
			ord[k] = sqltypes.NewInt(int64(lo + k + 1))
		}
		out.Cols = append(out.Cols, sqltypes.ArrayOf(sqltypes.Int8, ord))
	}
	return out, nil
}
