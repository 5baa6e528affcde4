package plan

import (
	"strings"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// bindFunc binds a call: an aggregate, a window function, a set-returning
// function, special syntax, or a plain function.
func (b *binder) bindFunc(f *ast.Func, sc *scope) (expr.Expr, error) {
	if f.Schema != "" && f.Schema != "pg_catalog" && f.Schema != "information_schema" {
		return nil, pgerror.New(pgerror.UndefinedFunction, "function %s.%s does not exist", f.Schema, f.Name).At(f.Position())
	}
	if f.Over != nil {
		return b.bindWindow(f, sc)
	}
	if agg.IsAggregate(f.Name) {
		return b.bindAggregate(f, sc)
	}
	if windowFunction(f.Name) {
		return nil, pgerror.New(pgerror.WrongObjectType, "window function %s requires an OVER clause", f.Name).At(f.Position())
	}
	if err := plainCall(f); err != nil {
		return nil, err
	}
	if setFunctions[f.Name] != nil {
		return b.bindTargetSet(f, sc)
	}
	args, err := b.bindAll(f.Args, sc)
	if err != nil {
		return nil, err
	}
	switch f.Name {
	case "coalesce":
		return b.bindCoalesce(args, f)
	case "nullif":
		return b.bindNullif(args, f)
	case "greatest", "least":
		return b.bindExtreme(args, f)
	}
	if f.Variadic {
		return nil, pgerror.Unsupported("VARIADIC in a call").At(f.Position())
	}
	e, err := b.call(f.Name, args, f.Position())
	if err != nil && len(args) == 1 && pgerror.Code(err) == pgerror.UndefinedFunction {
		if c, cerr := b.functionalCast(f, args[0]); c != nil || cerr != nil {
			return c, cerr
		}
	}
	return e, err
}

// plainCall refuses aggregate syntax on a function that is none.
func plainCall(f *ast.Func) error {
	what := ""
	switch {
	case f.Star:
		what = "(*)"
	case f.Distinct:
		what = "DISTINCT"
	case len(f.OrderBy) > 0:
		what = "ORDER BY"
	case f.Filter != nil:
		what = "FILTER"
	default:
		return nil
	}
	return pgerror.New(pgerror.WrongObjectType, "%s specified, but %s is not an aggregate function", what, f.Name).At(f.Position())
}

// functionalCast is Postgres's text(x), int4(x): a type's name as a function.
func (b *binder) functionalCast(f *ast.Func, x expr.Expr) (expr.Expr, error) {
	to, err := sqltypes.ByName([]string{f.Name}, nil, 0)
	if err != nil || to.Category() == 'P' {
		return nil, nil
	}
	return b.explicitCast(x, to, f.Position())
}

func (b *binder) bindCoalesce(args []expr.Expr, f *ast.Func) (expr.Expr, error) {
	typ, err := b.commonType(args, "COALESCE", f.Position())
	if err != nil {
		return nil, err
	}
	for i := range args {
		if args[i], err = b.implicitCast(args[i], typ, f.Args[i].Position()); err != nil {
			return nil, err
		}
	}
	return &expr.Coalesce{Args: args, Typ: typ}, nil
}

// bindNullif is CASE WHEN a = b THEN NULL ELSE a END.
func (b *binder) bindNullif(args []expr.Expr, f *ast.Func) (expr.Expr, error) {
	if len(args) != 2 {
		return nil, pgerror.New(pgerror.SyntaxError, "NULLIF requires two arguments").At(f.Position())
	}
	eq, err := b.operator("", "=", args[0], args[1], f.Position())
	if err != nil {
		return nil, err
	}
	a := args[0]
	if unknownType(a.Type()) {
		a = children(eq)[0]
	}
	return &expr.Case{Conds: []expr.Expr{eq}, Results: []expr.Expr{&expr.Const{Typ: a.Type()}}, Else: a, Typ: a.Type()}, nil
}

// bindExtreme is GREATEST or LEAST, which pass over NULLs:
// fold pairwise as CASE WHEN b IS NULL OR a >= b THEN a … END.
func (b *binder) bindExtreme(args []expr.Expr, f *ast.Func) (expr.Expr, error) {
	typ, err := b.commonType(args, strings.ToUpper(f.Name), f.Position())
	if err != nil {
		return nil, err
	}
	op := ">="
	if f.Name == "least" {
		op = "<="
	}
	var out expr.Expr
	for i := range args {
		x, err := b.implicitCast(args[i], typ, f.Args[i].Position())
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = x
			continue
		}
		cmp, err := b.operator("", op, out, x, f.Position())
		if err != nil {
			return nil, err
		}
		out = &expr.Case{
			Conds:   []expr.Expr{nullTest(x, false), nullTest(out, false), cmp},
			Results: []expr.Expr{out, x, out}, Else: x, Typ: typ,
		}
	}
	return out, nil
}

