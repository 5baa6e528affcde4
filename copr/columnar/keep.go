package columnar

import (
	"slices"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
)

// Keep says that somebody goes on looking at columns which were made of the last
// Raw's: memory of a Transient scan that they are in is not used again.
func (s *Scan) Keep(cols []arrow.Array) {
	for i, buf := range s.bufs {
		if cap(buf) > 0 && slices.ContainsFunc(cols, func(c arrow.Array) bool { return isIn(c.Data(), buf) }) {
			s.bufs[i] = nil
		}
	}
}

// isIn reports whether any of d's values are in buf.
func isIn(d arrow.ArrayData, buf []byte) bool {
	lo := uintptr(unsafe.Pointer(unsafe.SliceData(buf)))
	for _, b := range d.Buffers() {
		if b == nil || b.Len() == 0 {
			continue
		}
		if p := uintptr(unsafe.Pointer(unsafe.SliceData(b.Bytes()))); p >= lo && p < lo+uintptr(cap(buf)) {
			return true
		}
	}
	return slices.ContainsFunc(d.Children(), func(c arrow.ArrayData) bool { return isIn(c, buf) })
}
