package plan

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// Arrays are their PostgreSQL text inside the engine (see internal/sqltypes);
// the expressions here take them apart and build them. They stay in the SQL
// layer: catalogs are where arrays live.

// arrayExpr builds an array of its elements' values.
type arrayExpr struct {
	items []expr.Expr
	typ   sqltypes.Type
}

// Type implements expr.Expr.
func (a *arrayExpr) Type() sqltypes.Type { return a.typ }

func (a *arrayExpr) String() string {
	s := "ARRAY["
	for i, it := range a.items {
		if i > 0 {
			s += ", "
		}
		s += it.String()
	}
	return s + "]"
}

// anyArray is x op ANY (array); test compares column 0 with column 1 of a
// batch of two columns.
type anyArray struct {
	x, array expr.Expr
	test     expr.Expr
	all      bool
}

// Type implements expr.Expr.
func (*anyArray) Type() sqltypes.Type { return sqltypes.Bool }

func (a *anyArray) String() string {
	word := "ANY"
	if a.all {
		word = "ALL"
	}
	return a.test.String() + " " + word + " (" + a.x.String() + ", " + a.array.String() + ")"
}

// subscript is array[index].
type subscript struct {
	array, index expr.Expr
	typ          sqltypes.Type
}

// Type implements expr.Expr.
func (s *subscript) Type() sqltypes.Type { return s.typ }
func (s *subscript) String() string      { return s.array.String() + "[" + s.index.String() + "]" }

func (b *binder) bindArray(x *ast.Array, sc *scope) (expr.Expr, error) {
	if len(x.Items) == 0 {
		return nil, pgerror.New(pgerror.IndeterminateDatatype, "cannot determine type of empty array").
			WithHint("Explicitly cast to the desired type, for example ARRAY[]::integer[].").At(x.Position())
	}
	items, err := b.bindAll(x.Items, sc)
	if err != nil {
		return nil, err
	}
	elem, err := b.commonType(items, "ARRAY", x.Position())
	if err != nil {
		return nil, err
	}
	return b.makeArray(x, items, elem)
}

// bindArrayOf binds ARRAY[…]::t[], whose elements take the type from the cast.
func (b *binder) bindArrayOf(x *ast.Array, to sqltypes.Type, sc *scope) (expr.Expr, error) {
	items, err := b.bindAll(x.Items, sc)
	if err != nil {
		return nil, err
	}
	elem, ok := to.Elem()
	if !ok {
		return b.bindArray(x, sc)
	}
	for i := range items {
		if items[i], err = b.explicitCast(items[i], elem, x.Items[i].Position()); err != nil {
			return nil, err
		}
	}
	return b.makeArray(x, items, elem)
}

func (b *binder) makeArray(x *ast.Array, items []expr.Expr, elem sqltypes.Type) (expr.Expr, error) {
	arr, ok := elem.ArrayType()
	if !ok {
		if elem.IsArray() {
			return nil, pgerror.Unsupported("an array of several dimensions").At(x.Position())
		}
		return nil, pgerror.New(pgerror.UndefinedObject, "could not find array type for data type %s", elem.Name()).At(x.Position())
	}
	var err error
	allConst := true
	for i := range items {
		if items[i], err = b.implicitCast(items[i], elem, x.Items[i].Position()); err != nil {
			return nil, err
		}
		_, isConst := items[i].(*expr.Const)
		allConst = allConst && isConst
	}
	if !allConst {
		return &arrayExpr{items: items, typ: arr}, nil
	}
	row := make([]sqltypes.Datum, len(items))
	for i, it := range items {
		row[i] = it.(*expr.Const).Value
	}
	return &expr.Const{Value: joinElements(arr, elem, row), Typ: arr}, nil
}

// joinElements writes an array's text.
func joinElements(arr, elem sqltypes.Type, row []sqltypes.Datum) sqltypes.Datum {
	list := make([]sqltypes.ArrayElement, len(row))
	for i, d := range row {
		if d.IsNull() {
			list[i].Null = true
			continue
		}
		list[i].Text = string(sqltypes.AppendText(nil, elem, d))
	}
	return sqltypes.NewString(sqltypes.JoinArray(arr, list))
}