// resolveAggregate finds an aggregate's type and coerces its arguments.
func (b *binder) resolveAggregate(f *ast.Func, call *aggCall, args []expr.Expr) error {
	if f.Star && call.name != "count" {
		return pgerror.New(pgerror.UndefinedFunction, "function %s() does not exist", f.Name).At(f.Position())
	}
	if call.name == "count" && !f.Star && len(args) == 0 {
		return pgerror.New(pgerror.WrongObjectType, "count(*) must be used to call a parameterless aggregate function").At(f.Position())
	}
	if f.Distinct && len(args) == 0 {
		return pgerror.New(pgerror.SyntaxError, "DISTINCT specified, but %s has no arguments", f.Name).At(f.Position())
	}
	var types []sqltypes.Type
	for i, a := range args {
		x, err := b.unknownToText(a)
		if err != nil {
			return err
		}
		args[i] = x
		types = append(types, x.Type())
	}
	typ, _, err := agg.Resolve(call.name, types)
	if err != nil {
		return at(err, f.Position())
	}
	call.args, call.typ = args, typ
	return nil
}

// bindTargetSet is a set-returning function in the select list: its rows are
// made below the projection, in lockstep with those of the others.
func (b *binder) bindTargetSet(f *ast.Func, sc *scope) (expr.Expr, error) {
	lv := sc.level
	if lv == nil || lv.noSRF {
		where := "this context"
		if lv != nil {
			where = lv.clause
		}
		return nil, pgerror.New(pgerror.FeatureNotSupported, "set-returning functions are not allowed in %s", where).At(f.Position())
	}
	call, cols, err := b.bindSetCall(f, sc)
	if err != nil {
		return nil, err
	}
	if len(cols) != 1 {
		return nil, pgerror.Unsupported("a function that returns rows of several columns outside FROM").At(f.Position())
	}
	id := b.q.add(colMeta{name: f.Name, typ: cols[0].typ})
	lv.srfs = append(lv.srfs, setFunc{call: call, cols: []ColID{id}})
	return b.q.column(id), nil
}

// bindSetFunc binds a function in FROM. For a function that returns no set,
// call is nil and scalar is its value.
func (b *binder) bindSetFunc(f *ast.Func, sc *scope) (call *setCall, cols []setColumn, scalar expr.Expr, err error) {
	if f.Schema != "" && f.Schema != "pg_catalog" && f.Schema != "information_schema" {
		return nil, nil, nil, pgerror.New(pgerror.UndefinedFunction, "function %s.%s does not exist", f.Schema, f.Name).At(f.Position())
	}
	if setFunctions[f.Name] != nil {
		call, cols, err = b.bindSetCall(f, sc)
		return call, cols, nil, err
	}
	scalar, err = b.bindFunc(f, sc)
	if err != nil {
		return nil, nil, nil, err
	}
	scalar, err = b.unknownToText(scalar)
	return nil, nil, scalar, err
}

func (b *binder) bindSetCall(f *ast.Func, sc *scope) (*setCall, []setColumn, error) {
	args, err := b.bindAll(f.Args, sc)
	if err != nil {
		return nil, nil, err
	}
	types := make([]sqltypes.Type, len(args))
	for i, a := range args {
		types[i] = b.typeOf(a)
	}
	for _, d := range setFunctions[f.Name] {
		want, cols, ok := d.Match(types)
		if !ok {
			continue
		}
		for i := range args {
			if args[i], err = b.implicitCast(args[i], want[i], f.Position()); err != nil {
				return nil, nil, err
			}
		}
		call := &setCall{def: d, name: f.Name, args: args}
		out := make([]setColumn, len(cols))
		for i, c := range cols {
			out[i] = setColumn{c.Name, c.Type}
			call.named = call.named || c.Name != ""
			call.types = append(call.types, c.Type)
		}
		return call, out, nil
	}
	names := make([]string, len(types))
	for i, t := range types {
		names[i] = t.Name()
	}
	return nil, nil, pgerror.New(pgerror.UndefinedFunction, "function %s(%s) does not exist", f.Name, strings.Join(names, ", ")).
		WithHint("No function matches the given name and argument types. You might need to add explicit type casts.").At(f.Position())
}

// setColumn is an output column of a set-returning function.
type setColumn struct {
	name string
	typ  sqltypes.Type
}

// setCall is a bound call of a set-returning function.
type setCall struct {
	def   *SetFunc
	name  string
	args  []expr.Expr
	types []sqltypes.Type
	named bool // its columns have names of their own
}

func (c *setCall) String() string {
	parts := make([]string, len(c.args))
	for i, a := range c.args {
		parts[i] = a.String()
	}
	return c.name + "(" + strings.Join(parts, ", ") + ")"
}
