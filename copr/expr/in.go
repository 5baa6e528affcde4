package expr

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

// inNode is x [NOT] IN (constants): a hash set of the values in x's layout.
type inNode struct {
	x       node
	not     bool
	hasNull bool // a NULL among the values: what isn't found is unknown
	empty   bool
	typ     sqltypes.Type // of x
	set     *intSet       // of integers and decimals; nil: none
	// member makes the test for a column.
	member func(arr arrow.Array) func(i int) bool
}

// inLinearMax is the number of values up to which a list is searched one by
// one.
const inLinearMax = 8

func newInNode(e *In, x node) node {
	n := inNode{x: x, not: e.Not, empty: len(e.Values) == 0, typ: e.X.Type()}
	vals := make([]sqltypes.Datum, 0, len(e.Values))
	for _, v := range e.Values {
		if v.IsNull() {
			n.hasNull = true
		} else {
			vals = append(vals, v)
		}
	}
	n.set = intSetOf(n.typ, vals)
	n.member = memberTest(n.typ, vals)
	return n
}

// withoutScaleCast takes off a cast that only forgets the scale of x, which is
// equal to a number or not whatever its scale.
func withoutScaleCast(e *In) *In {
	c, ok := e.X.(*Call)
	if !ok || c.Fn.Kind != KindCast || c.Typ.OID != sqltypes.OIDNumeric || c.Typ.FixedScale() || c.Typ.Precision != 0 || !c.Args[0].Type().FixedScale() {
		return e
	}
	return &In{X: c.Args[0], Values: e.Values, Not: e.Not}
}

func memberTest(t sqltypes.Type, vals []sqltypes.Datum) func(arrow.Array) func(int) bool {
	switch t.Arrow().ID() {
	case arrow.INT16:
		return memberOf(vals, func(d sqltypes.Datum) int16 { return int16(d.Int()) }, values[int16])
	case arrow.INT32, arrow.DATE32:
		return memberOf(vals, func(d sqltypes.Datum) int32 { return int32(d.Int()) }, values[int32])
	case arrow.INT64, arrow.TIMESTAMP, arrow.TIME64:
		return memberOf(vals, sqltypes.Datum.Int, values[int64])
	case arrow.DECIMAL128:
		return memberDecimal(t, vals)
	case arrow.STRING, arrow.BINARY:
		if t.OID != sqltypes.OIDNumeric {
			return memberString(t, vals)
		}
	case arrow.FLOAT32, arrow.FLOAT64:
		set := map[uint64]bool{}
		for _, v := range vals {
			set[floatKey(v.Float())] = true
		}
		return func(arr arrow.Array) func(int) bool {
			v := floatsOf(vec{arr: arr})
			return func(i int) bool { return set[floatKey(v(i))] }
		}
	}
	return func(arr arrow.Array) func(int) bool {
		return func(i int) bool {
			d := sqltypes.DatumAt(t, arr, i)
			for _, v := range vals {
				if CompareDatums(t, d, v) == 0 {
					return true
				}
			}
			return false
		}
	}
}

// floatKey is the same for equal floats.
func floatKey(f float64) uint64 {
	switch {
	case f == 0:
		return 0
	case f != f:
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(f)
}

func memberOf[T comparable](vals []sqltypes.Datum, conv func(sqltypes.Datum) T, col func(arrow.Array) []T) func(arrow.Array) func(int) bool {
	list := make([]T, len(vals))
	for i, v := range vals {
		list[i] = conv(v)
	}
	return memberIn(list, col)
}

func memberIn[T comparable](list []T, col func(arrow.Array) []T) func(arrow.Array) func(int) bool {
	if len(list) <= inLinearMax {
		return func(arr arrow.Array) func(int) bool {
			c := col(arr)
			return func(i int) bool {
				for _, v := range list {
					if c[i] == v {
						return true
					}
				}
				return false
			}
		}
	}
	set := make(map[T]struct{}, len(list))
	for _, v := range list {
		set[v] = struct{}{}
	}
	return func(arr arrow.Array) func(int) bool {
		c := col(arr)
		return func(i int) bool {
			_, ok := set[c[i]]
			return ok
		}
	}
}

// memberDecimal leaves out values that no column of t's scale can hold.
func memberDecimal(t sqltypes.Type, vals []sqltypes.Datum) func(arrow.Array) func(int) bool {
	list := make([]dec, 0, len(vals))
	for _, v := range vals {
		n, ok := sqltypes.NumericToDec128(v.Decimal(), t.Scale)
		if ok && sqltypes.NumericCmp(sqltypes.Dec128ToNumeric(n, t.Scale), v.Decimal()) == 0 {
			list = append(list, n)
		}
	}
	return memberIn(list, values[dec])
}

func memberString(t sqltypes.Type, vals []sqltypes.Datum) func(arrow.Array) func(int) bool {
	set := make(map[string]struct{}, len(vals))
	list := make([]string, len(vals))
	for i, v := range vals {
		s := v.Str()
		if t.Kind() == sqltypes.KindBytes {
			s = string(v.Bytes())
		}
		set[s], list[i] = struct{}{}, s
	}
	return func(arr arrow.Array) func(int) bool {
		s := stringsOf(arr)
		if len(list) <= inLinearMax {
			return func(i int) bool {
				x := s.get(i)
				for _, v := range list {
					if x == v {
						return true
					}
				}
				return false
			}
		}
		return func(i int) bool {
			_, ok := set[s.get(i)]
			return ok
		}
	}
}

func (x inNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	if x.empty {
		if x.not {
			return appendRows(b.N, sel, out), nil
		}
		return out, nil
	}
	e, err := evalEnc(x.x, ctx, b, sel)
	if err != nil {
		return out, err
	}
	if x.not && x.hasNull || e.isNullConst() {
		e.release()
		return out, nil
	}
	if rows, ok := x.filterInts(e, sel, out); ok {
		e.release()
		return rows, nil
	}
	v := e.plain(x.typ, b.N, sel)
	in := x.member(v.arr)
	start := len(out)
	if v.cst {
		if in(0) == x.not {
			return out, nil
		}
		return appendRows(b.N, sel, out), nil
	}
	if _, isString := v.arr.(*array.String); isString && v.arr.NullN() > 0 {
		return pick(b.N, sel, out, func(i int) bool { return !v.arr.IsNull(i) && in(i) != x.not }), nil
	}
	out = pick(b.N, sel, out, func(i int) bool { return in(i) != x.not })
	return dropNulls(out, start, v), nil
}

func (x inNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	v, err := x.x.eval(ctx, b, sel)
	if err != nil {
		return vec{}, err
	}
	n, sel, cst := outLen(b.N, sel, v)
	bits, valid := newBits(n), allOnes(n)
	in := x.member(v.arr)
	rowsOf(n, sel, func(i int) {
		switch {
		case x.empty:
			bitutil.SetBitTo(bits, i, x.not)
		case v.arr.IsNull(i):
			bitutil.ClearBit(valid, i)
		case in(i):
			bitutil.SetBitTo(bits, i, !x.not)
		case x.hasNull:
			bitutil.ClearBit(valid, i)
		default:
			bitutil.SetBitTo(bits, i, x.not)
		}
	})
	return vec{arr: boolArray(n, valid, bits), cst: cst}, nil
}
