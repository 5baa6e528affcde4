package colvec

import (
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/sqltypes"
)

// Vec is a column opened for reading: exactly the slice of its kind is set,
// and indexed from 0 whatever the array's offset.
type Vec struct {
	Kind  Kind
	N     int
	Nulls int
	valid []byte
	shift int // bit offset of valid and bits
	bits  []byte
	I16   []int16
	I32   []int32
	I64   []int64
	F32   []float32
	F64   []float64
	Dec   []decimal128.Num
	Iv    []arrow.MonthDayNanoInterval
	Off   []int32 // N+1
	Data  []byte

	// Of an encoded column, instead (see OpenEncoded).
	Encoded bool
	D64     []int64 // Decimal: unscaled values
	Codes   []int32 // byte strings: positions in Dict
	Dict    *Vec
	DictID  arrow.ArrayData // the same for columns with the same dictionary
	dictArr arrow.Array
	Scale   int32   // NumericText: D64 is of this scale (see ScaledVec)
	DScale  []uint8 // NumericText: decimals shown
}

// Open reads a column of type t, and makes an encoded one plain before. It
// panics if the array's layout is none that t may have: whoever made the batch
// broke its contract.
func Open(a arrow.Array, t sqltypes.Type) Vec {
	a = Plain(a, t)
	d := a.Data()
	v := Vec{Kind: KindOf(t), N: a.Len(), Nulls: a.NullN(), shift: d.Offset()}
	if v.Nulls > 0 {
		v.valid = a.NullBitmapBytes()
	}
	switch x := a.(type) {
	case *array.Boolean:
		v.want(a, Bool)
		if buf := d.Buffers()[1]; buf != nil {
			v.bits = buf.Bytes()
		}
	case *array.Int16:
		v.want(a, Int16)
		v.I16 = x.Int16Values()
	case *array.Int32:
		v.want(a, Int32)
		v.I32 = x.Int32Values()
	case *array.Date32:
		v.want(a, Date)
		v.I32 = castSlice[int32](x.Date32Values())
	case *array.Int64:
		v.want(a, Int64)
		v.I64 = x.Int64Values()
	case *array.Time64:
		v.want(a, Time)
		v.I64 = castSlice[int64](x.Time64Values())
	case *array.Timestamp:
		v.want(a, Timestamp)
		v.I64 = castSlice[int64](x.TimestampValues())
	case *array.Float32:
		v.want(a, Float32)
		v.F32 = x.Float32Values()
	case *array.Float64:
		v.want(a, Float64)
		v.F64 = x.Float64Values()
	case *array.Decimal128:
		v.want(a, Decimal)
		v.Dec = x.Values()
	case *array.MonthDayNanoInterval:
		v.want(a, Interval)
		v.Iv = x.MonthDayNanoIntervalValues()
	case *array.String:
		v.wantBytes(a)
		v.openBytes(d)
	case *array.Binary:
		v.wantBytes(a)
		v.openBytes(d)
	default:
		panic("colvec: a column cannot have the Arrow type " + a.DataType().String())
	}
	return v
}

func (v *Vec) want(a arrow.Array, k Kind) {
	if v.Kind != k {
		panic("colvec: an array of " + a.DataType().String() + " was passed for a column of another type")
	}
}

func (v *Vec) wantBytes(a arrow.Array) {
	if !v.Kind.IsBytes() {
		panic("colvec: an array of " + a.DataType().String() + " was passed for a column of another type")
	}
}

func (v *Vec) openBytes(d arrow.ArrayData) {
	if v.N == 0 {
		v.Off = []int32{0}
		return
	}
	bufs := d.Buffers()
	off := arrow.Int32Traits.CastFromBytes(bufs[1].Bytes())
	v.Off = off[d.Offset() : d.Offset()+v.N+1]
	if bufs[2] != nil {
		v.Data = bufs[2].Bytes()
	}
}

// castSlice views a slice of a named integer type as its underlying type.
func castSlice[T, F any](s []F) []T {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s))), len(s))
}

// OpenAll opens the columns of a batch.
func OpenAll(cols []arrow.Array, types []sqltypes.Type) []Vec {
	out := make([]Vec, len(cols))
	for i := range cols {
		out[i] = Open(cols[i], types[i])
	}
	return out
}

// IsNull reports whether value i is NULL.
func (v *Vec) IsNull(i int) bool {
	if v.valid == nil {
		return false
	}
	i += v.shift
	return v.valid[i>>3]&(1<<(i&7)) == 0
}

// BoolAt returns value i of a Bool column.
func (v *Vec) BoolAt(i int) bool {
	i += v.shift
	return v.bits[i>>3]&(1<<(i&7)) != 0
}

// IntAt returns value i of an integer, date or time column of any width.
func (v *Vec) IntAt(i int) int64 {
	switch v.Kind {
	case Int16:
		return int64(v.I16[i])
	case Int32, Date:
		return int64(v.I32[i])
	}
	return v.I64[i]
}

