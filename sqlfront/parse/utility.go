package parse

import (
	"math"
	"strconv"
	"strings"

	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/sqlfront/ast"
)

// utility converts the statements that are neither DML nor DDL.
func (c *converter) utility(n mast.Node) ast.Stmt {
	switch x := n.(type) {
	case *mast.TransactionStmt:
		return c.transaction(x)
	case *mast.VariableSetStmt:
		return c.set(x)
	case *mast.VariableShowStmt:
		return &ast.Show{Pos: c.at(1), Name: strings.ToLower(x.Name)}
	case *mast.ExplainStmt:
		return c.explain(x)
	case *mast.CopyStmt:
		return c.copy(x)
	case *mast.PrepareStmt:
		return c.prepare(x)
	case *mast.ExecuteStmt:
		return &ast.Execute{Name: x.Name, Args: c.exprs(x.Params)}
	case *mast.DeallocateStmt:
		return &ast.Deallocate{Name: x.Name}
	case *mast.DiscardStmt:
		return &ast.Discard{What: map[mast.DiscardMode]string{
			mast.DISCARD_ALL: "ALL", mast.DISCARD_PLANS: "PLANS", mast.DISCARD_SEQUENCES: "SEQUENCES", mast.DISCARD_TEMP: "TEMP",
		}[x.Target]}
	case *mast.VacuumStmt:
		return c.vacuum(x)
	case *mast.TruncateStmt:
		return c.truncate(x)
	case *mast.LockStmt:
		out := &ast.LockTable{Mode: lockModes[x.Mode], NoWait: x.Nowait}
		for _, r := range items(x.Relations) {
			out.Tables = append(out.Tables, c.tableName(r.(*mast.RangeVar)))
		}
		return out
	case *mast.DeclareCursorStmt:
		return c.declareCursor(x)
	case *mast.FetchStmt:
		out := &ast.Fetch{Name: x.PortalName, Move: x.IsMove, Count: x.HowMany}
		out.Direction = map[mast.FetchDirection]string{
			mast.FETCH_FORWARD: "forward", mast.FETCH_BACKWARD: "backward", mast.FETCH_ABSOLUTE: "absolute", mast.FETCH_RELATIVE: "relative",
		}[x.Direction]
		if x.HowMany == math.MaxInt64 {
			out.Count = -1
		}
		return out
	case *mast.UnlistenStmt:
		return &ast.Unlisten{}
	case *mast.ClosePortalStmt:
		return &ast.CloseCursor{Name: x.PortalName}
	}
	refuse(c.command())
	return nil
}

var lockModes = map[mast.LockMode]string{
	mast.AccessShareLock: "ACCESS SHARE", mast.RowShareLock: "ROW SHARE", mast.RowExclusiveLock: "ROW EXCLUSIVE",
	mast.ShareUpdateExclusiveLock: "SHARE UPDATE EXCLUSIVE", mast.ShareLock: "SHARE", mast.ShareRowExclusiveLock: "SHARE ROW EXCLUSIVE",
	mast.ExclusiveLock: "EXCLUSIVE", mast.AccessExclusiveLock: "ACCESS EXCLUSIVE",
}

func (c *converter) transaction(x *mast.TransactionStmt) ast.Stmt {
	switch x.Kind {
	case mast.TRANS_STMT_BEGIN, mast.TRANS_STMT_START:
		return c.characteristics(x.Options)
	case mast.TRANS_STMT_COMMIT:
		return &ast.Commit{Chain: x.Chain}
	case mast.TRANS_STMT_ROLLBACK:
		return &ast.Rollback{Chain: x.Chain}
	case mast.TRANS_STMT_ROLLBACK_TO:
		return &ast.Rollback{To: x.SavepointName}
	case mast.TRANS_STMT_SAVEPOINT:
		return &ast.Savepoint{Name: x.SavepointName}
	case mast.TRANS_STMT_RELEASE:
		return &ast.Savepoint{Name: x.SavepointName, Release: true}
	}
	refuse(c.command())
	return nil
}

// characteristics converts transaction modes. DEFERRABLE is a promise about
// waiting that never matters here: our reads don't conflict.
func (c *converter) characteristics(l *mast.NodeList) *ast.Begin {
	out := &ast.Begin{}
	for _, n := range items(l) {
		d := n.(*mast.DefElem)
		switch d.Defname {
		case "transaction_isolation":
			out.Isolation = strings.ToLower(defText(d.Arg))
		case "transaction_read_only":
			ro := defText(d.Arg) == "true"
			out.ReadOnly = &ro
		case "transaction_deferrable":
		default:
			refuse("the transaction mode " + d.Defname)
		}
	}
	return out
}

// defText is an option's value as text; an absent one is "".
func defText(n mast.Node) string {
	switch x := n.(type) {
	case *mast.String:
		return x.SVal
	case *mast.Boolean:
		return strconv.FormatBool(x.BoolVal)
	case *mast.Integer:
		return strconv.FormatInt(int64(x.IVal), 10)
	case *mast.Float:
		return x.FVal
	case *mast.A_Const:
		if x.Val != nil {
			return defText(x.Val)
		}
	case *mast.A_Star:
		return "*"
	case *mast.TypeName:
		return strings.Join(names(x.Names), ".")
	}
	return ""
}

