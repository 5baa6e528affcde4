package plan

import "github.com/copradb/copra/copr/expr"

// unnest turns subqueries in conditions and projections into joins:
//
//	EXISTS (…), x IN (…)          → semi join
//	NOT EXISTS, NOT IN            → anti join (NOT IN only where no NULL can
//	                                make it unknown)
//	(SELECT agg … WHERE k = outer) → left join with the subquery grouped by k
//
// What does not fit these stays an expression, evaluated once if it depends on
// nothing outside, and once per distinct outer values otherwise.
func (o *optimizer) unnest(n node) node {
	n = mapInputs(n, o.unnest)
	n = mapNodeExprs(n, o.inSubqueries(o.unnest))
	switch x := n.(type) {
	case *filterNode:
		return o.unnestFilter(x)
	case *projectNode:
		return o.unnestProject(x)
	}
	return n
}

func (o *optimizer) unnestFilter(x *filterNode) node {
	in := x.in
	var conds []expr.Expr
	for _, e := range x.conds {
		if j, ok := o.toSemiJoin(in, e); ok {
			in = j
			continue
		}
		in, e = o.unnestScalars(in, e)
		conds = append(conds, e)
	}
	return filtered(in, conds)
}

func (o *optimizer) unnestProject(x *projectNode) node {
	in := x.in
	items := append([]item(nil), x.items...)
	for i := range items {
		in, items[i].e = o.unnestScalars(in, items[i].e)
	}
	return &projectNode{in: in, items: items}
}

// toSemiJoin makes a semi or anti join of a conjunct that is just a subquery
// test or its negation.
func (o *optimizer) toSemiJoin(in node, e expr.Expr) (node, bool) {
	kind := joinSemi
	if inner, ok := negated(e); ok {
		e, kind = inner, joinAnti
	}
	s, ok := e.(*subExpr)
	if !ok || s.kind != subExists && s.kind != subAny {
		return nil, false
	}
	left := colsOf(in.columns())
	free := freeCols(s.plan)
	if s.kind == subExists && !free.intersects(left) {
		return nil, false // depends on no row of the input: evaluated once
	}
	plan, pulled, ok := o.pullUp(s.plan, left)
	if !ok || freeCols(plan).intersects(left) {
		return nil, false
	}
	on := pulled
	nullAware := false
	if s.kind == subAny {
		if kind == joinAnti && !o.neverUnknown(s.test, in, plan) {
			if len(pulled) > 0 || !hashable(s.test, left, colsOf(plan.columns())) {
				return nil, false
			}
			nullAware = true
		}
		on = append(on, conjuncts(s.test, nil)...)
	}
	for _, c := range on {
		if isVolatile(c) || hasSubquery(c) {
			return nil, false
		}
	}
	return &joinNode{kind: kind, l: in, r: plan, on: on, nullAware: nullAware}, true
}

// hashable reports whether a test is one equality between the two sides.
func hashable(e expr.Expr, left, right colSet) bool {
	c, ok := e.(*expr.Call)
	if !ok || opName(c) != "=" {
		return false
	}
	a, b := colsIn(c.Args[0]), colsIn(c.Args[1])
	return len(a) > 0 && len(b) > 0 && (a.within(left) && b.within(right) || a.within(right) && b.within(left))
}

// neverUnknown reports whether a test of comparisons cannot be NULL for the
// rows of l and r.
func (o *optimizer) neverUnknown(e expr.Expr, l, r node) bool {
	for _, c := range conjuncts(e, nil) {
		call, ok := c.(*expr.Call)
		if !ok || !comparison(opName(call)) {
			return false
		}
		for _, a := range call.Args {
			if !o.q.neverNullIn(l, a) || !o.q.neverNullIn(r, a) {
				return false
			}
		}
	}
	return true
}

// pullUp takes the conditions that mention outer columns out of a subquery's
// plan, as far as these can be evaluated above it just as well for a test of
// existence. The columns they need are kept in the output.
func (o *optimizer) pullUp(n node, outer colSet) (out node, pulled []expr.Expr, ok bool) {
	if !freeCols(n).intersects(outer) {
		return n, nil, true
	}
	switch x := n.(type) {
	case *filterNode:
		in, pulled, ok := o.pullUp(x.in, outer)
		if !ok {
			return nil, nil, false
		}
		down, up := split(x.conds, func(_ expr.Expr, c colSet) bool { return !c.intersects(outer) })
		return filtered(in, down), append(pulled, up...), true
	case *sortNode:
		return o.pullUp(x.in, outer)
	case *distinctNode:
		if x.ordered {
			return nil, nil, false
		}
		return o.pullUp(x.in, outer)
	case *projectNode:
		return o.pullUpProject(x, outer)
	case *joinNode:
		return o.pullUpJoin(x, outer)
	}
	return nil, nil, false
}

func (o *optimizer) pullUpProject(x *projectNode, outer colSet) (node, []expr.Expr, bool) {
	for _, it := range x.items {
		if colsIn(it.e).intersects(outer) {
			return nil, nil, false
		}
	}
	in, pulled, ok := o.pullUp(x.in, outer)
	if !ok {
		return nil, nil, false
	}
	return o.keepColumns(&projectNode{in: in, items: x.items}, pulled), pulled, true
}

// keepColumns hands on the input columns that conditions above need.
func (o *optimizer) keepColumns(p *projectNode, conds []expr.Expr) *projectNode {
	have, avail := colsOf(itemCols(p.items)), colsOf(p.in.columns())
	items := append([]item(nil), p.items...)
	for _, e := range conds {
		for c := range colsIn(e) {
			if avail.has(c) && !have.has(c) {
				have.add(c)
				items = append(items, item{c, o.q.column(c)})
			}
		}
	}
	return &projectNode{in: p.in, items: items}
}

func (o *optimizer) pullUpJoin(x *joinNode, outer colSet) (node, []expr.Expr, bool) {
	if x.lateral || x.kind == joinFull {
		return nil, nil, false
	}
	l, pulled, ok := o.pullUp(x.l, outer)
	if !ok {
		return nil, nil, false
	}
	c := *x
	c.l = l
	if x.kind != joinInner {
		// The right side of these decides which rows there are.
		if freeCols(x.r).intersects(outer) || colsOfAll(x.on).intersects(outer) {
			return nil, nil, false
		}
		return &c, pulled, true
	}
	r, more, ok := o.pullUp(x.r, outer)
	if !ok {
		return nil, nil, false
	}
	down, up := split(x.on, func(_ expr.Expr, cs colSet) bool { return !cs.intersects(outer) })
	c.r, c.on = r, down
	return &c, append(append(pulled, more...), up...), true
}

func colsOfAll(l []expr.Expr) colSet {
	s := colSet{}
	for _, e := range l {
		exprCols(e, s)
	}
	return s
}
