package parse

import (
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/sqlfront/ast"
)

func (c *converter) insert(x *mast.InsertStmt) *ast.Insert {
	out := &ast.Insert{}
	out.With, _ = c.with(x.WithClause)
	out.Table = c.tableName(x.Relation)
	out.Alias, _ = c.alias(x.Relation.Alias)
	for _, n := range items(x.Cols) {
		r := n.(*mast.ResTarget)
		if len(items(r.Indirection)) > 0 {
			refuse("assigning to part of a column")
		}
		out.Columns = append(out.Columns, r.Name)
		out.ColumnPos = append(out.ColumnPos, int(c.word(r.Name)))
	}
	switch x.Override {
	case mast.OVERRIDING_SYSTEM_VALUE:
		out.Overriding = "system"
	case mast.OVERRIDING_USER_VALUE:
		out.Overriding = "user"
	}
	if !isNil(x.SelectStmt) {
		sel, ok := x.SelectStmt.(*mast.SelectStmt)
		if !ok {
			refuse("this source of INSERT")
		}
		out.Source = c.selectStmt(sel)
	}
	if x.OnConflictClause != nil {
		out.OnConflict = c.onConflict(x.OnConflictClause)
	}
	out.Returning = c.targets(x.ReturningList)
	return out
}

func (c *converter) onConflict(x *mast.OnConflictClause) *ast.OnConflict {
	out := &ast.OnConflict{Pos: c.word("conflict"), DoUpdate: x.Action == mast.ONCONFLICT_UPDATE}
	if x.Infer != nil {
		for _, n := range items(x.Infer.IndexElems) {
			e := n.(*mast.IndexElem)
			if !isNil(e.Expr) || e.Name == "" {
				refuse("an expression in ON CONFLICT")
			}
			c.word(e.Name)
			out.Columns = append(out.Columns, e.Name)
		}
		out.Where = c.optExpr(x.Infer.WhereClause)
		out.Constraint = x.Infer.Conname
		c.word(out.Constraint)
	}
	out.Set = c.assignments(x.TargetList)
	out.SetWhere = c.optExpr(x.WhereClause)
	return out
}

// assignments converts SET lists; (a, b) = … comes as one entry per column that
// share a source.
func (c *converter) assignments(l *mast.NodeList) []ast.Assignment {
	var out []ast.Assignment
	list := items(l)
	for i := 0; i < len(list); {
		r := list[i].(*mast.ResTarget)
		multi, ok := r.Val.(*mast.MultiAssignRef)
		count := 1
		if ok {
			count = multi.Ncolumns
		}
		a := ast.Assignment{}
		for _, n := range list[i : i+count] {
			col := n.(*mast.ResTarget)
			if len(items(col.Indirection)) > 0 {
				refuse("assigning to part of a column")
			}
			if p := c.word(col.Name); a.Pos == 0 {
				a.Pos = p
			}
			a.Columns = append(a.Columns, col.Name)
		}
		if ok {
			a.Value = c.expr(multi.Source)
			if row, isRow := a.Value.(*ast.Row); isRow && count == 1 && len(row.Items) == 1 {
				a.Value = row.Items[0]
			}
		} else {
			a.Value = c.expr(r.Val)
		}
		out = append(out, a)
		i += count
	}
	return out
}

func (c *converter) update(x *mast.UpdateStmt) *ast.Update {
	out := &ast.Update{}
	out.With, _ = c.with(x.WithClause)
	out.Table = c.target(x.Relation)
	out.Set = c.assignments(x.TargetList)
	for _, f := range items(x.FromClause) {
		out.From = append(out.From, c.fromItem(f))
	}
	out.Where = c.optExpr(x.WhereClause)
	out.Returning = c.targets(x.ReturningList)
	return out
}

func (c *converter) delete(x *mast.DeleteStmt) *ast.Delete {
	out := &ast.Delete{}
	out.With, _ = c.with(x.WithClause)
	out.Table = c.target(x.Relation)
	for _, f := range items(x.UsingClause) {
		out.Using = append(out.Using, c.fromItem(f))
	}
	out.Where = c.optExpr(x.WhereClause)
	out.Returning = c.targets(x.ReturningList)
	return out
}

func (c *converter) target(r *mast.RangeVar) ast.TableRef {
	t := ast.TableRef{Name: c.tableName(r), Only: !r.Inh}
	t.Alias, t.Columns = c.alias(r.Alias)
	return t
}
