package expr

import (
	"math"
	"math/bits"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/sqltypes"
)

// decimalProductScaleMax: a product of fixed scales beyond this many decimals
// becomes a numeric without scale, to leave digits before the point.
const decimalProductScaleMax = 20

func init() {
	arithInts()
	arithFloats()
	numericResult := func(scale func(a, b int32) int32) option {
		return returning(func(t []sqltypes.Type) sqltypes.Type {
			if !t[0].FixedScale() || !t[1].FixedScale() {
				return sqltypes.Numeric
			}
			if s := scale(t[0].Scale, t[1].Scale); s <= decimalProductScaleMax {
				return scaled(s)
			}
			return sqltypes.Numeric
		})
	}
	wider := numericResult(func(a, b int32) int32 { return max(a, b) })
	def("+(numeric,numeric) numeric", decimalOp(sqltypes.NumericAdd, addRows, false), wider)
	def("-(numeric,numeric) numeric", decimalOp(sqltypes.NumericSub, subRows, false), wider)
	def("*(numeric,numeric) numeric", decimalOp(sqltypes.NumericMul, mulRows, true),
		numericResult(func(a, b int32) int32 { return a + b }))
	def("/(numeric,numeric) numeric", fn2(func(_ *call, a, b *apd.Decimal) (*apd.Decimal, error) {
		return sqltypes.NumericDiv(a, b)
	}))
	mod := fn2(func(_ *call, a, b *apd.Decimal) (*apd.Decimal, error) { return sqltypes.NumericMod(a, b) })
	def("%(numeric,numeric) numeric", mod, wider)
	def("mod(numeric,numeric) numeric", mod, wider)
	same := returning(func(t []sqltypes.Type) sqltypes.Type { return unconstrained(t[0]) })
	def("-(numeric) numeric", pure1(sqltypes.NumericNeg), same)
	def("+(numeric) numeric", castNumeric, same)
	def("abs(numeric) numeric", pure1(numericAbs), same)
	def("@(numeric) numeric", pure1(numericAbs), same)
}

// unconstrained is a numeric type without its precision, scale kept.
func unconstrained(t sqltypes.Type) sqltypes.Type {
	if t.FixedScale() {
		return scaled(t.Scale)
	}
	return sqltypes.Numeric
}

func numericAbs(d *apd.Decimal) *apd.Decimal {
	if !d.Negative {
		return d
	}
	return sqltypes.NumericNeg(d)
}

type integer interface{ int16 | int32 | int64 }

// stride is the index mask of a column: 0 for a constant.
func stride(v vec) int {
	if v.cst {
		return 0
	}
	return -1
}

// outLen is the length of the result of args over n rows, and whether it is a
// constant.
func outLen(n int, sel []int32, args ...vec) (int, []int32, bool) {
	for _, a := range args {
		if !a.cst {
			return n, sel, false
		}
	}
	return 1, nil, true
}

// intKernel computes the rows with wrap-around and reports in flag<0 that some
// row may have overflowed.
type intKernel[T integer] func(a, b []T, ma, mb int, out []T, sel []int32) bool

func addInts[T integer](a, b []T, ma, mb int, out []T, sel []int32) bool {
	var flag T
	if sel == nil {
		for i := range out {
			x, y := a[i&ma], b[i&mb]
			s := x + y
			flag |= (x ^ s) & (y ^ s)
			out[i] = s
		}
		return flag < 0
	}
	for _, i := range sel {
		x, y := a[int(i)&ma], b[int(i)&mb]
		s := x + y
		flag |= (x ^ s) & (y ^ s)
		out[i] = s
	}
	return flag < 0
}

func subInts[T integer](a, b []T, ma, mb int, out []T, sel []int32) bool {
	var flag T
	if sel == nil {
		for i := range out {
			x, y := a[i&ma], b[i&mb]
			s := x - y
			flag |= (x ^ y) & (x ^ s)
			out[i] = s
		}
		return flag < 0
	}
	for _, i := range sel {
		x, y := a[int(i)&ma], b[int(i)&mb]
		s := x - y
		flag |= (x ^ y) & (x ^ s)
		out[i] = s
	}
	return flag < 0
}

// mulInts looks at the sizes of the factors only, so that what it calls an
// overflow may be none.
func mulInts[T integer](a, b []T, ma, mb int, out []T, sel []int32) bool {
	var sa, sb uint64
	if sel == nil {
		for i := range out {
			x, y := a[i&ma], b[i&mb]
			sa |= size(int64(x))
			sb |= size(int64(y))
			out[i] = x * y
		}
	} else {
		for _, i := range sel {
			x, y := a[int(i)&ma], b[int(i)&mb]
			sa |= size(int64(x))
			sb |= size(int64(y))
			out[i] = x * y
		}
	}
	return bits.Len64(sa)+bits.Len64(sb) > 8*int(unsafe.Sizeof(out[0]))-2
}

