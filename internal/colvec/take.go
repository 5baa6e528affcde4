package colvec

import (
	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// takeValid is the bitmap of the values at positions sel, a negative one NULL;
// nil without nulls.
func (v *Vec) takeValid(sel []int32) (valid []byte, nulls int) {
	if v.Nulls == 0 {
		for k, i := range sel {
			if i < 0 {
				valid = clearBit(valid, k, len(sel))
				nulls++
			}
		}
		return valid, nulls
	}
	for k, i := range sel {
		if i < 0 || v.IsNull(int(i)) {
			valid = clearBit(valid, k, len(sel))
			nulls++
		}
	}
	return valid, nulls
}

// clearBit clears a bit of a bitmap of n, which begins with all of them set.
func clearBit(bits []byte, k, n int) []byte {
	if bits == nil {
		bits = make([]byte, (n+7)/8)
		for i := range bits {
			bits[i] = 0xFF
		}
	}
	bits[k>>3] &^= 1 << (k & 7)
	return bits
}

// takeBytes gathers byte strings.
func (v *Vec) takeBytes(t sqltypes.Type, sel []int32, valid []byte, nulls int) (arrow.Array, error) {
	off := make([]int32, len(sel)+1)
	size := 0
	for k, i := range sel {
		if i >= 0 {
			size += int(v.Off[i+1] - v.Off[i])
		}
		off[k+1] = int32(min(size, ColumnDataBytesMax))
	}
	if size > ColumnDataBytesMax {
		return nil, pgerror.New(pgerror.ProgramLimitExceeded,
			"the values of one column of one batch exceed %d bytes", ColumnDataBytesMax)
	}
	data := make([]byte, 0, size)
	for _, i := range sel {
		if i >= 0 {
			data = append(data, v.Data[v.Off[i]:v.Off[i+1]]...)
		}
	}
	return FromBytes(t, off, data, valid, nulls), nil
}
