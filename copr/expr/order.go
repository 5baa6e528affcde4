package expr

import (
	"cmp"
	"math/bits"
	"strings"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/copradb/copra/internal/sqltypes"
)

// Key is one column of an order.
type Key struct {
	Type       sqltypes.Type
	Desc       bool
	NullsFirst bool
}

// Comparator orders rows by some columns. It is made for one or two sets of
// columns and then compares rows of them; text by bytes (collation C).
type Comparator struct {
	cols []func(i, j int) int
}

// NewComparator compares row i of a with row j of b, whose columns are laid
// out as keys say. a and b may be the same columns.
func NewComparator(keys []Key, a, b []arrow.Array) *Comparator {
	c := &Comparator{}
	for k, key := range keys {
		c.cols = append(c.cols, columnOrder(key, a[k], b[k]))
	}
	return c
}

// Compare returns the order of row i of a and row j of b.
func (c *Comparator) Compare(i, j int) int {
	for _, f := range c.cols {
		if r := f(i, j); r != 0 {
			return r
		}
	}
	return 0
}

// Less reports whether row i of a is before row j of b.
func (c *Comparator) Less(i, j int) bool { return c.Compare(i, j) < 0 }

func columnOrder(key Key, a, b arrow.Array) func(i, j int) int {
	plain := valueOrder(key.Type, a, b)
	if key.Desc {
		up := plain
		plain = func(i, j int) int { return -up(i, j) }
	}
	if a.NullN() == 0 && b.NullN() == 0 {
		return plain
	}
	nullLeft := 1
	if key.NullsFirst {
		nullLeft = -1
	}
	return func(i, j int) int {
		x, y := a.IsNull(i), b.IsNull(j)
		switch {
		case x && y:
			return 0
		case x:
			return nullLeft
		case y:
			return -nullLeft
		}
		return plain(i, j)
	}
}

func orderOf[T cmp.Ordered](a, b arrow.Array) func(i, j int) int {
	x, y := values[T](a), values[T](b)
	return func(i, j int) int { return cmp.Compare(x[i], y[j]) }
}

// valueOrder compares values that are not null.
func valueOrder(t sqltypes.Type, a, b arrow.Array) func(i, j int) int {
	switch t.Arrow().ID() {
	case arrow.BOOL:
		x, y := boolsOf(a), boolsOf(b)
		return func(i, j int) int { return b2i(x.get(i)) - b2i(y.get(j)) }
	case arrow.INT16:
		return orderOf[int16](a, b)
	case arrow.INT32, arrow.DATE32:
		return orderOf[int32](a, b)
	case arrow.INT64, arrow.TIMESTAMP, arrow.TIME64:
		return orderOf[int64](a, b)
	case arrow.FLOAT32, arrow.FLOAT64:
		x, y := floatsOf(vec{arr: a}), floatsOf(vec{arr: b})
		return func(i, j int) int { return compareFloats(x(i), y(j)) }
	case arrow.DECIMAL128:
		x, y := values[dec](a), values[dec](b)
		return func(i, j int) int { return x[i].Cmp(y[j]) }
	case arrow.INTERVAL_MONTH_DAY_NANO:
		x, y := reader[interval](vec{arr: a}), reader[interval](vec{arr: b})
		return func(i, j int) int { return sqltypes.CompareIntervals(x(i), y(j)) }
	}
	if t.OID == sqltypes.OIDNumeric {
		x, y := numericReader(a), numericReader(b)
		return func(i, j int) int { return sqltypes.NumericCmp(x(i), y(j)) }
	}
	x, y := stringsOf(a), stringsOf(b)
	if t.IsArray() && t.OID != sqltypes.OIDName {
		return func(i, j int) int {
			c, err := compareArrays(t, x.get(i), y.get(j))
			if err != nil { // not an array's text: order it as text
				return strings.Compare(x.get(i), y.get(j))
			}
			return c
		}
	}
	return func(i, j int) int { return strings.Compare(x.get(i), y.get(j)) }
}

// hashSeed starts the hash of a row; it and the mixing below never change, as
// hashes travel between nodes.
const (
	hashSeed = 0x9E3779B97F4A7C15
	hashNull = 0xD1B54A32D192ED03
)

// HashColumns hashes the rows sel of cols (nil = all) into out, which must
// have room for them: out[k] belongs to row sel[k]. Equal values of one type
// hash alike: numerics whatever their scale, -0 and 0, NULLs. The hashes are
// the same on every node and in every version.
func HashColumns(types []sqltypes.Type, cols []arrow.Array, sel []int32, out []uint64) {
	for k := range out {
		out[k] = hashSeed
	}
	for c, col := range cols {
		hashColumn(types[c], col, sel, out)
	}
}

func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v, 0x9FB21C651E98DF25)
	return hi ^ lo ^ (h<<32 | h>>32)
}

