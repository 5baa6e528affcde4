package colvec

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// ColumnDataBytesMax is the most bytes that the values of one string or bytea
// column may have in one batch. Arrow's offsets would allow 2 GiB; a batch is
// charged to the statement's memory only when it is complete.
const ColumnDataBytesMax = 512 << 20

// Builder accumulates one column. Make it with NewBuilder. Only the Append
// method of its kind may be called, AppendNull apart. Not safe for concurrent
// use.
type Builder struct {
	typ   sqltypes.Type
	kind  Kind
	n     int
	nulls int
	hint  int
	valid []byte // a bitmap, nil until the first null
	bits  []byte // bool
	i16   []int16
	i32   []int32
	i64   []int64
	f32   []float32
	f64   []float64
	dec   []decimal128.Num
	iv    []arrow.MonthDayNanoInterval
	off   []int32
	data  []byte
	width float64 // bytes a value had in the last column of byte strings
	over  bool
}

// NewBuilder makes a builder for columns of type t of about rows values.
func NewBuilder(t sqltypes.Type, rows int) *Builder {
	b := &Builder{typ: t, kind: KindOf(t)}
	b.Reserve(rows)
	return b
}

// NewBuilders makes a builder for each type.
func NewBuilders(types []sqltypes.Type, rows int) []*Builder {
	all, out := make([]Builder, len(types)), make([]*Builder, len(types))
	for i, t := range types {
		all[i] = Builder{typ: t, kind: KindOf(t)}
		all[i].Reserve(rows)
		out[i] = &all[i]
	}
	return out
}

// Reserve makes room for a column of about rows values. It is for an empty
// builder, before its first value: a column that is finished takes its memory
// along, and nobody but the caller knows whether and how many values follow.
func (b *Builder) Reserve(rows int) {
	if b.n > 0 {
		return
	}
	b.hint = rows
	switch b.kind {
	case Bool:
		b.bits = make([]byte, 0, (rows+7)/8)
	case Int16:
		b.i16 = make([]int16, 0, rows)
	case Int32, Date:
		b.i32 = make([]int32, 0, rows)
	case Int64, Time, Timestamp:
		b.i64 = make([]int64, 0, rows)
	case Float32:
		b.f32 = make([]float32, 0, rows)
	case Float64:
		b.f64 = make([]float64, 0, rows)
	case Decimal:
		b.dec = make([]decimal128.Num, 0, rows)
	case Interval:
		b.iv = make([]arrow.MonthDayNanoInterval, 0, rows)
	default:
		b.off = append(make([]int32, 0, rows+1), 0)
		b.data = make([]byte, 0, int(b.width*float64(rows)*widthSlack))
	}
}

// widthSlack is how much longer than the last column's values those of the next
// may be on average until their memory is moved.
const widthSlack = 1.125

// start forgets the values; the arrays that they were in belong to a column.
func (b *Builder) start() {
	if b.n > 0 {
		b.width = float64(len(b.data)) / float64(b.n)
	}
	b.n, b.nulls, b.valid, b.over = 0, 0, nil, false
	b.bits, b.i16, b.i32, b.i64, b.f32, b.f64, b.dec, b.iv, b.off, b.data = nil, nil, nil, nil, nil, nil, nil, nil, nil, nil
}

// appendEnd ends a byte string where the data ends. The first offset, of the
// first value's begin, comes with that value, or with Reserve.
func (b *Builder) appendEnd() {
	if b.off == nil {
		b.off = []int32{0}
	}
	b.off = append(b.off, int32(len(b.data)))
}

// Type is the column's type, Kind its layout, Len its values so far.
func (b *Builder) Type() sqltypes.Type { return b.typ }

// Kind is the column's layout.
func (b *Builder) Kind() Kind { return b.kind }

// Len is the number of values so far.
func (b *Builder) Len() int { return b.n }

// Bytes is about how many bytes the values so far take.
func (b *Builder) Bytes() int {
	switch b.kind {
	case Bool:
		return len(b.bits) + len(b.valid)
	case Int16:
		return 2*len(b.i16) + len(b.valid)
	case Int32, Date, Float32:
		return 4*b.n + len(b.valid)
	case Int64, Time, Timestamp, Float64:
		return 8*b.n + len(b.valid)
	case Decimal, Interval:
		return 16*b.n + len(b.valid)
	}
	return 4*len(b.off) + len(b.data) + len(b.valid)
}

// setValid counts one more value. The bitmap exists only once there is a null.
func (b *Builder) setValid() {
	if b.valid != nil {
		b.mark(true)
	}
	b.n++
}

func (b *Builder) mark(ok bool) {
	if b.n>>3 >= len(b.valid) {
		b.valid = append(b.valid, 0)
	}
	if ok {
		b.valid[b.n>>3] |= 1 << (b.n & 7)
	}
}

// AppendNull appends NULL.
func (b *Builder) AppendNull() {
	if b.valid == nil {
		b.valid = make([]byte, (b.n+7)/8, max((b.hint+7)/8, (b.n+8)/8))
		for i := range b.valid {
			b.valid[i] = 0xFF
		}
		if b.n&7 != 0 {
			b.valid[len(b.valid)-1] = 1<<(b.n&7) - 1
		}
	}
	b.mark(false)
	switch b.kind {
	case Bool:
		b.growBits()
	case Int16:
		b.i16 = append(b.i16, 0)
	case Int32, Date:
		b.i32 = append(b.i32, 0)
	case Int64, Time, Timestamp:
		b.i64 = append(b.i64, 0)
	case Float32:
		b.f32 = append(b.f32, 0)
	case Float64:
		b.f64 = append(b.f64, 0)
	case Decimal:
		b.dec = append(b.dec, decimal128.Num{})
	case Interval:
		b.iv = append(b.iv, arrow.MonthDayNanoInterval{})
	default:
		b.appendEnd()
	}
	b.n++
	b.nulls++
}

