package expr

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// castEval chooses how values of from become values of to.
func castEval(from, to sqltypes.Type, explicit bool) evalFunc {
	fs, ts := from.Kind() == sqltypes.KindString, to.Kind() == sqltypes.KindString
	switch {
	case ts && fs:
		return castStrings(from, to, explicit)
	case ts:
		return castToText(from, explicit)
	case fs && from.OID == sqltypes.OIDChar && to.OID == sqltypes.OIDInt4:
		return pure1(func(s string) int32 { return int32(int8(sqltypes.CharByte(s))) })
	case fs:
		return castFromText(to)
	case from.OID == to.OID || from.IsOidLike() && to.IsOidLike():
		return castSame(to)
	case from.IsInteger() || from.IsOidLike():
		return castFromInt(from, to)
	case from.IsFloat():
		return castFromFloat(from, to)
	}
	switch from.OID {
	case sqltypes.OIDNumeric:
		return castFromNumeric(to)
	case sqltypes.OIDBool:
		return pure1(func(b bool) int32 {
			if b {
				return 1
			}
			return 0
		})
	case sqltypes.OIDDate, sqltypes.OIDTime, sqltypes.OIDTimestamp, sqltypes.OIDTimestamptz, sqltypes.OIDInterval:
		return castTimes(from, to)
	}
	panic("expr: no cast kernel from " + from.Name() + " to " + to.Name())
}

// relabel returns the same column under another type of the same layout.
func relabel(_ *call, args []vec, _ int, _ []int32) (vec, error) { return args[0], nil }

func castStrings(from, to sqltypes.Type, explicit bool) evalFunc {
	fit := fn1(func(cc *call, s string) (string, error) { return sqltypes.FitString(s, cc.typ, explicit) })
	if elem, ok := to.Elem(); ok && to.OID != sqltypes.OIDName && elem.OID != sqltypes.OIDText {
		return fn1(func(cc *call, s string) (string, error) {
			d, err := sqltypes.ParseTextOpt(cc.typ, s, cc.ctx.parseOptions())
			return d.Str(), err
		})
	}
	parse := to.OID == sqltypes.OIDUUID || to.OID == sqltypes.OIDJSON || to.IsArray()
	if parse && !from.IsArray() {
		return fn1(func(_ *call, s string) (string, error) {
			d, err := sqltypes.ParseText(to, s)
			return d.Str(), err
		})
	}
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		t := cc.typ
		switch t.OID {
		case sqltypes.OIDBpchar, sqltypes.OIDName, sqltypes.OIDChar:
			if cc.args[0] == t {
				return args[0], nil
			}
			return fit(cc, args, n, sel)
		case sqltypes.OIDVarchar:
			if t.Precision == 0 || cc.args[0].OID == t.OID && cc.args[0].Precision != 0 && cc.args[0].Precision <= t.Precision {
				return args[0], nil
			}
			return fit(cc, args, n, sel)
		}
		return args[0], nil
	}
}

// castToText prints values; booleans become true and false.
func castToText(from sqltypes.Type, explicit bool) evalFunc {
	if from.OID == sqltypes.OIDBool {
		return fn1(func(cc *call, b bool) (string, error) {
			s := "false"
			if b {
				s = "true"
			}
			return sqltypes.FitString(s, cc.typ, explicit)
		})
	}
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		opt := &sqltypes.TextOptions{TimeZone: cc.ctx.zone()}
		var buf []byte
		return lift(cc, args, n, sel, func(i int) (string, bool, error) {
			if from.IsReg() {
				oid := uint32(args[0].arr.(*array.Int64).Value(args[0].at(i)))
				s, err := regText(cc, from, oid)
				return s, true, err
			}
			if from.OID == sqltypes.OIDInt4 && cc.typ.OID == sqltypes.OIDChar {
				v := args[0].arr.(*array.Int32).Value(args[0].at(i))
				if v < math.MinInt8 || v > math.MaxInt8 {
					return "", false, pgerror.New(pgerror.NumericValueOutOfRange, `"char" out of range`)
				}
				return sqltypes.CharText(byte(v)), true, nil
			}
			buf = sqltypes.AppendArrowText(buf[:0], cc.args[0], args[0].arr, args[0].at(i), opt)
			s, err := sqltypes.FitString(string(buf), cc.typ, explicit)
			return s, true, err
		})
	}
}

