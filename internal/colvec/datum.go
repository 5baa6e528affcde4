package colvec

import (
	"math"
	"math/big"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// AppendDatum appends d, which must be NULL or of the builder's type: the
// binder has cast it. Another kind, or a number that does not fit, is an error.
func (b *Builder) AppendDatum(d sqltypes.Datum) error {
	if d.IsNull() {
		b.AppendNull()
		return nil
	}
	if want := DatumKind(b.kind); d.Kind() != want {
		return kindMismatch(d, b.typ)
	}
	switch b.kind {
	case Bool:
		b.AppendBool(d.Bool())
	case Int16:
		if v := d.Int(); v != int64(int16(v)) {
			return outOfRange(v, "smallint")
		}
		b.AppendInt(d.Int())
	case Int32, Date:
		if v := d.Int(); v != int64(int32(v)) {
			return outOfRange(v, "integer")
		}
		b.AppendInt(d.Int())
	case Int64, Time, Timestamp:
		b.AppendInt(d.Int())
	case Float32, Float64:
		b.AppendFloat(d.Float())
	case Decimal:
		v, err := DecimalOf(d.Decimal(), b.typ.Scale)
		if err != nil {
			return err
		}
		b.AppendDecimal(v)
	case NumericText:
		b.AppendString(FormatNumeric(d.Decimal()))
	case Binary:
		b.AppendBytes(d.Bytes())
	case Interval:
		iv := d.Interval()
		ns, ok := microsToNanos(iv.Micros)
		if !ok {
			return pgerror.New(pgerror.DatetimeFieldOverflow, "interval out of range")
		}
		b.AppendInterval(arrow.MonthDayNanoInterval{Months: iv.Months, Days: iv.Days, Nanoseconds: ns})
	default:
		b.AppendString(d.Str())
	}
	return nil
}

func microsToNanos(us int64) (int64, bool) {
	const limit = math.MaxInt64 / 1000
	return us * 1000, us <= limit && us >= -limit
}

// DatumKind is the kind of a Datum that a column of kind k holds.
func DatumKind(k Kind) sqltypes.Kind {
	switch k {
	case Bool:
		return sqltypes.KindBool
	case Int16, Int32, Int64, Date, Time, Timestamp:
		return sqltypes.KindInt
	case Float32, Float64:
		return sqltypes.KindFloat
	case Decimal, NumericText:
		return sqltypes.KindDecimal
	case Binary:
		return sqltypes.KindBytes
	case Interval:
		return sqltypes.KindInterval
	}
	return sqltypes.KindString
}

// At returns value i of v as a Datum of type t.
func (v *Vec) At(i int, t sqltypes.Type) sqltypes.Datum {
	if v.IsNull(i) {
		return sqltypes.Null
	}
	switch v.Kind {
	case Bool:
		return sqltypes.NewBool(v.BoolAt(i))
	case Int16, Int32, Int64, Date, Time, Timestamp:
		return sqltypes.NewInt(v.IntAt(i))
	case Float32, Float64:
		return sqltypes.NewFloat(v.FloatAt(i))
	case Decimal:
		return sqltypes.NewDecimal(DecimalToAPD(v.Dec[i], t.Scale))
	case NumericText:
		d, _, err := apd.NewFromString(string(v.BytesAt(i)))
		if err != nil {
			panic("colvec: a numeric column holds the text " + string(v.BytesAt(i)))
		}
		return sqltypes.NewDecimal(d)
	case Binary:
		return sqltypes.NewBytes(v.BytesAt(i))
	case Interval:
		x := v.Iv[i]
		return sqltypes.NewInterval(sqltypes.IntervalValue{Months: x.Months, Days: x.Days, Micros: x.Nanoseconds / 1000})
	}
	return sqltypes.NewString(string(v.BytesAt(i)))
}

// FormatNumeric returns PostgreSQL's text of a numeric.
func FormatNumeric(d *apd.Decimal) string {
	switch d.Form {
	case apd.NaN, apd.NaNSignaling:
		return "NaN"
	case apd.Infinite:
		if d.Negative {
			return "-Infinity"
		}
		return "Infinity"
	}
	if d.IsZero() && d.Negative {
		return new(apd.Decimal).Abs(d).Text('f')
	}
	return d.Text('f')
}

// DecimalOf returns d as an unscaled 128-bit number of the given scale. A
// value with more digits after the point is an error: rounding is the cast's
// business.
func DecimalOf(d *apd.Decimal, scale int32) (decimal128.Num, error) {
	if d.Form != apd.Finite {
		return decimal128.Num{}, pgerror.New(pgerror.NumericValueOutOfRange,
			"numeric field with a fixed scale cannot hold %s", FormatNumeric(d))
	}
	shift := int64(d.Exponent) + int64(scale)
	var coeff big.Int
	coeff.Set(d.Coeff.MathBigInt())
	switch {
	case coeff.Sign() == 0:
	case shift > sqltypes.DecimalDigitsMax:
		return decimal128.Num{}, decimalOverflow()
	case shift > 0:
		coeff.Mul(&coeff, pow10(shift))
	case shift < 0:
		if -shift > int64(d.NumDigits()) {
			return decimal128.Num{}, tooManyDigits(d, scale)
		}
		var rem big.Int
		coeff.QuoRem(&coeff, pow10(-shift), &rem)
		if rem.Sign() != 0 {
			return decimal128.Num{}, tooManyDigits(d, scale)
		}
	}
	if coeff.CmpAbs(decimalLimit) >= 0 {
		return decimal128.Num{}, decimalOverflow()
	}
	if d.Negative {
		coeff.Neg(&coeff)
	}
	return decimal128.FromBigInt(&coeff), nil
}

func pow10(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

// decimalLimit is 10^38: a Decimal128 has 38 digits.
var decimalLimit = pow10(sqltypes.DecimalDigitsMax)

// DecimalToAPD undoes DecimalOf.
func DecimalToAPD(v decimal128.Num, scale int32) *apd.Decimal {
	out := &apd.Decimal{Exponent: -scale}
	bi := v.BigInt()
	out.Negative = bi.Sign() < 0
	out.Coeff.SetMathBigInt(bi.Abs(bi))
	return out
}

func kindMismatch(d sqltypes.Datum, t sqltypes.Type) error {
	return pgerror.New(pgerror.DatatypeMismatch,
		"a value of kind %d was passed for a column of type OID %d", d.Kind(), t.OID)
}

func outOfRange(v int64, typ string) error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "value %d is out of range for type %s", v, typ)
}

func decimalOverflow() error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
		WithDetail("A numeric of fixed scale has at most %d digits.", sqltypes.DecimalDigitsMax)
}

func tooManyDigits(d *apd.Decimal, scale int32) error {
	return pgerror.New(pgerror.NumericValueOutOfRange,
		"numeric %s has more than %d digits after the point", FormatNumeric(d), scale)
}
