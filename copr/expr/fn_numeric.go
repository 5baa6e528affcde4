package expr

import (
	"math"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

type num = *apd.Decimal

// Digits of PostgreSQL's numeric functions: results have at least so many
// significant digits, and at most so many after the point.
const (
	sigDigitsMin    = 16
	displayScaleMax = 1000
	guardDigits     = 12
	numericExpMax   = 131072 // 10^this overflows
)

func init() {
	// Of a numeric without a scale the result has none: it may be NaN, infinite
	// or of more than 38 digits.
	whole := returning(func(args []sqltypes.Type) sqltypes.Type {
		if args[0].FixedScale() {
			return scaled(0)
		}
		return args[0]
	})
	def("ceil(numeric) numeric", pure1(ceilNumeric), whole)
	def("ceiling(numeric) numeric", pure1(ceilNumeric), whole)
	def("floor(numeric) numeric", pure1(floorNumeric), whole)
	def("round(numeric) numeric", pure1(func(d num) num { return sqltypes.RoundNumeric(d, 0) }), whole)
	def("trunc(numeric) numeric", pure1(func(d num) num { return sqltypes.TruncNumeric(d, 0) }), whole)
	clamp := func(s int32) int32 { return min(max(s, -2000), 2000) }
	def("round(numeric,int4) numeric", pure2(func(d num, s int32) num {
		return sqltypes.RoundNumeric(d, clamp(s))
	}))
	def("trunc(numeric,int4) numeric", pure2(func(d num, s int32) num {
		return sqltypes.TruncNumeric(d, clamp(s))
	}))
	def("div(numeric,numeric) numeric", fn2(func(_ *call, a, b num) (num, error) { return divTrunc(a, b) }))
	for _, n := range []string{"power", "pow", "^"} {
		def(n+"(numeric,numeric) numeric", fn2(func(_ *call, a, b num) (num, error) { return powNumeric(a, b) }))
	}
	def("sqrt(numeric) numeric", fn1(func(_ *call, a num) (num, error) { return sqrtNumeric(a) }))
	def("exp(numeric) numeric", fn1(func(_ *call, a num) (num, error) { return expNumeric(a) }))
	def("ln(numeric) numeric", fn1(func(_ *call, a num) (num, error) { return lnNumeric(a) }))
	log10 := fn1(func(_ *call, a num) (num, error) { return logNumeric(sqltypes.NumericFromInt(10), a) })
	def("log(numeric) numeric", log10)
	def("log10(numeric) numeric", log10)
	def("log(numeric,numeric) numeric", fn2(func(_ *call, b, a num) (num, error) { return logNumeric(b, a) }))
	def("scale(numeric) int4", opt1(func(d num) (int32, bool, error) {
		return sqltypes.NumericScale(d), d.Form == apd.Finite, nil
	}))
	def("min_scale(numeric) int4", opt1(func(d num) (int32, bool, error) {
		return sqltypes.NumericScale(trimScale(d)), d.Form == apd.Finite, nil
	}))
	def("trim_scale(numeric) numeric", pure1(trimScale))
	def("gcd(numeric,numeric) numeric", pure2(gcdNumeric))
	def("lcm(numeric,numeric) numeric", pure2(lcmNumeric))
	def("factorial(int8) numeric", fn1(func(_ *call, n int64) (num, error) { return factorial(n) }))
}

func finite(d num) bool { return d.Form == apd.Finite }

func numNaN() num { return &apd.Decimal{Form: apd.NaN} }

func numInf(neg bool) num { return &apd.Decimal{Form: apd.Infinite, Negative: neg} }

func numericSignOf(d num) num {
	if d.Form == apd.NaN {
		return d
	}
	return sqltypes.NumericFromInt(int64(sqltypes.NumericSign(d)))
}

// floorNumeric and ceilNumeric round towards one side.
func floorNumeric(d num) num {
	t := sqltypes.TruncNumeric(d, 0)
	if d.Negative && sqltypes.NumericCmp(t, d) != 0 {
		return sqltypes.NumericSub(t, sqltypes.NumericFromInt(1))
	}
	return t
}

func ceilNumeric(d num) num {
	t := sqltypes.TruncNumeric(d, 0)
	if !d.Negative && sqltypes.NumericCmp(t, d) != 0 {
		return sqltypes.NumericAdd(t, sqltypes.NumericFromInt(1))
	}
	return t
}

func trimScale(d num) num {
	if !finite(d) {
		return d
	}
	out := new(apd.Decimal).Set(d)
	ten := apd.NewBigInt(10)
	var q, r apd.BigInt
	for out.Exponent < 0 {
		if q.QuoRem(&out.Coeff, ten, &r); r.Sign() != 0 {
			break
		}
		out.Coeff.Set(&q)
		out.Exponent++
	}
	return out
}

func divTrunc(a, b num) (num, error) {
	if !finite(a) || !finite(b) {
		return sqltypes.NumericDiv(a, b)
	}
	if b.Coeff.Sign() == 0 {
		return nil, sqltypes.ErrDivisionByZero
	}
	return sqltypes.NumericDivScale(a, b, 0, false), nil
}

func gcdNumeric(a, b num) num {
	if !finite(a) || !finite(b) {
		return numNaN()
	}
	for b.Coeff.Sign() != 0 {
		r, err := sqltypes.NumericMod(a, b)
		if err != nil {
			return numNaN()
		}
		a, b = b, r
	}
	return sqltypes.RoundNumeric(numericAbs(a), max(sqltypes.NumericScale(a), sqltypes.NumericScale(b)))
}

func lcmNumeric(a, b num) num {
	if !finite(a) || !finite(b) {
		return numNaN()
	}
	scale := max(sqltypes.NumericScale(a), sqltypes.NumericScale(b))
	if a.Coeff.Sign() == 0 || b.Coeff.Sign() == 0 {
		return sqltypes.RoundNumeric(sqltypes.NumericFromInt(0), scale)
	}
	q := sqltypes.NumericDivScale(a, gcdNumeric(a, b), 0, false)
	return sqltypes.RoundNumeric(numericAbs(sqltypes.NumericMul(q, b)), scale)
}

const factorialMax = 32177

func factorial(n int64) (num, error) {
	if n < 0 {
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "factorial of a negative number is undefined")
	}
	if n > factorialMax {
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "value overflows numeric format")
	}
	out := sqltypes.NumericFromInt(1)
	for i := int64(2); i <= n; i++ {
		out.Coeff.Mul(&out.Coeff, apd.NewBigInt(i))
	}
	return out, nil
}

