package expr

import (
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/sqltypes"
)

// vec is a column, in its type's own layout, while it is computed (evec is one
// that may be encoded). A constant has one row that stands for all.
type vec struct {
	arr arrow.Array
	cst bool
}

// at is the position of row i.
func (v vec) at(i int) int {
	if v.cst {
		return 0
	}
	return i
}

func (v vec) isNull(i int) bool { return v.arr.IsNull(v.at(i)) }

// nullConst reports whether v is the constant NULL.
func (v vec) nullConst() bool { return v.cst && v.arr.IsNull(0) }

// bitmap is a validity bitmap, bit i for row i; nil = no nulls.
func (v vec) bitmap() bitmap {
	if v.cst || v.arr.NullN() == 0 {
		return bitmap{}
	}
	return bitmap{v.arr.NullBitmapBytes(), v.arr.Data().Offset()}
}

// bitmap is a run of bits that starts at an offset.
type bitmap struct {
	bits []byte
	off  int
}

func (b bitmap) get(i int) bool { return bitutil.BitIsSet(b.bits, b.off+i) }

// bit is bit i as a number.
func (b bitmap) bit(i int) int {
	i += b.off
	return int(b.bits[i>>3]>>(i&7)) & 1
}

// set reports bit i; a bitmap without bits is all ones.
func (b bitmap) set(i int) bool { return b.bits == nil || b.get(i) }

// andValidity is the validity of a row that needs all arguments; nil = all
// rows valid.
func andValidity(n int, args ...vec) []byte {
	var out []byte
	for _, a := range args {
		bm := a.bitmap()
		if bm.bits == nil {
			continue
		}
		if out == nil {
			out = make([]byte, bitutil.BytesForBits(int64(n)))
			bitutil.CopyBitmap(bm.bits, bm.off, n, out, 0)
			continue
		}
		bitutil.BitmapAnd(out, bm.bits, 0, int64(bm.off), out, 0, int64(n))
	}
	return out
}

// fixed makes an array over raw values.
func fixed[T any](dt arrow.DataType, values []T, valid []byte) arrow.Array {
	n := len(values)
	return rawArray(dt, n, valid, rawBytes(values))
}

func rawBytes[T any](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	var t T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(t)))
}

func rawArray(dt arrow.DataType, n int, valid []byte, data ...[]byte) arrow.Array {
	bufs := make([]*memory.Buffer, 1+len(data))
	nulls := 0
	if valid != nil {
		nulls = n - bitutil.CountSetBits(valid, 0, n)
		if nulls > 0 {
			bufs[0] = memory.NewBufferBytes(valid)
		}
	}
	for i, d := range data {
		bufs[i+1] = memory.NewBufferBytes(d)
	}
	return array.MakeFromData(array.NewData(dt, n, bufs, nil, nulls, 0))
}

// retype gives a column another Arrow type of the same layout.
func retype(arr arrow.Array, dt arrow.DataType) arrow.Array {
	if arrow.TypeEqual(arr.DataType(), dt) {
		return arr
	}
	d := arr.Data()
	return array.MakeFromData(array.NewData(dt, d.Len(), d.Buffers(), nil, d.NullN(), d.Offset()))
}

// boolArray makes a Boolean column over a bitmap.
func boolArray(n int, valid, values []byte) arrow.Array {
	return rawArray(arrow.FixedWidthTypes.Boolean, n, valid, values)
}

// nullVec is a constant NULL of type t.
func nullVec(t sqltypes.Type) vec { return vec{arr: sqltypes.NullArray(t, 1), cst: true} }

// constVec is a constant.
func constVec(t sqltypes.Type, d sqltypes.Datum) vec {
	return vec{arr: sqltypes.ArrayOf(t, []sqltypes.Datum{d}), cst: true}
}

// expand gives a constant n rows.
func (v vec) expand(n int) arrow.Array {
	if !v.cst {
		return v.arr
	}
	idx := make([]int32, n)
	return Take(v.arr, idx)
}

// values gives the raw values of a fixed-width column, whatever its Arrow
// type, as T.
func values[T any](arr arrow.Array) []T {
	d := arr.Data()
	var t T
	size := int(unsafe.Sizeof(t))
	buf := d.Buffers()[1]
	if buf == nil || arr.Len() == 0 {
		return nil
	}
	b := buf.Bytes()[d.Offset()*size:]
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), arr.Len())
}

// strs are the strings of a String or Binary column.
type strs struct {
	offs []int32
	data []byte
}

func stringsOf(arr arrow.Array) strs {
	d := arr.Data()
	if arr.Len() == 0 || d.Buffers()[1] == nil {
		return strs{offs: make([]int32, arr.Len()+1)}
	}
	o := d.Buffers()[1].Bytes()
	offs := unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(o))), len(o)/4)[d.Offset() : d.Offset()+arr.Len()+1]
	var data []byte
	if d.Buffers()[2] != nil {
		data = d.Buffers()[2].Bytes()
	}
	return strs{offs, data}
}

// get is string i, without a copy: Arrow memory never changes.
func (s strs) get(i int) string {
	b := s.data[s.offs[i]:s.offs[i+1]]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// boolsOf are the value bits of a Boolean column.
func boolsOf(arr arrow.Array) bitmap {
	d := arr.Data()
	if d.Buffers()[1] == nil {
		return bitmap{make([]byte, bitutil.BytesForBits(int64(arr.Len()))), 0}
	}
	return bitmap{d.Buffers()[1].Bytes(), d.Offset()}
}

// decScale is the scale of a Decimal128 column.
func decScale(arr arrow.Array) int32 { return arr.DataType().(*arrow.Decimal128Type).Scale }

// dec is Decimal128's value.
type dec = decimal128.Num

// rowsOf calls f for each row of sel, or for all n rows.
func rowsOf(n int, sel []int32, f func(i int)) {
	if sel == nil {
		for i := range n {
			f(i)
		}
		return
	}
	for _, i := range sel {
		f(int(i))
	}
}

func newBits(n int) []byte { return make([]byte, bitutil.BytesForBits(int64(n))) }

func allOnes(n int) []byte {
	b := newBits(n)
	for i := range b {
		b[i] = 0xff
	}
	return b
}
