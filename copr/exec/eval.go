package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// exprList is some compiled expressions.
type exprList struct {
	types []sqltypes.Type
	evals []expr.Evaluator
}

func compileAll(exprs []expr.Expr) (*exprList, error) {
	l := &exprList{types: make([]sqltypes.Type, len(exprs)), evals: make([]expr.Evaluator, len(exprs))}
	for i, e := range exprs {
		ev, err := expr.Compile(e)
		if err != nil {
			return nil, err
		}
		l.types[i], l.evals[i] = e.Type(), ev
	}
	return l, nil
}

// arrays evaluates all expressions over all rows of b.
func (l *exprList) arrays(ctx *Ctx, b *expr.Batch) ([]arrow.Array, error) {
	out := make([]arrow.Array, len(l.evals))
	for i, ev := range l.evals {
		a, err := ev.Eval(ctx.Eval, b, nil)
		if err != nil {
			return nil, err
		}
		out[i] = a
	}
	return out, nil
}

// eval is arrays, opened for reading.
func (l *exprList) eval(ctx *Ctx, b *expr.Batch) ([]colvec.Vec, error) {
	cols, err := l.arrays(ctx, b)
	if err != nil {
		return nil, err
	}
	return colvec.OpenAll(cols, l.types), nil
}

// filterList is a conjunction: a condition is evaluated only for the rows that
// passed those before it.
type filterList struct{ conds *exprList }

func compileFilter(conds []expr.Expr) (*filterList, error) {
	l, err := compileAll(conds)
	return &filterList{l}, err
}

// sel appends the rows of b for which all conditions are true.
func (f *filterList) sel(ctx *Ctx, b *expr.Batch, sel []int32) ([]int32, error) {
	return f.selIn(ctx, b, nil, sel)
}

// selIn appends to out, which is empty, the rows of in (nil = all) for which all
// conditions are true.
func (f *filterList) selIn(ctx *Ctx, b *expr.Batch, in, out []int32) ([]int32, error) {
	var err error
	for _, ev := range f.conds.evals {
		if out, err = expr.Filter(ctx.Eval, ev, b, in, out[:0]); err != nil || len(out) == 0 {
			return out, err
		}
		in = out
	}
	return out, nil
}

// selNotFalse appends the rows for which no condition is false.
func (f *filterList) selNotFalse(ctx *Ctx, b *expr.Batch, sel []int32) ([]int32, error) {
	for i := range b.N {
		sel = append(sel, int32(i))
	}
	for _, ev := range f.conds.evals {
		a, err := ev.Eval(ctx.Eval, b, sel)
		if err != nil || len(sel) == 0 {
			return sel, err
		}
		v := colvec.Open(a, sqltypes.Bool)
		kept := sel[:0]
		for _, i := range sel {
			if v.IsNull(int(i)) || v.BoolAt(int(i)) {
				kept = append(kept, i)
			}
		}
		sel = kept
	}
	return sel, nil
}
