package parse

import (
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

func (c *converter) selectStmt(x *mast.SelectStmt) *ast.Select {
	c.enter()
	defer c.leave()
	if x.IntoClause != nil {
		panic(pgerror.New(pgerror.SyntaxError, "SELECT ... INTO is not allowed here"))
	}
	s := &ast.Select{Pos: c.here()}
	s.With, s.Recursive = c.with(x.WithClause)
	switch {
	case x.Op != mast.SETOP_NONE:
		s.SetOp = map[mast.SetOperation]ast.SetOp{
			mast.SETOP_UNION: ast.SetUnion, mast.SETOP_INTERSECT: ast.SetIntersect, mast.SETOP_EXCEPT: ast.SetExcept,
		}[x.Op]
		s.SetAll = x.All
		s.L, s.R = c.selectStmt(x.Larg), c.selectStmt(x.Rarg)
	case len(items(x.ValuesLists)) > 0:
		s.Values = make([][]ast.Expr, 0, len(x.ValuesLists.Items))
		for _, row := range x.ValuesLists.Items {
			s.Values = append(s.Values, c.exprs(row.(*mast.NodeList)))
		}
	default:
		c.plainSelect(s, x)
	}
	s.OrderBy = c.sortItems(x.SortClause)
	c.limits(s, x)
	for _, n := range items(x.LockingClause) {
		s.Locking = append(s.Locking, locking(n.(*mast.LockingClause)))
	}
	return s
}

func (c *converter) plainSelect(s *ast.Select, x *mast.SelectStmt) {
	if x.DistinctClause != nil {
		s.Distinct = true
		for _, d := range x.DistinctClause.Items {
			if !isNil(d) {
				s.DistinctOn = append(s.DistinctOn, c.expr(d))
			}
		}
	}
	s.Targets = c.targets(x.TargetList)
	for _, f := range items(x.FromClause) {
		s.From = append(s.From, c.fromItem(f))
	}
	s.Where = c.optExpr(x.WhereClause)
	if x.GroupDistinct {
		refuse("GROUP BY DISTINCT")
	}
	for _, g := range items(x.GroupClause) {
		set, ok := g.(*mast.GroupingSet)
		if !ok {
			s.GroupBy = append(s.GroupBy, c.expr(g))
			continue
		}
		s.GroupingSets = map[mast.GroupingSetKind]string{
			mast.GROUPING_SET_ROLLUP: "ROLLUP", mast.GROUPING_SET_CUBE: "CUBE",
		}[set.Kind]
		if s.GroupingSets == "" {
			s.GroupingSets = "GROUPING SETS"
		}
	}
	s.Having = c.optExpr(x.HavingClause)
	for _, n := range items(x.WindowClause) {
		w := n.(*mast.WindowDef)
		c.word(w.Name)
		if s.Windows == nil {
			s.Windows = make(map[string]*ast.Window)
		}
		if _, dup := s.Windows[w.Name]; dup {
			panic(pgerror.New(pgerror.WindowingError, "window \"%s\" is already defined", w.Name))
		}
		s.Windows[w.Name] = c.window(w)
	}
}

// limits converts LIMIT and OFFSET, which may come in either order.
func (c *converter) limits(s *ast.Select, x *mast.SelectStmt) {
	start := c.next
	s.Limit = c.optExpr(x.LimitCount)
	if _, all := s.Limit.(*ast.NullLit); all {
		s.Limit = nil
	}
	end := c.next
	if !isNil(x.LimitOffset) {
		c.next = start
		c.word("offset")
		s.Offset = c.expr(x.LimitOffset)
		c.next = max(c.next, end)
	}
	s.WithTies = s.Limit != nil && x.LimitOption == mast.LIMIT_OPTION_WITH_TIES
}

func locking(l *mast.LockingClause) ast.Locking {
	out := ast.Locking{
		Strength: map[mast.LockClauseStrength]string{
			mast.LCS_FORKEYSHARE: "KEY SHARE", mast.LCS_FORSHARE: "SHARE",
			mast.LCS_FORNOKEYUPDATE: "NO KEY UPDATE", mast.LCS_FORUPDATE: "UPDATE",
		}[l.Strength],
		NoWait:     l.WaitPolicy == mast.LockWaitError,
		SkipLocked: l.WaitPolicy == mast.LockWaitSkip,
	}
	for _, r := range items(l.LockedRels) {
		out.Of = append(out.Of, r.(*mast.RangeVar).RelName)
	}
	return out
}

func (c *converter) with(w *mast.WithClause) (ctes []ast.CTE, recursive bool) {
	if w == nil {
		return nil, false
	}
	for _, n := range items(w.Ctes) {
		x := n.(*mast.CommonTableExpr)
		if x.SearchClause != nil {
			refuse("SEARCH in WITH")
		}
		if x.CycleClause != nil {
			refuse("CYCLE in WITH")
		}
		cte := ast.CTE{Pos: c.word(x.Ctename), Name: x.Ctename, Columns: names(x.Aliascolnames)}
		st, ok := x.Ctequery.(mast.Stmt)
		if !ok {
			refuse("this form of WITH")
		}
		cte.Stmt = c.stmt(st)
		ctes = append(ctes, cte)
	}
	return ctes, w.Recursive
}

func (c *converter) targets(l *mast.NodeList) []ast.Target {
	var out []ast.Target
	for _, n := range items(l) {
		r, ok := n.(*mast.ResTarget)
		if !ok {
			refuse("this form of select list")
		}
		out = append(out, ast.Target{Expr: c.expr(r.Val), Alias: r.Name})
		if r.Name != "" && (c.peek("as") || c.peek(r.Name)) {
			c.word(r.Name)
		}
	}
	return out
}

func (c *converter) fromItem(n mast.Node) ast.FromItem {
	c.enter()
	defer c.leave()
	switch x := n.(type) {
	case *mast.ParenExpr:
		return c.fromItem(x.Expr)
	case *mast.RangeVar:
		t := &ast.TableRef{Name: c.tableName(x), Only: !x.Inh}
		t.Alias, t.Columns = c.alias(x.Alias)
		return t
	case *mast.RangeSubselect:
		sub, ok := x.Subquery.(*mast.SelectStmt)
		if !ok {
			refuse("this form of subquery in FROM")
		}
		s := &ast.SubqueryRef{Pos: c.here(), Sub: c.selectStmt(sub), Lateral: x.Lateral}
		s.Alias, s.Columns = c.alias(x.Alias)
		return s
	case *mast.RangeFunction:
		return c.rangeFunction(x)
	case *mast.JoinExpr:
		return c.join(x)
	case *mast.RangeTableSample:
		refuse("TABLESAMPLE")
	case *mast.RangeTableFunc:
		refuse("XMLTABLE")
	case *mast.JsonTable:
		refuse("JSON_TABLE")
	}
	refuse("this form of FROM")
	return nil
}

func (c *converter) alias(a *mast.Alias) (name string, columns []string) {
	if a == nil {
		return "", nil
	}
	c.word(a.AliasName)
	return a.AliasName, names(a.ColNames)
}

func (c *converter) rangeFunction(x *mast.RangeFunction) ast.FromItem {
	fns := items(x.Functions)
	if len(fns) != 1 {
		refuse("ROWS FROM with several functions")
	}
	if len(items(x.ColDefList)) > 0 {
		refuse("a column definition list in FROM")
	}
	fn := fns[0]
	if l, ok := fn.(*mast.NodeList); ok {
		if len(l.Items) > 1 && !isNil(l.Items[1]) {
			refuse("a column definition list in FROM")
		}
		fn = l.Items[0]
	}
	f := &ast.FuncRef{Pos: c.here(), Ordinality: x.Ordinality, Lateral: x.Lateral}
	call, ok := c.expr(fn).(*ast.Func)
	if !ok {
		refuse("this form of function in FROM")
	}
	f.Call = call
	f.Alias, f.Columns = c.alias(x.Alias)
	return f
}

func (c *converter) join(x *mast.JoinExpr) ast.FromItem {
	j := &ast.Join{Pos: c.here(), Natural: x.IsNatural}
	switch x.Jointype {
	case mast.JOIN_INNER:
		j.Kind = ast.JoinInner
	case mast.JOIN_LEFT:
		j.Kind = ast.JoinLeft
	case mast.JOIN_RIGHT:
		j.Kind = ast.JoinRight
	case mast.JOIN_FULL:
		j.Kind = ast.JoinFull
	default:
		refuse("this kind of join")
	}
	j.L, j.R = c.fromItem(x.Larg), c.fromItem(x.Rarg)
	if x.Quals != nil {
		j.On = c.expr(x.Quals)
	}
	j.Using = names(x.UsingClause)
	for _, u := range j.Using {
		c.word(u)
	}
	if x.JoinUsingAlias != nil {
		refuse("an alias of JOIN USING")
	}
	if j.Kind == ast.JoinInner && j.On == nil && !j.Natural && len(j.Using) == 0 {
		j.Kind = ast.JoinCross
	}
	if x.Alias != nil {
		if len(items(x.Alias.ColNames)) > 0 {
			refuse("column aliases of a join")
		}
		j.Alias, _ = c.alias(x.Alias)
	}
	return j
}
