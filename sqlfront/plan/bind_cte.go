package plan

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// cteDef is a WITH item as a name in scope.
type cteDef struct {
	name  string
	names []string // output column names
	cte   *cte
	// inStep is true while the recursive term is bound: a reference then reads
	// the rows of the last round.
	inStep bool
	// selfRefs counts those references.
	selfRefs int
}

// bindWith binds WITH items into sc. Every item is bound once; rule_cte.go
// inlines those that are read once.
func (b *binder) bindWith(items []ast.CTE, recursive bool, sc *scope) error {
	if len(items) == 0 {
		return nil
	}
	sc.ctes = map[string]*cteDef{}
	for i := range items {
		w := &items[i]
		if sc.ctes[w.Name] != nil {
			return pgerror.New(pgerror.DuplicateAlias, "WITH query name %q specified more than once", w.Name).At(w.Position())
		}
		sel, ok := w.Stmt.(*ast.Select)
		if !ok {
			return pgerror.Unsupported("a data-modifying statement in WITH").At(w.Position())
		}
		var def *cteDef
		var err error
		if recursive && mentions(sel, w.Name) {
			def, err = b.bindRecursive(w, sel, sc)
		} else {
			def, err = b.bindOneCTE(w, sel, sc)
		}
		if err != nil {
			return err
		}
		sc.ctes[w.Name] = def
	}
	return nil
}

func (b *binder) newCTE(name string) *cte {
	c := &cte{name: name, id: len(b.q.ctes)}
	b.q.ctes = append(b.q.ctes, c)
	return c
}

func (b *binder) bindOneCTE(w *ast.CTE, sel *ast.Select, sc *scope) (*cteDef, error) {
	// The item sees the items before it, but no FROM of this level.
	rel, err := b.bindSelect(sel, b.outerOf(sc), selectOpts{})
	if err != nil {
		return nil, err
	}
	c := b.newCTE(w.Name)
	c.plan, c.cols = rel.plan, rel.ids()
	names, err := cteNames(w, rel.cols)
	if err != nil {
		return nil, err
	}
	return &cteDef{name: w.Name, names: names, cte: c}, nil
}

func cteNames(w *ast.CTE, cols []outCol) ([]string, error) {
	if len(w.Columns) > len(cols) {
		return nil, pgerror.New(pgerror.InvalidColumnReference,
			"WITH query %q has %d columns available but %d columns specified", w.Name, len(cols), len(w.Columns)).At(w.Position())
	}
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.name
	}
	copy(names, w.Columns)
	return names, nil
}

// bindRecursive binds base UNION [ALL] step.
func (b *binder) bindRecursive(w *ast.CTE, sel *ast.Select, sc *scope) (*cteDef, error) {
	bad := func(what string) error {
		return pgerror.New("42P19", "recursive query %q %s", w.Name, what).At(w.Position())
	}
	if sel.SetOp != ast.SetUnion {
		return nil, bad("does not have the form non-recursive-term UNION [ALL] recursive-term")
	}
	if sel.OrderBy != nil || sel.Limit != nil || sel.Offset != nil || sel.Locking != nil {
		return nil, pgerror.Unsupported("ORDER BY, LIMIT or FOR UPDATE in a recursive query").At(w.Position())
	}
	if mentions(sel.L, w.Name) {
		return nil, pgerror.New("42P19", "recursive reference to query %q must not appear within its non-recursive term", w.Name).At(w.Position())
	}
	outer := b.outerOf(sc)
	if len(sel.With) > 0 {
		outer = newScope(outer)
		if err := b.bindWith(sel.With, sel.Recursive, outer); err != nil {
			return nil, err
		}
	}
	base, err := b.bindSelect(sel.L, outer, selectOpts{})
	if err != nil {
		return nil, err
	}
	c := b.newCTE(w.Name)
	c.recursive, c.distinct = true, !sel.SetAll
	c.plan, c.cols = base.plan, base.ids()
	names, err := cteNames(w, base.cols)
	if err != nil {
		return nil, err
	}
	def := &cteDef{name: w.Name, names: names, cte: c, inStep: true}
	inner := newScope(outer)
	inner.ctes = map[string]*cteDef{w.Name: def}
	step, err := b.bindSelect(sel.R, inner, selectOpts{keepUnknown: true})
	if err != nil {
		return nil, err
	}
	def.inStep = false
	if def.selfRefs > 1 {
		return nil, pgerror.New("42P19", "recursive reference to query %q must not appear more than once", w.Name).At(w.Position())
	}
	if err := b.unifyStep(w, c, step, names); err != nil {
		return nil, err
	}
	return def, nil
}

