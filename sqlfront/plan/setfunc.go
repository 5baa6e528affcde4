package plan

import (
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// SetFunc is a set-returning function.
type SetFunc struct {
	// Match tells whether a call with these argument types is this function,
	// the types to cast the arguments to, and the columns it returns (a name ""
	// leaves naming to the alias).
	Match func(args []sqltypes.Type) (want []sqltypes.Type, cols []Column, ok bool)
	// Rows computes the result row by row; it stops when yield returns false.
	Rows func(ctx *expr.Ctx, args []sqltypes.Datum, types []sqltypes.Type, yield func(row []sqltypes.Datum) bool) error
}

// setFunctions are the set-returning functions by name.
var setFunctions = map[string][]*SetFunc{}

// RegisterSetFunc adds a set-returning function (the catalog's). It is called
// from init functions.
func RegisterSetFunc(name string, f *SetFunc) { setFunctions[name] = append(setFunctions[name], f) }

func init() {
	for _, t := range []sqltypes.Type{sqltypes.Int4, sqltypes.Int8} {
		RegisterSetFunc("generate_series", seriesFunc(t, t, intSeries))
	}
	RegisterSetFunc("generate_series", seriesFunc(sqltypes.Numeric, sqltypes.Numeric, numericSeries))
	for _, t := range []sqltypes.Type{sqltypes.Timestamp, sqltypes.Timestamptz} {
		RegisterSetFunc("generate_series", stampSeries(t))
	}
	RegisterSetFunc("unnest", &SetFunc{Match: matchUnnest, Rows: unnestRows})
	RegisterSetFunc("generate_subscripts", &SetFunc{Match: matchSubscripts, Rows: subscriptRows})
}

// fits reports whether an argument can stand for t without losing anything.
func fits(a, t sqltypes.Type) bool {
	if unknownType(a) || a.OID == t.OID {
		return true
	}
	_, ok := expr.FindCast(a, t, expr.Implicit)
	return ok
}

// seriesFunc is generate_series(start, stop [, step]) over one type.
func seriesFunc(t, step sqltypes.Type, rows func([]sqltypes.Datum, func([]sqltypes.Datum) bool) error) *SetFunc {
	return &SetFunc{
		Match: func(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
			if len(args) != 2 && len(args) != 3 {
				return nil, nil, false
			}
			want := []sqltypes.Type{t, t, step}[:len(args)]
			for i, a := range args {
				if !fits(a, want[i]) {
					return nil, nil, false
				}
			}
			return want, []Column{{Type: t}}, true
		},
		Rows: func(_ *expr.Ctx, args []sqltypes.Datum, _ []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
			for _, a := range args {
				if a.IsNull() {
					return nil
				}
			}
			return rows(args, yield)
		},
	}
}

func errZeroStep() error {
	return pgerror.New(pgerror.InvalidParameterValue, "step size cannot equal zero")
}

func intSeries(args []sqltypes.Datum, yield func([]sqltypes.Datum) bool) error {
	lo, hi, step := args[0].Int(), args[1].Int(), int64(1)
	if len(args) == 3 {
		step = args[2].Int()
	}
	if step == 0 {
		return errZeroStep()
	}
	for v := lo; step > 0 && v <= hi || step < 0 && v >= hi; {
		if !yield([]sqltypes.Datum{sqltypes.NewInt(v)}) {
			return nil
		}
		next := v + step
		if (next > v) != (step > 0) {
			return nil // past the end of the type
		}
		v = next
	}
	return nil
}

func numericSeries(args []sqltypes.Datum, yield func([]sqltypes.Datum) bool) error {
	step := apd.New(1, 0)
	if len(args) == 3 {
		step = args[2].Decimal()
	}
	for _, d := range append([]sqltypes.Datum{sqltypes.NewDecimal(step)}, args[:2]...) {
		if d.Decimal().Form != apd.Finite {
			return pgerror.New(pgerror.InvalidParameterValue, "start, stop and step values must be finite numbers")
		}
	}
	if step.IsZero() {
		return errZeroStep()
	}
	ctx := apd.BaseContext.WithPrecision(1000)
	v, hi := args[0].Decimal(), args[1].Decimal()
	for (!step.Negative && v.Cmp(hi) <= 0) || (step.Negative && v.Cmp(hi) >= 0) {
		if !yield([]sqltypes.Datum{sqltypes.NewDecimal(v)}) {
			return nil
		}
		next := new(apd.Decimal)
		if _, err := ctx.Add(next, v, step); err != nil {
			return pgerror.Wrap(err, pgerror.NumericValueOutOfRange, "numeric value out of range")
		}
		v = next
	}
	return nil
}

// stampSeries is generate_series over timestamps: each value is the one before
// plus the step, by the + operator, so that months and daylight saving count
// as they do there.
func stampSeries(t sqltypes.Type) *SetFunc {
	f := seriesFunc(t, sqltypes.Interval, nil)
	match := f.Match
	f.Match = func(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
		if len(args) != 3 {
			return nil, nil, false
		}
		return match(args)
	}
	f.Rows = func(ctx *expr.Ctx, args []sqltypes.Datum, _ []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
		if args[0].IsNull() || args[1].IsNull() || args[2].IsNull() {
			return nil
		}
		iv := args[2].Interval()
		sign := sqltypes.CompareIntervals(iv, sqltypes.IntervalValue{})
		if sign == 0 {
			return errZeroStep()
		}
		v, hi := args[0], args[1].Int()
		for sign > 0 && v.Int() <= hi || sign < 0 && v.Int() >= hi {
			if !yield([]sqltypes.Datum{v}) {
				return nil
			}
			sum, err := expr.NewOperator("+", &expr.Const{Value: v, Typ: t}, &expr.Const{Value: args[2], Typ: sqltypes.Interval})
			if err != nil {
				return err
			}
			if v, err = expr.EvalConst(ctx, sum); err != nil {
				return err
			}
		}
		return nil
	}
	return f
}

func matchUnnest(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
	if len(args) != 1 {
		return nil, nil, false
	}
	if unknownType(args[0]) {
		return []sqltypes.Type{sqltypes.TextArray}, []Column{{Type: sqltypes.Text}}, true
	}
	elem, ok := args[0].Elem()
	if !ok {
		return nil, nil, false
	}
	return args, []Column{{Type: elem}}, true
}

func unnestRows(_ *expr.Ctx, args []sqltypes.Datum, types []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
	if args[0].IsNull() {
		return nil
	}
	return eachElement(types[0], args[0].Str(), func(d sqltypes.Datum) bool { return yield([]sqltypes.Datum{d}) })
}

// eachElement parses the elements of an array's text.
func eachElement(arr sqltypes.Type, text string, f func(sqltypes.Datum) bool) error {
	elems, err := sqltypes.SplitArray(arr, text)
	if err != nil {
		return err
	}
	typ, _ := arr.Elem()
	for _, e := range elems {
		d := sqltypes.Null
		if !e.Null {
			if d, err = sqltypes.ParseText(typ, e.Text); err != nil {
				return err
			}
		}
		if !f(d) {
			return nil
		}
	}
	return nil
}

func matchSubscripts(args []sqltypes.Type) ([]sqltypes.Type, []Column, bool) {
	if len(args) != 2 || !args[0].IsArray() || !fits(args[1], sqltypes.Int4) {
		return nil, nil, false
	}
	return []sqltypes.Type{args[0], sqltypes.Int4}, []Column{{Type: sqltypes.Int4}}, true
}

// subscriptRows counts from 1, or from 0 for the vectors of the catalogs.
func subscriptRows(_ *expr.Ctx, args []sqltypes.Datum, types []sqltypes.Type, yield func([]sqltypes.Datum) bool) error {
	if args[0].IsNull() || args[1].IsNull() || args[1].Int() != 1 {
		return nil
	}
	i := int64(1)
	if types[0].OID == sqltypes.OIDInt2Vector || types[0].OID == sqltypes.OIDOidVector {
		i = 0
	}
	return eachElement(types[0], args[0].Str(), func(sqltypes.Datum) bool {
		ok := yield([]sqltypes.Datum{sqltypes.NewInt(i)})
		i++
		return ok
	})
}
