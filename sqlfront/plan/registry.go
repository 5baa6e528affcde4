package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// This file is what the rules know about functions and operators by name.

// opName is the operator of a call, "" for functions and casts.
func opName(c *expr.Call) string {
	if c.Fn.Kind == expr.KindOperator {
		return c.Fn.Name
	}
	return ""
}

func comparison(op string) bool {
	switch op {
	case "=", "<", "<=", ">", ">=":
		return true
	}
	return false
}

// commuted is the comparison with its sides exchanged.
func commuted(op string) string {
	switch op {
	case "<":
		return ">"
	case "<=":
		return ">="
	case ">":
		return "<"
	case ">=":
		return "<="
	}
	return op
}

// isVolatile reports whether evaluating e twice or elsewhere could give
// another value.
func isVolatile(e expr.Expr) bool {
	return !walkExpr(e, func(x expr.Expr) bool {
		switch y := x.(type) {
		case *expr.Call:
			return y.Fn.Volatility != expr.Volatile
		case *subExpr:
			return !volatilePlan(y.plan)
		}
		return true
	})
}

func isStrict(c *expr.Call) bool { return c.Fn.Strict }

// stripRelabel looks through casts that change no value: between string types
// without a length.
func stripRelabel(e expr.Expr) expr.Expr {
	for {
		c, ok := e.(*expr.Call)
		if !ok || c.Fn.Kind != expr.KindCast || !relabels(c.Args[0].Type(), c.Typ) {
			return e
		}
		e = c.Args[0]
	}
}

func relabels(from, to sqltypes.Type) bool {
	plain := func(t sqltypes.Type) bool {
		return t.OID == sqltypes.OIDText || t.OID == sqltypes.OIDVarchar || t.OID == sqltypes.OIDName
	}
	return plain(from) && plain(to) && to.Precision == 0
}

// equalExpr compares structure; names for EXPLAIN do not count.
func equalExpr(a, b expr.Expr) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	switch x := a.(type) {
	case *expr.Column:
		y, ok := b.(*expr.Column)
		return ok && x.Index == y.Index
	case *expr.Const:
		y, ok := b.(*expr.Const)
		return ok && x.Typ == y.Typ && sameDatum(x.Value, y.Value)
	case *expr.Param:
		y, ok := b.(*expr.Param)
		return ok && x.Index == y.Index && x.Typ == y.Typ
	case *expr.Call:
		y, ok := b.(*expr.Call)
		return ok && x.Fn == y.Fn && x.Typ == y.Typ && x.Fn.Volatility != expr.Volatile && equalExprs(x.Args, y.Args)
	case *expr.Logic:
		y, ok := b.(*expr.Logic)
		return ok && x.Or == y.Or && equalExprs(x.Args, y.Args)
	case *expr.Coalesce:
		y, ok := b.(*expr.Coalesce)
		return ok && x.Typ == y.Typ && equalExprs(x.Args, y.Args)
	case *expr.Case:
		y, ok := b.(*expr.Case)
		return ok && x.Typ == y.Typ && equalExprs(x.Conds, y.Conds) && equalExprs(x.Results, y.Results) && equalExpr(x.Else, y.Else)
	case *expr.In:
		y, ok := b.(*expr.In)
		if !ok || x.Not != y.Not || len(x.Values) != len(y.Values) || !equalExpr(x.X, y.X) {
			return false
		}
		for i := range x.Values {
			if !sameDatum(x.Values[i], y.Values[i]) {
				return false
			}
		}
		return true
	case *arrayExpr, *subscript, *anyArray:
		return sameShape(a, b) && equalExprs(children(a), children(b))
	}
	return a == b
}

// sameShape compares this package's own nodes apart from their operands.
func sameShape(a, b expr.Expr) bool {
	if a.Type() != b.Type() {
		return false
	}
	switch x := a.(type) {
	case *arrayExpr:
		_, ok := b.(*arrayExpr)
		return ok
	case *subscript:
		_, ok := b.(*subscript)
		return ok
	case *anyArray:
		y, ok := b.(*anyArray)
		return ok && x.all == y.all && equalExpr(x.test, y.test)
	}
	return false
}

