package sqltypes

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func badColumn(t Type, col arrow.Array) string {
	return fmt.Sprintf("sqltypes: a column of %s is %s in Arrow, not %s", t.Name(), col.DataType(), t.Arrow())
}

// monthDayNano converts Arrow's interval.
func monthDayNano(v arrow.MonthDayNanoInterval) IntervalValue {
	return IntervalValue{Months: v.Months, Days: v.Days, Micros: v.Nanoseconds / 1000}
}

// IntervalNanosMax is the largest time part, in µs, that Arrow's nanoseconds
// hold: about 292 years of hours. ArrowInterval checks it.
const IntervalNanosMax = math.MaxInt64 / 1000

// ArrowInterval converts to Arrow's interval. A time part beyond 292 years is
// moved to days, which keeps the interval's length.
func ArrowInterval(iv IntervalValue) arrow.MonthDayNanoInterval {
	if iv.Micros > IntervalNanosMax || iv.Micros < -IntervalNanosMax {
		days := iv.Micros / MicrosPerDay
		iv.Micros -= days * MicrosPerDay
		iv.Days += int32(days)
	}
	return arrow.MonthDayNanoInterval{Months: iv.Months, Days: iv.Days, Nanoseconds: iv.Micros * 1000}
}

// AppendArrowText appends the text of col[row], a value of type t that is not
// null. It allocates nothing for values of the scalar types.
func AppendArrowText(dst []byte, t Type, col arrow.Array, row int, opt *TextOptions) []byte {
	switch c := col.(type) {
	case *array.Boolean:
		if c.Value(row) {
			return append(dst, 't')
		}
		return append(dst, 'f')
	case *array.Int16:
		return strconv.AppendInt(dst, int64(c.Value(row)), 10)
	case *array.Int32:
		return strconv.AppendInt(dst, int64(c.Value(row)), 10)
	case *array.Int64:
		return appendIntKind(dst, t, c.Value(row), opt)
	case *array.Float32:
		return appendFloat(dst, float64(c.Value(row)), 32, opt.floatDigits())
	case *array.Float64:
		return appendFloat(dst, c.Value(row), 64, opt.floatDigits())
	case *array.Decimal128:
		return AppendDec128(dst, c.Value(row), c.DataType().(*arrow.Decimal128Type).Scale)
	case *array.String:
		return appendPadded(dst, t, c.Value(row))
	case *array.Binary:
		return appendBytea(dst, c.ValueString(row), opt)
	case *array.Date32:
		return AppendDate(dst, int64(c.Value(row)))
	case *array.Time64:
		return AppendTime(dst, int64(c.Value(row)))
	case *array.Timestamp:
		if t.OID == OIDTimestamptz {
			return AppendTimestamptz(dst, int64(c.Value(row)), opt.zone())
		}
		return AppendTimestamp(dst, int64(c.Value(row)))
	case *array.MonthDayNanoInterval:
		return AppendInterval(dst, monthDayNano(c.Value(row)))
	}
	panic(badColumn(t, col))
}

// AppendArrowBinary appends col[row], a value of type t that is not null, in
// the wire's binary format.
func AppendArrowBinary(dst []byte, t Type, col arrow.Array, row int) []byte {
	switch c := col.(type) {
	case *array.Boolean:
		if c.Value(row) {
			return append(dst, 1)
		}
		return append(dst, 0)
	case *array.Int16:
		return binary.BigEndian.AppendUint16(dst, uint16(c.Value(row)))
	case *array.Int32:
		return binary.BigEndian.AppendUint32(dst, uint32(c.Value(row)))
	case *array.Int64:
		return appendIntBinary(dst, t, c.Value(row))
	case *array.Float32:
		return appendFloat32Binary(dst, c.Value(row))
	case *array.Float64:
		return appendFloat64Binary(dst, c.Value(row))
	case *array.Decimal128:
		var buf [48]byte
		digits := AppendDec128(buf[:0], c.Value(row), 0)
		neg := digits[0] == '-'
		if neg {
			digits = digits[1:]
		}
		return appendNumericWire(dst, digits, neg, c.DataType().(*arrow.Decimal128Type).Scale)
	case *array.String:
		if t.OID == OIDNumeric {
			return AppendBinary(dst, t, DatumAt(t, col, row))
		}
		return appendStringBinary(dst, t, c.Value(row))
	case *array.Binary:
		return append(dst, c.Value(row)...)
	case *array.Date32:
		return appendIntBinary(dst, t, int64(c.Value(row)))
	case *array.Time64:
		return appendIntBinary(dst, t, int64(c.Value(row)))
	case *array.Timestamp:
		return appendIntBinary(dst, t, int64(c.Value(row)))
	case *array.MonthDayNanoInterval:
		return appendIntervalBinary(dst, monthDayNano(c.Value(row)))
	}
	panic(badColumn(t, col))
}

