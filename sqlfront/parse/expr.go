package parse

import (
	"fmt"
	"strconv"
	"strings"

	mparser "github.com/multigres/multigres/go/common/parser"
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

func (c *converter) exprs(l *mast.NodeList) []ast.Expr {
	var out []ast.Expr
	for _, n := range items(l) {
		out = append(out, c.expr(n))
	}
	return out
}

// optExpr converts a node that may be absent.
func (c *converter) optExpr(n mast.Node) ast.Expr {
	if isNil(n) {
		return nil
	}
	return c.expr(n)
}

// expr converts an expression.
func (c *converter) expr(n mast.Node) ast.Expr {
	c.enter()
	defer c.leave()
	switch x := n.(type) {
	case *mast.ParenExpr:
		return c.expr(x.Expr)
	case *mast.ColumnRef:
		return c.columnRef(x)
	case *mast.A_Const:
		if x.Isnull || x.Val == nil {
			return &ast.NullLit{Pos: c.word("null")}
		}
		return c.expr(x.Val)
	case *mast.Integer, *mast.Float, *mast.String, *mast.Boolean, *mast.Null, *mast.BitString:
		return c.literal(x)
	case *mast.ParamRef:
		c.params = max(c.params, x.Number)
		return &ast.Param{Pos: c.claim(func(t *token) bool { return t.kind == mparser.PARAM }), N: x.Number}
	case *mast.TypeCast:
		return c.cast(x)
	case *mast.A_Expr:
		return c.aExpr(x)
	case *mast.BoolExpr:
		return c.boolExpr(x)
	case *mast.NullTest:
		arg := c.expr(x.Arg)
		return &ast.IsNull{Pos: c.here(), X: arg, Not: x.Nulltesttype == mast.IS_NOT_NULL}
	case *mast.BooleanTest:
		return c.boolTest(x)
	case *mast.SubLink:
		return c.subLink(x)
	case *mast.RowExpr:
		return &ast.Row{Pos: c.here(), Items: c.exprs(x.Args)}
	case *mast.ArrayExpr:
		return &ast.Array{Pos: c.word("array"), Items: c.exprs(x.Elements)}
	case *mast.A_ArrayExpr:
		return &ast.Array{Pos: c.word("array"), Items: c.exprs(x.Elements)}
	case *mast.A_Indirection:
		return c.indirection(c.expr(x.Arg), items(x.Indirection))
	case *mast.CaseExpr:
		return c.caseExpr(x)
	case *mast.CoalesceExpr:
		p := c.word("coalesce")
		return &ast.Func{Pos: p, Name: "coalesce", Args: c.exprs(x.Args)}
	case *mast.MinMaxExpr:
		name := "greatest"
		if x.Op == mast.IS_LEAST {
			name = "least"
		}
		p := c.word(name)
		return &ast.Func{Pos: p, Name: name, Args: c.exprs(x.Args)}
	case *mast.FuncCall:
		return c.funcCall(x)
	case *mast.SQLValueFunction:
		return c.valueFunc(x)
	case *mast.CollateClause:
		arg := c.expr(x.Arg)
		return &ast.Collate{Pos: c.word("collate"), X: arg, Name: names(x.Collname)}
	case *mast.SetToDefault:
		return &ast.Default{Pos: c.word("default")}
	}
	refuse(exprName(n))
	return nil
}

// exprName names an expression that has no node of ours.
func exprName(n mast.Node) string {
	switch n.(type) {
	case *mast.GroupingFunc:
		return "GROUPING"
	case *mast.NamedArgExpr:
		return "named argument notation"
	case *mast.CurrentOfExpr:
		return "WHERE CURRENT OF"
	case *mast.XmlExpr, *mast.XmlSerialize:
		return "XML"
	case *mast.MultiAssignRef:
		return "this form of assignment"
	}
	t := strings.TrimPrefix(fmt.Sprintf("%T", n), "*ast.")
	if strings.HasPrefix(t, "Json") {
		return "SQL/JSON syntax"
	}
	return "the expression " + t
}

func (c *converter) literal(n mast.Node) ast.Expr {
	switch x := n.(type) {
	case *mast.Integer:
		return &ast.IntLit{Pos: c.number(), Value: int64(x.IVal)}
	case *mast.Float:
		return number(x.FVal, c.number())
	case *mast.String:
		return &ast.StringLit{Pos: c.str(x.SVal), Value: x.SVal}
	case *mast.Boolean:
		return &ast.BoolLit{Pos: c.word(strconv.FormatBool(x.BoolVal)), Value: x.BoolVal}
	case *mast.BitString:
		return &ast.BitLit{Pos: c.claim(func(t *token) bool { return t.kind == mparser.BCONST || t.kind == mparser.XCONST }), Text: x.BSVal}
	}
	return &ast.NullLit{Pos: c.word("null")}
}

// number claims the next numeric constant.
func (c *converter) number() ast.Pos {
	return c.claim(func(t *token) bool { return t.kind == mparser.ICONST || t.kind == mparser.FCONST })
}

// number makes an IntLit where the digits fit, else a NumLit.
func number(text string, p ast.Pos) ast.Expr {
	text = strings.ReplaceAll(text, "_", "")
	base, digits := 10, text
	if len(text) > 2 && text[0] == '0' {
		switch text[1] {
		case 'x', 'X':
			base, digits = 16, text[2:]
		case 'o', 'O':
			base, digits = 8, text[2:]
		case 'b', 'B':
			base, digits = 2, text[2:]
		}
	}
	if v, err := strconv.ParseInt(digits, base, 64); err == nil {
		return &ast.IntLit{Pos: p, Value: v}
	}
	if base != 10 {
		refuse("a hexadecimal, octal or binary integer above int8's range")
	}
	return &ast.NumLit{Pos: p, Text: text}
}

func (c *converter) columnRef(x *mast.ColumnRef) ast.Expr {
	ref := &ast.ColumnRef{}
	for i, f := range items(x.Fields) {
		switch part := f.(type) {
		case *mast.String:
			ref.Parts = append(ref.Parts, part.SVal)
			if p := c.word(part.SVal); i == 0 {
				ref.Pos = p
			}
		case *mast.A_Star:
			ref.Star = true
			if p := c.claim(func(t *token) bool { return t.kind == '*' }); i == 0 {
				ref.Pos = p
			}
		default:
			return c.indirection(ref, x.Fields.Items[i:])
		}
	}
	return ref
}

// indirection applies subscripts to x.
func (c *converter) indirection(x ast.Expr, steps []mast.Node) ast.Expr {
	for _, s := range steps {
		switch ind := s.(type) {
		case *mast.A_Indices:
			if ind.IsSlice {
				refuse("an array slice")
			}
			x = &ast.Subscript{Pos: ast.Pos(x.Position()), X: x, Index: c.expr(ind.Uidx)}
		default:
			refuse("selecting a field of a composite value")
		}
	}
	return x
}

func (c *converter) cast(x *mast.TypeCast) ast.Expr {
	start := c.next
	arg := c.expr(x.Arg)
	out := &ast.Cast{X: arg}
	after := c.next
	// the argument may stand in parentheses of its own
	for c.next < len(c.toks) && c.toks[c.next].kind == ')' {
		c.next++
	}
	switch {
	case c.peek("::"):
		out.Pos = c.here()
		c.next++
		out.To = c.typeName(x.TypeName)
	case c.peek("as"):
		out.Pos = c.at(start)
		c.next++
		out.To = c.typeName(x.TypeName)
	default: // type 'literal'
		c.next = start
		out.To = c.typeName(x.TypeName)
		out.Pos = out.To.Pos
		c.next = after
	}
	return out
}

func (c *converter) aExpr(x *mast.A_Expr) ast.Expr {
	ops := names(x.Name)
	op := ops[len(ops)-1]
	schema := ""
	if len(ops) > 1 {
		schema = ops[0]
	}
	switch x.Kind {
	case mast.AEXPR_OP:
		return c.operator(x, schema, op)
	case mast.AEXPR_OP_ANY, mast.AEXPR_OP_ALL:
		l := c.expr(x.Lexpr)
		p := c.op(op)
		return &ast.AnyAll{Pos: p, Op: op, All: x.Kind == mast.AEXPR_OP_ALL, X: l, Array: c.expr(x.Rexpr)}
	case mast.AEXPR_DISTINCT, mast.AEXPR_NOT_DISTINCT:
		l := c.expr(x.Lexpr)
		p := c.word("is")
		return &ast.IsDistinct{Pos: p, L: l, R: c.expr(x.Rexpr), Not: x.Kind == mast.AEXPR_NOT_DISTINCT}
	case mast.AEXPR_NULLIF:
		p := c.word("nullif")
		return &ast.Func{Pos: p, Name: "nullif", Args: []ast.Expr{c.expr(x.Lexpr), c.expr(x.Rexpr)}}
	case mast.AEXPR_IN:
		l := c.expr(x.Lexpr)
		p := c.word("in")
		list, ok := x.Rexpr.(*mast.NodeList)
		if !ok {
			refuse("this form of IN")
		}
		return &ast.In{Pos: p, X: l, List: c.exprs(list), Not: op == "<>"}
	case mast.AEXPR_LIKE, mast.AEXPR_ILIKE, mast.AEXPR_SIMILAR:
		return c.like(x, op)
	case mast.AEXPR_BETWEEN, mast.AEXPR_NOT_BETWEEN, mast.AEXPR_BETWEEN_SYM, mast.AEXPR_NOT_BETWEEN_SYM:
		l := c.expr(x.Lexpr)
		p := c.word("between")
		bounds := items(x.Rexpr.(*mast.NodeList))
		return &ast.Between{
			Pos: p, X: l, Lo: c.expr(bounds[0]), Hi: c.expr(bounds[1]),
			Not: x.Kind == mast.AEXPR_NOT_BETWEEN || x.Kind == mast.AEXPR_NOT_BETWEEN_SYM,
			Sym: x.Kind == mast.AEXPR_BETWEEN_SYM || x.Kind == mast.AEXPR_NOT_BETWEEN_SYM,
		}
	}
	refuse("the operator " + op)
	return nil
}

// operator converts a prefix or infix operator; a minus before a number makes a
// negative number, as in PostgreSQL.
func (c *converter) operator(x *mast.A_Expr, schema, op string) ast.Expr {
	if isNil(x.Lexpr) {
		p := c.op(op)
		arg := c.expr(x.Rexpr)
		if op == "-" && schema == "" {
			if _, paren := x.Rexpr.(*mast.ParenExpr); !paren {
				if folded := negate(arg, p); folded != nil {
					return folded
				}
			}
		}
		return &ast.Unary{Pos: p, Op: op, X: arg}
	}
	l := c.expr(x.Lexpr)
	p := c.op(op)
	return &ast.Binary{Pos: p, Schema: schema, Op: op, L: l, R: c.expr(x.Rexpr)}
}

func negate(x ast.Expr, p ast.Pos) ast.Expr {
	switch v := x.(type) {
	case *ast.IntLit:
		if v.Value >= 0 {
			return &ast.IntLit{Pos: p, Value: -v.Value}
		}
	case *ast.NumLit:
		if !strings.HasPrefix(v.Text, "-") {
			return number("-"+v.Text, p)
		}
	}
	return nil
}

func (c *converter) like(x *mast.A_Expr, op string) ast.Expr {
	out := &ast.Like{
		X:   c.expr(x.Lexpr),
		Not: strings.HasPrefix(op, "!"), Fold: x.Kind == mast.AEXPR_ILIKE, Similar: x.Kind == mast.AEXPR_SIMILAR,
	}
	out.Pos = c.word([]string{"like", "ilike", "similar"}[x.Kind-mast.AEXPR_LIKE])
	if f, ok := x.Rexpr.(*mast.FuncCall); ok && len(items(f.Funcname)) == 2 {
		fn, args := names(f.Funcname), items(f.Args)
		if fn[0] == "pg_catalog" && (fn[1] == "like_escape" || fn[1] == "similar_to_escape") && len(args) > 0 {
			out.Pattern = c.expr(args[0])
			if len(args) > 1 {
				out.Escape = c.expr(args[1])
			}
			return out
		}
	}
	out.Pattern = c.expr(x.Rexpr)
	return out
}

// boolExpr flattens chains of the same operator, which the grammar nests to
// the left, without recursion.
func (c *converter) boolExpr(x *mast.BoolExpr) ast.Expr {
	args := items(x.Args)
	if x.Boolop == mast.NOT_EXPR {
		p := c.here()
		arg := c.expr(args[0])
		if _, paren := args[0].(*mast.SubLink); paren {
			if in, ok := arg.(*ast.In); ok && !in.Not {
				return &ast.In{Pos: in.Pos, X: in.X, List: in.List, Sub: in.Sub, Not: true}
			}
		}
		return &ast.Not{Pos: p, X: arg}
	}
	var reversed []mast.Node
	for {
		for i := len(args) - 1; i > 0; i-- {
			reversed = append(reversed, args[i])
		}
		left, ok := args[0].(*mast.BoolExpr)
		if !ok || left.Boolop != x.Boolop {
			reversed = append(reversed, args[0])
			break
		}
		args = items(left.Args)
	}
	out := &ast.Logic{Or: x.Boolop == mast.OR_EXPR, Args: make([]ast.Expr, 0, len(reversed))}
	for i := len(reversed) - 1; i >= 0; i-- {
		out.Args = append(out.Args, c.expr(reversed[i]))
	}
	out.Pos = ast.Pos(out.Args[0].Position())
	return out
}

func (c *converter) boolTest(x *mast.BooleanTest) ast.Expr {
	arg := c.expr(x.Arg)
	out := &ast.IsBool{Pos: c.word("is"), X: arg}
	yes, no := true, false
	switch x.Booltesttype {
	case mast.IS_TRUE, mast.IS_NOT_TRUE:
		out.Value = &yes
	case mast.IS_FALSE, mast.IS_NOT_FALSE:
		out.Value = &no
	}
	out.Not = x.Booltesttype == mast.IS_NOT_TRUE || x.Booltesttype == mast.IS_NOT_FALSE || x.Booltesttype == mast.IS_NOT_UNKNOWN
	return out
}

func (c *converter) subLink(x *mast.SubLink) ast.Expr {
	sub, ok := x.Subselect.(*mast.SelectStmt)
	if !ok {
		refuse("a subquery other than SELECT")
	}
	switch x.SubLinkType {
	case mast.EXISTS_SUBLINK:
		p := c.word("exists")
		return &ast.Exists{Pos: p, Sub: c.selectStmt(sub)}
	case mast.EXPR_SUBLINK:
		p := c.here()
		return &ast.Subquery{Pos: p, Sub: c.selectStmt(sub)}
	case mast.ARRAY_SUBLINK:
		p := c.word("array")
		return &ast.Subquery{Pos: p, Sub: c.selectStmt(sub), Array: true}
	case mast.ANY_SUBLINK, mast.ALL_SUBLINK:
		l := c.expr(x.Testexpr)
		if len(items(x.OperName)) == 0 {
			p := c.word("in")
			return &ast.In{Pos: p, X: l, Sub: c.selectStmt(sub)}
		}
		ops := names(x.OperName)
		op := ops[len(ops)-1]
		p := c.op(op)
		return &ast.AnyAll{Pos: p, Op: op, All: x.SubLinkType == mast.ALL_SUBLINK, X: l, Sub: c.selectStmt(sub)}
	}
	refuse("this form of subquery")
	return nil
}

func (c *converter) caseExpr(x *mast.CaseExpr) ast.Expr {
	out := &ast.Case{Pos: c.word("case"), Arg: c.optExpr(x.Arg)}
	for _, n := range items(x.Args) {
		w, ok := n.(*mast.CaseWhen)
		if !ok {
			panic(pgerror.New(pgerror.InternalError, "unexpected node %T in CASE", n))
		}
		cond := c.expr(w.Expr)
		out.Whens = append(out.Whens, ast.When{Cond: cond, Result: c.expr(w.Result)})
	}
	out.Else = c.optExpr(x.Defresult)
	return out
}

var valueFuncs = map[mast.SQLValueFunctionOp]string{
	mast.SVFOP_CURRENT_DATE: "current_date", mast.SVFOP_CURRENT_TIME: "current_time", mast.SVFOP_CURRENT_TIME_N: "current_time",
	mast.SVFOP_CURRENT_TIMESTAMP: "current_timestamp", mast.SVFOP_CURRENT_TIMESTAMP_N: "current_timestamp",
	mast.SVFOP_LOCALTIME: "localtime", mast.SVFOP_LOCALTIME_N: "localtime",
	mast.SVFOP_LOCALTIMESTAMP: "localtimestamp", mast.SVFOP_LOCALTIMESTAMP_N: "localtimestamp",
	mast.SVFOP_CURRENT_ROLE: "current_role", mast.SVFOP_CURRENT_USER: "current_user", mast.SVFOP_USER: "user",
	mast.SVFOP_SESSION_USER: "session_user", mast.SVFOP_CURRENT_CATALOG: "current_catalog", mast.SVFOP_CURRENT_SCHEMA: "current_schema",
}

func (c *converter) valueFunc(x *mast.SQLValueFunction) ast.Expr {
	name := valueFuncs[x.Op]
	f := &ast.Func{Pos: c.word(name), Name: name}
	if x.TypeMod >= 0 {
		f.Args = []ast.Expr{&ast.IntLit{Pos: c.number(), Value: int64(x.TypeMod)}}
	}
	return f
}