// castFromText reads values as their input functions do.
func castFromText(to sqltypes.Type) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		opt := cc.ctx.parseOptions()
		s := paddedReader(args[0], cc.args[0])
		return castRows(cc, args, n, sel, func(i int) (sqltypes.Datum, error) {
			text := s(i)
			if to.IsReg() && dependsOnSession(to, text) {
				oid, err := regOID(cc, to, text)
				return sqltypes.NewInt(int64(oid)), err
			}
			return sqltypes.ParseTextOpt(cc.typ, text, opt)
		})
	}
}

// castRows collects Datums for the rows whose argument isn't null.
func castRows(cc *call, args []vec, n int, sel []int32, f func(i int) (sqltypes.Datum, error)) (vec, error) {
	if args[0].cst {
		n, sel = 1, nil
	}
	b := sqltypes.NewBuilderOpt(cc.typ, nil)
	b.Reserve(n)
	next := 0
	for i := range n {
		if sel != nil {
			if next == len(sel) || int(sel[next]) != i {
				b.AppendNull()
				continue
			}
			next++
		}
		if args[0].isNull(i) {
			b.AppendNull()
			continue
		}
		d, err := f(i)
		if err != nil {
			return vec{}, err
		}
		if err := b.AppendDatum(d); err != nil {
			return vec{}, err
		}
	}
	return vec{arr: b.Finish(), cst: args[0].cst}, nil
}

func regOID(cc *call, t sqltypes.Type, name string) (uint32, error) {
	if cc.ctx != nil && cc.ctx.Session != nil {
		return cc.ctx.Session.RegOID(t, name)
	}
	if t.OID == sqltypes.OIDRegtype {
		found, err := sqltypes.ByName([]string{name}, nil, 0)
		return found.OID, err
	}
	return 0, errNoSession("a cast to " + t.Name())
}

func regText(cc *call, t sqltypes.Type, oid uint32) (string, error) {
	if oid == 0 {
		return "-", nil
	}
	if cc.ctx != nil && cc.ctx.Session != nil {
		if s, ok := cc.ctx.Session.RegName(t, oid); ok {
			return s, nil
		}
	} else if t.OID == sqltypes.OIDRegtype {
		if x := sqltypes.TypeOf(oid); x.Known() {
			return formatType(x, false), nil
		}
	} else {
		return "", errNoSession("the name of a " + t.Name())
	}
	return string(sqltypes.AppendText(nil, sqltypes.Oid, sqltypes.NewInt(int64(oid)))), nil
}

// castSame applies modifiers.
func castSame(to sqltypes.Type) evalFunc {
	switch to.OID {
	case sqltypes.OIDNumeric:
		return castNumeric
	case sqltypes.OIDTime, sqltypes.OIDTimestamp, sqltypes.OIDTimestamptz:
		round := fn1(func(cc *call, us int64) (int64, error) { return sqltypes.RoundMicros(us, cc.typ.Precision), nil })
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			if cc.typ.Precision == 0 {
				return args[0], nil
			}
			return round(cc, args, n, sel)
		}
	case sqltypes.OIDInterval:
		return fn1(func(cc *call, iv interval) (interval, error) { return sqltypes.FitInterval(iv, cc.typ), nil })
	}
	return relabel
}

// castNumeric changes precision and scale; between decimals without text.
func castNumeric(cc *call, args []vec, n int, sel []int32) (vec, error) {
	from, to := cc.args[0], cc.typ
	if from.FixedScale() && to.FixedScale() {
		return castDecimals(cc, args, n, sel)
	}
	if from.FixedScale() && to.Precision == 0 { // to the text of each value
		n, sel, cst := outLen(n, sel, args...)
		v, scale := reader[dec](args[0]), decScale(args[0].arr)
		out := stringSink(to, n, func(dst []byte, d dec) []byte { return sqltypes.AppendDec128(dst, d, scale) })
		return liftInto(cc, args, n, sel, cst, out, func(i int) (dec, bool, error) { return v(i), true, nil })
	}
	return fn1(func(cc *call, d *apd.Decimal) (*apd.Decimal, error) {
		return sqltypes.FitNumeric(d, cc.typ)
	})(cc, args, n, sel)
}