func hashColumn(t sqltypes.Type, col arrow.Array, sel []int32, out []uint64) {
	valid := vec{arr: col}.bitmap()
	each := func(h func(i int) uint64) {
		for k := range out {
			i := k
			if sel != nil {
				i = int(sel[k])
			}
			if valid.set(i) {
				out[k] = mix(out[k], h(i))
			} else {
				out[k] = mix(out[k], hashNull)
			}
		}
	}
	switch c := col.(type) {
	case *array.Int16:
		v := values[int16](c)
		each(func(i int) uint64 { return uint64(v[i]) })
	case *array.Int32, *array.Date32:
		v := values[int32](c)
		each(func(i int) uint64 { return uint64(v[i]) })
	case *array.Int64, *array.Timestamp, *array.Time64:
		v := values[int64](c)
		each(func(i int) uint64 { return uint64(v[i]) })
	case *array.Float32, *array.Float64:
		v := floatsOf(vec{arr: c})
		each(func(i int) uint64 { return floatKey(v(i)) })
	case *array.Boolean:
		b := boolsOf(c)
		each(func(i int) uint64 { return uint64(b2i(b.get(i))) })
	case *array.Decimal128:
		v, scale := values[dec](c), decScale(c)
		each(func(i int) uint64 { return hashDec(v[i], scale) })
	case *array.MonthDayNanoInterval:
		v := reader[interval](vec{arr: c})
		each(func(i int) uint64 {
			days, us := sqltypes.IntervalSpan(v(i))
			return mix(uint64(days), uint64(us))
		})
	default:
		s := stringsOf(col)
		if t.OID == sqltypes.OIDNumeric {
			each(func(i int) uint64 { return hashNumericText(s.get(i)) })
			return
		}
		each(func(i int) uint64 { return xxh3.HashString(s.get(i)) })
	}
}

// hashDec hashes a decimal without its trailing zeros, so that scales don't
// matter.
func hashDec(d dec, scale int32) uint64 {
	if scale == 0 && fits64(d) && d.LowBits()%10 != 0 {
		return hashDigits(d, 0)
	}
	if fits64(d) {
		v := int64(d.LowBits())
		if v == 0 {
			return hashDigits(dec{}, 0)
		}
		for v%10 == 0 {
			v /= 10
			scale--
		}
		return hashDigits(mul64(v, 1), scale)
	}
	var buf [48]byte
	return hashNumericText(unsafeString(sqltypes.AppendDec128(buf[:0], d, scale)))
}

func hashDigits(d dec, scale int32) uint64 {
	if fits64(d) {
		return mix(d.LowBits(), uint64(int64(scale)))
	}
	return mix(mix(uint64(d.HighBits()), d.LowBits()), uint64(int64(scale)))
}

// hashNumericText is hashDec of a numeric's text.
func hashNumericText(s string) uint64 {
	num, err := sqltypes.ParseNumeric(s)
	if err != nil {
		return xxh3.HashString(s)
	}
	digits := strings.TrimLeft(num.Coeff.String(), "0")
	trimmed := strings.TrimRight(digits, "0")
	scale := sqltypes.NumericScale(num) - int32(len(digits)-len(trimmed))
	if len(trimmed) <= 18 {
		v := int64(0)
		for _, c := range []byte(trimmed) {
			v = v*10 + int64(c-'0')
		}
		if num.Form != 0 || v == 0 {
			if num.Form != 0 {
				return xxh3.HashString(s)
			}
			scale = 0
		}
		if num.Negative {
			v = -v
		}
		return hashDigits(mul64(v, 1), scale)
	}
	h := xxh3.HashString(trimmed)
	if num.Negative {
		h = ^h
	}
	return mix(h, uint64(int64(scale)))
}

func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// EqualRows reports whether row i of a equals row j of b in every column,
// NULLs being equal (GROUP BY, DISTINCT).
func EqualRows(types []sqltypes.Type, a, b []arrow.Array, i, j int) bool {
	for k, t := range types {
		if a[k].IsNull(i) || b[k].IsNull(j) {
			if a[k].IsNull(i) != b[k].IsNull(j) {
				return false
			}
			continue
		}
		if !equalValues(t, a[k], b[k], i, j) {
			return false
		}
	}
	return true
}

func equalValues(t sqltypes.Type, a, b arrow.Array, i, j int) bool {
	switch x := a.(type) {
	case *array.Int16:
		return x.Value(i) == b.(*array.Int16).Value(j)
	case *array.Int32:
		return x.Value(i) == b.(*array.Int32).Value(j)
	case *array.Int64:
		return x.Value(i) == b.(*array.Int64).Value(j)
	case *array.Date32:
		return x.Value(i) == b.(*array.Date32).Value(j)
	case *array.Timestamp:
		return x.Value(i) == b.(*array.Timestamp).Value(j)
	case *array.Decimal128:
		y := b.(*array.Decimal128)
		return compareDecs(x.Value(i), y.Value(j), decScale(x), decScale(y)) == 0
	case *array.String:
		if t.OID != sqltypes.OIDNumeric {
			return x.Value(i) == b.(*array.String).Value(j)
		}
	}
	return valueOrder(t, a, b)(i, j) == 0
}
