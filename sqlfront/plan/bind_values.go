package plan

import (
	"strconv"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// bindValues binds VALUES lists: each column gets the common type of its
// values, or in an INSERT the type of the target column.
func (b *binder) bindValues(s *ast.Select, sc *scope, opts selectOpts) (*relation, error) {
	if len(s.Locking) > 0 {
		return nil, pgerror.New(pgerror.FeatureNotSupported, "FOR %s cannot be applied to VALUES", s.Locking[0].Strength)
	}
	sc.level = &level{clause: "VALUES", noAgg: true, noSRF: true}
	width := len(s.Values[0])
	n := &valuesNode{}
	for _, row := range s.Values {
		if len(row) != width {
			return nil, pgerror.New(pgerror.SyntaxError, "VALUES lists must all be the same length").At(row[0].Position())
		}
		out := make([]expr.Expr, width)
		for i, e := range row {
			var err error
			if out[i], err = b.bindValue(e, i, sc, opts); err != nil {
				return nil, err
			}
		}
		n.rows = append(n.rows, out)
	}
	rel := &relation{plan: n}
	for i := 0; i < width; i++ {
		typ, err := b.valuesColumn(n, s, i, opts)
		if err != nil {
			return nil, err
		}
		name := "column" + strconv.Itoa(i+1)
		id := b.q.add(colMeta{name: name, typ: typ, notNull: b.allNotNull(n, i)})
		n.cols = append(n.cols, id)
		rel.cols = append(rel.cols, outCol{name, id})
	}
	if err := b.orderOutput(rel, s, "VALUES"); err != nil {
		return nil, err
	}
	return rel, b.bindLimit(rel, s, sc)
}

// bindValue binds one value; DEFAULT stands only in an INSERT.
func (b *binder) bindValue(e ast.Expr, i int, sc *scope, opts selectOpts) (expr.Expr, error) {
	if _, ok := e.(*ast.Default); ok {
		if opts.insert == nil {
			return nil, pgerror.New(pgerror.SyntaxError, "DEFAULT is not allowed in this context").At(e.Position())
		}
		return opts.insert.defaultFor(b, i)
	}
	x, err := b.bindExpr(e, sc)
	if err != nil {
		return nil, err
	}
	if opts.insert != nil {
		return opts.insert.assign(b, x, i, e.Position())
	}
	return x, nil
}

// valuesColumn coerces column i of all rows to one type.
func (b *binder) valuesColumn(n *valuesNode, s *ast.Select, i int, opts selectOpts) (sqltypes.Type, error) {
	if opts.insert != nil {
		return opts.insert.typeOf(i, n.rows[0][i]), nil
	}
	all := make([]expr.Expr, len(n.rows))
	unknown, same := true, true
	for r := range n.rows {
		all[r] = n.rows[r][i]
		unknown = unknown && unknownType(all[r].Type())
		same = same && all[r].Type() == all[0].Type()
	}
	if unknown && opts.keepUnknown && len(n.rows) == 1 {
		return sqltypes.Unknown, nil
	}
	typ := all[0].Type()
	if !same || unknown {
		var err error
		if typ, err = b.commonType(all, "VALUES", s.Values[0][i].Position()); err != nil {
			return typ, err
		}
	}
	for r := range n.rows {
		x, err := b.implicitCast(all[r], typ, s.Values[r][i].Position())
		if err != nil {
			return typ, err
		}
		n.rows[r][i] = x
	}
	return typ, nil
}

func (b *binder) allNotNull(n *valuesNode, i int) bool {
	for _, r := range n.rows {
		if !b.q.neverNull(r[i]) {
			return false
		}
	}
	return true
}
