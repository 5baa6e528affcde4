package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

func (b *binder) bindExists(x *ast.Exists, sc *scope) (expr.Expr, error) {
	rel, err := b.bindSelect(x.Sub, sc, selectOpts{})
	if err != nil {
		return nil, err
	}
	return &subExpr{kind: subExists, plan: rel.plan, typ: sqltypes.Bool}, nil
}

// bindSubquery binds a scalar subquery or ARRAY(subquery).
func (b *binder) bindSubquery(x *ast.Subquery, sc *scope) (expr.Expr, error) {
	rel, err := b.bindSelect(x.Sub, sc, selectOpts{})
	if err != nil {
		return nil, err
	}
	if len(rel.cols) != 1 {
		return nil, pgerror.New(pgerror.SyntaxError, "subquery must return only one column").At(x.Position())
	}
	s := &subExpr{kind: subScalar, plan: rel.plan, cols: rel.ids(), typ: b.q.cols[rel.cols[0].id].typ}
	if x.Array {
		arr, ok := s.typ.ArrayType()
		if !ok {
			return nil, pgerror.New(pgerror.UndefinedObject, "could not find array type for data type %s", s.typ.Name()).At(x.Position())
		}
		s.kind, s.typ = subArray, arr
	}
	return s, nil
}

// bindIn binds x IN (list) or x IN (subquery).
func (b *binder) bindIn(x *ast.In, sc *scope) (expr.Expr, error) {
	if x.Sub != nil {
		e, err := b.bindSubTest("=", x.X, x.Sub, sc, x.Position())
		if err != nil {
			return nil, err
		}
		if x.Not {
			return notOf(e), nil
		}
		return e, nil
	}
	if row, ok := x.X.(*ast.Row); ok {
		return b.bindRowIn(x, row, sc)
	}
	v, err := b.bindExpr(x.X, sc)
	if err != nil {
		return nil, err
	}
	list, err := b.bindAll(x.List, sc)
	if err != nil {
		return nil, err
	}
	if in, ok := b.constantIn(v, list, x); ok {
		return in, nil
	}
	parts := make([]expr.Expr, len(list))
	for i, e := range list {
		if parts[i], err = b.operator("", "=", v, e, x.Position()); err != nil {
			return nil, err
		}
	}
	out := orOf(parts)
	if x.Not {
		out = notOf(out)
	}
	return out, nil
}

// constantIn makes the hashed form where every element is a constant that
// takes the type of x, or widens it without loss.
func (b *binder) constantIn(v expr.Expr, list []expr.Expr, x *ast.In) (expr.Expr, bool) {
	if len(list) < 2 {
		return nil, false
	}
	for _, e := range list {
		if _, ok := e.(*expr.Const); !ok {
			return nil, false
		}
	}
	typ, err := b.commonType(append([]expr.Expr{v}, list...), "IN", x.Position())
	if err != nil {
		return nil, false
	}
	if typ.OID == v.Type().OID {
		typ = v.Type().Base()
	} else {
		if v, err = b.implicitCast(v, typ.Base(), x.Position()); err != nil {
			return nil, false
		}
		typ = typ.Base()
	}
	in := &expr.In{X: v, Not: x.Not}
	for i, e := range list {
		c, err := b.implicitCast(e, typ, x.List[i].Position())
		if err != nil {
			return nil, false
		}
		k, ok := b.foldConst(c).(*expr.Const)
		if !ok {
			return nil, false
		}
		if !fitsExactly(k, v.Type()) {
			return nil, false
		}
		in.Values = append(in.Values, k.Value)
	}
	return in, true
}

func (b *binder) bindRowIn(x *ast.In, row *ast.Row, sc *scope) (expr.Expr, error) {
	l, err := b.bindAll(row.Items, sc)
	if err != nil {
		return nil, err
	}
	var parts []expr.Expr
	for _, e := range x.List {
		r, ok := e.(*ast.Row)
		if !ok {
			return nil, pgerror.Unsupported("comparing a row with something that is not a row").At(e.Position())
		}
		items, err := b.bindAll(r.Items, sc)
		if err != nil {
			return nil, err
		}
		p, err := b.compareRows("=", l, items, x.Position())
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	out := orOf(parts)
	if x.Not {
		out = notOf(out)
	}
	return out, nil
}

// bindSubTest binds x op ANY (subquery).
func (b *binder) bindSubTest(op string, left ast.Expr, sub *ast.Select, sc *scope, pos int) (expr.Expr, error) {
	items := []ast.Expr{left}
	if row, ok := left.(*ast.Row); ok {
		items = row.Items
	}
	l, err := b.bindAll(items, sc)
	if err != nil {
		return nil, err
	}
	rel, err := b.bindSelect(sub, sc, selectOpts{})
	if err != nil {
		return nil, err
	}
	switch {
	case len(rel.cols) > len(l):
		return nil, pgerror.New(pgerror.SyntaxError, "subquery has too many columns").At(pos)
	case len(rel.cols) < len(l):
		return nil, pgerror.New(pgerror.SyntaxError, "subquery has too few columns").At(pos)
	}
	r := make([]expr.Expr, len(l))
	for i, c := range rel.cols {
		r[i] = b.q.column(c.id)
	}
	var test expr.Expr
	if len(l) == 1 {
		test, err = b.operator("", op, l[0], r[0], pos)
	} else {
		test, err = b.compareRows(op, l, r, pos)
	}
	if err != nil {
		return nil, err
	}
	if test, err = b.toBool(test, "ANY/ALL", pos); err != nil {
		return nil, err
	}
	return &subExpr{kind: subAny, plan: rel.plan, cols: rel.ids(), test: test, typ: sqltypes.Bool}, nil
}

// bindAnyAll binds x op ANY/ALL (array or subquery). ALL is the negation of
// ANY of the negated test.
func (b *binder) bindAnyAll(x *ast.AnyAll, sc *scope) (expr.Expr, error) {
	if x.Sub == nil {
		return b.bindAnyArray(x, sc)
	}
	e, err := b.bindSubTest(x.Op, x.X, x.Sub, sc, x.Position())
	if err != nil || !x.All {
		return e, err
	}
	s := e.(*subExpr)
	s.test = notOf(s.test)
	return notOf(s), nil
}
