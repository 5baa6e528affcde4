package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// outCol is an output column of a query level: its name and id.
type outCol struct {
	name string
	id   ColID
}

// relation is a bound query level.
type relation struct {
	plan  node
	cols  []outCol
	locks []rowLock
}

func (r *relation) ids() []ColID {
	out := make([]ColID, len(r.cols))
	for i, c := range r.cols {
		out[i] = c.id
	}
	return out
}

// selectOpts are what the place of a SELECT asks of it.
type selectOpts struct {
	// keepUnknown leaves literals and parameters of unknown type in the output
	// as they are, for the place to coerce (set operations, INSERT).
	keepUnknown bool
	// insert is set for the VALUES of an INSERT, which take the types of the
	// target columns, and DEFAULT; see bind_values.go.
	insert *insertTarget
}

// level collects what belongs to a query level while its expressions are bound.
type level struct {
	clause string // where we are, in Postgres's words for error messages
	// aggs found so far; noAgg is true where the clause forbids them.
	aggs    []aggItem
	inAgg   bool
	noAgg   bool
	windows []windowDef
	named   map[string]*ast.Window
	inWin   bool
	srfs    []setFunc
	noSRF   bool
}

// target is an entry of the select list; hidden ones serve ORDER BY only.
type target struct {
	name   string
	e      expr.Expr
	col    ColID
	hidden bool
}

// selectState is a SELECT being bound.
type selectState struct {
	b       *binder
	s       *ast.Select
	sc      *scope
	lv      *level
	plan    node
	targets []target
	order   []orderItem
	groups  []item
	having  []expr.Expr
	on      []int // targets of DISTINCT ON
}

// orderItem is an ORDER BY key as the index of a target.
type orderItem struct {
	target           int
	desc, nullsFirst bool
}

func (b *binder) bindSelect(s *ast.Select, parent *scope, opts selectOpts) (*relation, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer func() { b.depth-- }()
	sc := newScope(parent)
	if err := b.bindWith(s.With, s.Recursive, sc); err != nil {
		return nil, err
	}
	switch {
	case s.SetOp != ast.SetNone:
		return b.bindSetOp(s, sc, opts)
	case s.Values != nil:
		return b.bindValues(s, sc, opts)
	}
	return b.bindPlain(s, sc, opts)
}

func (b *binder) bindPlain(s *ast.Select, sc *scope, opts selectOpts) (*relation, error) {
	if s.GroupingSets != "" {
		return nil, pgerror.Unsupported(s.GroupingSets).At(s.Position())
	}
	st := &selectState{b: b, s: s, sc: sc, lv: &level{named: s.Windows}}
	sc.level = st.lv
	plan, err := b.bindFromList(s.From, sc)
	if err != nil {
		return nil, err
	}
	st.plan = plan
	steps := []func() error{st.bindTargets, st.bindWhere, st.bindHaving, st.bindOrder, st.bindGroups, st.bindDistinct}
	for _, f := range steps {
		if err := f(); err != nil {
			return nil, err
		}
	}
	if !opts.keepUnknown {
		if err := st.resolveUnknown(); err != nil {
			return nil, err
		}
	}
	if err := st.assemble(); err != nil {
		return nil, err
	}
	rel := &relation{plan: st.plan}
	for _, t := range st.targets {
		if !t.hidden {
			rel.cols = append(rel.cols, outCol{t.name, t.col})
		}
	}
	if err := b.bindLimit(rel, s, sc); err != nil {
		return nil, err
	}
	if err := st.bindLocking(rel); err != nil {
		return nil, err
	}
	return rel, nil
}

// bindTargets binds the select list, stars expanded.
func (st *selectState) bindTargets() error {
	st.lv.clause = "SELECT"
	for _, t := range st.s.Targets {
		if c, ok := t.Expr.(*ast.ColumnRef); ok && c.Star {
			if err := st.expandStar(c); err != nil {
				return err
			}
			continue
		}
		e, err := st.b.bindExpr(t.Expr, st.sc)
		if err != nil {
			return err
		}
		name := t.Alias
		if name == "" {
			name = figureName(t.Expr)
		}
		st.targets = append(st.targets, target{name: name, e: e})
	}
	if len(st.targets) > TargetsMax {
		return pgerror.New(pgerror.TooManyColumns, "target lists can have at most %d entries", TargetsMax)
	}
	return nil
}

func (st *selectState) expandStar(c *ast.ColumnRef) error {
	cols, err := st.sc.star(c)
	if err != nil {
		return err
	}
	for _, sc := range cols {
		e := st.b.q.column(sc.id)
		st.b.at[e] = c.Position()
		st.targets = append(st.targets, target{name: sc.name, e: e})
	}
	return nil
}

// star returns the columns that * or t.* stands for.
func (s *scope) star(c *ast.ColumnRef) ([]scopeCol, error) {
	if len(c.Parts) == 0 {
		if len(s.rels) == 0 {
			return nil, pgerror.New(pgerror.SyntaxError, "SELECT * with no tables specified is not valid").At(c.Position())
		}
		return s.visible, nil
	}
	schema := ""
	if len(c.Parts) > 1 {
		schema = c.Parts[len(c.Parts)-2]
	}
	r, _, err := s.relation(schema, c.Parts[len(c.Parts)-1], c.Position())
	if err != nil {
		return nil, err
	}
	return r.cols, nil
}