// intsOf reads any integer column as int64.
func intsOf(v vec) func(i int) int64 {
	switch v.arr.(type) {
	case *array.Int16:
		r := reader[int16](v)
		return func(i int) int64 { return int64(r(i)) }
	case *array.Int32, *array.Date32:
		r := reader[int32](v)
		return func(i int) int64 { return int64(r(i)) }
	}
	return reader[int64](v)
}

var errOutOfRange = map[uint32]error{
	sqltypes.OIDInt2: pgerror.New(pgerror.NumericValueOutOfRange, "smallint out of range"),
	sqltypes.OIDInt4: pgerror.New(pgerror.NumericValueOutOfRange, "integer out of range"),
	sqltypes.OIDInt8: pgerror.New(pgerror.NumericValueOutOfRange, "bigint out of range"),
	sqltypes.OIDOid:  pgerror.New(pgerror.NumericValueOutOfRange, "OID out of range"),
}

// liftInts collects int64 results in any integer type, with range checks.
func liftInts(cc *call, args []vec, n int, sel []int32, f func(i int) (int64, error)) (vec, error) {
	switch {
	case cc.typ.OID == sqltypes.OIDInt2:
		return lift(cc, args, n, sel, func(i int) (int16, bool, error) {
			v, err := f(i)
			if err == nil && int64(int16(v)) != v {
				err = errOutOfRange[sqltypes.OIDInt2]
			}
			return int16(v), true, err
		})
	case cc.typ.OID == sqltypes.OIDInt4:
		return lift(cc, args, n, sel, func(i int) (int32, bool, error) {
			v, err := f(i)
			if err == nil && int64(int32(v)) != v {
				err = errOutOfRange[sqltypes.OIDInt4]
			}
			return int32(v), true, err
		})
	}
	unsigned := cc.typ.IsOidLike()
	return lift(cc, args, n, sel, func(i int) (int64, bool, error) {
		v, err := f(i)
		if unsigned && err == nil {
			if v > math.MaxUint32 || v < 0 && cc.args[0].OID == sqltypes.OIDInt8 {
				err = errOutOfRange[sqltypes.OIDOid]
			}
			v = int64(uint32(v))
		}
		return v, true, err
	})
}

func castFromInt(from, to sqltypes.Type) evalFunc {
	switch {
	case to.OID == sqltypes.OIDFloat8:
		return castIntFloat
	case to.OID == sqltypes.OIDFloat4:
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := intsOf(args[0])
			return lift(cc, args, n, sel, func(i int) (float32, bool, error) { return float32(v(i)), true, nil })
		}
	case to.OID == sqltypes.OIDNumeric:
		return castIntNumeric
	case to.OID == sqltypes.OIDBool:
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := intsOf(args[0])
			return lift(cc, args, n, sel, func(i int) (bool, bool, error) { return v(i) != 0, true, nil })
		}
	case to.IsInteger() || to.IsOidLike():
		signed := from.IsOidLike() && to.OID == sqltypes.OIDInt4
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := intsOf(args[0])
			return liftInts(cc, args, n, sel, func(i int) (int64, error) {
				if signed {
					return int64(int32(v(i))), nil
				}
				return v(i), nil
			})
		}
	}
	panic("expr: no cast kernel from " + from.Name() + " to " + to.Name())
}

func castIntFloat(cc *call, args []vec, n int, sel []int32) (vec, error) {
	if args[0].cst {
		n = 1
	}
	out := make([]float64, n)
	switch c := args[0].arr.(type) {
	case *array.Int16:
		convert(out, values[int16](c))
	case *array.Int32:
		convert(out, values[int32](c))
	default:
		convert(out, values[int64](c))
	}
	return sameNulls(args[0], arrow.PrimitiveTypes.Float64, out), nil
}

func convert[F int16 | int32 | int64](out []float64, in []F) {
	for i, v := range in {
		out[i] = float64(v)
	}
}

// sameNulls makes a column with the nulls of v.
func sameNulls[T any](v vec, dt arrow.DataType, out []T) vec {
	var valid []byte
	if v.arr.NullN() > 0 {
		valid = andValidity(len(out), vec{arr: v.arr})
	}
	return vec{arr: fixed(dt, out, valid), cst: v.cst}
}

