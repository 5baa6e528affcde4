package exec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

type project struct {
	in       Operator
	exprs    *exprList
	computes bool // not only columns of the input
	ctx      *Ctx
}

// NewProject computes a column of each expression.
func NewProject(in Operator, exprs []expr.Expr) (Operator, error) {
	list, err := compileAll(exprs)
	if err != nil {
		return nil, err
	}
	p := &project{in: in, exprs: list}
	for _, e := range exprs {
		if _, isColumn := e.(*expr.Column); !isColumn {
			p.computes = true
		}
	}
	return newOperator("Project", p, list.types, in), nil
}

func (p *project) open(ctx *Ctx) error { p.ctx = ctx; return nil }
func (p *project) close() error        { return nil }

// projectShareMin: of a selection of less than this share of a batch (one in
// so many rows) the rows are gathered before columns of the batch's length are
// computed for them.
const projectShareMin = 4

func (p *project) nextRaw() (Raw, error) {
	in, err := NextRaw(p.in)
	if err != nil || in.Batch == nil {
		return Raw{}, err
	}
	if p.computes && in.Sel != nil && len(in.Sel) < in.N/projectShareMin {
		b, err := in.Gathered(p.in.Types())
		if err != nil {
			return Raw{}, err
		}
		in = Raw{Batch: b}
	}
	cols, err := p.exprs.encoded(p.ctx, in)
	if err != nil {
		return Raw{}, err
	}
	return Raw{&expr.Batch{N: in.N, Cols: cols}, in.Sel}, nil
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