// mulIntsExact is mulInts that is right about overflows.
func mulIntsExact[T integer](a, b []T, ma, mb int, out []T, sel []int32) bool {
	if !mulInts(a, b, ma, mb, out, sel) {
		return false
	}
	over := false
	rowsOf(len(out), sel, func(i int) {
		p := mul64(int64(a[i&ma]), int64(b[i&mb]))
		over = over || !fits64(p) || int64(T(p.LowBits())) != int64(p.LowBits())
	})
	return over
}

// intOp lifts a kernel. Rows that are NULL or not selected may hold anything,
// so that an overflow is looked for again where it counts.
func intOp[T integer](kernel intKernel[T], oid uint32) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		n, sel, cst := outLen(n, sel, args...)
		out := make([]T, n)
		a, b := values[T](args[0].arr), values[T](args[1].arr)
		ma, mb := stride(args[0]), stride(args[1])
		valid := andValidity(n, args...)
		if kernel(a, b, ma, mb, out, sel) {
			over := false
			rowsOf(n, sel, func(i int) {
				if (valid == nil || bitmap{valid, 0}.get(i)) && !over {
					row := []T{0}
					over = kernel(a[i&ma:], b[i&mb:], 0, 0, row, nil)
				}
			})
			if over {
				return vec{}, errOutOfRange[oid]
			}
		}
		return vec{arr: fixed(cc.typ.Arrow(), out, valid), cst: cst}, nil
	}
}

func divInt[T integer](min T, oid uint32) func(*call, T, T) (T, error) {
	return func(_ *call, a, b T) (T, error) {
		if b == 0 {
			return 0, sqltypes.ErrDivisionByZero
		}
		if b == -1 && a == min {
			return 0, errOutOfRange[oid]
		}
		return a / b, nil
	}
}

func modInt[T integer](_ *call, a, b T) (T, error) {
	if b == 0 {
		return 0, sqltypes.ErrDivisionByZero
	}
	if b == -1 {
		return 0, nil
	}
	return a % b, nil
}

// arithInts registers the integer operators; mixed widths take the wider one.
func arithInts() {
	intOps[int16]("int2", math.MinInt16, sqltypes.OIDInt2)
	intOps[int32]("int4", math.MinInt32, sqltypes.OIDInt4)
	intOps[int64]("int8", math.MinInt64, sqltypes.OIDInt8)
	for _, op := range []string{"+", "-", "*", "/"} {
		for _, p := range [][3]string{{"int2", "int4", "int4"}, {"int2", "int8", "int8"}, {"int4", "int8", "int8"}} {
			mixedInts(op, p[0], p[1], p[2])
			mixedInts(op, p[1], p[0], p[2])
		}
	}
}

// mixedInts registers an operator over two integer widths: both are widened.
func mixedInts(op, l, r, to string) {
	sig := op + "(" + to + "," + to + ")"
	base := overloadBySig(sig)
	wide := typeNamed(to)
	def(op+"("+l+","+r+") "+to, func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		both := make([]vec, 2)
		for i, a := range args {
			both[i] = widen(a, wide)
		}
		return base.eval(cc, both, n, sel)
	})
}

func overloadBySig(sig string) *Func {
	f, ok := FuncBySig(sig)
	if !ok {
		panic("expr: no function " + sig)
	}
	return f
}

// widen converts an integer column to a wider type.
func widen(v vec, to sqltypes.Type) vec {
	if to.OID == sqltypes.OIDInt4 {
		if c, ok := v.arr.(*array.Int16); ok {
			return sameNulls(v, to.Arrow(), widenInts[int32](values[int16](c)))
		}
		return v
	}
	switch c := v.arr.(type) {
	case *array.Int16:
		return sameNulls(v, to.Arrow(), widenInts[int64](values[int16](c)))
	case *array.Int32:
		return sameNulls(v, to.Arrow(), widenInts[int64](values[int32](c)))
	}
	return v
}

func widenInts[T, F integer](in []F) []T {
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = T(v)
	}
	return out
}

func intOps[T integer](name string, lowest T, oid uint32) {
	two := "(" + name + "," + name + ") " + name
	one := "(" + name + ") " + name
	def("+"+two, intOp(addInts[T], oid))
	def("-"+two, intOp(subInts[T], oid))
	def("*"+two, intOp(mulIntsExact[T], oid))
	def("/"+two, fn2(divInt(lowest, oid)))
	def("%"+two, fn2(modInt[T]))
	def("mod"+two, fn2(modInt[T]))
	neg := fn1(func(_ *call, a T) (T, error) {
		if a == lowest {
			return 0, errOutOfRange[oid]
		}
		return -a, nil
	})
	def("-"+one, neg)
	def("+"+one, relabel)
	abs := fn1(func(_ *call, a T) (T, error) {
		if a == lowest {
			return 0, errOutOfRange[oid]
		}
		return max(a, -a), nil
	})
	def("abs"+one, abs)
	def("@"+one, abs)
	def("&"+two, pure2(func(a, b T) T { return a & b }))
	def("|"+two, pure2(func(a, b T) T { return a | b }))
	def("#"+two, pure2(func(a, b T) T { return a ^ b }))
	def("~"+one, pure1(func(a T) T { return ^a }))
	shifts[T](name, oid)
}

