package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/sqlfront/catalog"
)

// optimizer applies the rules to one statement.
type optimizer struct {
	q        *query
	cat      catalog.Reader
	ectx     *expr.Ctx
	settings Settings
	card     map[node]float64     // estimated rows, by node
	samples  map[expr.Expr]passed // conditions computed over samples
}

// rewrite runs all rules but pruning over one query, then over the subqueries
// that stayed expressions.
func (o *optimizer) rewrite(n node) node {
	n = o.simplify(n)
	n = o.unnest(n)
	return o.arrange(n)
}

// arrange places conditions and orders joins. It comes after unnest, which has
// already dealt with nested subqueries, so those are only arranged as well.
func (o *optimizer) arrange(n node) node {
	n = o.pushdown(n, nil)
	n = o.reorder(dropProjections(n))
	n = o.pushLimits(n)
	return o.arrangeSubqueries(n)
}

func (o *optimizer) arrangeSubqueries(n node) node {
	n = mapInputs(n, o.arrangeSubqueries)
	return mapNodeExprs(n, o.inSubqueries(o.arrange))
}

// rewriteCTEs rewrites the WITH items that stay materialised.
func (o *optimizer) rewriteCTEs() {
	for _, c := range o.q.ctes {
		if c.plan == nil || c.refs == 0 || c.inlined {
			continue
		}
		c.plan = o.rewrite(c.plan)
		c.plan = o.prune(c.plan, colsOf(c.cols))
		if c.step != nil {
			c.step = o.rewrite(c.step)
			c.step = o.prune(c.step, colsOf(c.stepCols))
		}
	}
}

// simplify folds constants, drops conditions that are always true and takes
// ORs apart, everywhere, subqueries included.
func (o *optimizer) simplify(n node) node {
	n = mapInputs(n, o.simplify)
	n = mapNodeExprs(n, o.inSubqueries(o.simplify))
	n = mapNodeExprs(n, o.fold)
	switch x := n.(type) {
	case *filterNode:
		conds := o.normalize(x.conds)
		if len(conds) == 0 {
			return x.in
		}
		return &filterNode{in: x.in, conds: conds}
	case *joinNode:
		c := *x
		c.on = o.normalize(x.on)
		return &c
	}
	return n
}

func (o *optimizer) normalize(conds []expr.Expr) []expr.Expr {
	var out []expr.Expr
	for _, e := range conds {
		for _, c := range conjuncts(e, nil) {
			for _, f := range o.factorOr(c) {
				if !isTrue(f) {
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// inSubqueries makes an expression mapper that applies f to the plans of the
// subqueries in an expression.
func (o *optimizer) inSubqueries(f func(node) node) func(expr.Expr) expr.Expr {
	return o.inSubqueryExprs(func(s *subExpr) *subExpr {
		p := f(s.plan)
		if p == s.plan {
			return s
		}
		c := *s
		c.plan = p
		return &c
	})
}

func (o *optimizer) inSubqueryExprs(f func(*subExpr) *subExpr) func(expr.Expr) expr.Expr {
	var mapper func(expr.Expr) expr.Expr
	mapper = func(e expr.Expr) expr.Expr {
		return mapExpr(e, func(x expr.Expr) expr.Expr {
			s, ok := x.(*subExpr)
			if !ok {
				return nil
			}
			s = f(s)
			if s.test != nil {
				if t := mapper(s.test); t != s.test {
					c := *s
					c.test = t
					s = &c
				}
			}
			return s
		})
	}
	return mapper
}

// Optimize rewrites a bound statement and chooses how to run it. The Bound is
// used up.
func Optimize(b *Bound, cat catalog.Reader) (*Physical, error) { return optimize(b, cat, nil) }

// optimize also lowers expressions over rows that the caller computes itself
// (RETURNING, CHECK …).
func optimize(b *Bound, cat catalog.Reader, rows []*RowExprs) (*Physical, error) {
	o := &optimizer{q: b.q, cat: cat, ectx: b.ectx, settings: b.settings}
	n := o.inlineCTEs(b.plan)
	o.inlineInCTEs()
	n = o.rewrite(n)
	o.rewriteCTEs()
	n = o.prune(n, colsOf(b.out))
	o.card = nil // estimates again, for the nodes as they are now
	n = o.filterGroups(n)
	for _, r := range rows {
		for i, e := range r.exprs {
			e = o.inSubqueries(o.inlineCTEs)(o.fold(e))
			e = o.inSubqueries(o.rewrite)(e)
			r.exprs[i] = o.inSubqueryExprs(o.pruneSub)(e)
		}
	}
	o.card = nil // estimates again, for the nodes as they are now
	lw := &lowerer{o: o, slots: map[ColID]int{}, next: b.q.params}
	root := lw.arranged(n, b.out)
	p := &Physical{Columns: b.Columns, Params: b.Params, Locks: b.Locks, Types: root.base().types,
		SchemaVersion: cat.Version(), root: root}
	lw.lowerCTEs(p)
	for _, r := range rows {
		r.p = p
		r.exprs = lw.bindAll(r.exprs, r.layout)
	}
	p.slots, p.subqueries = lw.next, lw.subs
	if b.settings.TimeZone != nil {
		p.tz = b.settings.TimeZone.String()
	}
	return p, nil
}

// lowerCTEs lowers the WITH items that stay materialised.
func (lw *lowerer) lowerCTEs(p *Physical) {
	for _, c := range lw.o.q.ctes {
		pc := &physCTE{name: c.name, distinct: c.distinct}
		p.ctes = append(p.ctes, pc)
		if c.plan == nil || c.refs == 0 || c.inlined {
			continue
		}
		pc.plan = lw.arranged(c.plan, c.cols)
		pc.types = pc.plan.base().types
		if c.step != nil {
			pc.step = lw.arranged(c.step, c.stepCols)
		}
	}
}

// fold computes what is constant whatever the session, so that the plan may be
// kept.
func (o *optimizer) fold(e expr.Expr) expr.Expr {
	if e == nil {
		return nil
	}
	return datesForMidnights(expr.FoldConst(nil, e))
}