func (b *binder) bindSubscript(x *ast.Subscript, sc *scope) (expr.Expr, error) {
	list, err := b.bindAll([]ast.Expr{x.X, x.Index}, sc)
	if err != nil {
		return nil, err
	}
	if list[0].Type().OID == sqltypes.OIDName { // an array of bytes, to PostgreSQL
		return b.call("name_get", list, x.Position())
	}
	elem, ok := list[0].Type().Elem()
	if !ok {
		return nil, pgerror.New(pgerror.DatatypeMismatch, "cannot subscript type %s because it does not support subscripting", list[0].Type().Name()).At(x.Position())
	}
	if list[1], err = b.assignTo(list[1], sqltypes.Int4, "array subscript", x.Index.Position()); err != nil {
		return nil, err
	}
	return &subscript{list[0], list[1], elem}, nil
}

// bindAnyArray binds x op ANY/ALL (array). Over a constant array = ANY is IN.
func (b *binder) bindAnyArray(x *ast.AnyAll, sc *scope) (expr.Expr, error) {
	list, err := b.bindAll([]ast.Expr{x.X, x.Array}, sc)
	if err != nil {
		return nil, err
	}
	v, arr := list[0], list[1]
	if unknownType(b.typeOf(arr)) {
		if arr, err = b.coerceArray(v, arr, x); err != nil {
			return nil, err
		}
	}
	elem, ok := arr.Type().Elem()
	if !ok {
		return nil, pgerror.New(pgerror.WrongObjectType, "op ANY/ALL (array) requires array on right side").At(x.Position())
	}
	if unknownType(b.typeOf(v)) {
		if v, err = b.implicitCast(v, elem, x.Position()); err != nil {
			return nil, err
		}
	}
	if in, ok := b.arrayIn(v, arr, elem, x); ok {
		return in, nil
	}
	l := &expr.Column{Index: 0, Typ: v.Type(), Name: "x"}
	r := &expr.Column{Index: 1, Typ: elem, Name: "element"}
	test, err := b.operator("", x.Op, l, r, x.Position())
	if err != nil {
		return nil, err
	}
	if test.Type().OID != sqltypes.OIDBool {
		return nil, pgerror.New(pgerror.WrongObjectType, "op ANY/ALL (array) requires operator to yield boolean").At(x.Position())
	}
	return &anyArray{x: v, array: arr, test: test, all: x.All}, nil
}

// coerceArray gives an array literal or parameter the array type of x.
func (b *binder) coerceArray(v, arr expr.Expr, x *ast.AnyAll) (expr.Expr, error) {
	typ := b.typeOf(v).Base()
	if unknownType(typ) {
		typ = sqltypes.Text
	}
	to, ok := typ.ArrayType()
	if !ok {
		return nil, pgerror.New(pgerror.UndefinedObject, "could not find array type for data type %s", typ.Name()).At(x.Position())
	}
	return b.implicitCast(arr, to, x.Array.Position())
}

// arrayIn turns x = ANY (constant array) and x <> ALL (constant array) into IN.
func (b *binder) arrayIn(v, arr expr.Expr, elem sqltypes.Type, x *ast.AnyAll) (expr.Expr, bool) {
	c, ok := arr.(*expr.Const)
	not := x.All && (x.Op == "<>" || x.Op == "!=")
	if !ok || c.Value.IsNull() || !(x.Op == "=" && !x.All || not) || elem.OID != v.Type().OID {
		return nil, false
	}
	in := &expr.In{X: v, Not: not}
	err := eachElement(arr.Type(), c.Value.Str(), func(d sqltypes.Datum) bool {
		in.Values = append(in.Values, d)
		return true
	})
	if err != nil || len(in.Values) == 0 {
		return nil, false
	}
	return in, true
}

// rowExternal evaluates a function of some operands row by row.
type rowExternal struct {
	expr.Expr
	args []expr.Evaluator
	f    func(ctx *expr.Ctx, row []sqltypes.Datum) (sqltypes.Datum, error)
}

