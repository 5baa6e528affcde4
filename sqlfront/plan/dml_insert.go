package plan

import (
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// InsertPlan is a planned INSERT. Source gives whole rows: a column of every
// table column, in order, in its type, with defaults filled in.
type InsertPlan struct {
	Table  *catalog.Table
	Params []sqltypes.Type
	Source *Physical
	// Checks are the CHECK constraints, named as such, over the new row.
	Checks *RowExprs
	// Returning is over the row as inserted (or as updated by DO UPDATE).
	Returning *RowExprs
	Conflict  *ConflictPlan // nil = none
}

// ConflictPlan is ON CONFLICT. Index is the arbiter, nil for any unique index
// (DO NOTHING only).
type ConflictPlan struct {
	Index    *catalog.Index
	DoUpdate bool
	// Columns are the table positions that Set's expressions assign. Set and
	// Where are over the existing row followed by the row that was to be
	// inserted (excluded). Where is nil or one condition.
	Columns []int
	Set     *RowExprs
	Where   *RowExprs
}

// insertTarget tells VALUES which columns its values are for.
type insertTarget struct {
	t    *catalog.Table
	ords []int
	// explicit tells that the columns were listed.
	explicit bool
}

// PlanInsert binds and optimizes an INSERT.
func PlanInsert(ctx *BindContext, s *ast.Insert) (*InsertPlan, error) {
	b := newBinder(ctx)
	t, err := b.dmlTable(s.Table)
	if err != nil {
		return nil, err
	}
	sc := newScope(nil)
	if err := b.bindWith(s.With, false, sc); err != nil {
		return nil, err
	}
	target, err := b.insertColumns(t, s)
	if err != nil {
		return nil, err
	}
	n, out, err := b.insertSource(s, sc, target)
	if err != nil {
		return nil, err
	}
	p := &InsertPlan{Table: t}
	alias := s.Alias
	if alias == "" {
		alias = t.Name
	}
	row, ids := b.tableScope(t, alias)
	row.ctes = sc.ctes
	if p.Checks, err = b.checks(t, row, ids); err != nil {
		return nil, err
	}
	if p.Returning, err = b.bindReturning(s.Returning, row); err != nil {
		return nil, err
	}
	if p.Returning != nil {
		p.Returning.layout = ids
	}
	if s.OnConflict != nil {
		if p.Conflict, err = b.bindConflict(t, alias, s.OnConflict, sc); err != nil {
			return nil, err
		}
	}
	bd, err := b.finish(n)
	if err != nil {
		return nil, err
	}
	bd.out, p.Params = out, bd.Params
	p.Source, err = optimize(bd, ctx.Catalog, p.rowExprs())
	return p, err
}

func (p *InsertPlan) rowExprs() []*RowExprs {
	list := []*RowExprs{p.Checks, p.Returning}
	if p.Conflict != nil {
		list = append(list, p.Conflict.Set, p.Conflict.Where)
	}
	return slices.DeleteFunc(list, func(r *RowExprs) bool { return r == nil })
}

// dmlTable resolves the target of a statement that writes.
func (b *binder) dmlTable(name ast.TableName) (*catalog.Table, error) {
	rel, err := b.ctx.Catalog.Resolve(name.Schema, name.Name)
	if err != nil {
		return nil, at(err, name.Position())
	}
	if rel.Virtual != nil {
		return nil, pgerror.New(pgerror.InsufficientPrivilege, "permission denied: %q is a system catalog", name.Name).At(name.Position())
	}
	return rel.Table, nil
}

func (b *binder) insertColumns(t *catalog.Table, s *ast.Insert) (*insertTarget, error) {
	tg := &insertTarget{t: t, explicit: s.Columns != nil}
	pos := func(i int) int {
		if i < len(s.ColumnPos) {
			return s.ColumnPos[i]
		}
		return 0
	}
	for i, name := range s.Columns {
		ord := t.ColumnIndex(name)
		if ord < 0 {
			return nil, pgerror.New(pgerror.UndefinedColumn, "column %q of relation %q does not exist", name, t.Name).At(pos(i))
		}
		if slices.Contains(tg.ords, ord) {
			return nil, pgerror.New(pgerror.DuplicateColumn, "column %q specified more than once", name).At(pos(i))
		}
		tg.ords = append(tg.ords, ord)
	}
	if !tg.explicit {
		for i := range t.Columns {
			tg.ords = append(tg.ords, i)
		}
	}
	return tg, nil
}

// insertSource binds the source and completes its rows.
func (b *binder) insertSource(s *ast.Insert, sc *scope, tg *insertTarget) (node, []ColID, error) {
	rel := &relation{plan: oneRow()}
	if s.Source != nil {
		opts := selectOpts{keepUnknown: true}
		if s.Source.Values != nil {
			for _, row := range s.Source.Values {
				if err := tg.checkWidth(len(row), row); err != nil {
					return nil, nil, err
				}
			}
			opts.insert = tg
		}
		var err error
		if rel, err = b.bindSelect(s.Source, sc, opts); err != nil {
			return nil, nil, err
		}
		if err := tg.checkWidth(len(rel.cols), nil); err != nil {
			return nil, nil, err
		}
	}
	byOrd := map[int]int{}
	for i := range rel.cols {
		byOrd[tg.ords[i]] = i
	}
	items := make([]item, len(tg.t.Columns))
	for ord := range tg.t.Columns {
		c := &tg.t.Columns[ord]
		var e expr.Expr
		var err error
		if i, ok := byOrd[ord]; ok && s.Source.Values != nil {
			e = b.q.column(rel.cols[i].id) // assigned where it stands
		} else if ok {
			e, err = tg.assign(b, rel.output(b.q, i), i, targetPos(s.Source, i))
		} else {
			e, err = b.defaultExpr(tg.t, ord)
		}
		if err != nil {
			return nil, nil, err
		}
		items[ord] = item{b.q.add(colMeta{name: c.Name, typ: c.Type}), e}
	}
	return &projectNode{in: rel.plan, items: items}, itemCols(items), nil
}

func (tg *insertTarget) checkWidth(n int, row []ast.Expr) error {
	pos := 0
	if n > len(tg.ords) {
		if row != nil {
			pos = row[len(tg.ords)].Position()
		}
		return pgerror.New(pgerror.SyntaxError, "INSERT has more expressions than target columns").At(pos)
	}
	if tg.explicit && n < len(tg.ords) {
		return pgerror.New(pgerror.SyntaxError, "INSERT has more target columns than expressions")
	}
	return nil
}

// assign casts a value to its column's type as an assignment does.
func (tg *insertTarget) assign(b *binder, e expr.Expr, i, pos int) (expr.Expr, error) {
	c := &tg.t.Columns[tg.ords[i]]
	if c.Identity == "a" {
		return nil, pgerror.New("428C9", "cannot insert a non-DEFAULT value into column %q", c.Name).
			WithDetail("Column %q is an identity column defined as GENERATED ALWAYS.", c.Name).At(pos)
	}
	return b.assignColumn(e, tg.t, tg.ords[i], pos)
}

func (b *binder) assignColumn(e expr.Expr, t *catalog.Table, ord, pos int) (expr.Expr, error) {
	c := &t.Columns[ord]
	from := e.Type()
	x, err := b.cast(e, c.Type, expr.Assignment, pos)
	if err != nil && pgerror.Code(err) == pgerror.CannotCoerce {
		return nil, pgerror.New(pgerror.DatatypeMismatch, "column %q is of type %s but expression is of type %s",
			c.Name, c.Type.Base().Name(), from.Base().Name()).WithHint("You will need to rewrite or cast the expression.").At(pos)
	}
	return x, err
}

func (tg *insertTarget) typeOf(i int, _ expr.Expr) sqltypes.Type {
	return tg.t.Columns[tg.ords[i]].Type
}

func (tg *insertTarget) defaultFor(b *binder, i int) (expr.Expr, error) {
	return b.defaultExpr(tg.t, tg.ords[i])
}

// defaultExpr is a column's default: the next value of its sequence, its
// DEFAULT expression, or NULL.
func (b *binder) defaultExpr(t *catalog.Table, ord int) (expr.Expr, error) {
	c := &t.Columns[ord]
	sc := newScope(nil)
	sc.level = &level{clause: "DEFAULT expressions", noAgg: true, noSRF: true}
	var e expr.Expr
	var err error
	switch {
	case c.DefaultExpr != "":
		e, err = b.storedExpr(c.DefaultExpr, sc)
	case c.Identity != "":
		e, err = b.call("nextval", []expr.Expr{&expr.Const{Value: sqltypes.NewInt(c.SequenceID), Typ: sqltypes.Regclass}}, 0)
	default:
		return &expr.Const{Typ: c.Type}, nil
	}
	if err != nil {
		return nil, err
	}
	return b.assignColumn(e, t, ord, 0)
}

// bindConflict binds ON CONFLICT.
func (b *binder) bindConflict(t *catalog.Table, alias string, oc *ast.OnConflict, with *scope) (*ConflictPlan, error) {
	c := &ConflictPlan{DoUpdate: oc.DoUpdate}
	var err error
	if c.Index, err = arbiter(t, oc); err != nil {
		return nil, err
	}
	if !oc.DoUpdate {
		return c, nil
	}
	if c.Index == nil {
		return nil, pgerror.New(pgerror.SyntaxError, "ON CONFLICT DO UPDATE requires inference specification or constraint name").At(oc.Position())
	}
	sc, old := b.tableScope(t, alias)
	sc.ctes = with.ctes
	excluded := &scopeRel{name: "excluded"}
	n := b.scanTable(t, "excluded", excluded)
	if err := sc.addRel(excluded, oc.Position()); err != nil {
		return nil, err
	}
	layout := append(append([]ColID(nil), old...), n.cols...)
	c.Set = &RowExprs{layout: layout}
	sc.level = &level{clause: "UPDATE", noAgg: true, noSRF: true}
	set, err := b.bindAssignments(t, oc.Set, sc)
	if err != nil {
		return nil, err
	}
	for _, a := range set {
		c.Columns = append(c.Columns, a.ord)
		c.Set.add(t.Columns[a.ord].Name, a.e)
	}
	if oc.SetWhere != nil {
		x, err := b.bindBool(oc.SetWhere, sc, "WHERE")
		if err != nil {
			return nil, err
		}
		c.Where = &RowExprs{layout: layout}
		c.Where.add("where", x)
	}
	return c, nil
}

// arbiter finds the unique index that ON CONFLICT names.
func arbiter(t *catalog.Table, oc *ast.OnConflict) (*catalog.Index, error) {
	if oc.Where != nil {
		return nil, pgerror.Unsupported("ON CONFLICT with a partial index")
	}
	if oc.Constraint == "" && len(oc.Columns) == 0 {
		return nil, nil
	}
	for _, ix := range uniqueKeys(t) {
		if oc.Constraint != "" {
			if ix.Name == oc.Constraint {
				return ix, nil
			}
			continue
		}
		cols := make([]string, len(ix.Columns))
		for i, ic := range ix.Columns {
			cols[i] = t.Columns[ic.Column].Name
		}
		want := slices.Clone(oc.Columns)
		slices.Sort(cols)
		slices.Sort(want)
		if slices.Equal(cols, slices.Compact(want)) {
			return ix, nil
		}
	}
	for _, name := range oc.Columns {
		if t.ColumnIndex(name) < 0 {
			return nil, pgerror.New(pgerror.UndefinedColumn, "column %q does not exist", name).At(oc.Position())
		}
	}
	if oc.Constraint != "" {
		return nil, pgerror.New(pgerror.UndefinedObject, "constraint %q for table %q does not exist", oc.Constraint, t.Name)
	}
	return nil, pgerror.New(pgerror.InvalidColumnReference, "there is no unique or exclusion constraint matching the ON CONFLICT specification")
}
