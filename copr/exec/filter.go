package exec

import "github.com/copradb/copra/copr/expr"

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

func (f *filterOp) nextRaw() (Raw, error) {
	in, err := NextRaw(f.in)
	if err != nil || in.Batch == nil {
		return Raw{}, err
	}
	if f.sel == nil {
		f.sel = make([]int32, 0, in.N) // nil would be all rows
	}
	f.sel, err = f.conds.selIn(f.ctx, in.Batch, in.Sel, f.sel[:0])
	if len(f.sel) == in.N {
		return Raw{Batch: in.Batch}, err
	}
	return Raw{in.Batch, f.sel}, err
}
