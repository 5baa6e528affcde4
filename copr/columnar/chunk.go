package columnar

import (
	"math"
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// chunk is one column of one block, in the smallest of these forms:
//
//	whole numbers, dates, times, decimals   offsets from the smallest value, of
//	that fit 64 bits                        0, 1, 2, 4 or 8 bytes
//	byte strings with few values            codes of 1 or 2 bytes, a dictionary
//	all else                                Arrow's layout
//
// Reading widens the first two into what package colvec calls encoded columns.
// It is never changed.
type chunk struct {
	typ   sqltypes.Type
	kind  colvec.Kind
	n     int
	nulls int
	valid []byte // a bitmap; nil without nulls

	plain arrow.Array // or
	width int         // bytes of a value in data
	base  int64       // what is added to each
	data  []byte
	dict  *dictionary // the values are codes of it

	zone  zone
	bytes int64 // of memory, but for the dictionary
	wide  int64 // bytes of the values in Arrow's layout
}

// zone is the smallest and the largest value of a column of whole numbers (or
// unscaled decimals).
type zone struct {
	known  bool
	lo, hi int64 // lo > hi: every value is NULL
}

// newChunk takes a column apart; dict, if not nil, takes its values if it can.
func newChunk(a arrow.Array, t sqltypes.Type, dict *dictionary) *chunk {
	v := colvec.Open(a, t)
	c := &chunk{typ: t, kind: v.Kind, n: v.N, nulls: v.Nulls, wide: colvec.ArrayBytes(a)}
	switch {
	case v.Kind.IsInt():
		c.keepInts(&v)
	case v.Kind == colvec.Decimal:
		c.keepDecimals(&v)
	case dict != nil && v.Nulls < v.N: // the codes of NULLs are values', too
		if codes, ok := dict.encode(&v); ok {
			c.dict = dict
			c.keepCodes(codes)
		}
	}
	if !c.zone.known && c.dict == nil {
		c.plain = tight(a)
		c.bytes = chunkOverheadBytes + colvec.ArrayBytes(a)
		return c
	}
	if v.Nulls > 0 {
		c.valid = validOf(a)
	}
	c.bytes = chunkOverheadBytes + int64(len(c.data)+len(c.valid))
	return c
}

// tight is a column whose memory has no room for more, where that saves much.
func tight(a arrow.Array) arrow.Array {
	d := a.Data()
	bufs := slices.Clone(d.Buffers())
	saved := false
	for i, b := range bufs {
		if b == nil {
			continue
		}
		if raw := b.Bytes(); cap(raw)-len(raw) > len(raw)/roomyShare+roomyBytes {
			bufs[i], saved = memory.NewBufferBytes(append(make([]byte, 0, len(raw)), raw...)), true
		}
	}
	if !saved || d.Offset() > 0 {
		return a
	}
	return array.MakeFromData(array.NewData(d.DataType(), d.Len(), bufs, nil, d.NullN(), 0))
}

// A buffer with more room than roomyBytes and the share roomyShare of its length
// is copied when it is to be kept.
const (
	roomyBytes = 64
	roomyShare = 32
)

// chunkOverheadBytes is about what a chunk costs beside its values.
const chunkOverheadBytes = 256

// validOf is a bitmap of its own of an array's nulls, from bit 0 on.
func validOf(a arrow.Array) []byte {
	out := make([]byte, bitutil.BytesForBits(int64(a.Len())))
	bitutil.CopyBitmap(a.NullBitmapBytes(), a.Data().Offset(), a.Len(), out, 0)
	return out
}

func (c *chunk) keepInts(v *colvec.Vec) {
	switch v.Kind {
	case colvec.Int16:
		keepNumbers(c, v, v.I16)
	case colvec.Int32, colvec.Date:
		keepNumbers(c, v, v.I32)
	default:
		keepNumbers(c, v, v.I64)
	}
}

func (c *chunk) keepDecimals(v *colvec.Vec) {
	vals := make([]int64, v.N)
	for i, d := range v.Dec {
		n, ok := colvec.ToDec64(d)
		if !ok {
			if v.IsNull(i) {
				continue
			}
			return
		}
		vals[i] = n
	}
	keepNumbers(c, v, vals)
}

// keepNumbers finds the smallest and the largest value and keeps offsets.
func keepNumbers[T int16 | int32 | int64](c *chunk, v *colvec.Vec, vals []T) {
	z := zone{known: true, lo: math.MaxInt64, hi: math.MinInt64}
	if v.Nulls == 0 && len(vals) > 0 {
		lo, hi := vals[0], vals[0]
		for _, x := range vals {
			lo, hi = min(lo, x), max(hi, x)
		}
		z.lo, z.hi = int64(lo), int64(hi)
	} else {
		for i, x := range vals {
			if !v.IsNull(i) {
				z.lo, z.hi = min(z.lo, int64(x)), max(z.hi, int64(x))
			}
		}
	}
	c.zone = z
	if z.lo > z.hi { // all NULL, or none
		return
	}
	span := uint64(z.hi) - uint64(z.lo)
	native := int(unsafe.Sizeof(vals[0]))
	switch {
	case span == 0:
		c.width = 0
	case span <= math.MaxUint8:
		c.width = 1
	case span <= math.MaxUint16:
		c.width = 2
	case span <= math.MaxUint32:
		c.width = 4
	default:
		c.width = 8
	}
	if c.width >= native { // as they are
		c.width = native
		c.data = make([]byte, native*len(vals))
		copy(cast[T](c.data), vals)
		return
	}
	c.base = z.lo
	switch c.width {
	case 1:
		c.data = narrow[uint8](vals, z.lo)
	case 2:
		c.data = narrow[uint16](vals, z.lo)
	case 4:
		c.data = narrow[uint32](vals, z.lo)
	}
}

func narrow[N uint8 | uint16 | uint32, T int16 | int32 | int64](vals []T, base int64) []byte {
	var one N
	data := make([]byte, len(vals)*int(unsafe.Sizeof(one)))
	out := cast[N](data)
	for i, x := range vals { // of a NULL any bits
		out[i] = N(int64(x) - base)
	}
	return data
}

func (c *chunk) keepCodes(codes []uint16) {
	most := uint16(0)
	for _, x := range codes {
		most = max(most, x)
	}
	if c.width = 2; most <= math.MaxUint8 {
		c.width = 1
		c.data = make([]byte, len(codes))
		for i, x := range codes {
			c.data[i] = uint8(x)
		}
		return
	}
	c.data = make([]byte, 2*len(codes))
	copy(cast[uint16](c.data), codes)
}

// cast views bytes as numbers. (Go's allocator aligns what is long enough.)
func cast[T any](b []byte) []T {
	var one T
	if len(b) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(one)))
}

