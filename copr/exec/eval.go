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

// encoded evaluates all expressions over the rows of r; the columns may be
// encoded, and other rows have any value.
func (l *exprList) encoded(ctx *Ctx, r Raw) ([]arrow.Array, error) {
	out := make([]arrow.Array, len(l.evals))
	for i, ev := range l.evals {
		a, err := ev.EvalEncoded(ctx.Eval, r.Batch, r.Sel)
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
// passed those before it, unless it cannot fail.
type filterList struct{ all expr.Evaluator }

func compileFilter(conds []expr.Expr) (*filterList, error) {
	var e expr.Expr = &expr.Logic{Args: conds}
	switch len(conds) {
	case 0:
		e = &expr.Const{Value: sqltypes.NewBool(true), Typ: sqltypes.Bool}
	case 1:
		e = conds[0]
	}
	all, err := expr.Compile(e)
	return &filterList{all}, err
}

// sel appends the rows of b for which all conditions are true.
func (f *filterList) sel(ctx *Ctx, b *expr.Batch, sel []int32) ([]int32, error) {
	return f.selIn(ctx, b, nil, sel)
}

// selIn appends to out, which is empty, the rows of in (nil = all) for which all
// conditions are true.
func (f *filterList) selIn(ctx *Ctx, b *expr.Batch, in, out []int32) ([]int32, error) {
	return expr.Filter(ctx.Eval, f.all, b, in, out[:0])
}

// selNotFalse appends the rows for which no condition is false.
func (f *filterList) selNotFalse(ctx *Ctx, b *expr.Batch, sel []int32) ([]int32, error) {
	a, err := f.all.Eval(ctx.Eval, b, nil)
	if err != nil {
		return sel, err
	}
	v := colvec.Open(a, sqltypes.Bool)
	for i := range b.N {
		if v.IsNull(i) || v.BoolAt(i) {
			sel = append(sel, int32(i))
		}
	}
	return sel, nil
}
