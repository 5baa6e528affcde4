package expr

import (
	"math"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

var (
	errFloatOverflow  = pgerror.New(pgerror.NumericValueOutOfRange, "value out of range: overflow")
	errFloatUnderflow = pgerror.New(pgerror.NumericValueOutOfRange, "value out of range: underflow")
)

type float interface{ float32 | float64 }

// checkFloat turns an infinite result of finite inputs into an error, and a
// zero that should not be one.
func checkFloat[T float](r T, infIn, zeroOK bool) (T, error) {
	if math.IsInf(float64(r), 0) && !infIn {
		return 0, errFloatOverflow
	}
	if r == 0 && !zeroOK {
		return 0, errFloatUnderflow
	}
	return r, nil
}

func isInf[T float](v T) bool { return math.IsInf(float64(v), 0) }

func addFloat[T float](a, b T) (T, error) { return checkFloat(a+b, isInf(a) || isInf(b), true) }
func subFloat[T float](a, b T) (T, error) { return checkFloat(a-b, isInf(a) || isInf(b), true) }
func mulFloat[T float](a, b T) (T, error) {
	return checkFloat(a*b, isInf(a) || isInf(b), a == 0 || b == 0)
}
func divFloat[T float](a, b T) (T, error) {
	if b == 0 && a == a {
		return 0, sqltypes.ErrDivisionByZero
	}
	return checkFloat(a/b, isInf(a), a == 0 || isInf(b))
}

// floatKernels are the four operations without checks, whole columns at once.
func floatKernel[T float](op byte, a, b []T, ma, mb int, out []T) {
	switch op {
	case '+':
		for i := range out {
			out[i] = a[i&ma] + b[i&mb]
		}
	case '-':
		for i := range out {
			out[i] = a[i&ma] - b[i&mb]
		}
	case '*':
		for i := range out {
			out[i] = a[i&ma] * b[i&mb]
		}
	case '/':
		for i := range out {
			out[i] = a[i&ma] / b[i&mb]
		}
	}
}

// floatOp computes all rows at once and, where a result is infinite, NaN or
// zero, that row again with the checks.
func floatOp[T float](op byte, one func(a, b T) (T, error)) evalFunc {
	return func(cc *call, args []vec, n int, sel []int32) (vec, error) {
		n, sel, cst := outLen(n, sel, args...)
		a, b := values[T](args[0].arr), values[T](args[1].arr)
		ma, mb := stride(args[0]), stride(args[1])
		out := make([]T, n)
		floatKernel(op, a, b, ma, mb, out)
		valid := andValidity(n, args...)
		var err error
		rowsOf(n, sel, func(i int) {
			if r := out[i]; (r == 0 || r-r != 0) && err == nil && (valid == nil || bitmap{valid, 0}.get(i)) {
				_, err = one(a[i&ma], b[i&mb])
			}
		})
		if err != nil {
			return vec{}, err
		}
		return vec{arr: fixed(cc.typ.Arrow(), out, valid), cst: cst}, nil
	}
}

func floatOps[T float](name string) {
	two := "(" + name + "," + name + ") " + name
	one := "(" + name + ") " + name
	def("+"+two, floatOp('+', addFloat[T]))
	def("-"+two, floatOp('-', subFloat[T]))
	def("*"+two, floatOp('*', mulFloat[T]))
	def("/"+two, floatOp('/', divFloat[T]))
	def("-"+one, pure1(func(a T) T { return -a }))
	def("+"+one, relabel)
	abs := pure1(func(a T) T { return T(math.Abs(float64(a))) })
	def("abs"+one, abs)
	def("@"+one, abs)
}

func arithFloats() {
	floatOps[float32]("float4")
	floatOps[float64]("float8")
	for _, op := range []string{"+", "-", "*", "/"} {
		base := overloadBySig(op + "(float8,float8)")
		for _, args := range []string{"float4,float8", "float8,float4"} {
			def(op+"("+args+") float8", func(cc *call, in []vec, n int, sel []int32) (vec, error) {
				return base.eval(cc, []vec{widenFloat(in[0]), widenFloat(in[1])}, n, sel)
			})
		}
	}
}

func widenFloat(v vec) vec {
	if v.arr.DataType() != sqltypes.Float4.Arrow() {
		return v
	}
	in := values[float32](v.arr)
	out := make([]float64, len(in))
	for i, f := range in {
		out[i] = float64(f)
	}
	return sameNulls(v, sqltypes.Float8.Arrow(), out)
}
