package parse

import (
	"strings"

	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/sqlfront/ast"
)

// spelled is how calls that the grammar renames are written.
var spelled = map[string]string{"btrim": "trim", "ltrim": "trim", "rtrim": "trim", "timezone": "at", "is_normalized": "is"}

func (c *converter) funcCall(x *mast.FuncCall) ast.Expr {
	parts := names(x.Funcname)
	f := &ast.Func{Name: parts[len(parts)-1], Star: x.AggStar, Distinct: x.AggDistinct, Variadic: x.FuncVariadic}
	if len(parts) > 1 {
		f.Schema = parts[len(parts)-2]
	}
	if x.AggWithinGroup {
		refuse("WITHIN GROUP")
	}
	c.funcArgs(f, x)
	f.OrderBy = c.sortItems(x.AggOrder)
	f.Filter = c.optExpr(x.AggFilter)
	if x.Over != nil {
		f.Over = c.window(x.Over)
	}
	return f
}

// funcArgs converts the arguments and finds the position. Special syntax has
// its arguments in another order than the source, so each is looked for from
// the start of the call.
func (c *converter) funcArgs(f *ast.Func, x *mast.FuncCall) {
	start := c.next
	name := f.Name
	special := f.Schema == "pg_catalog" && !c.peek("pg_catalog")
	if special {
		if s, ok := spelled[name]; ok && (x.Funcformat == mast.COERCE_SQL_SYNTAX || s != "trim") {
			name = s
		}
	}
	if name == "at" {
		c.argsAnyOrder(f, x)
		end := c.next
		c.next = start
		f.Pos = c.word("at")
		c.next = max(end, c.next)
		return
	}
	if len(f.Schema) > 0 && !special {
		f.Pos = c.word(f.Schema)
	}
	if p := c.word(name); f.Pos == 0 {
		f.Pos = p
	}
	if special && x.Funcformat == mast.COERCE_SQL_SYNTAX {
		c.argsAnyOrder(f, x)
		return
	}
	f.Args = c.exprs(x.Args)
}

func (c *converter) argsAnyOrder(f *ast.Func, x *mast.FuncCall) {
	start, end := c.next, c.next
	for _, a := range items(x.Args) {
		c.next = start
		f.Args = append(f.Args, c.expr(a))
		end = max(end, c.next)
	}
	c.next = end
}

func (c *converter) sortItems(l *mast.NodeList) []ast.SortItem {
	var out []ast.SortItem
	for _, n := range items(l) {
		s, ok := n.(*mast.SortBy)
		if !ok {
			refuse("this form of ORDER BY")
		}
		item := ast.SortItem{Expr: c.expr(s.Node), Desc: s.SortbyDir == mast.SORTBY_DESC, NullsFirst: nullsFirst(s.SortbyNulls)}
		if s.SortbyDir == mast.SORTBY_USING {
			switch op := names(s.UseOp); op[len(op)-1] {
			case "<":
			case ">":
				item.Desc = true
			default:
				refuse("ORDER BY … USING " + op[len(op)-1])
			}
		}
		out = append(out, item)
	}
	return out
}

func nullsFirst(n mast.SortByNulls) *bool {
	if n == mast.SORTBY_NULLS_DEFAULT {
		return nil
	}
	first := n == mast.SORTBY_NULLS_FIRST
	return &first
}

func (c *converter) window(w *mast.WindowDef) *ast.Window {
	out := &ast.Window{Pos: c.here(), Name: w.Refname}
	out.PartitionBy = c.exprs(w.PartitionClause)
	out.OrderBy = c.sortItems(w.OrderClause)
	if w.FrameOptions&mast.FRAMEOPTION_NONDEFAULT != 0 {
		out.Frame = frameText(w)
	}
	return out
}

// frameText writes a window frame as SQL.
func frameText(w *mast.WindowDef) string {
	has := func(o int) bool { return w.FrameOptions&o != 0 }
	mode := "RANGE"
	if has(mast.FRAMEOPTION_ROWS) {
		mode = "ROWS"
	} else if has(mast.FRAMEOPTION_GROUPS) {
		mode = "GROUPS"
	}
	bound := func(unboundedP, unboundedF, current, preceding int, offset mast.Node) string {
		switch {
		case has(unboundedP):
			return "UNBOUNDED PRECEDING"
		case has(unboundedF):
			return "UNBOUNDED FOLLOWING"
		case has(current):
			return "CURRENT ROW"
		case has(preceding):
			return sqlText(offset) + " PRECEDING"
		}
		return sqlText(offset) + " FOLLOWING"
	}
	text := mode + " "
	first := bound(mast.FRAMEOPTION_START_UNBOUNDED_PRECEDING, mast.FRAMEOPTION_START_UNBOUNDED_FOLLOWING,
		mast.FRAMEOPTION_START_CURRENT_ROW, mast.FRAMEOPTION_START_OFFSET_PRECEDING, w.StartOffset)
	if !has(mast.FRAMEOPTION_BETWEEN) {
		text += first
	} else {
		text += "BETWEEN " + first + " AND " + bound(mast.FRAMEOPTION_END_UNBOUNDED_PRECEDING, mast.FRAMEOPTION_END_UNBOUNDED_FOLLOWING,
			mast.FRAMEOPTION_END_CURRENT_ROW, mast.FRAMEOPTION_END_OFFSET_PRECEDING, w.EndOffset)
	}
	switch {
	case has(mast.FRAMEOPTION_EXCLUDE_CURRENT_ROW):
		text += " EXCLUDE CURRENT ROW"
	case has(mast.FRAMEOPTION_EXCLUDE_GROUP):
		text += " EXCLUDE GROUP"
	case has(mast.FRAMEOPTION_EXCLUDE_TIES):
		text += " EXCLUDE TIES"
	}
	return text
}

// sqlText writes a grammar node back as SQL.
func sqlText(n mast.Node) string {
	if s, ok := n.(interface{ SqlString() string }); ok {
		return strings.TrimSpace(s.SqlString())
	}
	refuse("this expression here")
	return ""
}