// clampScale bounds a display scale, at least those of the inputs.
func clampScale(s int32, in ...num) int32 {
	for _, d := range in {
		s = max(s, sqltypes.NumericScale(d))
	}
	return min(max(s, 0), displayScaleMax)
}

// digitsContext is an apd context with digits significant digits.
func digitsContext(digits int64) *apd.Context {
	return &apd.Context{
		Precision: uint32(max(digits, 20)), MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent,
		Rounding: apd.RoundHalfUp, Traps: apd.DefaultTraps &^ (apd.Subnormal | apd.Underflow),
	}
}

func roundResult(d num, err error, scale int32) (num, error) {
	if err != nil {
		return nil, pgerror.Wrap(err, pgerror.NumericValueOutOfRange, "value overflows numeric format")
	}
	return sqltypes.RoundNumeric(d, scale), nil
}

// topDigit is the power of ten of the first digit of a nonzero number.
func topDigit(d num) int32 { return int32(len(d.Coeff.String())) - 1 + d.Exponent }

func floorDiv4(x int32) int32 {
	if x < 0 {
		return -((-x + 3) / 4)
	}
	return x / 4
}

func sqrtNumeric(a num) (num, error) {
	switch {
	case a.Form == apd.NaN:
		return a, nil
	case a.Negative:
		return nil, errSqrt
	case a.Form == apd.Infinite:
		return a, nil
	}
	weight := int32(0)
	if a.Coeff.Sign() != 0 {
		weight = floorDiv4(topDigit(a))
	}
	scale := clampScale(sigDigitsMin-((weight+1)*4/2-1), a)
	out := new(apd.Decimal)
	_, err := digitsContext(int64(scale)+int64(max(weight, 0)*2)+guardDigits).Sqrt(out, a)
	return roundResult(out, err, scale)
}

