package columnar

import (
	"bytes"
	"encoding/binary"
	"sort"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// handles are the keys of a block's rows behind the table's prefix, ascending.
// Those of one length are kept as the bytes in which they differ, which is
// enough to put any of them together: keys of some thousand neighbours share
// most of their bytes.
type handles struct {
	n        int
	template []byte // one of them; nil: they are in vec
	differ   []int  // positions of the bytes that are not the template's, ascending
	data     []byte // those bytes, row by row
	vec      colvec.Vec
	bytes    int64
}

// newHandles keeps a column of handles.
func newHandles(a arrow.Array) handles {
	v := colvec.Open(a, sqltypes.Bytea)
	h := handles{n: v.N}
	if v.N == 0 {
		return h
	}
	first := v.BytesAt(0)
	for i := range v.N {
		if len(v.BytesAt(i)) != len(first) {
			h.vec, h.bytes = v, colvec.ArrayBytes(a)
			return h
		}
	}
	h.template = bytes.Clone(first)
	mask := make([]byte, len(first))
	for i := range v.N {
		orXor(mask, first, v.BytesAt(i))
	}
	for p, m := range mask {
		if m != 0 {
			h.differ = append(h.differ, p)
		}
	}
	h.data = make([]byte, 0, v.N*len(h.differ))
	for i := range v.N {
		k := v.BytesAt(i)
		for _, p := range h.differ {
			h.data = append(h.data, k[p])
		}
	}
	h.bytes = int64(len(h.template) + 8*len(h.differ) + len(h.data))
	return h
}

// orXor sets in mask the bits in which a and b differ; all have one length.
func orXor(mask, a, b []byte) {
	i := 0
	for ; i+8 <= len(mask); i += 8 {
		m := binary.LittleEndian.Uint64(mask[i:]) | (binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]))
		binary.LittleEndian.PutUint64(mask[i:], m)
	}
	for ; i < len(mask); i++ {
		mask[i] |= a[i] ^ b[i]
	}
}

// at is handle i; it may be in buf, which is as long as the template or empty.
func (h *handles) at(i int, buf *[]byte) []byte {
	if h.template == nil {
		return h.vec.BytesAt(i)
	}
	*buf = append((*buf)[:0], h.template...)
	row := h.data[i*len(h.differ):]
	for j, p := range h.differ {
		(*buf)[p] = row[j]
	}
	return *buf
}

// seek is the first row whose handle is not below k.
func (h *handles) seek(k []byte) int {
	var buf []byte
	return sort.Search(h.n, func(i int) bool { return bytes.Compare(h.at(i, &buf), k) >= 0 })
}

// column is the handles of the rows [lo, hi).
func (h *handles) column(lo, hi int) (arrow.Array, error) {
	b := colvec.NewBuilder(sqltypes.Bytea, hi-lo)
	var buf []byte
	for i := lo; i < hi; i++ {
		b.AppendBytes(h.at(i, &buf))
	}
	return b.Finish()
}