func castIntNumeric(cc *call, args []vec, n int, sel []int32) (vec, error) {
	if cc.typ.FixedScale() && cc.typ.Scale <= 18 && (cc.typ.Precision == 0 || cc.typ.Precision-cc.typ.Scale >= 19) {
		if args[0].cst {
			n = 1
		}
		out := make([]dec, n)
		scale := pow10i64[cc.typ.Scale]
		v := intsOf(args[0])
		for i := range out {
			out[i] = mul64(v(i), scale)
		}
		return sameNulls(args[0], cc.typ.Arrow(), out), nil
	}
	v := intsOf(args[0])
	return lift(cc, args, n, sel, func(i int) (*apd.Decimal, bool, error) {
		d, err := sqltypes.FitNumeric(sqltypes.NumericFromInt(v(i)), cc.typ)
		return d, true, err
	})
}

func castFromFloat(from, to sqltypes.Type) evalFunc {
	digits := 15
	if from.OID == sqltypes.OIDFloat4 {
		digits = 6
	}
	switch {
	case to.OID == sqltypes.OIDFloat4:
		return fn1(func(_ *call, f float64) (float32, error) {
			g := float32(f)
			if math.IsInf(float64(g), 0) && !math.IsInf(f, 0) {
				return 0, errFloatOverflow
			}
			if g == 0 && f != 0 {
				return 0, errFloatUnderflow
			}
			return g, nil
		})
	case to.OID == sqltypes.OIDFloat8:
		return pure1(func(f float32) float64 { return float64(f) })
	case to.OID == sqltypes.OIDNumeric:
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := floatsOf(args[0])
			return lift(cc, args, n, sel, func(i int) (*apd.Decimal, bool, error) {
				d, err := sqltypes.FitNumeric(sqltypes.NumericFromFloat(v(i), digits), cc.typ)
				return d, true, err
			})
		}
	case to.IsInteger():
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := floatsOf(args[0])
			return liftInts(cc, args, n, sel, func(i int) (int64, error) {
				f := math.RoundToEven(v(i))
				if !(f >= -1<<63 && f < 1<<63) {
					return 0, errOutOfRange[cc.typ.OID]
				}
				return int64(f), nil
			})
		}
	}
	panic("expr: no cast kernel from " + from.Name() + " to " + to.Name())
}

func floatsOf(v vec) func(i int) float64 {
	if _, ok := v.arr.(*array.Float32); ok {
		r := reader[float32](v)
		return func(i int) float64 { return float64(r(i)) }
	}
	return reader[float64](v)
}

func castFromNumeric(to sqltypes.Type) evalFunc {
	switch {
	case to.IsInteger():
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := reader[*apd.Decimal](args[0])
			return liftInts(cc, args, n, sel, func(i int) (int64, error) { return numericInt(v(i), cc.typ) })
		}
	case to.OID == sqltypes.OIDFloat8:
		return fn1(func(_ *call, d *apd.Decimal) (float64, error) { return numericFloat(d) })
	case to.OID == sqltypes.OIDFloat4:
		return fn1(func(_ *call, d *apd.Decimal) (float32, error) {
			v, err := sqltypes.ParseText(sqltypes.Float4, string(sqltypes.AppendNumeric(nil, d)))
			return float32(v.Float()), err
		})
	}
	panic("expr: no cast kernel from numeric to " + to.Name())
}

func numericInt(d *apd.Decimal, to sqltypes.Type) (int64, error) {
	if d.Form == apd.NaN {
		return 0, pgerror.New(pgerror.FeatureNotSupported, "cannot convert NaN to %s", to.Name())
	}
	if d.Form == apd.Infinite {
		return 0, pgerror.New(pgerror.FeatureNotSupported, "cannot convert infinity to %s", to.Name())
	}
	n, ok := sqltypes.NumericToInt(d)
	if !ok {
		return 0, errOutOfRange[to.OID]
	}
	return n, nil
}

func numericFloat(d *apd.Decimal) (float64, error) {
	if d.Form == apd.Finite && d.Exponent >= -22 && d.Exponent <= 0 && d.Coeff.IsUint64() {
		if u := d.Coeff.Uint64(); u < 1<<53 { // both exact, so the quotient is the nearest
			f := float64(u) / pow10f64[-d.Exponent]
			if d.Negative {
				f = -f
			}
			return f, nil
		}
	}
	v, err := sqltypes.ParseText(sqltypes.Float8, string(sqltypes.AppendNumeric(nil, d)))
	return v.Float(), err
}