// native is the width of the values as they are read.
func (c *chunk) native() int {
	switch {
	case c.dict != nil:
		return 4
	case c.kind == colvec.Int16:
		return 2
	case c.kind == colvec.Int32 || c.kind == colvec.Date:
		return 4
	}
	return 8
}

// array is the rows [lo, hi) as an encoded column. What must be widened goes
// into buf if it is not nil, which grows as needed: the column is then valid
// until buf is used again.
func (c *chunk) array(lo, hi int, buf *[]byte) arrow.Array {
	if c.plain != nil {
		if lo == 0 && hi == c.n {
			return c.plain
		}
		return array.NewSlice(c.plain, int64(lo), int64(hi))
	}
	from := lo &^ 7 // bitmaps begin at bytes
	n := hi - from
	values := c.values(from, hi, buf)
	var valid *memory.Buffer
	nulls := c.nulls
	if nulls > 0 {
		if lo > 0 || hi < c.n {
			nulls = n - bitutil.CountSetBits(c.valid[from/8:], 0, n)
		}
		valid = memory.NewBufferBytes(c.valid[from/8 : (hi+7)/8])
	}
	bufs := []*memory.Buffer{valid, memory.NewBufferBytes(values)}
	var d *array.Data
	switch {
	case c.dict != nil:
		dict := c.dict.array()
		typ := dictString
		if c.kind == colvec.Binary {
			typ = dictBinary
		}
		d = array.NewDataWithDictionary(typ, n, bufs, nulls, 0, dict.Data().(*array.Data))
	case c.kind == colvec.Decimal:
		d = array.NewData(arrow.PrimitiveTypes.Int64, n, bufs, nil, nulls, 0)
	default:
		d = array.NewData(c.typ.Arrow(), n, bufs, nil, nulls, 0)
	}
	out := array.MakeFromData(d)
	if from == lo {
		return out
	}
	return array.NewSlice(out, int64(lo-from), int64(n))
}

var (
	dictString = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.String}
	dictBinary = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int32, ValueType: arrow.BinaryTypes.Binary}
)

// values are the values of rows [lo, hi) at their native width.
func (c *chunk) values(lo, hi int, buf *[]byte) []byte {
	native := c.native()
	if c.width == native {
		return c.data[lo*native : hi*native]
	}
	size := (hi - lo) * native
	var out []byte
	switch {
	case buf == nil:
		out = make([]byte, size)
	case cap(*buf) < size:
		*buf = make([]byte, size)
		out = *buf
	default:
		out = (*buf)[:size]
	}
	data := c.data[lo*c.width : hi*c.width]
	switch native {
	case 2:
		widen(cast[int16](out), data, c.width, int16(c.base))
	case 4:
		widen(cast[int32](out), data, c.width, int32(c.base))
	default:
		widen(cast[int64](out), data, c.width, c.base)
	}
	return out
}

func widen[T int16 | int32 | int64](out []T, data []byte, width int, base T) {
	switch width {
	case 0:
		for i := range out {
			out[i] = base
		}
	case 1:
		addTo(out, data, base)
	case 2:
		addTo(out, cast[uint16](data), base)
	default:
		addTo(out, cast[uint32](data), base)
	}
}

func addTo[T int16 | int32 | int64, N uint8 | uint16 | uint32](out []T, in []N, base T) {
	in = in[:len(out)]
	for i, x := range in {
		out[i] = T(x) + base
	}
}