// shifts registers << and >> as C does them: the count modulo the width of
// the promoted type (32 bits for int2).
func shifts[T integer](name string, oid uint32) {
	mask := int32(31)
	if oid == sqltypes.OIDInt8 {
		mask = 63
	}
	def("<<("+name+",int4) "+name, pure2(func(a T, k int32) T { return T(int64(a) << (k & mask)) }))
	def(">>("+name+",int4) "+name, pure2(func(a T, k int32) T { return T(int64(a) >> (k & mask)) }))
}

// decimalOp is an operator over numerics: in 128 bits where all scales are
// known, else through apd. product says that scales add up instead of being
// equalised.
func decimalOp(exact func(a, b *apd.Decimal) *apd.Decimal, rows decKernel, product bool) evalFunc {
	slow := pure2(exact)
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		_, l := args[0].arr.(*array.Decimal128)
		_, r := args[1].arr.(*array.Decimal128)
		if !l || !r || !cc.typ.FixedScale() {
			return slow(cc, args, n, sel)
		}
		n, sel, cst := outLen(n, sel, args...)
		a, b := values[dec](args[0].arr), values[dec](args[1].arr)
		valid := andValidity(n, args...)
		if !product {
			var ok bool
			if a, ok = alignScale(a, args[0], cc.typ.Scale); ok {
				b, ok = alignScale(b, args[1], cc.typ.Scale)
			}
			if !ok {
				return slow(cc, args, n, sel)
			}
		}
		out := make([]dec, n)
		if !rows(a, b, stride(args[0]), stride(args[1]), out, sel, valid) {
			return vec{}, errDecOverflow
		}
		return vec{arr: fixed(cc.typ.Arrow(), out, valid), cst: cst}, nil
	}
}

// alignScale gives a column's decimals the scale to; ok is false when a value
// has too many digits for it.
func alignScale(a []dec, v vec, to int32) ([]dec, bool) {
	from := decScale(v.arr)
	if from == to {
		return a, true
	}
	out := make([]dec, len(a))
	for i, x := range a {
		y, ok := scaleUp(x, to-from)
		if !ok && !v.arr.IsNull(i) {
			return nil, false
		}
		out[i] = y
	}
	return out, true
}

// decKernel computes the rows of sel (nil = all of out) and reports false when
// a valid row has more than 38 digits.
type decKernel func(a, b []dec, ma, mb int, out []dec, sel []int32, valid []byte) bool

func addRows(a, b []dec, ma, mb int, out []dec, sel []int32, valid []byte) bool {
	fine := true
	one := func(i int) {
		r, ok := addDec(a[i&ma], b[i&mb])
		if out[i] = r; !fits64(r) {
			fine = fine && fitsAt(r, ok, valid, i)
		}
	}
	if sel == nil {
		for i := range out {
			one(i)
		}
		return fine
	}
	for _, i := range sel {
		one(int(i))
	}
	return fine
}

func subRows(a, b []dec, ma, mb int, out []dec, sel []int32, valid []byte) bool {
	fine := true
	one := func(i int) {
		r, ok := subDec(a[i&ma], b[i&mb])
		if out[i] = r; !fits64(r) {
			fine = fine && fitsAt(r, ok, valid, i)
		}
	}
	if sel == nil {
		for i := range out {
			one(i)
		}
		return fine
	}
	for _, i := range sel {
		one(int(i))
	}
	return fine
}

// mulRows: two int64 make at most 126 bits, which 38 digits always hold.
func mulRows(a, b []dec, ma, mb int, out []dec, sel []int32, valid []byte) bool {
	fine := true
	one := func(i int) {
		x, y := a[i&ma], b[i&mb]
		if fits64(x) && fits64(y) {
			out[i] = mul64(int64(x.LowBits()), int64(y.LowBits()))
			return
		}
		r, ok := mulDec(x, y)
		out[i] = r
		fine = fine && fitsAt(r, ok, valid, i)
	}
	if sel != nil {
		for _, i := range sel {
			one(int(i))
		}
		return fine
	}
	for i := range out {
		x, y := a[i&ma], b[i&mb]
		if !fits64(x) || !fits64(y) {
			one(i)
			continue
		}
		hi, lo := bits.Mul64(x.LowBits(), y.LowBits())
		h := int64(hi) - int64(y.LowBits())&x.HighBits() - int64(x.LowBits())&y.HighBits()
		out[i] = decimal128.New(h, lo)
	}
	return fine
}

// fitsAt reports whether a result of more than 64 bits is all right: within 38
// digits, or of a row that is NULL.
func fitsAt(r dec, ok bool, valid []byte, i int) bool {
	return ok && sqltypes.Dec128Fits(r) || valid != nil && !bitmap{valid, 0}.get(i)
}
