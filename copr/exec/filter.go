package exec

import (
	"github.com/copradb/copra/copr/expr"
)

type filterOp struct {
	in    Operator
	conds *filterList
	ctx   *Ctx
	sel   []int32
}

// NewFilter passes on the rows for which every condition is true.
func NewFilter(in Operator, conds []expr.Expr) (Operator, error) {
	list, err := compileFilter(conds)
	if err != nil {
		return nil, err
	}
	return newOperator("Filter", &filterOp{in: in, conds: list}, in.Types(), in), nil
}

func (f *filterOp) open(ctx *Ctx) error { f.ctx = ctx; return nil }
func (f *filterOp) close() error        { return nil }

func (f *filterOp) next() (*expr.Batch, error) {
	b, err := f.in.Next()
	if err != nil || b == nil {
		return nil, err
	}
	if f.sel, err = f.conds.sel(f.ctx, b, f.sel[:0]); err != nil {
		return nil, err
	}
	return takeBatch(b, f.in.Types(), f.sel)
}
