package expr

import (
	"math/bits"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// intSet is a set of integers for loops over columns: a bitmap where they are
// close together, a few comparisons where they are few, or a hash table.
type intSet struct {
	lo    int64
	span  uint64   // of the bitmap: the largest is lo+span
	bits  []uint64 // has a bit for span+1, never set
	few   [intSetFew]int64
	table []int64 // open addressing; free places have the value free
	shift uint
	free  int64
}

const (
	intSetFew     = 4
	intSetBitsMax = 1 << 20
)

// newIntSet makes a set of at least one value.
func newIntSet(vals []int64) *intSet {
	lo, hi := slices.Min(vals), slices.Max(vals)
	s := &intSet{lo: lo, span: uint64(hi) - uint64(lo)}
	switch {
	case s.span < intSetBitsMax && s.span < 64*uint64(len(vals))+4096:
		s.bits = make([]uint64, (s.span+1)/64+1)
		for _, v := range vals {
			d := uint64(v) - uint64(lo)
			s.bits[d>>6] |= 1 << (d & 63)
		}
	case len(vals) <= intSetFew:
		for i := range s.few {
			s.few[i] = vals[min(i, len(vals)-1)]
		}
	default:
		s.fill(vals)
	}
	return s
}

// fill makes the table, half full at most.
func (s *intSet) fill(vals []int64) {
	width := bits.Len(uint(2 * len(vals)))
	s.table, s.shift = make([]int64, 1<<width), uint(64-width)
	for slices.Contains(vals, s.free) {
		s.free++
	}
	for i := range s.table {
		s.table[i] = s.free
	}
	for _, v := range vals {
		i := s.slot(v)
		for s.table[i] != s.free && s.table[i] != v {
			i = (i + 1) & (len(s.table) - 1)
		}
		s.table[i] = v
	}
}

// slot is where the search for v begins.
func (s *intSet) slot(v int64) int { return int(uint64(v) * 0x9e3779b97f4a7c15 >> s.shift) }

// find is 1 if v is in the table.
func (s *intSet) find(v int64) int {
	if v == s.free {
		return 0
	}
	for i := s.slot(v); ; i = (i + 1) & (len(s.table) - 1) {
		if x := s.table[i]; x == v {
			return 1
		} else if x == s.free {
			return 0
		}
	}
}

// inRows appends the rows whose value is in the set, or not.
func inRows[T integer](s *intSet, a []T, not bool, sel, out []int32) []int32 {
	rows := len(a)
	if sel != nil {
		rows = len(sel)
	}
	out, buf := growRows(out, rows)
	neg, k := b2i(not), 0
	switch {
	case s.bits != nil && sel == nil:
		for i, v := range a {
			d := min(uint64(int64(v))-uint64(s.lo), s.span+1)
			buf[k] = int32(i)
			k += int(s.bits[d>>6]>>(d&63)&1) ^ neg
		}
	case s.bits != nil:
		for _, i := range sel {
			d := min(uint64(int64(a[i]))-uint64(s.lo), s.span+1)
			buf[k] = i
			k += int(s.bits[d>>6]>>(d&63)&1) ^ neg
		}
	case s.table != nil && sel == nil:
		for i, v := range a {
			buf[k] = int32(i)
			k += s.find(int64(v)) ^ neg
		}
	case s.table != nil:
		for _, i := range sel {
			buf[k] = i
			k += s.find(int64(a[i])) ^ neg
		}
	default:
		k = fewRows(s.few, a, neg, sel, buf)
	}
	return out[:len(out)+k]
}

func fewRows[T integer](few [intSetFew]int64, a []T, neg int, sel, buf []int32) (k int) {
	c0, c1, c2, c3 := few[0], few[1], few[2], few[3]
	if sel == nil {
		for i, x := range a {
			v := int64(x)
			buf[k] = int32(i)
			k += (b2i(v == c0) | b2i(v == c1) | b2i(v == c2) | b2i(v == c3)) ^ neg
		}
		return k
	}
	for _, i := range sel {
		v := int64(a[i])
		buf[k] = i
		k += (b2i(v == c0) | b2i(v == c1) | b2i(v == c2) | b2i(v == c3)) ^ neg
	}
	return k
}

// intSetOf is the set of an IN over a column of integers or decimals; nil for
// other types, and where no value can be in the column.
func intSetOf(t sqltypes.Type, vals []sqltypes.Datum) *intSet {
	list := make([]int64, 0, len(vals))
	switch t.Arrow().ID() {
	case arrow.INT16, arrow.INT32, arrow.DATE32, arrow.INT64, arrow.TIMESTAMP, arrow.TIME64:
		for _, v := range vals {
			list = append(list, v.Int())
		}
	case arrow.DECIMAL128:
		for _, v := range vals {
			if u, exact, ok := floorUnscaled(v.Decimal(), t.Scale); ok && exact {
				list = append(list, u)
			}
		}
	}
	if len(list) == 0 {
		return nil
	}
	return newIntSet(list)
}

// filterInts is the filter of an IN over integers; ok is false where the column
// is something else.
func (x inNode) filterInts(v evec, sel, out []int32) (rows []int32, ok bool) {
	start := len(out)
	if v.cst || x.set == nil || v.enc == encDict {
		return out, false
	}
	if v.enc == encDec64 {
		return dropUnset(inRows(x.set, v.i64, x.not, sel, out), start, v.valid), true
	}
	switch v.vec.arr.DataType().ID() {
	case arrow.INT16:
		out = inRows(x.set, values[int16](v.vec.arr), x.not, sel, out)
	case arrow.INT32, arrow.DATE32:
		out = inRows(x.set, values[int32](v.vec.arr), x.not, sel, out)
	case arrow.INT64, arrow.TIMESTAMP, arrow.TIME64:
		out = inRows(x.set, values[int64](v.vec.arr), x.not, sel, out)
	default:
		return out, false
	}
	return dropUnset(out, start, v.bitmap()), true
}
