package plan

import (
	"github.com/copradb/copra/copr/expr"
)

// pushdown moves the conditions of filters and joins as far down as they go:
// into scans where they can, through projections (rewritten in terms of what
// the projection computes), below joins, aggregations (conditions on keys),
// set operations, DISTINCT and windows (conditions on the partition).
func (o *optimizer) pushdown(n node, conds []expr.Expr) node {
	if neverTrue(conds) {
		return &valuesNode{cols: n.columns()}
	}
	switch x := n.(type) {
	case *filterNode:
		return o.pushdown(x.in, append(append([]expr.Expr(nil), conds...), x.conds...))
	case *projectNode:
		return o.pushProject(x, conds)
	case *joinNode:
		return o.pushJoin(x, conds)
	case *aggNode:
		return o.pushAgg(x, conds)
	case *setNode:
		return o.pushSet(x, conds)
	case *distinctNode:
		keys := colsOf(x.on)
		down, keep := split(conds, func(e expr.Expr, c colSet) bool { return c.within(keys) || fixed(e) })
		return filtered(x.withInputs([]node{o.pushdown(x.in, down)}), keep)
	case *windowNode:
		keys := colSet{}
		for _, p := range x.partition {
			if c, ok := p.(*expr.Column); ok {
				keys.add(c.Index)
			}
		}
		down, keep := split(conds, func(_ expr.Expr, c colSet) bool { return len(c) > 0 && c.within(keys) })
		return filtered(x.withInputs([]node{o.pushdown(x.in, down)}), keep)
	case *projectSetNode:
		in := colsOf(x.in.columns())
		down, keep := split(conds, func(_ expr.Expr, c colSet) bool { return len(c) > 0 && c.within(in) })
		return filtered(x.withInputs([]node{o.pushdown(x.in, down)}), keep)
	case *sortNode:
		down, keep := split(conds, func(expr.Expr, colSet) bool { return true })
		return filtered(x.withInputs([]node{o.pushdown(x.in, down)}), keep)
	case *scanNode:
		return pushScan(x, conds)
	}
	n = mapInputs(n, func(c node) node { return o.pushdown(c, nil) })
	return filtered(n, conds)
}

// split sorts conditions by whether they may move; a volatile one never does.
func split(conds []expr.Expr, may func(expr.Expr, colSet) bool) (down, keep []expr.Expr) {
	for _, e := range conds {
		if !isVolatile(e) && may(e, colsIn(e)) {
			down = append(down, e)
		} else {
			keep = append(keep, e)
		}
	}
	return down, keep
}

func neverTrue(conds []expr.Expr) bool {
	for _, e := range conds {
		if c, ok := e.(*expr.Const); ok && (c.Value.IsNull() || !c.Value.Bool()) {
			return true
		}
	}
	return false
}

func pushScan(x *scanNode, conds []expr.Expr) node {
	var keep []expr.Expr
	c := *x
	c.conds = append([]expr.Expr(nil), x.conds...)
	for _, e := range conds {
		switch {
		case isTrue(e) || containsExpr(c.conds, e):
		case isVolatile(e) || hasSubquery(e):
			keep = append(keep, e)
		default:
			c.conds = append(c.conds, e)
		}
	}
	return filtered(&c, keep)
}

func isTrue(e expr.Expr) bool {
	c, ok := e.(*expr.Const)
	return ok && !c.Value.IsNull() && c.Value.Bool()
}

// pushProject rewrites conditions over the projection's input. One that would
// evaluate a volatile function or a subquery twice stays.
func (o *optimizer) pushProject(x *projectNode, conds []expr.Expr) node {
	defs := map[ColID]expr.Expr{}
	for _, it := range x.items {
		defs[it.col] = it.e
	}
	down, keep := split(conds, func(_ expr.Expr, cols colSet) bool {
		for c := range cols {
			if d, ok := defs[c]; ok && (isVolatile(d) || hasSubquery(d)) {
				return false
			}
		}
		return true
	})
	down, _ = mapList(down, func(e expr.Expr) expr.Expr { return o.fold(substitute(e, defs)) })
	return filtered(x.withInputs([]node{o.pushdown(x.in, down)}), keep)
}

// substitute replaces columns by their definitions.
func substitute(e expr.Expr, defs map[ColID]expr.Expr) expr.Expr {
	return mapExpr(e, func(x expr.Expr) expr.Expr {
		if c, ok := x.(*expr.Column); ok {
			if d, ok := defs[c.Index]; ok {
				return d
			}
		}
		return nil
	})
}

