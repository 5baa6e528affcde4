package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// unnestScalars replaces correlated scalar subqueries of the form
//
//	(SELECT f(agg(x)) FROM … WHERE k = outer)
//
// inside e by a column of a left join with the subquery grouped by k (TPC-H
// Q2, Q17, Q20). The f is computed above the join, so that what it makes of
// the NULL of an empty group stays right.
func (o *optimizer) unnestScalars(in node, e expr.Expr) (node, expr.Expr) {
	out := mapExpr(e, func(x expr.Expr) expr.Expr {
		s, ok := x.(*subExpr)
		if !ok {
			return nil
		}
		if s.kind != subScalar {
			return x
		}
		j, value, ok := o.unnestScalar(in, s)
		if !ok {
			return x
		}
		in = j
		return value
	})
	return in, out
}

func (o *optimizer) unnestScalar(in node, s *subExpr) (node, expr.Expr, bool) {
	outer := colsOf(in.columns())
	if !freeCols(s.plan).intersects(outer) {
		return nil, nil, false
	}
	value := expr.Expr(o.q.column(s.cols[0]))
	n := s.plan
	for {
		p, ok := n.(*projectNode)
		if !ok {
			break
		}
		defs := map[ColID]expr.Expr{}
		for _, it := range p.items {
			defs[it.col] = it.e
		}
		value, n = substitute(value, defs), p.in
	}
	agg, ok := n.(*aggNode)
	if !ok || len(agg.keys) > 0 || isVolatile(value) {
		return nil, nil, false
	}
	below, pulled, ok := o.pullUp(agg.in, outer)
	if !ok {
		return nil, nil, false
	}
	grouped, on, ok := o.groupByOuter(agg, below, pulled, outer)
	if !ok || freeCols(grouped).intersects(outer) {
		return nil, nil, false
	}
	return &joinNode{kind: joinLeft, l: in, r: grouped, on: on}, emptyCounts(agg, value), true
}

// groupByOuter groups the aggregation by the inner sides of the pulled
// equalities; the ON compares these with the outer sides.
func (o *optimizer) groupByOuter(agg *aggNode, below node, pulled []expr.Expr, outer colSet) (node, []expr.Expr, bool) {
	g := &aggNode{in: below, aggs: agg.aggs}
	var on []expr.Expr
	inner := colsOf(below.columns())
	for _, e := range pulled {
		call, ok := e.(*expr.Call)
		if !ok || opName(call) != "=" || isVolatile(e) || hasSubquery(e) {
			return nil, nil, false
		}
		mine := 0
		if colsIn(call.Args[0]).intersects(outer) {
			mine = 1
		}
		if c := colsIn(call.Args[mine]); len(c) == 0 || !c.within(inner) || colsIn(call.Args[1-mine]).intersects(inner) {
			return nil, nil, false
		}
		key := call.Args[mine]
		col, ok := key.(*expr.Column)
		id := ColID(0)
		if ok {
			id = col.Index
		} else {
			id = o.q.add(colMeta{name: "key", typ: key.Type()})
		}
		if !containsKey(g.keys, id) {
			g.keys = append(g.keys, item{id, key})
		}
		c := *call
		c.Args = append([]expr.Expr(nil), call.Args...)
		c.Args[mine] = o.q.column(id)
		on = append(on, &c)
	}
	return g, on, len(g.keys) > 0
}

func containsKey(keys []item, id ColID) bool {
	for _, k := range keys {
		if k.col == id {
			return true
		}
	}
	return false
}

// emptyCounts makes 0 of a count that the left join left NULL.
func emptyCounts(agg *aggNode, value expr.Expr) expr.Expr {
	counts := colSet{}
	for _, a := range agg.aggs {
		if a.call.name == "count" {
			counts.add(a.col)
		}
	}
	return mapExpr(value, func(x expr.Expr) expr.Expr {
		c, ok := x.(*expr.Column)
		if !ok || !counts.has(c.Index) {
			return nil
		}
		zero := &expr.Const{Value: sqltypes.NewInt(0), Typ: c.Typ}
		return &expr.Coalesce{Args: []expr.Expr{c, zero}, Typ: c.Typ}
	})
}
