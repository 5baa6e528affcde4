package plan

import (
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// UpdatePlan is a planned UPDATE. Source's columns are the row's handle, the
// old row (every table column), the new row (likewise), then what RETURNING
// needs of FROM. A row joined to several rows of FROM comes several times; the
// first counts.
type UpdatePlan struct {
	Table  *catalog.Table
	Params []sqltypes.Type
	Source *Physical
	// Set are the table positions that are assigned.
	Set []int
	// Checks and Returning are over a row of Source.
	Checks    *RowExprs
	Returning *RowExprs
}

// DeletePlan is a planned DELETE. Source's columns are the row's handle, the
// old row (every table column), then what RETURNING needs of USING.
type DeletePlan struct {
	Table     *catalog.Table
	Params    []sqltypes.Type
	Source    *Physical
	Returning *RowExprs // over a row of Source
}

// assignment is a column and its new value.
type assignment struct {
	ord int
	e   expr.Expr
}

// PlanUpdate binds and optimizes an UPDATE.
func PlanUpdate(ctx *BindContext, s *ast.Update) (*UpdatePlan, error) {
	b := newBinder(ctx)
	d, err := b.bindTarget(s.With, &s.Table, s.From)
	if err != nil {
		return nil, err
	}
	d.sc.level = &level{clause: "UPDATE", noAgg: true, noSRF: true}
	set, err := b.bindAssignments(d.t, s.Set, d.sc)
	if err != nil {
		return nil, err
	}
	if err := d.where(b, s.Where); err != nil {
		return nil, err
	}
	p := &UpdatePlan{Table: d.t}
	values := map[int]expr.Expr{}
	for _, a := range set {
		p.Set = append(p.Set, a.ord)
		values[a.ord] = a.e
	}
	newIDs := make([]ColID, len(d.scan.cols))
	items := d.oldItems(b)
	row := &scopeRel{name: d.rel.name, schema: d.rel.schema, oid: d.rel.oid}
	for ord, old := range d.scan.cols {
		m := b.q.cols[old]
		e, ok := values[ord]
		if !ok {
			e = b.q.column(old)
		}
		newIDs[ord] = b.q.add(m)
		items = append(items, item{newIDs[ord], e})
		row.cols = append(row.cols, scopeCol{m.name, newIDs[ord]})
	}
	after := d.returningScope(row)
	if p.Checks, err = b.checks(d.t, after, nil); err != nil {
		return nil, err
	}
	if p.Returning, err = b.bindReturning(s.Returning, after); err != nil {
		return nil, err
	}
	bd, err := d.finish(b, items, p.Checks, p.Returning)
	if err != nil {
		return nil, err
	}
	p.Params = bd.Params
	p.Source, err = optimize(bd, ctx.Catalog, present(p.Checks, p.Returning))
	return p, err
}

// PlanDelete binds and optimizes a DELETE.
func PlanDelete(ctx *BindContext, s *ast.Delete) (*DeletePlan, error) {
	b := newBinder(ctx)
	d, err := b.bindTarget(s.With, &s.Table, s.Using)
	if err != nil {
		return nil, err
	}
	if err := d.where(b, s.Where); err != nil {
		return nil, err
	}
	p := &DeletePlan{Table: d.t}
	if p.Returning, err = b.bindReturning(s.Returning, d.returningScope(d.rel)); err != nil {
		return nil, err
	}
	bd, err := d.finish(b, d.oldItems(b), p.Returning)
	if err != nil {
		return nil, err
	}
	p.Params = bd.Params
	p.Source, err = optimize(bd, ctx.Catalog, present(p.Returning))
	return p, err
}

func present(list ...*RowExprs) []*RowExprs {
	return slices.DeleteFunc(list, func(r *RowExprs) bool { return r == nil })
}

// dmlTarget is the table an UPDATE or DELETE writes, joined with its FROM.
type dmlTarget struct {
	t    *catalog.Table
	scan *scanNode
	rel  *scopeRel // of the target
	sc   *scope    // target and FROM
	plan node
}

func (b *binder) bindTarget(with []ast.CTE, ref *ast.TableRef, from []ast.FromItem) (*dmlTarget, error) {
	t, err := b.dmlTable(ref.Name)
	if err != nil {
		return nil, err
	}
	d := &dmlTarget{t: t, sc: newScope(nil)}
	if err := b.bindWith(with, false, d.sc); err != nil {
		return nil, err
	}
	d.rel = &scopeRel{name: t.Name, schema: t.Schema, oid: uint32(t.ID)}
	if ref.Alias != "" {
		d.rel.name, d.rel.schema = ref.Alias, ""
	}
	d.scan = b.scanTable(t, d.rel.name, d.rel)
	d.scan.handle = b.q.add(colMeta{name: "handle", typ: handleType, rel: d.rel.name})
	d.plan = d.scan
	if err := d.sc.addRel(d.rel, ref.Name.Position()); err != nil {
		return nil, err
	}
	if len(from) == 0 {
		return d, nil
	}
	others := newScope(nil)
	others.ctes = d.sc.ctes
	n, err := b.bindFromList(from, others)
	if err != nil {
		return nil, err
	}
	d.plan = joined(joinInner, d.plan, n, nil)
	return d, d.sc.merge(others, ref.Name.Position())
}

func (d *dmlTarget) where(b *binder, e ast.Expr) error {
	if e == nil {
		return nil
	}
	d.sc.level = nil
	conds, err := b.bindCond(e, d.sc, "WHERE")
	if err != nil {
		return err
	}
	d.plan = filtered(d.plan, conds)
	return nil
}

// oldItems are the handle and the row as it is.
func (d *dmlTarget) oldItems(b *binder) []item {
	items := []item{{d.scan.handle, b.q.column(d.scan.handle)}}
	for _, c := range d.scan.cols {
		items = append(items, item{c, b.q.column(c)})
	}
	return items
}

// returningScope sees the target's row as rel has it, and FROM.
func (d *dmlTarget) returningScope(rel *scopeRel) *scope {
	sc := newScope(nil)
	sc.ctes = d.sc.ctes
	sc.rels = append([]*scopeRel{rel}, d.sc.rels[1:]...)
	sc.visible = append(append([]scopeCol(nil), rel.cols...), d.sc.visible[len(d.rel.cols):]...)
	return sc
}

// finish makes the Source's plan: items, then the columns of FROM that the
// expressions over its rows need.
func (d *dmlTarget) finish(b *binder, items []item, lists ...*RowExprs) (*Bound, error) {
	have, avail := colsOf(itemCols(items)), colsOf(d.plan.columns())
	for _, r := range present(lists...) {
		for _, e := range r.exprs {
			need := colsIn(e)
			for _, c := range d.plan.columns() { // in a fixed order
				if need.has(c) && avail.has(c) && !have.has(c) {
					have.add(c)
					items = append(items, item{c, b.q.column(c)})
				}
			}
		}
	}
	for _, r := range present(lists...) {
		r.layout = itemCols(items)
	}
	bd, err := b.finish(&projectNode{in: d.plan, items: items})
	if err != nil {
		return nil, err
	}
	bd.out = itemCols(items)
	return bd, nil
}

// bindAssignments binds SET.
func (b *binder) bindAssignments(t *catalog.Table, list []ast.Assignment, sc *scope) ([]assignment, error) {
	var out []assignment
	seen := map[int]bool{}
	for i := range list {
		a := &list[i]
		values, err := b.assignedValues(t, a, sc)
		if err != nil {
			return nil, err
		}
		for k, name := range a.Columns {
			ord := t.ColumnIndex(name)
			if seen[ord] {
				return nil, pgerror.New(pgerror.SyntaxError, "multiple assignments to same column %q", name).At(a.Position())
			}
			seen[ord] = true
			e := values[k]
			if e == nil {
				e, err = b.defaultExpr(t, ord)
			} else if t.Columns[ord].Identity == "a" {
				err = pgerror.New("428C9", "column %q can only be updated to DEFAULT", name).
					WithDetail("Column %q is an identity column defined as GENERATED ALWAYS.", name).At(a.Position())
			} else {
				e, err = b.assignColumn(e, t, ord, a.Value.Position())
			}
			if err != nil {
				return nil, err
			}
			out = append(out, assignment{ord, e})
		}
	}
	return out, nil
}

// assignedValues are the values of one assignment, nil for DEFAULT.
func (b *binder) assignedValues(t *catalog.Table, a *ast.Assignment, sc *scope) ([]expr.Expr, error) {
	for _, name := range a.Columns {
		if t.ColumnIndex(name) < 0 {
			return nil, pgerror.New(pgerror.UndefinedColumn, "column %q of relation %q does not exist", name, t.Name).At(a.Position())
		}
	}
	items := []ast.Expr{a.Value}
	if r, ok := a.Value.(*ast.Row); ok {
		items = r.Items
	}
	if s, ok := a.Value.(*ast.Subquery); ok && len(a.Columns) > 1 {
		return b.assignedSubquery(a, s, sc)
	}
	if len(items) != len(a.Columns) {
		return nil, pgerror.New(pgerror.SyntaxError, "number of columns does not match number of values").At(a.Position())
	}
	out := make([]expr.Expr, len(items))
	for i, e := range items {
		if _, ok := e.(*ast.Default); ok {
			continue
		}
		x, err := b.bindExpr(e, sc)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

// assignedSubquery is (a, b) = (SELECT x, y …): a scalar subquery for each
// column.
func (b *binder) assignedSubquery(a *ast.Assignment, s *ast.Subquery, sc *scope) ([]expr.Expr, error) {
	out := make([]expr.Expr, len(a.Columns))
	for i := range a.Columns {
		rel, err := b.bindSelect(s.Sub, sc, selectOpts{})
		if err != nil {
			return nil, err
		}
		if len(rel.cols) != len(a.Columns) {
			return nil, pgerror.New(pgerror.SyntaxError, "number of columns does not match number of values").At(a.Position())
		}
		if volatilePlan(rel.plan) {
			return nil, pgerror.Unsupported("a volatile function in a subquery that assigns several columns").At(a.Position())
		}
		out[i] = &subExpr{kind: subScalar, plan: rel.plan, cols: []ColID{rel.cols[i].id}, typ: b.q.cols[rel.cols[i].id].typ}
	}
	return out, nil
}
