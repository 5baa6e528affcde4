package colvec

import (
	"math"

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
		return sqltypes.NewDecimal(sqltypes.Dec128ToNumeric(v.Dec[i], t.Scale))
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

// FormatNumeric is PostgreSQL's text of a numeric.
func FormatNumeric(d *apd.Decimal) string { return string(sqltypes.AppendNumeric(nil, d)) }

// DecimalOf returns d as an unscaled 128-bit number of the given scale. A
// value with more digits after the point is an error: rounding is the cast's
// business.
func DecimalOf(d *apd.Decimal, scale int32) (decimal128.Num, error) {
	if d.Form != apd.Finite {
		return decimal128.Num{}, pgerror.New(pgerror.NumericValueOutOfRange,
			"numeric field with a fixed scale cannot hold %s", FormatNumeric(d))
	}
	v, ok := sqltypes.NumericToDec128(d, scale)
	if ok && (sqltypes.NumericScale(d) <= scale || sqltypes.NumericCmp(sqltypes.Dec128ToNumeric(v, scale), d) == 0) {
		return v, nil
	}
	return decimal128.Num{}, pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
		WithDetail("%s does not fit a numeric of %d digits, %d of them after the point.",
			FormatNumeric(d), sqltypes.DecimalDigitsMax, scale)
}

func kindMismatch(d sqltypes.Datum, t sqltypes.Type) error {
	return pgerror.New(pgerror.DatatypeMismatch,
		"a value of kind %d was passed for a column of type OID %d", d.Kind(), t.OID)
}

func outOfRange(v int64, typ string) error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "value %d is out of range for type %s", v, typ)
}
