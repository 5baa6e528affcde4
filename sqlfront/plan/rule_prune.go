package plan

import "github.com/copradb/copra/copr/expr"

// prune drops the columns that nobody above needs, down to the scans.
func (o *optimizer) prune(n node, need colSet) node {
	switch x := n.(type) {
	case *scanNode:
		return pruneScan(x, need)
	case *virtualNode:
		c := &virtualNode{table: x.table, alias: x.alias}
		for i, id := range x.cols {
			if need.has(id) {
				c.cols, c.ords = append(c.cols, id), append(c.ords, x.ords[i])
			}
		}
		return c
	case *projectNode:
		var items []item
		for _, it := range x.items {
			if need.has(it.col) {
				items = append(items, it)
			}
		}
		x = &projectNode{in: x.in, items: items}
		return o.pruneInputs(x, colSet{})
	case *aggNode:
		c := &aggNode{in: x.in, keys: x.keys}
		for _, a := range x.aggs {
			if need.has(a.col) {
				c.aggs = append(c.aggs, a)
			}
		}
		if len(c.keys)+len(c.aggs) == 0 { // one group of which nothing is asked is there in any case
			return oneRow()
		}
		return o.pruneInputs(c, colSet{})
	case *windowNode:
		c := *x
		c.funcs = nil
		for _, f := range x.funcs {
			if need.has(f.col) {
				c.funcs = append(c.funcs, f)
			}
		}
		if len(c.funcs) == 0 {
			return o.prune(x.in, need)
		}
		return o.pruneInputs(&c, need)
	case *setNode:
		return o.pruneSet(x, need)
	case *distinctNode:
		need = need.with(x.on...)
		return x.withInputs([]node{o.prune(x.in, need)})
	case *valuesNode, *cteNode:
		return n
	}
	return o.pruneInputs(n, need)
}

// pruneInputs prunes below a node that needs what its own expressions use and
// hands on what is asked of it.
func (o *optimizer) pruneInputs(n node, need colSet) node {
	n = mapNodeExprs(n, o.inSubqueryExprs(o.pruneSub))
	all := colSet{}
	all.addAll(need)
	nodeExprs(n, func(e expr.Expr) { exprCols(e, all) })
	if j, ok := n.(*joinNode); ok {
		if j.lateral {
			all.addAll(freeCols(j.r))
		}
		c := *j
		c.need = need
		n = &c
	}
	return mapInputs(n, func(c node) node { return o.prune(c, all) })
}

// pruneSub prunes a subquery's plan to its result columns.
func (o *optimizer) pruneSub(s *subExpr) *subExpr {
	need := colsOf(s.cols)
	if s.kind == subExists {
		need = colSet{}
	}
	c := *s
	c.plan = o.prune(s.plan, need)
	return &c
}

func pruneScan(x *scanNode, need colSet) node {
	c := *x
	c.cols, c.ords, c.out, c.pruned = nil, nil, nil, true
	all := colSet{}
	all.addAll(need)
	for _, e := range x.conds {
		exprCols(e, all)
	}
	for i, id := range x.cols {
		if all.has(id) {
			c.cols, c.ords = append(c.cols, id), append(c.ords, x.ords[i])
		}
		if need.has(id) {
			c.out = append(c.out, id)
		}
	}
	if !need.has(x.handle) {
		c.handle = 0
	}
	return &c
}

// pruneSet drops columns of UNION ALL; the others compare whole rows.
func (o *optimizer) pruneSet(x *setNode, need colSet) node {
	c := *x
	if x.all && x.kind == setUnion {
		c.cols, c.lcols, c.rcols = nil, nil, nil
		for i, id := range x.cols {
			if need.has(id) {
				c.cols, c.lcols, c.rcols = append(c.cols, id), append(c.lcols, x.lcols[i]), append(c.rcols, x.rcols[i])
			}
		}
	}
	c.l, c.r = o.prune(x.l, colsOf(c.lcols)), o.prune(x.r, colsOf(c.rcols))
	return &c
}

func (s colSet) with(cols ...ColID) colSet {
	out := colSet{}
	out.addAll(s)
	for _, c := range cols {
		out.add(c)
	}
	return out
}
