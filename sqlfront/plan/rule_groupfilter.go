package plan

import "github.com/copradb/copra/copr/expr"

const (
	// groupFilterRowsMin is from how many rows on it matters what is aggregated.
	groupFilterRowsMin = 16 << 10
	// groupFilterShare is how many times more groups there must be than rows that
	// choose among them.
	groupFilterShare = 8
)

// filterGroups aggregates only the groups that a join with the result will use:
//
//	       ⋈ k = s                      ⋈ k = s
//	     /         \                  /         \
//	Agg by k        S      →     Agg by k        S (once, as a WITH item)
//	    |                            |          /
//	   rows                        rows ⋉ k = s
//
// where S is far smaller than the number of groups (TPC-H Q2, Q17, Q20: an
// aggregate of a correlated subquery, needed for a few keys). It comes last, when
// joins are ordered and columns pruned.
func (o *optimizer) filterGroups(n node) node {
	n = mapInputs(n, o.filterGroups)
	j, ok := n.(*joinNode)
	if !ok || j.lateral || j.nullAware {
		return n
	}
	switch j.kind {
	case joinInner, joinSemi, joinAnti, joinLeft: // an unused group on the right is nobody's
		if agg, s := o.chosenGroups(j, j.r, j.l); agg != nil {
			return j.withInputs([]node{s, agg})
		}
	}
	if j.kind == joinInner {
		if agg, s := o.chosenGroups(j, j.l, j.r); agg != nil {
			return j.withInputs([]node{agg, s})
		}
	}
	return n
}

// chosenGroups are the two sides anew: n, an aggregation perhaps under a filter,
// of fewer groups, and s as a WITH item. nil if that does not pay.
func (o *optimizer) chosenGroups(j *joinNode, n, s node) (node, node) {
	if f, ok := n.(*filterNode); ok {
		in, s := o.chosenGroups(j, f.in, s)
		if in == nil {
			return nil, nil
		}
		return &filterNode{in: in, conds: f.conds}, s
	}
	agg, ok := n.(*aggNode)
	if !ok || o.rows(agg.in) < groupFilterRowsMin || o.rows(s)*groupFilterShare > o.rows(agg) ||
		len(freeCols(s)) > 0 || volatilePlan(s) || volatilePlan(agg) {
		return nil, nil
	}
	keys := map[ColID]expr.Expr{}
	for _, k := range agg.keys {
		keys[k.col] = k.e
	}
	second := map[ColID]ColID{} // columns of the second reader of s
	cols := s.columns()
	again := make([]ColID, len(cols))
	for i, c := range cols {
		again[i] = o.q.add(o.q.cols[c])
		second[c] = again[i]
	}
	var on []expr.Expr
	for _, e := range j.on {
		if x := o.keyCondition(e, keys, second); x != nil {
			on = append(on, x)
		}
	}
	if len(on) == 0 {
		return nil, nil
	}
	c := &cte{name: "chosen", id: len(o.q.ctes), plan: s, cols: cols, refs: 2}
	o.q.ctes = append(o.q.ctes, c)
	need := colSet{}
	nodeExprs(agg, func(e expr.Expr) { exprCols(e, need) })
	rows := &joinNode{kind: joinSemi, l: agg.in, r: &cteNode{cte: c, cols: again}, on: on, need: need}
	return &aggNode{in: rows, keys: agg.keys, aggs: agg.aggs}, &cteNode{cte: c, cols: cols}
}

// keyCondition is an equality of a group key with a column of the other side, in
// terms of what is grouped and of the second reader; nil if e is none.
func (o *optimizer) keyCondition(e expr.Expr, keys map[ColID]expr.Expr, second map[ColID]ColID) expr.Expr {
	call, ok := e.(*expr.Call)
	if !ok || opName(call) != "=" {
		return nil
	}
	c := *call
	c.Args = append([]expr.Expr(nil), call.Args...)
	found := 0
	for i, a := range call.Args {
		col, ok := a.(*expr.Column)
		if !ok {
			return nil
		}
		if k := keys[col.Index]; k != nil {
			c.Args[i] = k
			found |= 1
		} else if id, ok := second[col.Index]; ok {
			c.Args[i] = o.q.column(id)
			found |= 2
		}
	}
	if found != 3 {
		return nil
	}
	return &c
}