// FloatAt returns value i of a float column.
func (v *Vec) FloatAt(i int) float64 {
	if v.Kind == Float32 {
		return float64(v.F32[i])
	}
	return v.F64[i]
}

// BytesAt returns value i of a column of byte strings; it aliases the column.
func (v *Vec) BytesAt(i int) []byte { return v.Data[v.Off[i]:v.Off[i+1]] }

// AppendFrom appends value i of v, which has b's kind.
func (b *Builder) AppendFrom(v *Vec, i int) {
	if v.IsNull(i) {
		b.AppendNull()
		return
	}
	switch b.kind {
	case Bool:
		b.AppendBool(v.BoolAt(i))
	case Int16:
		b.i16 = append(b.i16, v.I16[i])
		b.setValid()
	case Int32, Date:
		b.i32 = append(b.i32, v.I32[i])
		b.setValid()
	case Int64, Time, Timestamp:
		b.i64 = append(b.i64, v.I64[i])
		b.setValid()
	case Float32:
		b.f32 = append(b.f32, v.F32[i])
		b.setValid()
	case Float64:
		b.f64 = append(b.f64, v.F64[i])
		b.setValid()
	case Decimal:
		b.AppendDecimal(v.Dec[i])
	case Interval:
		b.AppendInterval(v.Iv[i])
	default:
		b.AppendBytes(v.BytesAt(i))
	}
}

// AppendSelected appends the values of v at the given positions; a negative
// position appends NULL (the missing side of an outer join). The column may be
// encoded.
func (b *Builder) AppendSelected(v *Vec, sel []int32) {
	if v.Encoded {
		if len(sel) > 0 {
			b.appendEncoded(v, sel)
		}
		return
	}
	if v.valid == nil {
		switch b.kind {
		case Int32, Date:
			if appendPlain(b, &b.i32, v.I32, sel) {
				return
			}
		case Int64, Time, Timestamp:
			if appendPlain(b, &b.i64, v.I64, sel) {
				return
			}
		case Float64:
			if appendPlain(b, &b.f64, v.F64, sel) {
				return
			}
		case Decimal:
			if appendPlain(b, &b.dec, v.Dec, sel) {
				return
			}
		}
	}
	for _, i := range sel {
		if i < 0 {
			b.AppendNull()
			continue
		}
		b.AppendFrom(v, int(i))
	}
}

// appendPlain is the loop without nulls on either side; false if it does not
// apply.
func appendPlain[T any](b *Builder, dst *[]T, src []T, sel []int32) bool {
	if b.valid != nil {
		return false
	}
	for _, i := range sel {
		if i < 0 {
			return false
		}
	}
	out := *dst
	for _, i := range sel {
		out = append(out, src[i])
	}
	*dst = out
	b.n += len(sel)
	return true
}

// Take returns the values of a column at the given positions; a negative
// position gives NULL. The column keeps its encoding.
func Take(a arrow.Array, t sqltypes.Type, sel []int32) (arrow.Array, error) {
	if !IsPlain(a, t) {
		return takeEncoded(a, t, sel), nil
	}
	v := Open(a, t)
	valid, nulls := v.takeValid(sel)
	holes := nulls > 0
	switch v.Kind {
	case Int16:
		return FromFixed(t, takeValues(v.I16, sel, holes), valid, nulls), nil
	case Int32, Date:
		return FromFixed(t, takeValues(v.I32, sel, holes), valid, nulls), nil
	case Int64, Time, Timestamp:
		return FromFixed(t, takeValues(v.I64, sel, holes), valid, nulls), nil
	case Float32:
		return FromFixed(t, takeValues(v.F32, sel, holes), valid, nulls), nil
	case Float64:
		return FromFixed(t, takeValues(v.F64, sel, holes), valid, nulls), nil
	case Decimal:
		return FromFixed(t, takeValues(v.Dec, sel, holes), valid, nulls), nil
	case Interval:
		return FromFixed(t, takeValues(v.Iv, sel, holes), valid, nulls), nil
	case Bool:
		b := NewBuilder(t, len(sel))
		b.AppendSelected(&v, sel)
		return b.Finish()
	}
	return v.takeBytes(t, sel, valid, nulls)
}

// ArrayBytes is about how many bytes of memory the values of a column take.
func ArrayBytes(a arrow.Array) int64 {
	n := int64(0)
	d := a.Data()
	for i, buf := range d.Buffers() {
		if buf == nil {
			continue
		}
		// A slice of a bigger array keeps all of it; count its share only, so
		// that slices of one array add up to the array.
		if full := d.Offset() + d.Len(); i != 2 && full > d.Len() && full > 0 {
			n += int64(buf.Len()) * int64(d.Len()) / int64(full)
			continue
		}
		if i == 2 && d.Len() > 0 {
			off := arrow.Int32Traits.CastFromBytes(d.Buffers()[1].Bytes())
			n += int64(off[d.Offset()+d.Len()] - off[d.Offset()])
			continue
		}
		n += int64(buf.Len())
	}
	return n
}
