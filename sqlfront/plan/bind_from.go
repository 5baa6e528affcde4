package plan

import (
	"strconv"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// bindFromList binds FROM into sc and returns the joined input; without FROM
// that is one row of no columns.
func (b *binder) bindFromList(items []ast.FromItem, sc *scope) (node, error) {
	if len(items) == 0 {
		return oneRow(), nil
	}
	var plan node
	for _, it := range items {
		n, s, err := b.bindFromItem(it, sc, sc)
		if err != nil {
			return nil, err
		}
		if err := sc.merge(s, itemPos(it)); err != nil {
			return nil, err
		}
		if plan == nil {
			plan = n
			continue
		}
		plan = joined(joinInner, plan, n, nil)
	}
	return plan, nil
}

func oneRow() node { return &valuesNode{rows: [][]expr.Expr{{}}} }

// joined makes a join and finds out whether its right side is lateral.
func joined(kind joinKind, l, r node, on []expr.Expr) *joinNode {
	return &joinNode{kind: kind, l: l, r: r, on: on, lateral: freeCols(r).intersects(colsOf(l.columns()))}
}

func itemPos(it ast.FromItem) int {
	switch x := it.(type) {
	case *ast.TableRef:
		return x.Name.Position()
	case *ast.SubqueryRef:
		return x.Position()
	case *ast.FuncRef:
		return x.Position()
	case *ast.Join:
		return x.Position()
	}
	return 0
}

// bindFromItem binds one item into a scope of its own. level is the query
// level's scope (WITH items, outer queries); left is what a lateral item sees.
func (b *binder) bindFromItem(it ast.FromItem, lvl, left *scope) (node, *scope, error) {
	if err := b.enter(); err != nil {
		return nil, nil, err
	}
	defer func() { b.depth-- }()
	switch x := it.(type) {
	case *ast.TableRef:
		return b.bindTable(x, lvl)
	case *ast.SubqueryRef:
		return b.bindDerived(x, lvl, left)
	case *ast.FuncRef:
		return b.bindFromFunc(x, lvl, left)
	case *ast.Join:
		return b.bindJoin(x, lvl, left)
	}
	return nil, nil, pgerror.Unsupported("this kind of FROM item")
}

// bindTable binds a WITH item, a table or a system table.
func (b *binder) bindTable(x *ast.TableRef, lvl *scope) (node, *scope, error) {
	alias := x.Alias
	if alias == "" {
		alias = x.Name.Name
	}
	if x.Name.Schema == "" && x.Name.Catalog == "" {
		if def := lvl.findCTE(x.Name.Name); def != nil {
			return b.bindCTERef(def, x, alias)
		}
	}
	rel, err := b.ctx.Catalog.Resolve(x.Name.Schema, x.Name.Name)
	if err != nil {
		return nil, nil, at(err, x.Name.Position())
	}
	r := &scopeRel{name: alias}
	if x.Alias == "" {
		r.schema = relSchema(rel)
	} else if x.Alias != x.Name.Name {
		r.table = x.Name.Name
	}
	var n node
	if rel.Virtual != nil {
		r.oid = uint32(rel.Virtual.OID)
		n = b.scanVirtual(rel.Virtual, alias, r)
	} else {
		r.oid = uint32(rel.Table.ID)
		n = b.scanTable(rel.Table, alias, r)
	}
	return relScope(n, r, x.Columns, x.Name.Position())
}

func relSchema(rel catalog.Relation) string {
	if rel.Virtual != nil {
		return rel.Virtual.Schema
	}
	return rel.Table.Schema
}

// relScope applies column aliases and makes the item's scope.
func relScope(n node, r *scopeRel, aliases []string, pos int) (node, *scope, error) {
	if len(aliases) > len(r.cols) {
		return nil, nil, pgerror.New(pgerror.InvalidColumnReference,
			"table %q has %d columns available but %d columns specified", r.name, len(r.cols), len(aliases)).At(pos)
	}
	for i, a := range aliases {
		r.cols[i].name = a
	}
	s := newScope(nil)
	if err := s.addRel(r, pos); err != nil {
		return nil, nil, err
	}
	return n, s, nil
}

func (b *binder) scanTable(t *catalog.Table, alias string, r *scopeRel) *scanNode {
	n := &scanNode{table: t, alias: alias}
	for i := range t.Columns {
		c := &t.Columns[i]
		id := b.q.add(colMeta{name: c.Name, typ: c.Type, table: t, ord: i, oid: uint32(t.ID),
			attr: int16(c.ID), notNull: c.NotNull, rel: alias})
		n.cols = append(n.cols, id)
		n.ords = append(n.ords, i)
		r.cols = append(r.cols, scopeCol{c.Name, id})
	}
	return n
}

func (b *binder) scanVirtual(t *catalog.VirtualTable, alias string, r *scopeRel) node {
	n := &virtualNode{table: t, alias: alias}
	for i := range t.Columns {
		c := &t.Columns[i]
		id := b.q.add(colMeta{name: c.Name, typ: c.Type, oid: uint32(t.OID), attr: int16(i + 1), rel: alias})
		n.cols = append(n.cols, id)
		n.ords = append(n.ords, i)
		r.cols = append(r.cols, scopeCol{c.Name, id})
	}
	return n
}

// bindDerived binds a subquery in FROM.
func (b *binder) bindDerived(x *ast.SubqueryRef, lvl, left *scope) (node, *scope, error) {
	parent := b.outerOf(lvl)
	if x.Lateral {
		parent = left
	}
	sub, err := b.bindSelect(x.Sub, parent, selectOpts{})
	if err != nil {
		return nil, nil, err
	}
	r := &scopeRel{name: x.Alias}
	for _, c := range sub.cols {
		r.cols = append(r.cols, scopeCol(c))
	}
	// Two output columns with one id would make qualified names ambiguous only
	// by name, which is right: (select a, a) has two columns named a.
	return relScope(sub.plan, r, x.Columns, x.Position())
}

// outerOf is what a subquery in FROM sees when it is not lateral: the WITH
// items of this level and everything around it, but no FROM item of it.
func (b *binder) outerOf(lvl *scope) *scope {
	return &scope{parent: lvl.parent, ctes: lvl.ctes}
}

// bindJoin binds l JOIN r.
func (b *binder) bindJoin(x *ast.Join, lvl, left *scope) (node, *scope, error) {
	ln, ls, err := b.bindFromItem(x.L, lvl, left)
	if err != nil {
		return nil, nil, err
	}
	seen := &scope{parent: left, rels: ls.rels, visible: ls.visible, ctes: lvl.ctes}
	rn, rs, err := b.bindFromItem(x.R, lvl, seen)
	if err != nil {
		return nil, nil, err
	}
	both := &scope{parent: lvl.parent, ctes: lvl.ctes}
	if err := both.merge(ls, x.Position()); err != nil {
		return nil, nil, err
	}
	if err := both.merge(rs, x.Position()); err != nil {
		return nil, nil, err
	}
	var on []expr.Expr
	var using []usingCol
	switch {
	case x.Natural || len(x.Using) > 0:
		if on, using, err = b.bindUsing(x, ls, rs); err != nil {
			return nil, nil, err
		}
	case x.On != nil:
		if on, err = b.bindCond(x.On, both, "JOIN/ON"); err != nil {
			return nil, nil, err
		}
	}
	both.level = nil
	n, err := b.makeJoin(x, ln, rn, on)
	if err != nil {
		return nil, nil, err
	}
	if len(using) > 0 {
		if n, err = b.mergeUsing(x, n, both, ls, rs, using); err != nil {
			return nil, nil, err
		}
	}
	if x.Alias != "" {
		return b.aliasJoin(x, n, both)
	}
	return n, both, nil
}

// makeJoin turns a right join around.
func (b *binder) makeJoin(x *ast.Join, l, r node, on []expr.Expr) (node, error) {
	switch x.Kind {
	case ast.JoinLeft:
		return joined(joinLeft, l, r, on), nil
	case ast.JoinRight:
		if freeCols(r).intersects(colsOf(l.columns())) {
			return nil, pgerror.New(pgerror.InvalidColumnReference, "invalid reference to FROM-clause entry: the combining JOIN type must be INNER or LEFT for a LATERAL reference").At(x.Position())
		}
		return joined(joinLeft, r, l, on), nil
	case ast.JoinFull:
		return joined(joinFull, l, r, on), nil
	}
	return joined(joinInner, l, r, on), nil
}

func (b *binder) aliasJoin(x *ast.Join, n node, both *scope) (node, *scope, error) {
	r := &scopeRel{name: x.Alias, cols: append([]scopeCol(nil), both.visible...)}
	return relScope(n, r, nil, x.Position())
}

// usingCol is a pair of columns that USING or NATURAL made one.
type usingCol struct {
	name string
	l, r ColID
	typ  sqltypes.Type
}

func (b *binder) bindUsing(x *ast.Join, ls, rs *scope) (on []expr.Expr, cols []usingCol, err error) {
	names := x.Using
	if x.Natural {
		for _, lc := range ls.visible {
			for _, rc := range rs.visible {
				if lc.name == rc.name {
					names = append(names, lc.name)
					break
				}
			}
		}
	}
	for _, name := range names {
		l, err := usingSide(ls, name, "left", x.Position())
		if err != nil {
			return nil, nil, err
		}
		r, err := usingSide(rs, name, "right", x.Position())
		if err != nil {
			return nil, nil, err
		}
		lc, rc := b.q.column(l), b.q.column(r)
		eq, err := b.operator("", "=", lc, rc, x.Position())
		if err != nil {
			return nil, nil, err
		}
		typ, err := b.commonType([]expr.Expr{lc, rc}, "JOIN/USING", x.Position())
		if err != nil {
			return nil, nil, err
		}
		on = append(on, eq)
		cols = append(cols, usingCol{name, l, r, typ})
	}
	return on, cols, nil
}

func usingSide(s *scope, name, side string, pos int) (ColID, error) {
	var hit ColID
	for _, c := range s.visible {
		if c.name != name {
			continue
		}
		if hit != 0 {
			return 0, pgerror.New(pgerror.AmbiguousColumn, "common column name %q appears more than once in %s table", name, side).At(pos)
		}
		hit = c.id
	}
	if hit == 0 {
		return 0, pgerror.New(pgerror.UndefinedColumn, "column %q specified in USING clause does not exist in %s table", name, side).At(pos)
	}
	return hit, nil
}

// mergeUsing makes the merged columns visible, first and once.
func (b *binder) mergeUsing(x *ast.Join, n node, both, ls, rs *scope, using []usingCol) (node, error) {
	var visible []scopeCol
	var items []item
	gone := map[ColID]bool{}
	for _, u := range using {
		id, it, err := b.mergedColumn(x.Kind, u, x.Position())
		if err != nil {
			return nil, err
		}
		if it != nil {
			items = append(items, *it)
		}
		visible = append(visible, scopeCol{u.name, id})
		gone[u.l], gone[u.r] = true, true
	}
	for _, s := range []*scope{ls, rs} {
		for _, c := range s.visible {
			if !gone[c.id] {
				visible = append(visible, c)
			}
		}
	}
	both.visible = visible
	if len(items) == 0 {
		return n, nil
	}
	for _, c := range n.columns() {
		items = append(items, item{c, b.q.column(c)})
	}
	return &projectNode{in: n, items: items}, nil
}

// mergedColumn is the column a USING pair becomes: the preserved side's, or
// whichever is not null in a full join.
func (b *binder) mergedColumn(kind ast.JoinKind, u usingCol, pos int) (ColID, *item, error) {
	side := u.l
	if kind == ast.JoinRight {
		side = u.r
	}
	if kind != ast.JoinFull {
		if b.q.cols[side].typ == u.typ {
			return side, nil, nil
		}
		e, err := b.implicitCast(b.q.column(side), u.typ, pos)
		if err != nil {
			return 0, nil, err
		}
		id := b.q.add(colMeta{name: u.name, typ: u.typ})
		return id, &item{id, e}, nil
	}
	l, err := b.implicitCast(b.q.column(u.l), u.typ, pos)
	if err != nil {
		return 0, nil, err
	}
	r, err := b.implicitCast(b.q.column(u.r), u.typ, pos)
	if err != nil {
		return 0, nil, err
	}
	id := b.q.add(colMeta{name: u.name, typ: u.typ})
	return id, &item{id, &expr.Coalesce{Args: []expr.Expr{l, r}, Typ: u.typ}}, nil
}

// bindFromFunc binds a function in FROM: set-returning, or a scalar one, which
// gives one row.
func (b *binder) bindFromFunc(x *ast.FuncRef, lvl, left *scope) (node, *scope, error) {
	args := &scope{parent: left, ctes: lvl.ctes, level: &level{clause: "functions in FROM", noAgg: true}}
	name := x.Alias
	if name == "" {
		name = x.Call.Name
	}
	call, cols, scalar, err := b.bindSetFunc(x.Call, args)
	if err != nil {
		return nil, nil, err
	}
	r := &scopeRel{name: name}
	var n node
	if call != nil {
		f := setFunc{call: call}
		for i, c := range cols {
			if len(cols) == 1 && (c.name == "" || x.Alias != "" && !call.named) {
				c.name = name
			}
			if c.name == "" {
				c.name = "column" + strconv.Itoa(i+1)
			}
			id := b.q.add(colMeta{name: c.name, typ: c.typ, rel: name})
			f.cols = append(f.cols, id)
			r.cols = append(r.cols, scopeCol{c.name, id})
		}
		ps := &projectSetNode{in: oneRow(), funcs: []setFunc{f}}
		if x.Ordinality {
			ps.ordinality = b.q.add(colMeta{name: "ordinality", typ: sqltypes.Int8, rel: name, notNull: true})
		}
		n = ps
	} else {
		id := b.q.add(colMeta{name: name, typ: scalar.Type(), rel: name})
		r.cols = append(r.cols, scopeCol{name, id})
		items := []item{{id, scalar}}
		if x.Ordinality {
			ord := b.q.add(colMeta{name: "ordinality", typ: sqltypes.Int8, rel: name, notNull: true})
			items = append(items, item{ord, &expr.Const{Value: sqltypes.NewInt(1), Typ: sqltypes.Int8}})
		}
		n = &projectNode{in: oneRow(), items: items}
	}
	if len(r.cols) == 1 {
		r.single = r.cols[0].id
	}
	if x.Ordinality {
		cols := n.columns()
		r.cols = append(r.cols, scopeCol{"ordinality", cols[len(cols)-1]})
	}
	return relScope(n, r, x.Columns, x.Position())
}
