package plan

import (
	"strings"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// bindExpr binds an expression over the columns in scope. Literals of unknown
// type stay constants of type unknown until their place coerces them.
func (b *binder) bindExpr(e ast.Expr, sc *scope) (expr.Expr, error) {
	if err := b.enter(); err != nil {
		return nil, err
	}
	defer func() { b.depth-- }()
	switch x := e.(type) {
	case *ast.ColumnRef:
		return b.bindColumn(x, sc)
	case *ast.IntLit:
		typ := sqltypes.Int4
		if x.Value != int64(int32(x.Value)) {
			typ = sqltypes.Int8
		}
		return &expr.Const{Value: sqltypes.NewInt(x.Value), Typ: typ}, nil
	case *ast.NumLit:
		return numLiteral(x)
	case *ast.StringLit:
		c := &expr.Const{Value: sqltypes.NewString(x.Value), Typ: sqltypes.Unknown}
		b.at[c] = x.Position()
		return c, nil
	case *ast.BoolLit:
		return boolConst(x.Value), nil
	case *ast.NullLit:
		return &expr.Const{Typ: sqltypes.Unknown}, nil
	case *ast.Param:
		return b.bindParam(x)
	case *ast.Cast:
		return b.bindCast(x, sc)
	case *ast.Binary:
		return b.bindBinary(x, sc)
	case *ast.Unary:
		return b.bindUnary(x, sc)
	case *ast.Logic:
		return b.bindLogic(x, sc)
	case *ast.Not:
		a, err := b.bindBool(x.X, sc, "NOT")
		if err != nil {
			return nil, err
		}
		return notOf(a), nil
	case *ast.IsNull:
		return b.bindIsNull(x, sc)
	case *ast.IsBool:
		return b.bindIsBool(x, sc)
	case *ast.IsDistinct:
		return b.bindIsDistinct(x, sc)
	case *ast.Between:
		return b.bindBetween(x, sc)
	case *ast.In:
		return b.bindIn(x, sc)
	case *ast.Like:
		return b.bindLike(x, sc)
	case *ast.AnyAll:
		return b.bindAnyAll(x, sc)
	case *ast.Exists:
		return b.bindExists(x, sc)
	case *ast.Subquery:
		return b.bindSubquery(x, sc)
	case *ast.Array:
		return b.bindArray(x, sc)
	case *ast.Subscript:
		return b.bindSubscript(x, sc)
	case *ast.Case:
		return b.bindCase(x, sc)
	case *ast.Func:
		return b.bindFunc(x, sc)
	case *ast.Collate:
		return b.bindCollate(x, sc)
	case *ast.Row:
		return nil, pgerror.Unsupported("a row value here").At(x.Position())
	case *ast.BitLit:
		return nil, pgerror.Unsupported("type bit").At(x.Position())
	case *ast.Default:
		return nil, pgerror.New(pgerror.SyntaxError, "DEFAULT is not allowed in this context").At(x.Position())
	}
	return nil, pgerror.Unsupported("this expression").At(e.Position())
}

// numLiteral is a numeric constant of its own scale.
func numLiteral(x *ast.NumLit) (expr.Expr, error) {
	d, err := sqltypes.ParseNumeric(strings.ReplaceAll(x.Text, "_", ""))
	if err != nil {
		return nil, at(err, x.Position())
	}
	typ := sqltypes.Numeric
	scale := sqltypes.NumericScale(d)
	if digits := int32(d.NumDigits()); max(digits, scale) <= sqltypes.DecimalDigitsMax && d.Exponent <= 0 {
		typ = sqltypes.NumericOf(max(digits, scale), scale)
	}
	return &expr.Const{Value: sqltypes.NewDecimal(d), Typ: typ}, nil
}

func (b *binder) bindColumn(x *ast.ColumnRef, sc *scope) (expr.Expr, error) {
	if x.Star {
		return nil, pgerror.Unsupported("row expansion via \"*\" here").At(x.Position())
	}
	f, err := sc.resolve(x.Parts, x.Position())
	if err != nil {
		if c := b.systemColumn(x, sc); c != nil {
			return c, nil
		}
		return nil, err
	}
	c := b.q.column(f.id)
	b.at[c] = x.Position()
	return c, nil
}

// systemColumn knows tableoid, which catalog queries ask for.
func (b *binder) systemColumn(x *ast.ColumnRef, sc *scope) expr.Expr {
	if x.Parts[len(x.Parts)-1] != "tableoid" {
		return nil
	}
	var r *scopeRel
	if len(x.Parts) > 1 {
		r, _, _ = sc.relation("", x.Parts[len(x.Parts)-2], 0)
	} else {
		for s := sc; s != nil && r == nil; s = s.parent {
			if len(s.rels) == 1 {
				r = s.rels[0]
			}
		}
	}
	if r == nil || r.oid == 0 {
		return nil
	}
	return &expr.Const{Value: sqltypes.NewInt(int64(r.oid)), Typ: sqltypes.Oid}
}

// bindParam refers to $n; its type may not be known yet.
func (b *binder) bindParam(x *ast.Param) (expr.Expr, error) {
	if x.N < 1 || x.N > ParamsMax {
		return nil, pgerror.New(pgerror.UndefinedParameter, "there is no parameter $%d", x.N).At(x.Position())
	}
	for len(b.params) < x.N {
		b.params = append(b.params, sqltypes.Type{})
	}
	typ := b.params[x.N-1]
	if typ.OID == 0 {
		typ = sqltypes.Unknown
	}
	p := &expr.Param{Index: x.N - 1, Typ: typ}
	b.at[p] = x.Position()
	return p, nil
}

// intervalFullRange is PostgreSQL's mask of an interval with all fields.
const intervalFullRange = 0x7fff

// TypeOf resolves a type as written.
func TypeOf(n *ast.TypeName) (sqltypes.Type, error) {
	mods := n.Mods
	if n.Names[len(n.Names)-1] == "interval" && (len(mods) > 0 || n.IntervalFields != 0) {
		fields := n.IntervalFields
		if fields == 0 {
			fields = intervalFullRange
		}
		mods = append([]int32{fields}, mods...)
	}
	t, err := sqltypes.ByName(n.Names, mods, n.ArrayDims)
	return t, at(err, n.Position())
}

func (b *binder) bindCast(x *ast.Cast, sc *scope) (expr.Expr, error) {
	to, err := TypeOf(&x.To)
	if err != nil {
		return nil, err
	}
	var in expr.Expr
	if a, ok := x.X.(*ast.Array); ok && to.IsArray() {
		in, err = b.bindArrayOf(a, to, sc)
	} else {
		in, err = b.bindExpr(x.X, sc)
	}
	if err != nil {
		return nil, err
	}
	return b.explicitCast(in, to, x.Position())
}

func (b *binder) bindBinary(x *ast.Binary, sc *scope) (expr.Expr, error) {
	lr, lrow := x.L.(*ast.Row)
	rr, rrow := x.R.(*ast.Row)
	if lrow && rrow {
		l, err := b.bindAll(lr.Items, sc)
		if err != nil {
			return nil, err
		}
		r, err := b.bindAll(rr.Items, sc)
		if err != nil {
			return nil, err
		}
		return b.compareRows(x.Op, l, r, x.Position())
	}
	if s, ok := x.R.(*ast.Subquery); ok && lrow && !s.Array {
		return nil, pgerror.Unsupported("comparing a row with a subquery").At(x.Position())
	}
	l, err := b.bindExpr(x.L, sc)
	if err != nil {
		return nil, err
	}
	r, err := b.bindExpr(x.R, sc)
	if err != nil {
		return nil, err
	}
	return b.operator(x.Schema, x.Op, l, r, x.Position())
}

func (b *binder) bindAll(list []ast.Expr, sc *scope) ([]expr.Expr, error) {
	out := make([]expr.Expr, len(list))
	for i, e := range list {
		x, err := b.bindExpr(e, sc)
		if err != nil {
			return nil, err
		}
		out[i] = x
	}
	return out, nil
}

// compareRows compares two rows as SQL says: = and <> column by column, the
// orderings by the first column that differs.
func (b *binder) compareRows(op string, l, r []expr.Expr, pos int) (expr.Expr, error) {
	if len(l) != len(r) {
		return nil, pgerror.New(pgerror.SyntaxError, "unequal number of entries in row expressions").At(pos)
	}
	if len(l) == 0 {
		return nil, pgerror.New(pgerror.FeatureNotSupported, "cannot compare rows of zero length").At(pos)
	}
	switch op {
	case "=", "<>", "!=":
		parts := make([]expr.Expr, len(l))
		for i := range l {
			x, err := b.operator("", op, l[i], r[i], pos)
			if err != nil {
				return nil, err
			}
			parts[i] = x
		}
		if op == "=" {
			return andOf(parts), nil
		}
		return orOf(parts), nil
	case "<", "<=", ">", ">=":
		return b.orderRows(op, l, r, pos)
	}
	return nil, pgerror.New(pgerror.FeatureNotSupported, "could not determine interpretation of row comparison operator %s", op).At(pos)
}

// orderRows is a < c OR (a = c AND (b < d OR …)).
func (b *binder) orderRows(op string, l, r []expr.Expr, pos int) (expr.Expr, error) {
	if len(l) == 1 {
		return b.operator("", op, l[0], r[0], pos)
	}
	less, err := b.operator("", op[:1], l[0], r[0], pos)
	if err != nil {
		return nil, err
	}
	eq, err := b.operator("", "=", l[0], r[0], pos)
	if err != nil {
		return nil, err
	}
	rest, err := b.orderRows(op, l[1:], r[1:], pos)
	if err != nil {
		return nil, err
	}
	return orOf([]expr.Expr{less, andOf([]expr.Expr{eq, rest})}), nil
}

func (b *binder) bindUnary(x *ast.Unary, sc *scope) (expr.Expr, error) {
	if x.Op == "-" {
		switch l := x.X.(type) {
		case *ast.IntLit:
			return b.bindExpr(&ast.IntLit{Pos: x.Pos, Value: -l.Value}, sc)
		case *ast.NumLit:
			if l.Text == "9223372036854775808" {
				return &expr.Const{Value: sqltypes.NewInt(-1 << 63), Typ: sqltypes.Int8}, nil
			}
			if !strings.HasPrefix(l.Text, "-") {
				return numLiteral(&ast.NumLit{Pos: x.Pos, Text: "-" + l.Text})
			}
		}
	}
	a, err := b.bindExpr(x.X, sc)
	if err != nil {
		return nil, err
	}
	return b.prefixOperator(x.Op, a, x.Position())
}

func (b *binder) bindLogic(x *ast.Logic, sc *scope) (expr.Expr, error) {
	word := "AND"
	if x.Or {
		word = "OR"
	}
	args := make([]expr.Expr, len(x.Args))
	for i, a := range x.Args {
		e, err := b.bindBool(a, sc, word)
		if err != nil {
			return nil, err
		}
		args[i] = e
	}
	return &expr.Logic{Or: x.Or, Args: args}, nil
}

func (b *binder) bindIsNull(x *ast.IsNull, sc *scope) (expr.Expr, error) {
	if r, ok := x.X.(*ast.Row); ok {
		var parts []expr.Expr
		for _, it := range r.Items {
			p, err := b.bindIsNull(&ast.IsNull{Pos: x.Pos, X: it, Not: x.Not}, sc)
			if err != nil {
				return nil, err
			}
			parts = append(parts, p)
		}
		return andOf(parts), nil
	}
	a, err := b.bindExpr(x.X, sc)
	if err != nil {
		return nil, err
	}
	if a, err = b.unknownToText(a); err != nil {
		return nil, err
	}
	return nullTest(a, x.Not), nil
}

// bindIsBool is IS TRUE and the like, which are never NULL.
func (b *binder) bindIsBool(x *ast.IsBool, sc *scope) (expr.Expr, error) {
	word := "IS UNKNOWN"
	if x.Value != nil {
		word = map[bool]string{true: "IS TRUE", false: "IS FALSE"}[*x.Value]
	}
	if x.Not {
		word = strings.Replace(word, "IS ", "IS NOT ", 1)
	}
	a, err := b.bindBool(x.X, sc, word)
	if err != nil {
		return nil, err
	}
	if x.Value == nil {
		return nullTest(a, x.Not), nil
	}
	if !*x.Value {
		a = notOf(a)
	}
	var out expr.Expr = &expr.Coalesce{Args: []expr.Expr{a, boolConst(false)}, Typ: sqltypes.Bool}
	if x.Not {
		out = notOf(out)
	}
	return out, nil
}

// bindIsDistinct is l <> r with NULL as a value.
func (b *binder) bindIsDistinct(x *ast.IsDistinct, sc *scope) (expr.Expr, error) {
	lr, ok1 := x.L.(*ast.Row)
	rr, ok2 := x.R.(*ast.Row)
	if ok1 && ok2 && len(lr.Items) == len(rr.Items) {
		var parts []expr.Expr
		for i := range lr.Items {
			p, err := b.bindIsDistinct(&ast.IsDistinct{Pos: x.Pos, L: lr.Items[i], R: rr.Items[i], Not: x.Not}, sc)
			if err != nil {
				return nil, err
			}
			parts = append(parts, p)
		}
		if x.Not {
			return andOf(parts), nil
		}
		return orOf(parts), nil
	}
	l, err := b.bindExpr(x.L, sc)
	if err != nil {
		return nil, err
	}
	r, err := b.bindExpr(x.R, sc)
	if err != nil {
		return nil, err
	}
	ne, err := b.operator("", "<>", l, r, x.Position())
	if err != nil {
		return nil, err
	}
	if args := children(ne); len(args) == 2 {
		l, r = args[0], args[1] // as coerced
	}
	out := expr.Expr(&expr.Case{
		Conds:   []expr.Expr{nullTest(l, false), nullTest(r, false)},
		Results: []expr.Expr{nullTest(r, true), boolConst(true)},
		Else:    ne, Typ: sqltypes.Bool,
	})
	if x.Not {
		out = notOf(out)
	}
	return out, nil
}

func (b *binder) bindBetween(x *ast.Between, sc *scope) (expr.Expr, error) {
	list, err := b.bindAll([]ast.Expr{x.X, x.Lo, x.Hi}, sc)
	if err != nil {
		return nil, err
	}
	v, lo, hi := list[0], list[1], list[2]
	out, err := b.between(v, lo, hi, x.Position())
	if err != nil {
		return nil, err
	}
	if x.Sym {
		other, err := b.between(v, hi, lo, x.Position())
		if err != nil {
			return nil, err
		}
		out = orOf([]expr.Expr{out, other})
	}
	if x.Not {
		out = notOf(out)
	}
	return out, nil
}

func (b *binder) between(v, lo, hi expr.Expr, pos int) (expr.Expr, error) {
	ge, err := b.operator("", ">=", v, lo, pos)
	if err != nil {
		return nil, err
	}
	le, err := b.operator("", "<=", v, hi, pos)
	if err != nil {
		return nil, err
	}
	return andOf([]expr.Expr{ge, le}), nil
}

func (b *binder) bindLike(x *ast.Like, sc *scope) (expr.Expr, error) {
	list, err := b.bindAll([]ast.Expr{x.X, x.Pattern}, sc)
	if err != nil {
		return nil, err
	}
	v, pattern := list[0], list[1]
	var escape expr.Expr
	if x.Escape != nil {
		if escape, err = b.bindExpr(x.Escape, sc); err != nil {
			return nil, err
		}
	}
	op := "~~"
	switch {
	case x.Similar:
		op = "~"
		args := []expr.Expr{pattern}
		if escape != nil {
			args = append(args, escape)
		}
		if pattern, err = b.call("similar_to_escape", args, x.Position()); err != nil {
			return nil, err
		}
	case escape != nil:
		if pattern, err = b.call("like_escape", []expr.Expr{pattern, escape}, x.Position()); err != nil {
			return nil, err
		}
	}
	if x.Fold {
		op += "*"
	}
	if x.Not {
		op = "!" + op
	}
	return b.operator("", op, v, pattern, x.Position())
}

func (b *binder) bindCase(x *ast.Case, sc *scope) (expr.Expr, error) {
	c := &expr.Case{}
	var arg expr.Expr
	var err error
	if x.Arg != nil {
		if arg, err = b.bindExpr(x.Arg, sc); err != nil {
			return nil, err
		}
		if arg, err = b.unknownToText(arg); err != nil {
			return nil, err
		}
	}
	for _, w := range x.Whens {
		cond, err := b.bindWhen(arg, w.Cond, sc)
		if err != nil {
			return nil, err
		}
		res, err := b.bindExpr(w.Result, sc)
		if err != nil {
			return nil, err
		}
		c.Conds, c.Results = append(c.Conds, cond), append(c.Results, res)
	}
	if x.Else != nil {
		if c.Else, err = b.bindExpr(x.Else, sc); err != nil {
			return nil, err
		}
	}
	return b.unifyCase(c, x)
}

func (b *binder) bindWhen(arg expr.Expr, cond ast.Expr, sc *scope) (expr.Expr, error) {
	if arg == nil {
		return b.bindBool(cond, sc, "CASE/WHEN")
	}
	v, err := b.bindExpr(cond, sc)
	if err != nil {
		return nil, err
	}
	return b.operator("", "=", arg, v, cond.Position())
}

// unifyCase gives all results one type; Postgres looks at ELSE first.
func (b *binder) unifyCase(c *expr.Case, x *ast.Case) (expr.Expr, error) {
	all := append([]expr.Expr(nil), c.Results...)
	if c.Else != nil {
		all = append([]expr.Expr{c.Else}, all...)
	}
	typ, err := b.commonType(all, "CASE", x.Position())
	if err != nil {
		return nil, err
	}
	c.Typ = typ
	for i := range c.Results {
		if c.Results[i], err = b.implicitCast(c.Results[i], typ, x.Whens[i].Result.Position()); err != nil {
			return nil, err
		}
	}
	if c.Else != nil {
		if c.Else, err = b.implicitCast(c.Else, typ, x.Else.Position()); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// bindCollate accepts the collations that order bytes as we do.
func (b *binder) bindCollate(x *ast.Collate, sc *scope) (expr.Expr, error) {
	name := x.Name[len(x.Name)-1]
	switch name {
	case "default", "C", "POSIX", "ucs_basic", "C.UTF-8", "C.utf8":
	default:
		return nil, pgerror.New(pgerror.UndefinedObject, "collation %q for encoding \"UTF8\" does not exist", name).At(x.Position())
	}
	a, err := b.bindExpr(x.X, sc)
	if err != nil {
		return nil, err
	}
	if unknownType(a.Type()) {
		return b.unknownToText(a)
	}
	return a, nil
}