func toFloat(d num) float64 {
	f, err := numericFloat(d)
	if err != nil {
		if d.Negative {
			return math.Inf(-1)
		}
		return math.Inf(1)
	}
	return f
}

const log10e = 0.434294481903252

func expNumeric(a num) (num, error) {
	switch {
	case a.Form == apd.NaN:
		return a, nil
	case a.Form == apd.Infinite && a.Negative:
		return sqltypes.NumericFromInt(0), nil
	case a.Form == apd.Infinite:
		return a, nil
	}
	w := min(max(toFloat(a)*log10e, -2000), 2000)
	if toFloat(a)*log10e > numericExpMax {
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "value overflows numeric format")
	}
	scale := clampScale(sigDigitsMin-int32(w), a)
	if toFloat(a)*log10e < -float64(scale)-1 {
		return sqltypes.RoundNumeric(sqltypes.NumericFromInt(0), scale), nil
	}
	out := new(apd.Decimal)
	_, err := digitsContext(int64(scale)+int64(max(toFloat(a)*log10e, 0))+guardDigits).Exp(out, a)
	return roundResult(out, err, scale)
}

// lnWeight estimates the power of ten of ln(d), as PostgreSQL's
// estimate_ln_dweight.
func lnWeight(d num) int32 {
	one := sqltypes.NumericFromInt(1)
	if f := toFloat(d); f >= 0.9 && f <= 1.1 {
		x := sqltypes.NumericSub(d, one)
		if x.Coeff.Sign() == 0 {
			return 0
		}
		return topDigit(x)
	}
	digits := d.Coeff.String()
	lead := digits
	if len(lead) > 8 {
		lead = lead[:8]
	}
	v := 0.0
	for _, c := range lead {
		v = v*10 + float64(c-'0')
	}
	ln := math.Log(v) + float64(int32(len(digits)-len(lead))+d.Exponent)*2.302585092994046
	return int32(math.Log10(math.Abs(ln)))
}

func checkLog(a num) error {
	switch s := sqltypes.NumericSign(a); {
	case a.Form == apd.NaN:
		return nil
	case s == 0:
		return errLogZero
	case s < 0:
		return errLogNegative
	}
	return nil
}

func lnNumeric(a num) (num, error) {
	if err := checkLog(a); err != nil || !finite(a) {
		return a, err
	}
	scale := clampScale(sigDigitsMin-lnWeight(a), a)
	out, err := lnDigits(a, int64(scale)+guardDigits+8)
	return roundResult(out, err, scale)
}

func lnDigits(a num, digits int64) (num, error) {
	out := new(apd.Decimal)
	_, err := digitsContext(digits).Ln(out, a)
	return out, err
}

func logNumeric(base, a num) (num, error) {
	if base.Form == apd.NaN || a.Form == apd.NaN {
		return numNaN(), nil
	}
	if err := checkLog(base); err != nil {
		return nil, err
	}
	if err := checkLog(a); err != nil {
		return nil, err
	}
	switch {
	case !finite(base) && !finite(a):
		return numNaN(), nil
	case !finite(base):
		return sqltypes.NumericFromInt(0), nil
	case !finite(a):
		return a, nil
	}
	scale := clampScale(sigDigitsMin-(lnWeight(a)-lnWeight(base)), base, a)
	digits := int64(scale) + guardDigits + 12
	lb, err1 := lnDigits(base, digits)
	la, err2 := lnDigits(a, digits)
	if err1 != nil || err2 != nil {
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "value overflows numeric format")
	}
	if lb.Coeff.Sign() == 0 {
		return nil, sqltypes.ErrDivisionByZero
	}
	out := new(apd.Decimal)
	_, err := digitsContext(digits).Quo(out, la, lb)
	return roundResult(out, err, scale)
}