var (
	errDateRange  = pgerror.New(pgerror.DatetimeFieldOverflow, "date out of range")
	errStampRange = pgerror.New(pgerror.DatetimeFieldOverflow, "timestamp out of range")
)

// dateMicros is the timestamp at the start of a date.
func dateMicros(days int32) (int64, error) {
	switch days {
	case sqltypes.DateInfinity:
		return sqltypes.TimestampInfinity, nil
	case sqltypes.DateMinusInfinity:
		return sqltypes.TimestampMinusInf, nil
	}
	if int64(days) > math.MaxInt64/sqltypes.MicrosPerDay-1 {
		return 0, pgerror.New(pgerror.DatetimeFieldOverflow, "date out of range for timestamp")
	}
	return int64(days) * sqltypes.MicrosPerDay, nil
}

// microsDate is the date of a local timestamp.
func microsDate(us int64) (int32, error) {
	switch us {
	case sqltypes.TimestampInfinity:
		return sqltypes.DateInfinity, nil
	case sqltypes.TimestampMinusInf:
		return sqltypes.DateMinusInfinity, nil
	}
	days, _ := sqltypes.SplitTimestamp(us)
	return int32(days), nil
}

func toUTC(cc *call, us int64) (int64, error) {
	out := sqltypes.LocalToUTC(us, cc.ctx.zone())
	if us != sqltypes.TimestampInfinity && us != sqltypes.TimestampMinusInf && !sqltypes.TimestampInRange(out) {
		return 0, errStampRange
	}
	return out, nil
}

func toLocal(cc *call, us int64) int64 { return sqltypes.UTCToLocal(us, cc.ctx.zone()) }

func castTimes(from, to sqltypes.Type) evalFunc {
	round := func(cc *call, us int64, err error) (int64, error) {
		return sqltypes.RoundMicros(us, cc.typ.Precision), err
	}
	timeOfDay := func(us int64) (int64, bool, error) {
		if us == sqltypes.TimestampInfinity || us == sqltypes.TimestampMinusInf {
			return 0, false, nil
		}
		_, us = sqltypes.SplitTimestamp(us)
		return us, true, nil
	}
	switch [2]uint32{from.OID, to.OID} {
	case [2]uint32{sqltypes.OIDDate, sqltypes.OIDTimestamp}:
		return fn1(func(cc *call, d int32) (int64, error) { return dateMicros(d) })
	case [2]uint32{sqltypes.OIDDate, sqltypes.OIDTimestamptz}:
		return fn1(func(cc *call, d int32) (int64, error) {
			us, err := dateMicros(d)
			if err != nil {
				return 0, err
			}
			return toUTC(cc, us)
		})
	case [2]uint32{sqltypes.OIDTimestamp, sqltypes.OIDDate}:
		return fn1(func(_ *call, us int64) (int32, error) { return microsDate(us) })
	case [2]uint32{sqltypes.OIDTimestamptz, sqltypes.OIDDate}:
		return fn1(func(cc *call, us int64) (int32, error) { return microsDate(toLocal(cc, us)) })
	case [2]uint32{sqltypes.OIDTimestamp, sqltypes.OIDTimestamptz}:
		return fn1(func(cc *call, us int64) (int64, error) {
			us, err := toUTC(cc, us)
			return round(cc, us, err)
		})
	case [2]uint32{sqltypes.OIDTimestamptz, sqltypes.OIDTimestamp}:
		return fn1(func(cc *call, us int64) (int64, error) { return round(cc, toLocal(cc, us), nil) })
	case [2]uint32{sqltypes.OIDTimestamp, sqltypes.OIDTime}:
		return opt1(timeOfDay)
	case [2]uint32{sqltypes.OIDTimestamptz, sqltypes.OIDTime}:
		return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v := reader[int64](args[0])
			return lift(cc, args, n, sel, func(i int) (int64, bool, error) { return timeOfDay(toLocal(cc, v(i))) })
		}
	case [2]uint32{sqltypes.OIDTime, sqltypes.OIDInterval}:
		return pure1(func(us int64) interval { return interval{Micros: us} })
	case [2]uint32{sqltypes.OIDInterval, sqltypes.OIDTime}:
		return pure1(func(iv interval) int64 {
			_, us := sqltypes.SplitTimestamp(iv.Micros)
			return us
		})
	}
	panic("expr: no cast kernel from " + from.Name() + " to " + to.Name())
}
