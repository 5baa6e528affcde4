package colvec

import (
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/internal/sqltypes"
)

// FromFixed makes a plain column of values in the layout of t's kind. valid is
// its bitmap, used if there are nulls. The slices belong to the column then.
func FromFixed[T any](t sqltypes.Type, values []T, valid []byte, nulls int) arrow.Array {
	c := &columnBuffers{}
	c.addValid(valid, nulls)
	c.add(bytesOf(values))
	return array.MakeFromData(array.NewData(t.Arrow(), len(values), c.refs[:2:2], nil, nulls, 0))
}

// FromBits is FromFixed for a column of n booleans.
func FromBits(t sqltypes.Type, n int, bits, valid []byte, nulls int) arrow.Array {
	c := &columnBuffers{}
	c.addValid(valid, nulls)
	c.add(bits)
	return array.MakeFromData(array.NewData(t.Arrow(), n, c.refs[:2:2], nil, nulls, 0))
}

// FromBytes makes a plain column of byte strings: off has one entry more than
// there are values.
func FromBytes(t sqltypes.Type, off []int32, data, valid []byte, nulls int) arrow.Array {
	c := &columnBuffers{}
	c.addValid(valid, nulls)
	c.add(bytesOf(off))
	c.add(data)
	return array.MakeFromData(array.NewData(t.Arrow(), len(off)-1, c.refs[:3:3], nil, nulls, 0))
}

func (c *columnBuffers) addValid(valid []byte, nulls int) {
	if nulls > 0 {
		c.add(valid)
	} else {
		c.count++ // there is none
	}
}

// bytesOf views values without pointers as bytes.
func bytesOf[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(s[0])))
}