// unifyStep gives the recursive term the column types of the base.
func (b *binder) unifyStep(w *ast.CTE, c *cte, step *relation, names []string) error {
	if len(step.cols) != len(c.cols) {
		return pgerror.New(pgerror.SyntaxError, "each UNION query must have the same number of columns").At(w.Position())
	}
	items := make([]item, len(c.cols))
	c.stepCols = make([]ColID, len(c.cols))
	for i, oc := range step.cols {
		want := b.q.cols[c.cols[i]].typ
		in := b.q.column(oc.id)
		typ, err := b.commonType([]expr.Expr{b.q.column(c.cols[i]), in}, "UNION", w.Position())
		if err != nil {
			return err
		}
		if typ.OID != want.OID {
			return pgerror.New(pgerror.DatatypeMismatch, "recursive query %q column %d has type %s in non-recursive term but type %s overall",
				w.Name, i+1, want.String(), typ.String()).At(w.Position()).WithHint("Cast the output of the non-recursive term to the correct type.")
		}
		e, err := b.implicitCast(in, want, w.Position())
		if err != nil {
			return err
		}
		c.stepCols[i] = b.q.add(colMeta{name: names[i], typ: want})
		items[i] = item{c.stepCols[i], e}
	}
	c.step = &projectNode{in: step.plan, items: items}
	return nil
}

// bindCTERef reads a WITH item.
func (b *binder) bindCTERef(def *cteDef, x *ast.TableRef, alias string) (node, *scope, error) {
	n := &cteNode{cte: def.cte}
	if def.inStep {
		n.work = true
		def.selfRefs++
	} else {
		def.cte.refs++
	}
	r := &scopeRel{name: alias}
	for i, c := range def.cte.cols {
		m := b.q.cols[c]
		m.name, m.rel, m.notNull = def.names[i], alias, m.notNull && !def.cte.recursive && !nulled(def.cte.plan, c)
		m.table = nil
		id := b.q.add(m)
		n.cols = append(n.cols, id)
		r.cols = append(r.cols, scopeCol{def.names[i], id})
	}
	return relScope(n, r, x.Columns, x.Name.Position())
}

// mentions reports whether a SELECT reads an unqualified relation of this name
// in any FROM, subqueries included.
func mentions(s *ast.Select, name string) bool {
	if s == nil {
		return false
	}
	for _, w := range s.With {
		if w.Name == name {
			return false // hidden by a nearer item
		}
	}
	for _, w := range s.With {
		if sub, ok := w.Stmt.(*ast.Select); ok && mentions(sub, name) {
			return true
		}
	}
	if mentions(s.L, name) || mentions(s.R, name) {
		return true
	}
	for _, f := range s.From {
		if fromMentions(f, name) {
			return true
		}
	}
	found := false
	eachSelectExpr(s, func(e ast.Expr) {
		eachSubquery(e, func(sub *ast.Select) { found = found || mentions(sub, name) })
	})
	return found
}

func fromMentions(f ast.FromItem, name string) bool {
	switch x := f.(type) {
	case *ast.TableRef:
		return x.Name.Schema == "" && x.Name.Name == name
	case *ast.SubqueryRef:
		return mentions(x.Sub, name)
	case *ast.Join:
		return fromMentions(x.L, name) || fromMentions(x.R, name)
	}
	return false
}

// eachSelectExpr calls f with the expressions of one query level.
func eachSelectExpr(s *ast.Select, f func(ast.Expr)) {
	for _, t := range s.Targets {
		f(t.Expr)
	}
	for _, r := range s.Values {
		for _, e := range r {
			f(e)
		}
	}
	for _, e := range []ast.Expr{s.Where, s.Having, s.Limit, s.Offset} {
		if e != nil {
			f(e)
		}
	}
	for _, o := range s.OrderBy {
		f(o.Expr)
	}
	for _, g := range s.GroupBy {
		f(g)
	}
}

// eachSubquery calls f with the subqueries directly inside an expression.
func eachSubquery(e ast.Expr, f func(*ast.Select)) {
	if e == nil {
		return
	}
	switch x := e.(type) {
	case *ast.In:
		if x.Sub != nil {
			f(x.Sub)
		}
	case *ast.AnyAll:
		if x.Sub != nil {
			f(x.Sub)
		}
	case *ast.Exists:
		f(x.Sub)
	case *ast.Subquery:
		f(x.Sub)
	}
	for _, c := range astChildren(e) {
		eachSubquery(c, f)
	}
}

// astChildren are the operands of an expression as written.
func astChildren(e ast.Expr) []ast.Expr {
	var out []ast.Expr
	add := func(l ...ast.Expr) {
		for _, x := range l {
			if x != nil {
				out = append(out, x)
			}
		}
	}
	switch x := e.(type) {
	case *ast.Cast:
		add(x.X)
	case *ast.Binary:
		add(x.L, x.R)
	case *ast.Unary:
		add(x.X)
	case *ast.Logic:
		add(x.Args...)
	case *ast.Not:
		add(x.X)
	case *ast.IsNull:
		add(x.X)
	case *ast.IsBool:
		add(x.X)
	case *ast.IsDistinct:
		add(x.L, x.R)
	case *ast.Between:
		add(x.X, x.Lo, x.Hi)
	case *ast.In:
		add(x.X)
		add(x.List...)
	case *ast.Like:
		add(x.X, x.Pattern, x.Escape)
	case *ast.AnyAll:
		add(x.X, x.Array)
	case *ast.Row:
		add(x.Items...)
	case *ast.Array:
		add(x.Items...)
	case *ast.Subscript:
		add(x.X, x.Index)
	case *ast.Case:
		add(x.Arg, x.Else)
		for _, w := range x.Whens {
			add(w.Cond, w.Result)
		}
	case *ast.Func:
		add(x.Args...)
		add(x.Filter)
	case *ast.Collate:
		add(x.X)
	}
	return out
}
