package sqlfront

import (
	"context"
	"strings"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// The functions of sequences: those behind serial and identity columns are the
// only ones there are.
func init() {
	class := []sqltypes.Type{sqltypes.Regclass}
	expr.RegisterFunc(expr.Def{Name: "nextval", Args: class, Ret: sqltypes.Int8, Strict: true, Volatility: expr.Volatile, Session: true, Eval: nextval})
	expr.RegisterFunc(expr.Def{Name: "currval", Args: class, Ret: sqltypes.Int8, Strict: true, Volatility: expr.Volatile, Session: true, Eval: currval})
	for _, args := range [][]sqltypes.Type{{sqltypes.Regclass, sqltypes.Int8}, {sqltypes.Regclass, sqltypes.Int8, sqltypes.Bool}} {
		expr.RegisterFunc(expr.Def{Name: "setval", Args: args, Ret: sqltypes.Int8, Strict: true, Volatility: expr.Volatile, Session: true, Eval: setval})
	}
	expr.RegisterFunc(expr.Def{Name: "lastval", Ret: sqltypes.Int8, Volatility: expr.Volatile, Session: true, Eval: lastval})
	expr.RegisterFunc(expr.Def{Name: "pg_get_serial_sequence", Args: []sqltypes.Type{sqltypes.Text, sqltypes.Text}, Ret: sqltypes.Text,
		Strict: true, Volatility: expr.Stable, Session: true, Eval: serialSequence})
}

func sessionOf(ctx *expr.Ctx) (*exprSession, error) {
	if e, ok := ctx.Session.(*exprSession); ok {
		return e, nil
	}
	return nil, pgerror.New(pgerror.ObjectNotInPrerequisiteState, "the function needs a session")
}

// sequence finds the column behind a sequence's OID.
func (e *exprSession) sequence(oid int64) (*catalog.Column, error) {
	if _, c := e.sequenceByOID(oid); c != nil {
		return c, nil
	}
	return nil, pgerror.New(pgerror.WrongObjectType, "relation with OID %d is not a sequence", oid)
}

func (e *exprSession) className(oid int64) string {
	name, _ := e.RegName(sqltypes.Regclass, uint32(oid))
	return name
}

func nextval(ctx *expr.Ctx, args []sqltypes.Datum) (sqltypes.Datum, error) {
	e, err := sessionOf(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	c, err := e.sequence(args[0].Int())
	if err != nil {
		return sqltypes.Null, err
	}
	v, err := e.s.nextValue(ctx.Context, c)
	return sqltypes.NewInt(v), err
}

// nextValue takes the next value of a column's sequence.
func (s *session) nextValue(ctx context.Context, c *catalog.Column) (int64, error) {
	v, err := s.db.catalog.NextSequenceValue(ctx, c.SequenceID, sequenceMax(c.Type))
	if err != nil {
		return 0, kvError(ctx, err, nil)
	}
	s.lastVal[c.SequenceID] = v
	s.lastVal[0] = v
	return v, nil
}

func currval(ctx *expr.Ctx, args []sqltypes.Datum) (sqltypes.Datum, error) {
	e, err := sessionOf(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	c, err := e.sequence(args[0].Int())
	if err != nil {
		return sqltypes.Null, err
	}
	if v, ok := e.s.lastVal[c.SequenceID]; ok {
		return sqltypes.NewInt(v), nil
	}
	return sqltypes.Null, pgerror.New(pgerror.ObjectNotInPrerequisiteState, "currval of sequence \"%s\" is not yet defined in this session", e.className(args[0].Int()))
}

// setval makes the next value the one behind (or, with false, at) the given one.
// Values that other nodes hold in memory are still given out.
func setval(ctx *expr.Ctx, args []sqltypes.Datum) (sqltypes.Datum, error) {
	e, err := sessionOf(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	c, err := e.sequence(args[0].Int())
	if err != nil {
		return sqltypes.Null, err
	}
	v := args[1].Int()
	if v < 1 || v > sequenceMax(c.Type) {
		return sqltypes.Null, pgerror.New(pgerror.NumericValueOutOfRange, "setval: value %d is out of bounds for sequence \"%s\" (1..%d)",
			v, e.className(args[0].Int()), sequenceMax(c.Type))
	}
	next := v + 1
	if len(args) > 2 && !args[2].Bool() {
		next = v
	} else {
		e.s.lastVal[c.SequenceID] = v
	}
	if err := e.s.db.catalog.SetSequence(ctx.Context, c.SequenceID, next); err != nil {
		return sqltypes.Null, kvError(ctx.Context, err, nil)
	}
	return args[1], nil
}

func lastval(ctx *expr.Ctx, _ []sqltypes.Datum) (sqltypes.Datum, error) {
	e, err := sessionOf(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	if v, ok := e.s.lastVal[0]; ok {
		return sqltypes.NewInt(v), nil
	}
	return sqltypes.Null, pgerror.New(pgerror.ObjectNotInPrerequisiteState, "lastval is not yet defined in this session")
}

func serialSequence(ctx *expr.Ctx, args []sqltypes.Datum) (sqltypes.Datum, error) {
	e, err := sessionOf(ctx)
	if err != nil {
		return sqltypes.Null, err
	}
	t, err := resolveTable(e.view, nameOf(splitQualified(args[0].Str())))
	if err != nil {
		return sqltypes.Null, err
	}
	i := t.ColumnIndex(args[1].Str())
	if i < 0 {
		return sqltypes.Null, pgerror.New(pgerror.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", args[1].Str(), t.Name)
	}
	if t.Columns[i].SequenceID == 0 {
		return sqltypes.Null, nil
	}
	return sqltypes.NewString(strings.Join([]string{quoteIdent(t.Schema), quoteIdent(SequenceName(t, &t.Columns[i]))}, ".")), nil
}