// powSpecial is a ^ b where one of them isn't finite.
func powSpecial(a, b num) (num, error) {
	one := sqltypes.NumericFromInt(1)
	isOne := finite(a) && sqltypes.NumericCmp(a, one) == 0
	switch {
	case isOne, finite(b) && sqltypes.NumericSign(b) == 0:
		return one, nil
	case a.Form == apd.NaN || b.Form == apd.NaN:
		return numNaN(), nil
	case b.Form == apd.Infinite:
		abs := sqltypes.NumericCmp(numericAbs(a), one)
		switch {
		case sqltypes.NumericSign(a) == 0 && b.Negative:
			return nil, errPowZero
		case abs == 0:
			return one, nil
		case (abs > 0) == b.Negative:
			return sqltypes.NumericFromInt(0), nil
		}
		return numInf(false), nil
	case b.Negative:
		return sqltypes.NumericFromInt(0), nil
	}
	n, isInt := exactInt(b)
	if a.Negative && !isInt {
		return nil, errPowComplex
	}
	return numInf(a.Negative && n%2 != 0), nil
}

// exactInt is b as an integer where it is one.
func exactInt(b num) (int64, bool) {
	n, ok := sqltypes.NumericToInt(b)
	return n, ok && sqltypes.NumericCmp(sqltypes.NumericFromInt(n), b) == 0
}

func powNumeric(a, b num) (num, error) {
	if !finite(a) || !finite(b) {
		return powSpecial(a, b)
	}
	sign := sqltypes.NumericSign(a)
	if sign == 0 && b.Negative {
		return nil, errPowZero
	}
	if n, ok := exactInt(b); ok && n >= math.MinInt32 && n <= math.MaxInt32 {
		return powInt(a, n, clampScale(sigDigitsMin, a))
	}
	if sign == 0 {
		return sqltypes.RoundNumeric(sqltypes.NumericFromInt(0), sigDigitsMin), nil
	}
	if sign < 0 {
		return nil, errPowComplex
	}
	w := math.Log(toFloat(a)) * toFloat(b) * log10e
	if w > numericExpMax {
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "value overflows numeric format")
	}
	scale := clampScale(sigDigitsMin-int32(max(w, -2000)), a, b)
	if w < -float64(scale)-1 {
		return sqltypes.RoundNumeric(sqltypes.NumericFromInt(0), scale), nil
	}
	digits := int64(scale) + int64(max(w, 0)) + guardDigits
	ln, err := lnDigits(a, digits+int64(max(topDigit(b), 0))+8)
	if err != nil {
		return roundResult(nil, err, scale)
	}
	p, out := new(apd.Decimal), new(apd.Decimal)
	if _, err = digitsContext(digits+20).Mul(p, ln, b); err == nil {
		_, err = digitsContext(digits).Exp(out, p)
	}
	return roundResult(out, err, scale)
}

// powInt raises to a whole power by squaring, keeping only the digits that
// the result shows.
func powInt(a num, n int64, scale int32) (num, error) {
	if sqltypes.NumericSign(a) == 0 {
		if n == 0 {
			return sqltypes.RoundNumeric(sqltypes.NumericFromInt(1), scale), nil
		}
		return sqltypes.RoundNumeric(sqltypes.NumericFromInt(0), scale), nil
	}
	f := math.Abs(toFloat(a))
	w := math.Log10(f) * float64(n)
	switch {
	case w > numericExpMax:
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "value overflows numeric format")
	case w < -float64(scale)-2 && n != 0:
		return sqltypes.RoundNumeric(sqltypes.NumericFromInt(0), scale), nil
	}
	c := digitsContext(int64(scale) + int64(max(w, 0)) + guardDigits + 10)
	out, base := sqltypes.NumericFromInt(1), new(apd.Decimal).Set(a)
	for k := max(n, -n); k > 0; k >>= 1 {
		if k&1 == 1 {
			if _, err := c.Mul(out, out, base); err != nil {
				return roundResult(nil, err, scale)
			}
		}
		if k > 1 {
			if _, err := c.Mul(base, base, base); err != nil {
				return roundResult(nil, err, scale)
			}
		}
	}
	if n < 0 {
		if _, err := c.Quo(out, sqltypes.NumericFromInt(1), out); err != nil {
			return roundResult(nil, err, scale)
		}
	}
	return roundResult(out, nil, scale)
}