func (st *selectState) bindWhere() error {
	if st.s.Where == nil {
		return nil
	}
	conds, err := st.b.bindCond(st.s.Where, st.sc, "WHERE")
	if err != nil {
		return err
	}
	st.plan = filtered(st.plan, conds)
	return nil
}

// bindCond binds a condition where no aggregate may stand.
func (b *binder) bindCond(e ast.Expr, sc *scope, clause string) ([]expr.Expr, error) {
	lv := sc.level
	if lv == nil {
		lv = &level{}
		sc.level = lv
	}
	saved := *lv
	lv.clause, lv.noAgg, lv.noSRF = clause, true, true
	x, err := b.bindBool(e, sc, clause)
	lv.clause, lv.noAgg, lv.noSRF = saved.clause, saved.noAgg, saved.noSRF
	if err != nil {
		return nil, err
	}
	return conjuncts(x, nil), nil
}

// bindBool binds an expression that must be boolean.
func (b *binder) bindBool(e ast.Expr, sc *scope, clause string) (expr.Expr, error) {
	x, err := b.bindExpr(e, sc)
	if err != nil {
		return nil, err
	}
	return b.toBool(x, clause, e.Position())
}

func (st *selectState) bindHaving() error {
	if st.s.Having == nil {
		return nil
	}
	st.lv.clause, st.lv.noSRF = "HAVING", true
	x, err := st.b.bindBool(st.s.Having, st.sc, "HAVING")
	st.lv.noSRF = false
	if err != nil {
		return err
	}
	st.having = conjuncts(x, nil)
	return nil
}

// bindOrder resolves ORDER BY to targets, adding hidden ones.
func (st *selectState) bindOrder() error {
	st.lv.clause = "ORDER BY"
	for _, o := range st.s.OrderBy {
		i, err := st.findTarget(o.Expr, "ORDER BY", true)
		if err != nil {
			return err
		}
		st.order = append(st.order, orderItem{target: i, desc: o.Desc, nullsFirst: nullsFirst(o)})
	}
	return nil
}

func nullsFirst(o ast.SortItem) bool {
	if o.NullsFirst != nil {
		return *o.NullsFirst
	}
	return o.Desc
}

// findTarget is Postgres's SQL92 rule for ORDER BY, GROUP BY and DISTINCT ON:
// an ordinal, an output name (for GROUP BY only where no input column has that
// name), or an expression, which becomes a hidden target if it is not there.
func (st *selectState) findTarget(e ast.Expr, clause string, aliasFirst bool) (int, error) {
	switch x := e.(type) {
	case *ast.IntLit:
		return st.ordinal(x.Value, clause, x.Position())
	case *ast.StringLit, *ast.NumLit, *ast.BoolLit, *ast.NullLit:
		return 0, pgerror.New(pgerror.SyntaxError, "non-integer constant in %s", clause).At(e.Position())
	case *ast.ColumnRef:
		if len(x.Parts) == 1 && !x.Star && (aliasFirst || !st.hasInput(x.Parts[0])) {
			i, err := st.named(x, clause)
			if i >= 0 || err != nil {
				return i, err
			}
		}
	}
	bound, err := st.b.bindExpr(e, st.sc)
	if err != nil {
		return 0, err
	}
	for i := range st.targets {
		if equalExpr(st.targets[i].e, bound) {
			return i, nil
		}
	}
	st.targets = append(st.targets, target{name: "?column?", e: bound, hidden: true})
	return len(st.targets) - 1, nil
}

func (st *selectState) ordinal(v int64, clause string, pos int) (int, error) {
	n := int64(0)
	for i := range st.targets {
		if st.targets[i].hidden {
			continue
		}
		if n++; n == v {
			return i, nil
		}
	}
	return 0, pgerror.New(pgerror.InvalidColumnReference, "%s position %d is not in select list", clause, v).At(pos)
}

// hasInput reports whether FROM of this level has a column with that name.
func (st *selectState) hasInput(name string) bool {
	for _, c := range st.sc.visible {
		if c.name == name {
			return true
		}
	}
	return false
}

// named finds a target by its output name, -1 if there is none.
func (st *selectState) named(x *ast.ColumnRef, clause string) (int, error) {
	hit := -1
	for i := range st.targets {
		t := &st.targets[i]
		if t.hidden || t.name != x.Parts[0] {
			continue
		}
		if hit >= 0 && !equalExpr(st.targets[hit].e, t.e) {
			return -1, pgerror.New(pgerror.AmbiguousColumn, "%s %q is ambiguous", clause, t.name).At(x.Position())
		}
		if hit < 0 {
			hit = i
		}
	}
	return hit, nil
}

