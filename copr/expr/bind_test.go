package expr

import (
	"fmt"
	"strings"

	"github.com/multigres/multigres/go/common/parser"
	"github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// This file turns a SQL expression into an Expr, so that scripts can be
// written in SQL. It knows no columns but those of scope.

type scope struct {
	names []string
	types []sqltypes.Type
}

func bindSQL(sql string, sc *scope) (e Expr, err error) {
	stmts, err := parser.ParseSQL("SELECT " + sql)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	defer func() {
		if r := recover(); r != nil {
			be, ok := r.(bindError)
			if !ok {
				panic(r)
			}
			err = be.err
		}
	}()
	sel := stmts[0].(*ast.SelectStmt)
	e = sc.bind(sel.TargetList.Items[0].(*ast.ResTarget).Val)
	if isUnknown(e.Type()) {
		e, err = NewCast(e, sqltypes.Text, Implicit)
	}
	return e, err
}

type bindError struct{ err error }

func must(e Expr, err error) Expr {
	if err != nil {
		panic(bindError{err})
	}
	return e
}

func (sc *scope) all(l *ast.NodeList) (out []Expr) {
	if l == nil {
		return nil
	}
	for _, n := range l.Items {
		out = append(out, sc.bind(n))
	}
	return out
}

func lastName(l *ast.NodeList) string { return l.Items[len(l.Items)-1].(*ast.String).SVal }

func castAll(es []Expr, t sqltypes.Type) []Expr {
	out := make([]Expr, len(es))
	for i, e := range es {
		out[i] = must(NewCast(e, t, Implicit))
	}
	return out
}

func common(es []Expr) sqltypes.Type {
	types := make([]sqltypes.Type, len(es))
	for i, e := range es {
		types[i] = e.Type()
	}
	t, err := CommonType(types)
	if err != nil {
		panic(bindError{err})
	}
	return t
}

func (sc *scope) bind(n ast.Node) Expr {
	switch n := n.(type) {
	case *ast.ParenExpr:
		return sc.bind(n.Expr)
	case *ast.A_Const:
		return bindConst(n)
	case *ast.String:
		return &Const{Value: sqltypes.NewString(n.SVal), Typ: sqltypes.Unknown}
	case *ast.ColumnRef:
		name := lastName(n.Fields)
		for i, c := range sc.names {
			if c == name {
				return &Column{Index: i, Typ: sc.types[i], Name: name}
			}
		}
	case *ast.TypeCast:
		return must(NewCast(sc.bind(n.Arg), bindType(n.TypeName), Explicit))
	case *ast.FuncCall:
		return must(NewFuncCall(lastName(n.Funcname), sc.all(n.Args)...))
	case *ast.A_Expr:
		return sc.bindOperator(n)
	case *ast.BoolExpr:
		args := castAll(sc.all(n.Args), sqltypes.Bool)
		if n.Boolop == ast.NOT_EXPR {
			return must(NewFuncCall("not", args...))
		}
		return &Logic{Or: n.Boolop == ast.OR_EXPR, Args: args}
	case *ast.NullTest:
		if n.Nulltesttype == ast.IS_NULL {
			return must(NewFuncCall("isnull", sc.bind(n.Arg)))
		}
		return must(NewFuncCall("isnotnull", sc.bind(n.Arg)))
	case *ast.BooleanTest:
		name := []string{"istrue", "isnottrue", "isfalse", "isnotfalse", "isunknown", "isnotunknown"}[n.Booltesttype]
		return must(NewFuncCall(name, sc.bind(n.Arg)))
	case *ast.CoalesceExpr:
		args := sc.all(n.Args)
		t := common(args)
		return &Coalesce{Args: castAll(args, t), Typ: t}
	case *ast.MinMaxExpr:
		args := sc.all(n.Args)
		name := "greatest"
		if n.Op == ast.IS_LEAST {
			name = "least"
		}
		return must(NewFuncCall(name, castAll(args, common(args))...))
	case *ast.CaseExpr:
		return sc.bindCase(n)
	case *ast.ArrayExpr:
		args := sc.all(n.Elements)
		return must(NewFuncCall("array_construct", castAll(args, common(args))...))
	case *ast.A_ArrayExpr:
		args := sc.all(n.Elements)
		return must(NewFuncCall("array_construct", castAll(args, common(args))...))
	case *ast.SQLValueFunction:
		names := map[ast.SQLValueFunctionOp]string{
			ast.SVFOP_CURRENT_DATE: "current_date", ast.SVFOP_CURRENT_TIMESTAMP: "current_timestamp",
			ast.SVFOP_LOCALTIME: "localtime", ast.SVFOP_LOCALTIMESTAMP: "localtimestamp",
		}
		return must(NewFuncCall(names[n.Op]))
	}
	panic(bindError{fmt.Errorf("no binding for %T", n)})
}

func bindConst(n *ast.A_Const) Expr {
	if n.Isnull || n.Val == nil {
		return &Const{Typ: sqltypes.Unknown}
	}
	switch v := n.Val.(type) {
	case *ast.Integer:
		if int(int32(v.IVal)) != v.IVal {
			return &Const{Value: sqltypes.NewInt(int64(v.IVal)), Typ: sqltypes.Int8}
		}
		return &Const{Value: sqltypes.NewInt(int64(v.IVal)), Typ: sqltypes.Int4}
	case *ast.Float:
		if d, err := sqltypes.ParseText(sqltypes.Int4, v.FVal); err == nil {
			return &Const{Value: d, Typ: sqltypes.Int4}
		}
		if d, err := sqltypes.ParseText(sqltypes.Int8, v.FVal); err == nil {
			return &Const{Value: d, Typ: sqltypes.Int8}
		}
		d, err := sqltypes.ParseNumeric(v.FVal)
		if err != nil {
			panic(bindError{err})
		}
		return &Const{Value: sqltypes.NewDecimal(d), Typ: sqltypes.NumericTypeOf(d)}
	case *ast.Boolean:
		return &Const{Value: sqltypes.NewBool(v.BoolVal), Typ: sqltypes.Bool}
	case *ast.String:
		return &Const{Value: sqltypes.NewString(v.SVal), Typ: sqltypes.Unknown}
	}
	panic(bindError{fmt.Errorf("no binding for constant %T", n.Val)})
}

func bindType(n *ast.TypeName) sqltypes.Type {
	var names []string
	for _, x := range n.Names.Items {
		names = append(names, x.(*ast.String).SVal)
	}
	var mods []int32
	if n.Typmods != nil {
		for _, x := range n.Typmods.Items {
			if i, ok := x.(*ast.Integer); ok {
				mods = append(mods, int32(i.IVal))
				continue
			}
			mods = append(mods, int32(bindConst(x.(*ast.A_Const)).(*Const).Value.Int()))
		}
	}
	dims := 0
	if n.ArrayBounds != nil {
		dims = len(n.ArrayBounds.Items)
	}
	t, err := sqltypes.ByName(names, mods, dims)
	if err != nil {
		panic(bindError{err})
	}
	return t
}

func (sc *scope) bindCase(n *ast.CaseExpr) Expr {
	c := &Case{}
	var results []Expr
	for _, w := range n.Args.Items {
		when := w.(*ast.CaseWhen)
		cond := sc.bind(when.Expr)
		if n.Arg != nil {
			cond = must(NewOperator("=", sc.bind(n.Arg), cond))
		}
		c.Conds = append(c.Conds, must(NewCast(cond, sqltypes.Bool, Implicit)))
		results = append(results, sc.bind(when.Result))
	}
	if n.Defresult != nil {
		results = append(results, sc.bind(n.Defresult))
	}
	c.Typ = common(results)
	results = castAll(results, c.Typ)
	c.Results = results[:len(c.Conds)]
	if n.Defresult != nil {
		c.Else = results[len(c.Conds)]
	}
	return c
}

func (sc *scope) bindOperator(n *ast.A_Expr) Expr {
	op := ""
	if n.Name != nil {
		op = lastName(n.Name)
	}
	switch n.Kind {
	case ast.AEXPR_DISTINCT, ast.AEXPR_NOT_DISTINCT:
		l, r := sc.bind(n.Lexpr), sc.bind(n.Rexpr)
		name := "isdistinct"
		if n.Kind == ast.AEXPR_NOT_DISTINCT {
			name = "isnotdistinct"
		}
		t := []Expr{l, r}
		if l.Type().IsString() != r.Type().IsString() || isUnknown(l.Type()) || isUnknown(r.Type()) {
			t = castAll(t, common(t))
		}
		return must(NewFuncCall(name, t...))
	case ast.AEXPR_NULLIF:
		args := []Expr{sc.bind(n.Lexpr), sc.bind(n.Rexpr)}
		return must(NewFuncCall("nullif", castAll(args, common(args))...))
	case ast.AEXPR_IN:
		return sc.bindIn(op, n)
	case ast.AEXPR_OP_ANY, ast.AEXPR_OP_ALL:
		return must(NewAny(op, n.Kind == ast.AEXPR_OP_ALL, sc.bind(n.Lexpr), sc.bind(n.Rexpr)))
	case ast.AEXPR_BETWEEN, ast.AEXPR_NOT_BETWEEN:
		x, bounds := sc.bind(n.Lexpr), sc.all(n.Rexpr.(*ast.NodeList))
		e := Expr(&Logic{Args: []Expr{must(NewOperator(">=", x, bounds[0])), must(NewOperator("<=", x, bounds[1]))}})
		if n.Kind == ast.AEXPR_NOT_BETWEEN {
			e = must(NewFuncCall("not", e))
		}
		return e
	}
	var l Expr
	if n.Lexpr != nil {
		l = sc.bind(n.Lexpr)
	}
	if c, ok := n.Rexpr.(*ast.A_Const); ok && l == nil && op == "-" {
		switch v := c.Val.(type) { // the grammar's doNegate
		case *ast.Integer:
			return bindConst(&ast.A_Const{Val: &ast.Float{FVal: fmt.Sprint(-v.IVal)}})
		case *ast.Float:
			return bindConst(&ast.A_Const{Val: &ast.Float{FVal: "-" + v.FVal}})
		}
	}
	return must(NewOperator(op, l, sc.bind(n.Rexpr)))
}

func (sc *scope) bindIn(op string, n *ast.A_Expr) Expr {
	x := sc.bind(n.Lexpr)
	list := sc.all(n.Rexpr.(*ast.NodeList))
	t := common(append([]Expr{x}, list...))
	in := &In{X: must(NewCast(x, t, Implicit)), Not: op == "<>"}
	for _, e := range castAll(list, t) {
		c, ok := e.(*Const)
		if !ok {
			d, err := EvalConst(nil, e)
			if err != nil {
				panic(bindError{err})
			}
			c = &Const{Value: d, Typ: t}
		}
		in.Values = append(in.Values, c.Value)
	}
	return in
}

// errorText is how scripts show an error: its SQLSTATE and what PostgreSQL
// says.
func errorText(err error) string {
	e := pgerror.From(err)
	s := "ERROR " + e.Code + ": " + e.Message
	if e.Detail != "" {
		s += " | " + e.Detail
	}
	return strings.ReplaceAll(s, "\n", `\n`)
}
