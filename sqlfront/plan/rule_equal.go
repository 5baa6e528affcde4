package plan

import (
	"github.com/copradb/copra/copr/expr"
)

// eqClass is a set of columns that conditions make equal, all of one type, and
// one of these conditions as a pattern to make others from.
type eqClass struct {
	cols    []ColID
	pattern *expr.Call
}

func (c *eqClass) has(id ColID) bool {
	for _, x := range c.cols {
		if x == id {
			return true
		}
	}
	return false
}

// equate is l = r for two members of the class.
func (c *eqClass) equate(q *query, l, r ColID) expr.Expr {
	call := *c.pattern
	call.Args = []expr.Expr{q.column(l), q.column(r)}
	return &call
}

// columnEquality recognises a = b over two plain columns of one type.
func columnEquality(e expr.Expr) (call *expr.Call, l, r *expr.Column, ok bool) {
	call, ok = e.(*expr.Call)
	if !ok || opName(call) != "=" || len(call.Args) != 2 {
		return nil, nil, nil, false
	}
	l, ok1 := call.Args[0].(*expr.Column)
	r, ok2 := call.Args[1].(*expr.Column)
	ok = ok1 && ok2 && l.Index != r.Index && l.Typ.OID == r.Typ.OID
	return call, l, r, ok
}

// eqClasses sorts conditions into classes of equal columns and the rest.
func eqClasses(conds []expr.Expr) (classes []*eqClass, rest []expr.Expr) {
	for _, e := range conds {
		call, l, r, ok := columnEquality(e)
		if !ok {
			rest = append(rest, e)
			continue
		}
		classes = addEquality(classes, call, l.Index, r.Index)
	}
	return classes, rest
}

func addEquality(classes []*eqClass, call *expr.Call, l, r ColID) []*eqClass {
	var cl, cr *eqClass
	for _, c := range classes {
		if c.has(l) {
			cl = c
		}
		if c.has(r) {
			cr = c
		}
	}
	switch {
	case cl == nil && cr == nil:
		return append(classes, &eqClass{cols: []ColID{l, r}, pattern: call})
	case cl == nil:
		cr.cols = append(cr.cols, l)
	case cr == nil:
		cl.cols = append(cl.cols, r)
	case cl != cr:
		cl.cols = append(cl.cols, cr.cols...)
		out := classes[:0]
		for _, c := range classes {
			if c != cr {
				out = append(out, c)
			}
		}
		return out
	}
	return classes
}

// inferred are the conditions that follow from equalities: with a = b, what a
// comparison with a constant asks of a it asks of b.
func inferred(q *query, conds []expr.Expr) []expr.Expr {
	classes, rest := eqClasses(conds)
	var out []expr.Expr
	for _, e := range rest {
		id, ok := restrictsOne(e)
		if !ok {
			continue
		}
		for _, c := range classes {
			if !c.has(id) {
				continue
			}
			for _, other := range c.cols {
				if other == id || q.cols[other].typ != q.cols[id].typ {
					continue
				}
				n := mapExpr(e, func(x expr.Expr) expr.Expr {
					if col, ok := x.(*expr.Column); ok && col.Index == id {
						return q.column(other)
					}
					return nil
				})
				if !containsExpr(conds, n) && !containsExpr(out, n) {
					out = append(out, n)
				}
			}
		}
	}
	return out
}

func containsExpr(l []expr.Expr, e expr.Expr) bool {
	for _, x := range l {
		if equalExpr(x, e) {
			return true
		}
	}
	return false
}

// restrictsOne recognises a comparison of one plain column with constants.
func restrictsOne(e expr.Expr) (ColID, bool) {
	switch x := e.(type) {
	case *expr.In:
		c, ok := x.X.(*expr.Column)
		if !ok {
			return 0, false
		}
		return c.Index, true
	case *expr.Call:
		if len(x.Args) != 2 || !comparison(opName(x)) {
			return 0, false
		}
		if c, ok := x.Args[0].(*expr.Column); ok && fixed(x.Args[1]) {
			return c.Index, true
		}
		if c, ok := x.Args[1].(*expr.Column); ok && fixed(x.Args[0]) {
			return c.Index, true
		}
	}
	return 0, false
}

// fixed reports whether e has one value for the whole execution.
func fixed(e expr.Expr) bool {
	return !isVolatile(e) && walkExpr(e, func(x expr.Expr) bool {
		switch x.(type) {
		case *expr.Column, *subExpr:
			return false
		}
		return true
	})
}