// bindDistinct resolves DISTINCT ON and checks what DISTINCT asks of ORDER BY.
func (st *selectState) bindDistinct() error {
	if st.s.Distinct && st.s.DistinctOn == nil {
		for i, o := range st.order {
			if st.targets[o.target].hidden {
				return pgerror.New(pgerror.InvalidColumnReference,
					"for SELECT DISTINCT, ORDER BY expressions must appear in select list").At(st.s.OrderBy[i].Expr.Position())
			}
		}
		return nil
	}
	st.lv.clause = "DISTINCT ON"
	for _, e := range st.s.DistinctOn {
		i, err := st.findTarget(e, "DISTINCT ON", true)
		if err != nil {
			return err
		}
		st.on = append(st.on, i)
	}
	inOn := map[int]bool{}
	for _, i := range st.on {
		inOn[i] = true
	}
	for i, o := range st.order {
		if i < len(inOn) && !inOn[o.target] {
			return pgerror.New(pgerror.InvalidColumnReference,
				"SELECT DISTINCT ON expressions must match initial ORDER BY expressions").At(st.s.DistinctOn[0].Position())
		}
	}
	return nil
}

// resolveUnknown makes text of what is still of unknown type in the output.
func (st *selectState) resolveUnknown() error {
	for i := range st.targets {
		e, err := st.b.unknownToText(st.targets[i].e)
		if err != nil {
			return err
		}
		st.targets[i].e = e
	}
	return nil
}

// assemble stacks the nodes: aggregation, HAVING, windows, set-returning
// functions, the projection, DISTINCT, the order.
func (st *selectState) assemble() error {
	if err := st.applyGroups(); err != nil {
		return err
	}
	if err := st.applyWindows(); err != nil {
		return err
	}
	if len(st.lv.srfs) > 0 {
		st.plan = &projectSetNode{in: st.plan, funcs: st.lv.srfs}
	}
	items := make([]item, 0, len(st.targets))
	made := colSet{}
	for i := range st.targets {
		t := &st.targets[i]
		t.col = st.b.targetCol(t, made)
		if !made.has(t.col) {
			made.add(t.col)
			items = append(items, item{t.col, t.e})
		}
	}
	st.plan = &projectNode{in: st.plan, items: items}
	keys := make([]sortKey, len(st.order))
	for i, o := range st.order {
		keys[i] = sortKey{st.b.q.column(st.targets[o.target].col), o.desc, o.nullsFirst}
	}
	return st.distinctAndSort(keys)
}

func (st *selectState) distinctAndSort(keys []sortKey) error {
	switch {
	case st.s.DistinctOn != nil:
		on := make([]ColID, len(st.on))
		for i, t := range st.on {
			on[i] = st.targets[t].col
		}
		if len(keys) > 0 {
			st.plan = &sortNode{in: st.plan, keys: keys}
		}
		// Distinct keeps the order of its input, so the sort below serves both.
		st.plan = &distinctNode{in: st.plan, on: on, ordered: true}
		return nil
	case st.s.Distinct:
		var on []ColID
		for _, t := range st.targets {
			if !t.hidden {
				on = append(on, t.col)
			}
		}
		st.plan = &distinctNode{in: st.plan, on: on}
	}
	if len(keys) > 0 {
		st.plan = &sortNode{in: st.plan, keys: keys}
	}
	return nil
}

// targetCol gives a target its column: an input column keeps its id.
func (b *binder) targetCol(t *target, made colSet) ColID {
	if c, ok := t.e.(*expr.Column); ok {
		return c.Index
	}
	return b.q.add(colMeta{name: t.name, typ: t.e.Type(), notNull: len(colsIn(t.e)) == 0 && b.q.neverNull(t.e)})
}

// bindLimit puts LIMIT and OFFSET over rel.
func (b *binder) bindLimit(rel *relation, s *ast.Select, sc *scope) error {
	if s.Limit == nil && s.Offset == nil {
		return nil
	}
	if s.WithTies {
		return pgerror.Unsupported("FETCH FIRST … WITH TIES")
	}
	n := &limitNode{in: rel.plan}
	var err error
	if n.count, err = b.bindLimitExpr(s.Limit, sc, "LIMIT"); err != nil {
		return err
	}
	if n.offset, err = b.bindLimitExpr(s.Offset, sc, "OFFSET"); err != nil {
		return err
	}
	if n.count != nil || n.offset != nil {
		rel.plan = n
	}
	return nil
}

func (b *binder) bindLimitExpr(e ast.Expr, sc *scope, clause string) (expr.Expr, error) {
	if e == nil {
		return nil, nil
	}
	if _, ok := e.(*ast.NullLit); ok {
		return nil, nil // LIMIT NULL and LIMIT ALL
	}
	inner := newScope(sc)
	inner.level = &level{clause: clause, noAgg: true, noSRF: true}
	x, err := b.bindExpr(e, inner)
	if err != nil {
		return nil, err
	}
	mine := colSet{}
	for _, c := range sc.visible {
		mine.add(c.id)
	}
	if colsIn(x).intersects(mine) {
		return nil, pgerror.New(pgerror.InvalidColumnReference, "argument of %s must not contain variables", clause).At(e.Position())
	}
	if x, err = b.assignTo(x, sqltypes.Int8, clause, e.Position()); err != nil {
		return nil, err
	}
	return x, nil
}
