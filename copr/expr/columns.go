package expr

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/pgerror"
)

// Take gathers the rows sel of arr. A row of -1 is NULL.
func Take(arr arrow.Array, sel []int32) arrow.Array {
	n := len(sel)
	valid := takeValidity(arr, sel)
	switch dt := arr.DataType(); dt.ID() {
	case arrow.BOOL:
		src, out := boolsOf(arr), newBits(n)
		for k, i := range sel {
			if i >= 0 && src.get(int(i)) {
				bitutil.SetBit(out, k)
			}
		}
		return boolArray(n, valid, out)
	case arrow.STRING, arrow.BINARY:
		return takeStrings(arr, sel, valid)
	case arrow.INT16:
		return takeFixed[int16](arr, sel, valid)
	case arrow.INT32, arrow.DATE32, arrow.FLOAT32:
		return takeFixed[int32](arr, sel, valid)
	case arrow.DECIMAL128, arrow.INTERVAL_MONTH_DAY_NANO:
		return takeFixed[dec](arr, sel, valid)
	case arrow.INT64, arrow.FLOAT64, arrow.TIMESTAMP, arrow.TIME64:
		return takeFixed[int64](arr, sel, valid)
	default:
		panic("expr: Take of an Arrow column of type " + dt.String())
	}
}

func takeValidity(arr arrow.Array, sel []int32) []byte {
	nulls := arr.NullN() > 0
	if !nulls {
		for _, i := range sel {
			if i < 0 {
				nulls = true
				break
			}
		}
	}
	if !nulls {
		return nil
	}
	valid := newBits(len(sel))
	bm := vec{arr: arr}.bitmap()
	for k, i := range sel {
		if i >= 0 && bm.set(int(i)) {
			bitutil.SetBit(valid, k)
		}
	}
	return valid
}

func takeFixed[T any](arr arrow.Array, sel []int32, valid []byte) arrow.Array {
	src := values[T](arr)
	out := make([]T, len(sel))
	if valid == nil {
		for k, i := range sel {
			out[k] = src[i]
		}
	} else {
		for k, i := range sel {
			if i >= 0 {
				out[k] = src[i]
			}
		}
	}
	return fixed(arr.DataType(), out, valid)
}

func takeStrings(arr arrow.Array, sel []int32, valid []byte) arrow.Array {
	src := stringsOf(arr)
	offs := make([]int32, len(sel)+1)
	size := int64(0)
	for _, i := range sel {
		if i >= 0 {
			size += int64(src.offs[i+1] - src.offs[i])
		}
	}
	if size > blockTextBytesMax {
		panic(errBlockText()) // sqlfront/plan and copr/server make it the statement's error
	}
	data := make([]byte, 0, size)
	for k, i := range sel {
		if i >= 0 {
			data = append(data, src.data[src.offs[i]:src.offs[i+1]]...)
		}
		offs[k+1] = int32(len(data))
	}
	return rawArray(arr.DataType(), len(sel), valid, rawBytes(offs), data)
}

// TakeBatch gathers the rows sel of every column.
func TakeBatch(b *Batch, sel []int32) *Batch {
	out := &Batch{N: len(sel), Cols: make([]arrow.Array, len(b.Cols))}
	for i, c := range b.Cols {
		out.Cols[i] = Take(c, sel)
	}
	return out
}

// Concat puts columns of one type behind one another.
func Concat(arrs []arrow.Array) (arrow.Array, error) {
	if len(arrs) == 1 {
		return arrs[0], nil
	}
	out, err := array.Concatenate(arrs, memory.DefaultAllocator)
	if err != nil {
		return nil, pgerror.Wrap(err, pgerror.ProgramLimitExceeded, "blocks of rows cannot be put together: %v", err)
	}
	return out, nil
}

// ConcatBatches puts batches of the same columns behind one another.
func ConcatBatches(bs []*Batch) (*Batch, error) {
	if len(bs) == 1 {
		return bs[0], nil
	}
	out := &Batch{}
	if len(bs) == 0 {
		return out, nil
	}
	out.Cols = make([]arrow.Array, len(bs[0].Cols))
	for _, b := range bs {
		out.N += b.N
	}
	for i := range out.Cols {
		parts := make([]arrow.Array, len(bs))
		for k, b := range bs {
			parts[k] = b.Cols[i]
		}
		col, err := Concat(parts)
		if err != nil {
			return nil, err
		}
		out.Cols[i] = col
	}
	return out, nil
}

// Slice is rows [i, j) of arr, without a copy.
func Slice(arr arrow.Array, i, j int) arrow.Array { return array.NewSlice(arr, int64(i), int64(j)) }

// SliceBatch is rows [i, j) of b, without a copy.
func SliceBatch(b *Batch, i, j int) *Batch {
	out := &Batch{N: j - i, Cols: make([]arrow.Array, len(b.Cols))}
	for k, c := range b.Cols {
		out.Cols[k] = Slice(c, i, j)
	}
	return out
}
