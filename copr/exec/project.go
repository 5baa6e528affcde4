package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

type project struct {
	in    Operator
	exprs *exprList
	ctx   *Ctx
}

// NewProject computes a column of each expression.
func NewProject(in Operator, exprs []expr.Expr) (Operator, error) {
	list, err := compileAll(exprs)
	if err != nil {
		return nil, err
	}
	return newOperator("Project", &project{in: in, exprs: list}, list.types, in), nil
}

func (p *project) open(ctx *Ctx) error { p.ctx = ctx; return nil }
func (p *project) close() error        { return nil }

func (p *project) next() (*expr.Batch, error) {
	b, err := p.in.Next()
	if err != nil || b == nil {
		return nil, err
	}
	cols, err := p.exprs.arrays(p.ctx, b)
	if err != nil {
		return nil, err
	}
	return &expr.Batch{N: b.N, Cols: cols}, nil
}

type values struct {
	types []sqltypes.Type
	rows  []*exprList
	ctx   *Ctx
	at    int
}

// NewValues computes rows of constants, parameters and calls of them. An
// expression reads no column.
func NewValues(types []sqltypes.Type, rows [][]expr.Expr) (Operator, error) {
	v := &values{types: types}
	for _, r := range rows {
		list, err := compileAll(r)
		if err != nil {
			return nil, err
		}
		v.rows = append(v.rows, list)
	}
	return newOperator("Values", v, types), nil
}

func (v *values) open(ctx *Ctx) error { v.ctx, v.at = ctx, 0; return nil }
func (v *values) close() error        { return nil }

func (v *values) next() (*expr.Batch, error) {
	n := min(len(v.rows)-v.at, BatchRowsMax)
	if n == 0 {
		return nil, nil
	}
	bs := colvec.NewBuilders(v.types, n)
	one := &expr.Batch{N: 1, Cols: []arrow.Array{}}
	for _, r := range v.rows[v.at : v.at+n] {
		vecs, err := r.eval(v.ctx, one)
		if err != nil {
			return nil, err
		}
		for c := range vecs {
			bs[c].AppendFrom(&vecs[c], 0)
		}
	}
	v.at += n
	cols, err := colvec.FinishAll(bs)
	if err != nil {
		return nil, err
	}
	return &expr.Batch{N: n, Cols: cols}, nil
}