// EvalBatch implements expr.External.
func (r *rowExternal) EvalBatch(ctx *expr.Ctx, in *expr.Batch, sel []int32) (arrow.Array, error) {
	cols := make([]arrow.Array, len(r.args))
	for i, a := range r.args {
		c, err := a.Eval(ctx, in, sel)
		if err != nil {
			return nil, err
		}
		cols[i] = c
	}
	out := make([]sqltypes.Datum, in.N)
	row := make([]sqltypes.Datum, len(cols))
	err := eachRow(in.N, sel, func(i int) error {
		for k, c := range cols {
			row[k] = sqltypes.DatumAt(r.args[k].Expr().Type(), c, i)
		}
		d, err := r.f(ctx, row)
		out[i] = d
		return err
	})
	if err != nil {
		return nil, err
	}
	return sqltypes.ArrayOf(r.Type(), out), nil
}

// eachRow calls f for the rows of sel, nil = all.
func eachRow(n int, sel []int32, f func(i int) error) error {
	if sel == nil {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	for _, i := range sel {
		if err := f(int(i)); err != nil {
			return err
		}
	}
	return nil
}

// compileArrayExpr makes the evaluator of one of this file's nodes; ok is
// false for other nodes. compile prepares an operand.
func compileArrayExpr(e expr.Expr) (expr.External, bool, error) {
	switch x := e.(type) {
	case *arrayExpr:
		elem, _ := x.typ.Elem()
		ev, err := expr.CompileAll(x.items)
		return &rowExternal{x, ev, func(_ *expr.Ctx, row []sqltypes.Datum) (sqltypes.Datum, error) {
			return joinElements(x.typ, elem, row), nil
		}}, true, err
	case *subscript:
		ev, err := expr.CompileAll([]expr.Expr{x.array, x.index})
		return &rowExternal{x, ev, x.eval}, true, err
	case *anyArray:
		ev, err := expr.CompileAll([]expr.Expr{x.x, x.array})
		if err != nil {
			return nil, true, err
		}
		test, err := expr.Compile(x.test)
		return &rowExternal{x, ev, func(ctx *expr.Ctx, row []sqltypes.Datum) (sqltypes.Datum, error) {
			return x.eval(ctx, test, row)
		}}, true, err
	}
	return nil, false, nil
}

func (s *subscript) eval(_ *expr.Ctx, row []sqltypes.Datum) (sqltypes.Datum, error) {
	out := sqltypes.Null
	if row[0].IsNull() || row[1].IsNull() {
		return out, nil
	}
	i := int64(1)
	if t := s.array.Type().OID; t == sqltypes.OIDInt2Vector || t == sqltypes.OIDOidVector {
		i = 0
	}
	err := eachElement(s.array.Type(), row[0].Str(), func(d sqltypes.Datum) bool {
		if i == row[1].Int() {
			out = d
			return false
		}
		i++
		return true
	})
	return out, err
}

// eval is three-valued: ANY is true if one test is, NULL if none is true and
// one is NULL; ALL is the mirror image.
func (a *anyArray) eval(ctx *expr.Ctx, test expr.Evaluator, row []sqltypes.Datum) (sqltypes.Datum, error) {
	if row[1].IsNull() {
		return sqltypes.Null, nil
	}
	elem, _ := a.array.Type().Elem()
	var values []sqltypes.Datum
	if err := eachElement(a.array.Type(), row[1].Str(), func(d sqltypes.Datum) bool {
		values = append(values, d)
		return true
	}); err != nil {
		return sqltypes.Null, err
	}
	if len(values) == 0 {
		return sqltypes.NewBool(a.all), nil
	}
	xs := make([]sqltypes.Datum, len(values))
	for i := range xs {
		xs[i] = row[0]
	}
	b := &expr.Batch{N: len(values), Cols: []arrow.Array{sqltypes.ArrayOf(a.x.Type(), xs), sqltypes.ArrayOf(elem, values)}}
	res, err := test.Eval(ctx, b, nil)
	if err != nil {
		return sqltypes.Null, err
	}
	unknown := false
	for i := range values {
		d := sqltypes.DatumAt(sqltypes.Bool, res, i)
		if d.IsNull() {
			unknown = true
		} else if d.Bool() != a.all {
			return d, nil
		}
	}
	if unknown {
		return sqltypes.Null, nil
	}
	return sqltypes.NewBool(a.all), nil
}