// DatumAt is col[row] as a Datum of type t.
func DatumAt(t Type, col arrow.Array, row int) Datum {
	if col.IsNull(row) {
		return Null
	}
	switch c := col.(type) {
	case *array.Boolean:
		return NewBool(c.Value(row))
	case *array.Int16:
		return NewInt(int64(c.Value(row)))
	case *array.Int32:
		return NewInt(int64(c.Value(row)))
	case *array.Int64:
		if t.OID == OIDNumeric { // encoded, see colvec
			return NewDecimal(Dec128ToNumeric(decimal128.FromI64(c.Value(row)), t.Scale))
		}
		return NewInt(c.Value(row))
	case *array.Dictionary: // encoded
		return DatumAt(t, array.MakeFromData(c.Data().Dictionary()), c.GetValueIndex(row)) // c.Dictionary() is not safe for concurrent use
	case *array.Float32:
		return NewFloat(float64(c.Value(row)))
	case *array.Float64:
		return NewFloat(c.Value(row))
	case *array.Decimal128:
		return NewDecimal(Dec128ToNumeric(c.Value(row), c.DataType().(*arrow.Decimal128Type).Scale))
	case *array.String:
		if t.OID == OIDNumeric {
			d, err := ParseNumeric(c.Value(row))
			if err != nil {
				panic("sqltypes: a numeric column has a text that isn't a numeric: " + err.Error())
			}
			return NewDecimal(d)
		}
		return NewString(c.Value(row))
	case *array.Binary:
		return NewBytes(c.Value(row))
	case *array.Date32:
		return NewInt(int64(c.Value(row)))
	case *array.Time64:
		return NewInt(int64(c.Value(row)))
	case *array.Timestamp:
		return NewInt(int64(c.Value(row)))
	case *array.MonthDayNanoInterval:
		return NewInterval(monthDayNano(c.Value(row)))
	case *array.Null:
		return Null
	}
	panic(badColumn(t, col))
}

// Builder collects a column of one type.
type Builder interface {
	// AppendDatum appends a value whose kind is the type's. A numeric that does
	// not fit the type's decimals is an error (22003).
	AppendDatum(d Datum) error
	AppendNull()
	// AppendText parses PostgreSQL's text, as COPY FROM does.
	AppendText(s string) error
	Len() int
	// Reserve makes room for n more values.
	Reserve(n int)
	// Finish returns the column and empties the builder.
	Finish() arrow.Array
}

type builder struct {
	array.Builder
	t   Type
	opt *ParseOptions
}

// NewBuilder makes a builder of columns of t.
func NewBuilder(t Type) Builder { return NewBuilderOpt(t, nil) }

// NewBuilderOpt is NewBuilder with what the session knows, for AppendText.
func NewBuilderOpt(t Type, opt *ParseOptions) Builder {
	return &builder{Builder: array.NewBuilder(memory.DefaultAllocator, t.Arrow()), t: t, opt: opt}
}

func (b *builder) Finish() arrow.Array { return b.NewArray() }

func (b *builder) AppendText(s string) error {
	d, err := ParseTextOpt(b.t, s, b.opt)
	if err != nil {
		return err
	}
	return b.AppendDatum(d)
}

func (b *builder) AppendDatum(d Datum) error {
	if d.IsNull() {
		b.AppendNull()
		return nil
	}
	if d.Kind() != b.t.Kind() {
		panic(fmt.Sprintf("sqltypes: a Datum of kind %d appended to a column of %s", d.Kind(), b.t.Name()))
	}
	switch c := b.Builder.(type) {
	case *array.BooleanBuilder:
		c.Append(d.Bool())
	case *array.Int16Builder:
		c.Append(int16(d.Int()))
	case *array.Int32Builder:
		c.Append(int32(d.Int()))
	case *array.Int64Builder:
		c.Append(d.Int())
	case *array.Float32Builder:
		c.Append(float32(d.Float()))
	case *array.Float64Builder:
		c.Append(d.Float())
	case *array.Decimal128Builder:
		fit, err := FitNumeric(d.Decimal(), b.t)
		if err != nil {
			return err
		}
		n, _ := NumericToDec128(fit, b.t.Scale)
		c.Append(n)
	case *array.StringBuilder:
		if b.t.OID == OIDNumeric {
			var buf [64]byte
			c.BinaryBuilder.Append(AppendNumeric(buf[:0], d.Decimal()))
			return nil
		}
		c.Append(d.Str())
	case *array.BinaryBuilder:
		c.AppendString(d.s)
	case *array.Date32Builder:
		c.Append(arrow.Date32(d.Int()))
	case *array.Time64Builder:
		c.Append(arrow.Time64(d.Int()))
	case *array.TimestampBuilder:
		c.Append(arrow.Timestamp(d.Int()))
	case *array.MonthDayNanoIntervalBuilder:
		c.Append(ArrowInterval(d.Interval()))
	default:
		panic("sqltypes: no builder for " + b.t.Name())
	}
	return nil
}

// ArrayOf makes a column of t from values whose kinds are t's. Values must
// fit (they do when they come from this package); one that doesn't panics.
func ArrayOf(t Type, values []Datum) arrow.Array {
	b := NewBuilder(t)
	b.Reserve(len(values))
	for _, v := range values {
		if err := b.AppendDatum(v); err != nil {
			panic("sqltypes: a value does not fit " + t.Name() + ": " + err.Error())
		}
	}
	return b.Finish()
}

// NullArray is a column of n nulls.
func NullArray(t Type, n int) arrow.Array {
	b := NewBuilder(t)
	b.Reserve(n)
	for range n {
		b.AppendNull()
	}
	return b.Finish()
}
