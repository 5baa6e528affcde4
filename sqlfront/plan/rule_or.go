package plan

import "github.com/copradb/copra/copr/expr"

// factorOr takes what every arm of an OR demands out of it:
//
//	(a AND x) OR (a AND y)  →  a AND (x OR y)
//
// so that a join condition repeated in each arm (TPC-H Q19) becomes a join
// condition. It further adds, for each single relation that every arm
// restricts, the OR of these restrictions, which can then be pushed down:
//
//	(t.a = 1 AND u.b = 2) OR (t.a = 3 AND u.b = 4)  implies  t.a = 1 OR t.a = 3
//
// which is TPC-H Q7. The implied conditions are redundant, so they never
// change a result.
func (o *optimizer) factorOr(e expr.Expr) []expr.Expr {
	arms := disjuncts(e, nil)
	if len(arms) < 2 {
		return []expr.Expr{e}
	}
	lists := make([][]expr.Expr, len(arms))
	for i, a := range arms {
		for _, c := range conjuncts(a, nil) {
			lists[i] = append(lists[i], o.factorOr(c)...)
		}
	}
	common, rest := commonConjuncts(lists)
	for _, l := range rest {
		if len(l) == 0 {
			return common // one arm is just the common part
		}
	}
	arms = arms[:0:0]
	for _, l := range rest {
		arms = append(arms, andOf(l))
	}
	out := append(common, orOf(arms))
	return append(out, o.impliedByOr(rest)...)
}

func commonConjuncts(lists [][]expr.Expr) (common []expr.Expr, rest [][]expr.Expr) {
	rest = make([][]expr.Expr, len(lists))
	for i, l := range lists {
		rest[i] = append([]expr.Expr(nil), l...)
	}
	for _, c := range lists[0] {
		if isVolatile(c) || !inAll(rest[1:], c) {
			continue
		}
		common = append(common, c)
		for i := range rest {
			rest[i] = removeExpr(rest[i], c)
		}
	}
	return common, rest
}

func inAll(lists [][]expr.Expr, e expr.Expr) bool {
	for _, l := range lists {
		hit := false
		for _, x := range l {
			hit = hit || equalExpr(x, e)
		}
		if !hit {
			return false
		}
	}
	return true
}

func removeExpr(l []expr.Expr, e expr.Expr) []expr.Expr {
	out := l[:0]
	for _, x := range l {
		if !equalExpr(x, e) {
			out = append(out, x)
		}
	}
	return out
}

// impliedByOr finds the relations that every arm restricts by itself.
func (o *optimizer) impliedByOr(arms [][]expr.Expr) []expr.Expr {
	var out []expr.Expr
	seen := map[string]bool{}
	for _, c := range arms[0] {
		rel, ok := o.singleRelation(c)
		if !ok || seen[rel] {
			continue
		}
		seen[rel] = true
		if e := o.restriction(arms, rel); e != nil {
			out = append(out, e)
		}
	}
	return out
}

// restriction is the OR over the arms of what they ask of one relation alone;
// nil if an arm asks nothing, or if the arms are about nothing else (the OR
// itself is then the restriction).
func (o *optimizer) restriction(arms [][]expr.Expr, rel string) expr.Expr {
	parts := make([]expr.Expr, 0, len(arms))
	others := false
	for _, arm := range arms {
		var mine []expr.Expr
		for _, c := range arm {
			if r, ok := o.singleRelation(c); ok && r == rel {
				mine = append(mine, c)
			} else {
				others = true
			}
		}
		if len(mine) == 0 {
			return nil
		}
		parts = append(parts, andOf(mine))
	}
	if !others {
		return nil
	}
	return orOf(parts)
}

// singleRelation names the relation that all columns of e come from.
func (o *optimizer) singleRelation(e expr.Expr) (string, bool) {
	if isVolatile(e) || hasSubquery(e) {
		return "", false
	}
	rel := ""
	for c := range colsIn(e) {
		r := o.q.cols[c].rel
		if r == "" || rel != "" && r != rel {
			return "", false
		}
		rel = r
	}
	return rel, rel != ""
}

func hasSubquery(e expr.Expr) bool {
	return !walkExpr(e, func(x expr.Expr) bool { _, sub := x.(*subExpr); return !sub })
}
