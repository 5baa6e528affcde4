package plan

import "github.com/copradb/copra/copr/expr"

// inlineCTEs replaces WITH items that are read once and have no volatile
// function by their plan, as PostgreSQL does; the others are computed once and
// kept.
func (o *optimizer) inlineCTEs(n node) node {
	n = mapInputs(n, o.inlineCTEs)
	n = mapNodeExprs(n, o.inSubqueries(o.inlineCTEs))
	c, ok := n.(*cteNode)
	if !ok || c.work || c.cte.recursive || c.cte.refs != 1 || volatilePlan(c.cte.plan) {
		return n
	}
	c.cte.inlined = true
	items := make([]item, len(c.cols))
	for i, id := range c.cols {
		items[i] = item{id, o.q.column(c.cte.cols[i])}
	}
	return &projectNode{in: o.inlineCTEs(c.cte.plan), items: items}
}

// inlineInCTEs inlines inside the WITH items that stay.
func (o *optimizer) inlineInCTEs() {
	for _, c := range o.q.ctes {
		if c.inlined || c.plan == nil {
			continue
		}
		c.plan = o.inlineCTEs(c.plan)
		if c.step != nil {
			c.step = o.inlineCTEs(c.step)
		}
	}
}

func volatilePlan(n node) bool {
	hit := false
	nodeExprs(n, func(e expr.Expr) { hit = hit || isVolatile(e) })
	for _, c := range n.inputs() {
		hit = hit || volatilePlan(c)
	}
	return hit
}
