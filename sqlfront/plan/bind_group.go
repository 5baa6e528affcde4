package plan

import (
	"strings"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// bindGroups resolves GROUP BY to key expressions.
func (st *selectState) bindGroups() error {
	st.lv.clause, st.lv.noAgg, st.lv.noSRF = "GROUP BY", true, true
	defer func() { st.lv.noAgg, st.lv.noSRF = false, false }()
	for _, g := range st.s.GroupBy {
		if r, ok := g.(*ast.Row); ok && len(r.Items) == 0 {
			continue // GROUP BY (): one group
		}
		e, err := st.groupExpr(g)
		if err != nil {
			return err
		}
		if e, err = st.b.unknownToText(e); err != nil {
			return err
		}
		st.addGroup(e)
	}
	return nil
}

// addGroup adds a key once and returns its column.
func (st *selectState) addGroup(e expr.Expr) ColID {
	for _, k := range st.groups {
		if equalExpr(k.e, e) {
			return k.col
		}
	}
	t := target{name: "group", e: e}
	k := item{st.b.targetCol(&t, nil), e}
	st.groups = append(st.groups, k)
	return k.col
}

func (st *selectState) groupExpr(g ast.Expr) (expr.Expr, error) {
	before := len(st.targets)
	i, err := st.findTarget(g, "GROUP BY", false)
	if err != nil {
		return nil, err
	}
	e := st.targets[i].e
	st.targets = st.targets[:before] // a key needs no target of its own
	if i < before && st.usesAggregate(e) {
		return nil, pgerror.New(pgerror.GroupingError, "aggregate functions are not allowed in GROUP BY").At(g.Position())
	}
	return e, nil
}

func (st *selectState) usesAggregate(e expr.Expr) bool {
	cols := colsIn(e)
	for _, a := range st.lv.aggs {
		if cols.has(a.col) {
			return true
		}
	}
	return false
}

// applyGroups puts the aggregation and HAVING over the input and rewrites what
// stands above in terms of its output.
func (st *selectState) applyGroups() error {
	lv := st.lv
	if len(st.s.GroupBy) == 0 && len(lv.aggs) == 0 && st.s.Having == nil {
		return nil
	}
	g := &grouping{st: st, from: colSet{}, made: colSet{}}
	g.from.addAll(colsOf(st.plan.columns()))
	for _, a := range lv.aggs {
		g.made.add(a.col)
	}
	var err error
	for i := range st.targets {
		if st.targets[i].e, err = g.rewrite(st.targets[i].e); err != nil {
			return err
		}
	}
	for i := range st.having {
		if st.having[i], err = g.rewrite(st.having[i]); err != nil {
			return err
		}
	}
	if err := g.rewriteWindows(lv.windows); err != nil {
		return err
	}
	for i := range lv.srfs {
		for j, a := range lv.srfs[i].call.args {
			if lv.srfs[i].call.args[j], err = g.rewrite(a); err != nil {
				return err
			}
		}
	}
	st.plan = &aggNode{in: st.plan, keys: st.groups, aggs: lv.aggs}
	st.plan = filtered(st.plan, st.having)
	return nil
}

// grouping rewrites expressions over the input into expressions over the
// aggregation's output.
type grouping struct {
	st   *selectState
	from colSet // columns of the input
	made colSet // columns of aggregates
	err  error
}

func (g *grouping) rewrite(e expr.Expr) (expr.Expr, error) {
	out := mapExpr(e, g.replace)
	return out, g.err
}

// replace is mapExpr's callback: a subtree equal to a key becomes the key.
func (g *grouping) replace(x expr.Expr) expr.Expr {
	if g.err != nil {
		return x
	}
	if _, ok := x.(*expr.Const); ok {
		return x
	}
	for _, k := range g.st.groups {
		if equalExpr(k.e, x) {
			return g.st.b.q.column(k.col)
		}
	}
	c, ok := x.(*expr.Column)
	if !ok {
		return nil
	}
	if !g.from.has(c.Index) || g.made.has(c.Index) {
		return x
	}
	if g.dependent(c.Index) {
		g.st.addGroup(g.st.b.q.column(c.Index))
		return x
	}
	g.err = g.st.b.ungrouped(c)
	return x
}

func (b *binder) ungrouped(c *expr.Column) error {
	return pgerror.New(pgerror.GroupingError,
		"column %q must appear in the GROUP BY clause or be used in an aggregate function", c.Name).At(b.at[c])
}

// dependent reports whether a column is determined by the grouping keys,
// because they include the primary key of its table.
func (g *grouping) dependent(id ColID) bool {
	q := g.st.b.q
	m := &q.cols[id]
	if m.table == nil || m.table.PrimaryKey == nil {
		return false
	}
	// The columns of one scan have neighbouring ids; they are recognised by
	// relation alias and table.
	have := map[int]bool{}
	for _, k := range g.st.groups {
		if c, ok := k.e.(*expr.Column); ok {
			km := &q.cols[c.Index]
			if km.table == m.table && km.rel == m.rel {
				have[km.ord] = true
			}
		}
	}
	for _, ic := range m.table.PrimaryKey.Columns {
		if !have[ic.Column] {
			return false
		}
	}
	return true
}

// bindAggregate binds an aggregate call and returns its result column.
func (b *binder) bindAggregate(f *ast.Func, sc *scope) (expr.Expr, error) {
	lv := sc.level
	if err := checkAggregatePlace(f, lv); err != nil {
		return nil, err
	}
	call, err := b.aggregateArgs(f, sc)
	if err != nil {
		return nil, err
	}
	for _, a := range lv.aggs {
		if equalAgg(&a.call, call) {
			return b.q.column(a.col), nil
		}
	}
	id := b.q.add(colMeta{name: f.Name, typ: call.typ, notNull: call.name == "count"})
	lv.aggs = append(lv.aggs, aggItem{id, *call})
	return b.q.column(id), nil
}

func checkAggregatePlace(f *ast.Func, lv *level) error {
	switch {
	case lv == nil:
		return pgerror.New(pgerror.GroupingError, "aggregate functions are not allowed here").At(f.Position())
	case lv.inAgg:
		return pgerror.New(pgerror.GroupingError, "aggregate function calls cannot be nested").At(f.Position())
	case lv.noAgg:
		return pgerror.New(pgerror.GroupingError, "aggregate functions are not allowed in %s", lv.clause).At(f.Position())
	}
	return nil
}

// aggregateArgs binds the arguments, FILTER and ORDER BY of an aggregate.
func (b *binder) aggregateArgs(f *ast.Func, sc *scope) (*aggCall, error) {
	lv := sc.level
	lv.inAgg = true
	savedSRF := lv.noSRF
	lv.noSRF = true
	defer func() { lv.inAgg, lv.noSRF = false, savedSRF }()
	call := &aggCall{name: strings.ToLower(f.Name), distinct: f.Distinct}
	var args []expr.Expr
	for _, a := range f.Args {
		x, err := b.bindExpr(a, sc)
		if err != nil {
			return nil, err
		}
		args = append(args, x)
	}
	if err := b.resolveAggregate(f, call, args); err != nil {
		return nil, err
	}
	if f.Filter != nil {
		x, err := b.bindBool(f.Filter, sc, "FILTER")
		if err != nil {
			return nil, err
		}
		call.filter = x
	}
	for _, o := range f.OrderBy {
		x, err := b.bindExpr(o.Expr, sc)
		if err != nil {
			return nil, err
		}
		if x, err = b.unknownToText(x); err != nil {
			return nil, err
		}
		call.orderBy = append(call.orderBy, sortKey{x, o.Desc, nullsFirst(o)})
	}
	for _, a := range lv.aggs {
		if len(call.orderBy) > 0 && len(a.call.orderBy) > 0 && !equalKeys(a.call.orderBy, call.orderBy) {
			return nil, pgerror.Unsupported("aggregates with different ORDER BY in one query").At(f.Position())
		}
	}
	return call, b.checkLocal(call, sc, f)
}

// checkLocal refuses an aggregate whose arguments are all columns of an outer
// query: SQL makes it an aggregate of that query.
func (b *binder) checkLocal(call *aggCall, sc *scope, f *ast.Func) error {
	cols := colSet{}
	for _, a := range call.args {
		exprCols(a, cols)
	}
	if len(cols) == 0 || sc.parent == nil {
		return nil
	}
	for c := range cols {
		if !sc.parent.produces(c) {
			return nil
		}
	}
	return pgerror.Unsupported("an aggregate of an outer query inside a subquery").At(f.Position())
}

// produces reports whether a column belongs to this scope or one around it.
func (s *scope) produces(c ColID) bool {
	for ; s != nil; s = s.parent {
		for _, r := range s.rels {
			for _, rc := range r.cols {
				if rc.id == c {
					return true
				}
			}
		}
		for _, v := range s.visible {
			if v.id == c {
				return true
			}
		}
	}
	return false
}

func equalAgg(a, b *aggCall) bool {
	if a.name != b.name || a.distinct != b.distinct || len(a.args) != len(b.args) || len(a.orderBy) != len(b.orderBy) {
		return false
	}
	for i := range a.args {
		if !equalExpr(a.args[i], b.args[i]) {
			return false
		}
	}
	for i, k := range a.orderBy {
		o := b.orderBy[i]
		if k.desc != o.desc || k.nullsFirst != o.nullsFirst || !equalExpr(k.e, o.e) {
			return false
		}
	}
	if a.filter == nil || b.filter == nil {
		return a.filter == nil && b.filter == nil
	}
	return equalExpr(a.filter, b.filter)
}