func (o *optimizer) pushAgg(x *aggNode, conds []expr.Expr) node {
	defs, keys := map[ColID]expr.Expr{}, colSet{}
	for _, k := range x.keys {
		defs[k.col] = k.e
		if !isVolatile(k.e) && !hasSubquery(k.e) {
			keys.add(k.col)
		}
	}
	down, keep := split(conds, func(_ expr.Expr, c colSet) bool {
		return len(x.keys) > 0 && len(c) > 0 && c.within(keys)
	})
	down, _ = mapList(down, func(e expr.Expr) expr.Expr { return o.fold(substitute(e, defs)) })
	return filtered(x.withInputs([]node{o.pushdown(x.in, down)}), keep)
}

func (o *optimizer) pushSet(x *setNode, conds []expr.Expr) node {
	l, r := map[ColID]expr.Expr{}, map[ColID]expr.Expr{}
	for i, c := range x.cols {
		l[c], r[c] = o.q.column(x.lcols[i]), o.q.column(x.rcols[i])
	}
	down, keep := split(conds, func(expr.Expr, colSet) bool { return true })
	side := func(defs map[ColID]expr.Expr) []expr.Expr {
		out := make([]expr.Expr, len(down))
		for i, e := range down {
			out[i] = o.fold(substitute(e, defs))
		}
		return out
	}
	return filtered(x.withInputs([]node{o.pushdown(x.l, side(l)), o.pushdown(x.r, side(r))}), keep)
}

// pushJoin distributes ON and the conditions above over the sides.
func (o *optimizer) pushJoin(x *joinNode, above []expr.Expr) node {
	if x.kind == joinLeft && o.rejectsNulls(above, colsOf(x.r.columns())) {
		c := *x
		c.kind = joinInner
		x = &c
	}
	if x.kind == joinFull {
		x = o.narrowFull(x, above)
	}
	lcols, rcols := colsOf(x.l.columns()), colsOf(x.r.columns())
	var sides sideConds
	switch x.kind {
	case joinInner:
		all := append(append([]expr.Expr(nil), x.on...), above...)
		all = append(all, inferred(o.q, all)...)
		sides.add(all, lcols, rcols)
		above = nil
	case joinLeft:
		down, keep := split(above, func(_ expr.Expr, c colSet) bool { return !c.intersects(rcols) })
		on := append(append([]expr.Expr(nil), x.on...), rightOnly(inferred(o.q, append(append([]expr.Expr(nil), x.on...), down...)), rcols)...)
		sides.add(on, lcols, rcols)
		sides.on = append(sides.on, sides.l...)
		sides.l, above = down, keep
	case joinSemi, joinAnti:
		if x.nullAware {
			// What the right side lacks matters: nothing may be inferred for it.
			down, keep := split(above, func(expr.Expr, colSet) bool { return true })
			return filtered(x.withInputs([]node{o.pushdown(x.l, down), o.pushdown(x.r, nil)}), keep)
		}
		down, keep := split(above, func(expr.Expr, colSet) bool { return true })
		on := append(append([]expr.Expr(nil), x.on...), rightOnly(inferred(o.q, append(append([]expr.Expr(nil), x.on...), down...)), rcols)...)
		sides.add(on, lcols, rcols)
		if x.kind == joinAnti {
			sides.on = append(sides.on, sides.l...)
			sides.l = nil
		}
		sides.l, above = append(sides.l, down...), keep
	case joinFull:
		sides.on = x.on
	}
	c := *x
	c.l, c.r, c.on = o.pushdown(x.l, sides.l), o.pushdown(x.r, sides.r), dedupe(sides.on)
	return filtered(&c, above)
}

// sideConds are conditions by where they can be evaluated.
type sideConds struct{ l, r, on []expr.Expr }

func (s *sideConds) add(conds []expr.Expr, lcols, rcols colSet) {
	for _, e := range conds {
		c := colsIn(e)
		switch {
		case isTrue(e):
		case isVolatile(e):
			s.on = append(s.on, e)
		case !c.intersects(rcols):
			s.l = append(s.l, e)
		case !c.intersects(lcols):
			s.r = append(s.r, e)
		default:
			s.on = append(s.on, e)
		}
	}
}

// rightOnly keeps the conditions that are about the right side alone.
func rightOnly(conds []expr.Expr, rcols colSet) []expr.Expr {
	var out []expr.Expr
	for _, e := range conds {
		if c := colsIn(e); len(c) > 0 && c.within(rcols) {
			out = append(out, e)
		}
	}
	return out
}

func dedupe(l []expr.Expr) []expr.Expr {
	var out []expr.Expr
	for _, e := range l {
		if !containsExpr(out, e) {
			out = append(out, e)
		}
	}
	return out
}