func equalExprs(a, b []expr.Expr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !equalExpr(a[i], b[i]) {
			return false
		}
	}
	return true
}

// sameDatum is equality of representation, so that 1.0 and 1.00 differ.
func sameDatum(a, b sqltypes.Datum) bool {
	if a.Kind() != b.Kind() {
		return false
	}
	if a.Kind() == sqltypes.KindDecimal {
		return string(sqltypes.AppendNumeric(nil, a.Decimal())) == string(sqltypes.AppendNumeric(nil, b.Decimal()))
	}
	return a == b
}

// neverNull reports whether an expression cannot be NULL where its columns are
// produced.
func (q *query) neverNull(e expr.Expr) bool {
	switch x := e.(type) {
	case *expr.Column:
		return q.cols[x.Index].notNull
	case *expr.Const:
		return !x.Value.IsNull()
	case *expr.Call:
		if x.Fn.Kind != expr.KindCast {
			return isNullTest(x) || isNotNullTest(x)
		}
		return q.neverNull(x.Args[0])
	case *expr.Coalesce:
		for _, a := range x.Args {
			if q.neverNull(a) {
				return true
			}
		}
	case *subExpr:
		return x.kind == subExists || x.kind == subArray
	}
	return false
}

// nulled reports whether an outer join inside n may make a column NULL that
// is not NULL where it is produced.
func nulled(n node, c ColID) bool {
	if j, ok := n.(*joinNode); ok {
		left := j.kind == joinFull
		if (j.kind == joinLeft || j.kind == joinFull) && colsOf(j.r.columns()).has(c) {
			return true
		}
		if left && colsOf(j.l.columns()).has(c) {
			return true
		}
	}
	for _, in := range n.inputs() {
		if nulled(in, c) {
			return true
		}
	}
	return false
}

// neverNullIn is neverNull for an expression over n's output.
func (q *query) neverNullIn(n node, e expr.Expr) bool {
	if !q.neverNull(e) {
		return false
	}
	for c := range colsIn(e) {
		if nulled(n, c) {
			return false
		}
	}
	return true
}

// The functions that NOT and IS [NOT] NULL are.
const (
	fnNot       = "not"
	fnIsNull    = "isnull"
	fnIsNotNull = "isnotnull"
)

func mustCall(name string, x expr.Expr) expr.Expr {
	e, err := expr.NewFuncCall(name, x)
	if err != nil {
		panic("plan: the function " + name + " is missing from the registry: " + err.Error())
	}
	return e
}

// notOf negates a boolean, without stacking negations.
func notOf(e expr.Expr) expr.Expr {
	switch x := e.(type) {
	case *expr.In:
		return &expr.In{X: x.X, Values: x.Values, Not: !x.Not}
	case *expr.Logic:
		if x.Or { // De Morgan: conjuncts can be pushed one by one
			args := make([]expr.Expr, len(x.Args))
			for i, a := range x.Args {
				args[i] = notOf(a)
			}
			return &expr.Logic{Args: args}
		}
	case *expr.Call:
		if inner, ok := negated(x); ok {
			return inner
		}
	}
	return mustCall(fnNot, e)
}

// nullTest is x IS [NOT] NULL.
func nullTest(e expr.Expr, not bool) expr.Expr {
	if not {
		return mustCall(fnIsNotNull, e)
	}
	return mustCall(fnIsNull, e)
}

// negated returns x of NOT x.
func negated(e expr.Expr) (expr.Expr, bool) {
	c, ok := e.(*expr.Call)
	if !ok || c.Fn.Kind != expr.KindFunction || c.Fn.Name != fnNot || len(c.Args) != 1 {
		return nil, false
	}
	return c.Args[0], true
}

func isNullTest(c *expr.Call) bool { return c.Fn.Kind == expr.KindFunction && c.Fn.Name == fnIsNull }
func isNotNullTest(c *expr.Call) bool {
	return c.Fn.Kind == expr.KindFunction && c.Fn.Name == fnIsNotNull
}