func (b *Builder) growBits() {
	if b.n>>3 >= len(b.bits) {
		b.bits = append(b.bits, 0)
	}
}

// AppendBool appends to a Bool column.
func (b *Builder) AppendBool(v bool) {
	b.growBits()
	if v {
		b.bits[b.n>>3] |= 1 << (b.n & 7)
	}
	b.setValid()
}

// AppendInt appends to an integer, date or time column of any width; v must
// fit it.
func (b *Builder) AppendInt(v int64) {
	switch b.kind {
	case Int16:
		b.i16 = append(b.i16, int16(v))
	case Int32, Date:
		b.i32 = append(b.i32, int32(v))
	default:
		b.i64 = append(b.i64, v)
	}
	b.setValid()
}

// AppendInt32 is AppendInt for a column known to be Int32 or Date.
func (b *Builder) AppendInt32(v int32) {
	b.i32 = append(b.i32, v)
	b.setValid()
}

// AppendInt64 is AppendInt for a column known to be Int64, Time or Timestamp.
func (b *Builder) AppendInt64(v int64) {
	b.i64 = append(b.i64, v)
	b.setValid()
}

// AppendFloat appends to a Float32 or Float64 column.
func (b *Builder) AppendFloat(v float64) {
	if b.kind == Float32 {
		b.f32 = append(b.f32, float32(v))
	} else {
		b.f64 = append(b.f64, v)
	}
	b.setValid()
}

// AppendDecimal appends an unscaled value to a Decimal column.
func (b *Builder) AppendDecimal(v decimal128.Num) {
	b.dec = append(b.dec, v)
	b.setValid()
}

// AppendInterval appends to an Interval column.
func (b *Builder) AppendInterval(v arrow.MonthDayNanoInterval) {
	b.iv = append(b.iv, v)
	b.setValid()
}

// AppendBytes appends a copy of v to a column of byte strings.
func (b *Builder) AppendBytes(v []byte) {
	if len(b.data)+len(v) > ColumnDataBytesMax {
		b.over, v = true, nil
	}
	b.data = append(b.data, v...)
	b.appendEnd()
	b.setValid()
}

// AppendString is AppendBytes for a string.
func (b *Builder) AppendString(v string) {
	if len(b.data)+len(v) > ColumnDataBytesMax {
		b.over, v = true, ""
	}
	b.data = append(b.data, v...)
	b.appendEnd()
	b.setValid()
}

// Finish returns the column and starts a new one, for which nothing is
// allocated yet (see Reserve). It fails if the values were
// more than ColumnDataBytesMax together.
func (b *Builder) Finish() (arrow.Array, error) {
	if b.over {
		b.start()
		return nil, pgerror.New(pgerror.ProgramLimitExceeded,
			"the values of one column of one batch exceed %d bytes", ColumnDataBytesMax)
	}
	var values []byte
	switch b.kind {
	case Bool:
		values = b.bits
	case Int16:
		values = arrow.Int16Traits.CastToBytes(b.i16)
	case Int32, Date:
		values = arrow.Int32Traits.CastToBytes(b.i32)
	case Int64, Time, Timestamp:
		values = arrow.Int64Traits.CastToBytes(b.i64)
	case Float32:
		values = arrow.Float32Traits.CastToBytes(b.f32)
	case Float64:
		values = arrow.Float64Traits.CastToBytes(b.f64)
	case Decimal:
		values = arrow.Decimal128Traits.CastToBytes(b.dec)
	case Interval:
		values = arrow.MonthDayNanoIntervalTraits.CastToBytes(b.iv)
	default:
		if b.off == nil {
			b.off = []int32{0}
		}
		values = arrow.Int32Traits.CastToBytes(b.off)
	}
	c := &columnBuffers{}
	if b.nulls > 0 {
		c.add(b.valid)
	} else {
		c.count++ // there is none
	}
	c.add(values)
	if b.kind.IsBytes() {
		c.add(b.data)
	}
	out := array.MakeFromData(array.NewData(b.typ.Arrow(), b.n, c.refs[:c.count:c.count], nil, b.nulls, 0))
	b.start()
	return out, nil
}

// columnBuffers are the buffers of one column, in one piece of memory: columns
// of a point read have one value.
type columnBuffers struct {
	refs  [3]*memory.Buffer
	bufs  [3]memory.Buffer
	count int
}

func (c *columnBuffers) add(data []byte) {
	c.bufs[c.count].Reset(data)
	c.refs[c.count] = &c.bufs[c.count]
	c.count++
}

// FinishAll finishes every builder.
func FinishAll(bs []*Builder) ([]arrow.Array, error) {
	out := make([]arrow.Array, len(bs))
	for i, b := range bs {
		a, err := b.Finish()
		if err != nil {
			return nil, err
		}
		out[i] = a
	}
	return out, nil
}