func (c *converter) set(x *mast.VariableSetStmt) ast.Stmt {
	out := &ast.Set{Pos: c.at(1), Name: strings.ToLower(x.Name), Local: x.IsLocal}
	switch x.Kind {
	case mast.VAR_SET_VALUE:
		for _, a := range items(x.Args) {
			out.Values = append(out.Values, c.expr(a))
		}
	case mast.VAR_SET_DEFAULT, mast.VAR_RESET:
	case mast.VAR_RESET_ALL:
		out.Name = "all"
	case mast.VAR_SET_MULTI:
		switch x.Name {
		case "TRANSACTION":
			out.Name = "transaction"
		case "SESSION CHARACTERISTICS AS TRANSACTION", "SESSION CHARACTERISTICS":
			out.Name = "session characteristics"
		default:
			refuse("SET " + x.Name)
		}
		out.Tx = c.characteristics(x.Args)
	default:
		refuse("SET … FROM CURRENT")
	}
	return out
}

func (c *converter) explain(x *mast.ExplainStmt) ast.Stmt {
	out := &ast.Explain{Format: "text", Options: map[string]string{}}
	for _, n := range items(x.Options) {
		d := n.(*mast.DefElem)
		value := strings.ToLower(defText(d.Arg))
		on := value != "off" && value != "false" && value != "0"
		switch d.Defname {
		case "analyze":
			out.Analyze = on
		case "verbose":
			out.Verbose = on
		case "format":
			out.Format = value
		}
		out.Options[d.Defname] = value
	}
	i := 1
	if i < len(c.toks) && c.toks[i].kind == '(' && len(items(x.Options)) > 0 {
		for i < len(c.toks) && c.toks[i].kind != ')' {
			i++
		}
		i++
	}
	for i < len(c.toks) && (c.toks[i].str == "analyze" || c.toks[i].str == "analyse" || c.toks[i].str == "verbose") {
		i++
	}
	c.next = i
	out.StmtText = c.textFrom(i)
	out.Stmt = c.stmt(x.Query)
	return out
}

func (c *converter) copy(x *mast.CopyStmt) ast.Stmt {
	out := &ast.Copy{Pos: c.here(), From: x.IsFrom, File: x.Filename, Program: x.IsProgram}
	if x.Relation != nil {
		out.Table = c.tableName(x.Relation)
	}
	if !isNil(x.Query) {
		sel, ok := x.Query.(*mast.SelectStmt)
		if !ok {
			refuse("COPY of a statement other than SELECT")
		}
		out.Query = c.selectStmt(sel)
	}
	out.Columns = names(x.Attlist)
	for _, n := range items(x.Options) {
		// the grammar leaves the last rule's value behind where WITH is optional
		d, ok := n.(*mast.DefElem)
		if !ok {
			continue
		}
		o := ast.CopyOption{Pos: c.word(d.Defname), Name: strings.ToLower(d.Defname)}
		if l, ok := d.Arg.(*mast.NodeList); ok {
			o.List = names(l)
		} else {
			o.Value = defText(d.Arg)
		}
		out.Options = append(out.Options, o)
	}
	out.Where = c.optExpr(x.WhereClause)
	return out
}

func (c *converter) prepare(x *mast.PrepareStmt) ast.Stmt {
	out := &ast.Prepare{Name: x.Name}
	c.word(x.Name)
	for _, t := range items(x.Argtypes) {
		out.Types = append(out.Types, c.typeName(t.(*mast.TypeName)))
	}
	c.word("as")
	out.Text = c.textFrom(c.next)
	out.Stmt = c.stmt(x.Query)
	return out
}

func (c *converter) declareCursor(x *mast.DeclareCursorStmt) ast.Stmt {
	out := &ast.DeclareCursor{
		Name: x.PortalName, Hold: x.Options&mast.CURSOR_OPT_HOLD != 0,
		Scroll: x.Options&mast.CURSOR_OPT_SCROLL != 0, Binary: x.Options&mast.CURSOR_OPT_BINARY != 0,
	}
	c.word("for")
	out.Text = c.textFrom(c.next)
	sel, ok := x.Query.(*mast.SelectStmt)
	if !ok {
		refuse("a cursor over a statement other than SELECT")
	}
	out.Query = c.selectStmt(sel)
	return out
}

func (c *converter) vacuum(x *mast.VacuumStmt) ast.Stmt {
	var tables []ast.TableName
	for _, n := range items(x.Rels) {
		tables = append(tables, c.tableName(n.(*mast.VacuumRelation).Relation))
	}
	if x.IsVacuumcmd {
		return &ast.Vacuum{Tables: tables}
	}
	return &ast.Analyze{Tables: tables}
}

func (c *converter) truncate(x *mast.TruncateStmt) ast.Stmt {
	out := &ast.Truncate{RestartIdentity: x.RestartSeqs}
	for _, r := range items(x.Relations) {
		out.Tables = append(out.Tables, c.tableName(r.(*mast.RangeVar)))
	}
	return out
}
