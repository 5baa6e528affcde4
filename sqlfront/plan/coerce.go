package plan

import (
	"errors"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// at gives an error a position if it has none.
func at(err error, pos int) error {
	var e *pgerror.Error
	if pos <= 0 || !errors.As(err, &e) || e.Position != 0 {
		return err
	}
	c := *e
	c.Position = pos
	return &c
}

func unknownType(t sqltypes.Type) bool { return t.OID == sqltypes.OIDUnknown }

// posOf is where e stands, if that is known, else pos.
func (b *binder) posOf(e expr.Expr, pos int) int {
	if p := b.at[e]; p > 0 {
		return p
	}
	return pos
}

// cast converts e to a type in a context; a parameter of unknown type takes
// the type.
func (b *binder) cast(e expr.Expr, to sqltypes.Type, ctx expr.CastContext, pos int) (expr.Expr, error) {
	if p, ok := e.(*expr.Param); ok && unknownType(p.Typ) {
		return b.typeParam(p, to, ctx, pos)
	}
	if e.Type() == to {
		return e, nil
	}
	x, err := expr.NewCast(e, to, ctx)
	if err != nil {
		return nil, at(err, b.posOf(e, pos))
	}
	if c, ok := e.(*expr.Const); ok && unknownType(c.Typ) {
		// A literal is read with the session's settings right away.
		if x, err = b.readLiteral(x); err != nil {
			return nil, at(err, b.posOf(e, pos))
		}
	}
	return x, nil
}

// readLiteral computes the cast of a literal that the session's settings or
// catalog decide.
func (b *binder) readLiteral(x expr.Expr) (expr.Expr, error) {
	if _, ok := x.(*expr.Const); ok {
		return x, nil
	}
	v, err := expr.EvalConst(b.ctx.Expr, x)
	if err != nil {
		return nil, err
	}
	return &expr.Const{Value: v, Typ: x.Type()}, nil
}

// typeParam settles the type of a parameter at its first use; later uses cast
// from that type.
func (b *binder) typeParam(p *expr.Param, to sqltypes.Type, ctx expr.CastContext, pos int) (expr.Expr, error) {
	have := b.params[p.Index]
	if have.OID != 0 && have.OID != sqltypes.OIDUnknown {
		if have.OID != to.Base().OID {
			return nil, pgerror.New("42P08", "inconsistent types deduced for parameter $%d", p.Index+1).
				WithDetail("%s versus %s", have.Name(), to.Name()).At(b.posOf(p, pos))
		}
	} else {
		have = to.Base()
		b.params[p.Index] = have
	}
	typed := &expr.Param{Index: p.Index, Typ: have}
	b.at[typed] = b.at[p]
	if have == to {
		return typed, nil
	}
	return expr.NewCast(typed, to, ctx)
}

// implicitCast, assignTo and explicitCast are the three contexts, with
// Postgres's errors.
func (b *binder) implicitCast(e expr.Expr, to sqltypes.Type, pos int) (expr.Expr, error) {
	return b.cast(e, to, expr.Implicit, pos)
}

func (b *binder) explicitCast(e expr.Expr, to sqltypes.Type, pos int) (expr.Expr, error) {
	return b.cast(e, to, expr.Explicit, pos)
}

// assignTo coerces the argument of a clause that needs one type ("argument of
// LIMIT must be type bigint, not type text").
func (b *binder) assignTo(e expr.Expr, to sqltypes.Type, clause string, pos int) (expr.Expr, error) {
	from := e.Type()
	x, err := b.cast(e, to, expr.Assignment, pos)
	if err == nil {
		return x, nil
	}
	if pgerror.Code(err) == pgerror.CannotCoerce {
		return nil, pgerror.New(pgerror.DatatypeMismatch, "argument of %s must be type %s, not type %s", clause, to.Name(), from.Name()).At(pos)
	}
	return nil, err
}

// toBool demands a boolean.
func (b *binder) toBool(e expr.Expr, clause string, pos int) (expr.Expr, error) {
	if e.Type().OID == sqltypes.OIDBool {
		return e, nil
	}
	if !unknownType(e.Type()) {
		return nil, pgerror.New(pgerror.DatatypeMismatch, "argument of %s must be type boolean, not type %s", clause, e.Type().Name()).At(pos)
	}
	return b.implicitCast(e, sqltypes.Bool, pos)
}

// unknownToText settles what is still of unknown type.
func (b *binder) unknownToText(e expr.Expr) (expr.Expr, error) {
	if !unknownType(e.Type()) {
		return e, nil
	}
	if p, ok := e.(*expr.Param); ok {
		if have := b.params[p.Index]; have.OID != 0 && have.OID != sqltypes.OIDUnknown {
			return &expr.Param{Index: p.Index, Typ: have}, nil
		}
	}
	return b.implicitCast(e, sqltypes.Text, 0)
}

// commonType is PostgreSQL's select_common_type for a clause.
func (b *binder) commonType(list []expr.Expr, clause string, pos int) (sqltypes.Type, error) {
	types := make([]sqltypes.Type, len(list))
	for i, e := range list {
		types[i] = e.Type()
		if p, ok := e.(*expr.Param); ok && unknownType(p.Typ) && b.params[p.Index].OID != 0 {
			types[i] = b.params[p.Index]
		}
	}
	t, err := expr.CommonType(types)
	if err == nil {
		return t, nil
	}
	e := *pgerror.From(err)
	e.Message = clause + " " + e.Message
	return t, at(&e, pos)
}

// operator resolves a binary operator and coerces its operands.
func (b *binder) operator(schema, op string, l, r expr.Expr, pos int) (expr.Expr, error) {
	if schema != "" && schema != "pg_catalog" {
		return nil, pgerror.New(pgerror.InvalidSchemaName, "schema %q does not exist", schema).At(pos)
	}
	if op == "!=" {
		op = "<>"
	}
	return b.resolveCall(op, []expr.Expr{l, r}, pos)
}

func (b *binder) prefixOperator(op string, x expr.Expr, pos int) (expr.Expr, error) {
	return b.resolveCall(op, []expr.Expr{x}, pos)
}

// call resolves a function by name.
func (b *binder) call(name string, args []expr.Expr, pos int) (expr.Expr, error) {
	return b.resolveCall(name, args, pos)
}

func (b *binder) resolveCall(name string, args []expr.Expr, pos int) (expr.Expr, error) {
	types := make([]sqltypes.Type, len(args))
	for i, a := range args {
		types[i] = b.typeOf(a)
	}
	fn, coerced, _, err := expr.ResolveFunc(name, types)
	if err != nil {
		return nil, at(err, pos)
	}
	out := make([]expr.Expr, len(args))
	for i, a := range args {
		if p, ok := a.(*expr.Param); ok && unknownType(p.Typ) {
			to := coerced[i]
			if to.OID == sqltypes.OIDUnknown || to.OID == sqltypes.OIDAny || to.OID == 0 {
				to = sqltypes.Text
			}
			if a, err = b.typeParam(p, to, expr.Implicit, pos); err != nil {
				return nil, at(err, pos)
			}
		}
		out[i] = a
	}
	e, err := expr.NewCall(fn, out, coerced)
	if err != nil {
		return nil, at(err, b.argPos(args, pos))
	}
	return e, nil
}

// typeOf is an expression's type; of a parameter used before, the type that
// use gave it.
func (b *binder) typeOf(e expr.Expr) sqltypes.Type {
	if p, ok := e.(*expr.Param); ok && unknownType(p.Typ) && b.params[p.Index].OID != 0 {
		return b.params[p.Index]
	}
	return e.Type()
}

// argPos blames the literal among the arguments, whose text is what a cast
// error is about.
func (b *binder) argPos(args []expr.Expr, pos int) int {
	for _, a := range args {
		if c, ok := a.(*expr.Const); ok && unknownType(c.Typ) && b.at[a] > 0 {
			return b.at[a]
		}
	}
	return pos
}

// foldConst evaluates e if it is constant; an error leaves it for execution,
// where it may never be reached.
func (b *binder) foldConst(e expr.Expr) expr.Expr {
	return expr.FoldConst(nil, e)
}

// fitsExactly reports whether a constant is a value of t as it stands, so that
// a comparison with a column of t loses nothing by converting it.
func fitsExactly(c *expr.Const, t sqltypes.Type) bool {
	if c.Value.IsNull() || !t.FixedScale() || c.Value.Kind() != sqltypes.KindDecimal {
		return true
	}
	return sqltypes.NumericScale(c.Value.Decimal()) <= t.Scale
}
