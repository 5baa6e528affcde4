package plan

import "github.com/copradb/copra/copr/expr"

// rejectsNulls reports whether one of the conditions cannot be true when all
// of cols are NULL, so that an outer join that nulls them gives no more than
// an inner join would.
func (o *optimizer) rejectsNulls(conds []expr.Expr, cols colSet) bool {
	for _, e := range conds {
		if nullOnNull(e, cols, true) {
			return true
		}
	}
	return false
}

// nullOnNull reports whether e is NULL (or, if falseToo, NULL or false)
// whenever all of cols are NULL.
func nullOnNull(e expr.Expr, cols colSet, falseToo bool) bool {
	switch x := e.(type) {
	case *expr.Column:
		return cols.has(x.Index)
	case *expr.In:
		return nullOnNull(x.X, cols, false)
	case *expr.Logic:
		// AND: one such argument suffices where false is as good as NULL;
		// otherwise, and for OR, all must be.
		for _, a := range x.Args {
			hit := nullOnNull(a, cols, falseToo)
			if hit && !x.Or && falseToo {
				return true
			}
			if !hit && (x.Or || !falseToo) {
				return false
			}
		}
		return x.Or || !falseToo
	case *expr.Call:
		if !isStrict(x) {
			return falseToo && isNotNullTest(x) && nullOnNull(x.Args[0], cols, false)
		}
		for _, a := range x.Args {
			if nullOnNull(a, cols, false) {
				return true
			}
		}
	}
	return false
}

// narrowFull turns a full join into a left one where a condition above throws
// away the rows that only one side has.
func (o *optimizer) narrowFull(x *joinNode, above []expr.Expr) *joinNode {
	noLeftNull := o.rejectsNulls(above, colsOf(x.l.columns()))
	noRightNull := o.rejectsNulls(above, colsOf(x.r.columns()))
	c := *x
	switch {
	case noLeftNull && noRightNull:
		c.kind = joinInner
	case noLeftNull:
		c.kind = joinLeft
	case noRightNull:
		c.kind, c.l, c.r = joinLeft, x.r, x.l
	default:
		return x
	}
	return &c
}
