package expr

import (
	"math"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

var (
	errLogZero     = pgerror.New(pgerror.InvalidArgumentForLog, "cannot take logarithm of zero")
	errLogNegative = pgerror.New(pgerror.InvalidArgumentForLog, "cannot take logarithm of a negative number")
	errSqrt        = pgerror.New(pgerror.InvalidArgumentForPower, "cannot take square root of a negative number")
	errPowZero     = pgerror.New(pgerror.InvalidArgumentForPower, "zero raised to a negative power is undefined")
	errPowComplex  = pgerror.New(pgerror.InvalidArgumentForPower, "a negative number raised to a non-integer power yields a complex result")
	errInputRange  = pgerror.New(pgerror.NumericValueOutOfRange, "input is out of range")
)

func init() {
	float1 := func(names []string, f func(float64) (float64, error)) {
		for _, n := range names {
			def(n+"(float8) float8", fn1(func(_ *call, x float64) (float64, error) { return f(x) }))
		}
	}
	ok := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) { return f(x), nil }
	}
	float1([]string{"ceil", "ceiling"}, ok(math.Ceil))
	float1([]string{"floor"}, ok(math.Floor))
	float1([]string{"round"}, ok(math.RoundToEven))
	float1([]string{"trunc"}, ok(math.Trunc))
	float1([]string{"cbrt", "||/"}, ok(math.Cbrt))
	float1([]string{"sign"}, ok(func(x float64) float64 {
		switch {
		case x > 0:
			return 1
		case x < 0:
			return -1
		}
		return 0
	}))
	float1([]string{"sqrt", "|/"}, func(x float64) (float64, error) {
		if x < 0 {
			return 0, errSqrt
		}
		return math.Sqrt(x), nil
	})
	float1([]string{"exp"}, func(x float64) (float64, error) {
		return checkFloat(math.Exp(x), math.IsInf(x, 0), math.IsInf(x, -1))
	})
	float1([]string{"ln"}, logFloat(math.Log))
	float1([]string{"log", "log10"}, logFloat(math.Log10))
	float1([]string{"degrees"}, func(x float64) (float64, error) { return checkFloat(x*(180/math.Pi), isInf(x), true) })
	float1([]string{"radians"}, ok(func(x float64) float64 { return x * (math.Pi / 180) }))
	trigonometry(float1, ok)
	for _, n := range []string{"power", "pow", "^"} {
		def(n+"(float8,float8) float8", fn2(func(_ *call, x, y float64) (float64, error) { return powFloat(x, y) }))
	}
	def("atan2(float8,float8) float8", pure2(math.Atan2))
	def("pi() float8", fn0(func(*call) (float64, error) { return math.Pi, nil }))
	def("random() float8", fn0(func(cc *call) (float64, error) { return cc.ctx.random(), nil }), volatile)
	def("sign(numeric) numeric", pure1(numericSignOf), returning(func([]sqltypes.Type) sqltypes.Type { return scaled(0) }))
	divisors[int32]("int4", math.MinInt32, sqltypes.OIDInt4)
	divisors[int64]("int8", math.MinInt64, sqltypes.OIDInt8)
	def("width_bucket(float8,float8,float8,int4) int4", fn4(func(_ *call, x, lo, hi float64, n int32) (int32, error) {
		return widthBucket(x, lo, hi, n)
	}))
}

func logFloat(f func(float64) float64) func(float64) (float64, error) {
	return func(x float64) (float64, error) {
		switch {
		case x == 0:
			return 0, errLogZero
		case x < 0:
			return 0, errLogNegative
		}
		return f(x), nil
	}
}

func powFloat(x, y float64) (float64, error) {
	switch {
	case x == 0 && y < 0:
		return 0, errPowZero
	case x < 0 && y != math.Floor(y) && !math.IsInf(y, 0) && !math.IsInf(x, 0) && y == y:
		return 0, errPowComplex
	case x != x && y == 0, x == 1:
		return 1, nil
	}
	r := math.Pow(x, y)
	inf := math.IsInf(x, 0) || math.IsInf(y, 0)
	return checkFloat(r, inf, inf || x == 0)
}

func trigonometry(float1 func([]string, func(float64) (float64, error)), ok func(func(float64) float64) func(float64) (float64, error)) {
	finite := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) {
			if isInf(x) {
				return 0, errInputRange
			}
			return f(x), nil
		}
	}
	unit := func(f func(float64) float64) func(float64) (float64, error) {
		return func(x float64) (float64, error) {
			if x < -1 || x > 1 {
				return 0, errInputRange
			}
			return f(x), nil
		}
	}
	float1([]string{"sin"}, finite(math.Sin))
	float1([]string{"cos"}, finite(math.Cos))
	float1([]string{"tan"}, finite(math.Tan))
	float1([]string{"cot"}, finite(func(x float64) float64 { return 1 / math.Tan(x) }))
	float1([]string{"asin"}, unit(math.Asin))
	float1([]string{"acos"}, unit(math.Acos))
	float1([]string{"atan"}, ok(math.Atan))
	float1([]string{"sinh"}, ok(math.Sinh))
	float1([]string{"cosh"}, ok(math.Cosh))
	float1([]string{"tanh"}, ok(math.Tanh))
	float1([]string{"asinh"}, ok(math.Asinh))
	float1([]string{"acosh"}, func(x float64) (float64, error) {
		if x < 1 {
			return 0, errInputRange
		}
		return math.Acosh(x), nil
	})
	float1([]string{"atanh"}, unit(math.Atanh))
}

// divisors registers gcd and lcm.
func divisors[T integer](name string, lowest T, oid uint32) {
	two := "(" + name + "," + name + ") " + name
	gcd := func(a, b T) (T, error) {
		for b != 0 {
			if b == -1 { // MIN % -1 traps on some machines
				a, b = b, 0
				continue
			}
			a, b = b, a%b
		}
		if a == lowest {
			return 0, errOutOfRange[oid]
		}
		return max(a, -a), nil
	}
	def("gcd"+two, fn2(func(_ *call, a, b T) (T, error) { return gcd(a, b) }))
	def("lcm"+two, fn2(func(_ *call, a, b T) (T, error) {
		if a == 0 || b == 0 {
			return 0, nil
		}
		g, err := gcd(a, b)
		if err != nil {
			return 0, err
		}
		p := mul64(int64(a/g), int64(b))
		v := int64(p.LowBits())
		if !fits64(p) || int64(T(v)) != v || T(v) == lowest {
			return 0, errOutOfRange[oid]
		}
		return T(max(v, -v)), nil
	}))
}

func widthBucket(x, lo, hi float64, n int32) (int32, error) {
	bad := func(msg string) error { return pgerror.New("2201G", "%s", msg) }
	switch {
	case n <= 0:
		return 0, bad("count must be greater than zero")
	case x != x || lo != lo || hi != hi:
		return 0, bad("operand, lower bound, and upper bound cannot be NaN")
	case isInf(lo) || isInf(hi):
		return 0, bad("lower and upper bounds must be finite")
	case lo == hi:
		return 0, bad("lower bound cannot equal upper bound")
	}
	if lo > hi {
		x, lo, hi = -x, -lo, -hi
	}
	switch {
	case x < lo:
		return 0, nil
	case x >= hi:
		if n == math.MaxInt32 {
			return 0, errOutOfRange[sqltypes.OIDInt4]
		}
		return n + 1, nil
	}
	return int32(float64(n)*((x-lo)/(hi-lo))) + 1, nil
}
