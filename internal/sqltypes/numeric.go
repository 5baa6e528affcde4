package sqltypes

import (
	"fmt"
	"math"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
)

// Limits of numeric, as PostgreSQL's numeric.h has them.
const (
	numericWeightDigitsMax = 131072 // before the point
	numericScaleMax        = 16383  // after the point
	numericDisplayScaleMax = 1000
	numericSigDigitsMin    = 16 // of a quotient
	decDigits              = 4  // decimal digits of PostgreSQL's base-10000 digit
)

func errNumericOverflow() error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "value overflows numeric format")
}

func badSyntax(typ, s string) error {
	return pgerror.New(pgerror.InvalidTextRepresentation, "invalid input syntax for type %s: %q", typ, Quotable(s))
}

// Quotable is a string that %q prints as PostgreSQL prints it between quotes.
type Quotable string

// Format prints the string between plain double quotes.
func (q Quotable) Format(f fmt.State, _ rune) {
	_, _ = f.Write([]byte(`"` + string(q) + `"`))
}

var pow10Table = func() (t [64]apd.BigInt) {
	t[0].SetInt64(1)
	ten := apd.NewBigInt(10)
	for i := 1; i < len(t); i++ {
		t[i].Mul(&t[i-1], ten)
	}
	return t
}()

func pow10(n int32) *apd.BigInt {
	if n < int32(len(pow10Table)) {
		return &pow10Table[n]
	}
	return new(apd.BigInt).Exp(apd.NewBigInt(10), apd.NewBigInt(int64(n)), nil)
}

func trimSpace(s string) string { return strings.Trim(s, " \t\n\r\v\f") }

// ParseNumeric reads a numeric as PostgreSQL does; its display scale is the
// negated exponent of the result.
func ParseNumeric(s string) (*apd.Decimal, error) {
	t := trimSpace(s)
	d := new(apd.Decimal)
	rest := t
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		d.Negative = rest[0] == '-'
		rest = rest[1:]
	}
	switch strings.ToLower(rest) {
	case "nan":
		if rest != t {
			return nil, badSyntax("numeric", s)
		}
		d.Form = apd.NaN
		return d, nil
	case "infinity", "inf":
		d.Form = apd.Infinite
		return d, nil
	}
	digits, scale, ok := splitDecimal(rest)
	if !ok {
		return nil, badSyntax("numeric", s)
	}
	if scale < -numericWeightDigitsMax || scale > 2*numericWeightDigitsMax || int64(len(digits))-scale > numericWeightDigitsMax && strings.Trim(digits, "0") != "" {
		return nil, errNumericOverflow()
	}
	if len(digits) <= 18 {
		var v uint64
		for i := 0; i < len(digits); i++ {
			v = v*10 + uint64(digits[i]-'0')
		}
		d.Coeff.SetUint64(v)
	} else if _, ok := d.Coeff.SetString(digits, 10); !ok {
		return nil, badSyntax("numeric", s)
	}
	d.Exponent = int32(-scale)
	if scale < 0 {
		d.Coeff.Mul(&d.Coeff, pow10(int32(-scale)))
		d.Exponent = 0
	}
	if scale > numericScaleMax {
		d = RoundNumeric(d, numericScaleMax)
	}
	return noNegativeZero(d), nil
}

// splitDecimal splits [digits][.digits][e[sign]digits] into its digits and
// its scale.
func splitDecimal(s string) (digits string, scale int64, ok bool) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	digits = s[:i]
	if i < len(s) && s[i] == '.' {
		j := i + 1
		for j < len(s) && isDigit(s[j]) {
			j++
		}
		scale = int64(j - i - 1)
		digits += s[i+1 : j]
		i = j
	}
	if digits == "" {
		return "", 0, false
	}
	if i < len(s) && (s[i] == 'e' || s[i] == 'E') {
		i++
		neg := false
		if i < len(s) && (s[i] == '-' || s[i] == '+') {
			neg = s[i] == '-'
			i++
		}
		start, exp := i, int64(0)
		for ; i < len(s) && isDigit(s[i]); i++ {
			exp = min(exp*10+int64(s[i]-'0'), math.MaxInt32)
		}
		if i == start {
			return "", 0, false
		}
		if neg {
			exp = -exp
		}
		scale -= exp
	}
	return digits, scale, i == len(s)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func noNegativeZero(d *apd.Decimal) *apd.Decimal {
	if d.Negative && d.Form == apd.Finite && d.Coeff.Sign() == 0 {
		d.Negative = false
	}
	return d
}

// AppendNumeric appends d as PostgreSQL prints it, with its display scale.
func AppendNumeric(dst []byte, d *apd.Decimal) []byte {
	switch d.Form {
	case apd.NaN, apd.NaNSignaling:
		return append(dst, "NaN"...)
	case apd.Infinite:
		if d.Negative {
			dst = append(dst, '-')
		}
		return append(dst, "Infinity"...)
	}
	if d.Negative {
		dst = append(dst, '-')
	}
	start := len(dst)
	dst = d.Coeff.Append(dst, 10)
	if d.Exponent > 0 {
		for range d.Exponent {
			dst = append(dst, '0')
		}
		return dst
	}
	return insertPoint(dst, start, int(-d.Exponent))
}

// insertPoint puts a decimal point before the last scale digits of
// dst[start:], with leading zeros where there are too few digits.
func insertPoint(dst []byte, start, scale int) []byte {
	if scale == 0 {
		return dst
	}
	n := len(dst) - start
	if n <= scale {
		pad := scale + 1 - n
		for range pad {
			dst = append(dst, '0')
		}
		copy(dst[start+pad:], dst[start:start+n])
		for i := range pad {
			dst[start+i] = '0'
		}
		n += pad
	}
	dst = append(dst, 0)
	point := start + n - scale
	copy(dst[point+1:], dst[point:len(dst)-1])
	dst[point] = '.'
	return dst
}

// NumericScale is the display scale of a finite numeric.
func NumericScale(d *apd.Decimal) int32 { return max(-d.Exponent, 0) }

// RoundNumeric gives d scale digits after the point, rounding halves away
// from zero as PostgreSQL does; scale may be negative (then the result has
// scale 0). NaN and infinities stay.
func RoundNumeric(d *apd.Decimal, scale int32) *apd.Decimal { return rescale(d, scale, true) }

// TruncNumeric is RoundNumeric without rounding.
func TruncNumeric(d *apd.Decimal, scale int32) *apd.Decimal { return rescale(d, scale, false) }

func rescale(d *apd.Decimal, scale int32, round bool) *apd.Decimal {
	if d.Form != apd.Finite || -d.Exponent == scale {
		return d
	}
	out := &apd.Decimal{Negative: d.Negative, Exponent: -scale}
	if up := scale + d.Exponent; up >= 0 {
		out.Coeff.Mul(&d.Coeff, pow10(up))
		return out
	}
	down := -(scale + d.Exponent)
	if down > int32(d.Coeff.BitLen())/3+2 {
		out.Exponent = min(out.Exponent, 0)
		out.Negative = false
		return out
	}
	div := pow10(down)
	var rem apd.BigInt
	out.Coeff.QuoRem(&d.Coeff, div, &rem)
	if round {
		rem.Add(&rem, &rem)
		if rem.Cmp(div) >= 0 {
			out.Coeff.Add(&out.Coeff, apd.NewBigInt(1))
		}
	}
	if scale < 0 {
		out.Coeff.Mul(&out.Coeff, pow10(-scale))
		out.Exponent = 0
	}
	return noNegativeZero(out)
}

// FitNumeric applies t's precision and scale to d, as an assignment does.
func FitNumeric(d *apd.Decimal, t Type) (*apd.Decimal, error) {
	if t.Precision == 0 && t.Scale < 0 {
		return d, nil
	}
	if d.Form == apd.Infinite {
		return nil, pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
			WithDetail("A field with precision %d, scale %d cannot hold an infinite value.", t.Precision, t.Scale)
	}
	if d.Form != apd.Finite {
		if t.FixedScale() {
			return nil, pgerror.Unsupported("NaN in a numeric with a scale")
		}
		return d, nil
	}
	out := RoundNumeric(d, t.Scale)
	precision := t.Precision
	if precision == 0 {
		precision = DecimalDigitsMax
		if !t.FixedScale() {
			return out, nil
		}
	}
	if out.Coeff.CmpAbs(pow10(precision)) < 0 {
		return out, nil
	}
	return nil, fieldOverflow(precision, t.Scale)
}

func fieldOverflow(precision, scale int32) error {
	limit, exp := "", int32(1)
	if precision != scale {
		limit, exp = "10^", precision-scale
	}
	return pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
		WithDetail("A field with precision %d, scale %d must round to an absolute value less than %s%d.", precision, scale, limit, exp)
}

func nan() *apd.Decimal { return &apd.Decimal{Form: apd.NaN} }

func inf(negative bool) *apd.Decimal { return &apd.Decimal{Form: apd.Infinite, Negative: negative} }

// NumericSign is -1, 0 or 1; NaN has sign 0.
func NumericSign(d *apd.Decimal) int {
	switch {
	case d.Form == apd.NaN || d.Form == apd.NaNSignaling || d.Form == apd.Finite && d.Coeff.Sign() == 0:
		return 0
	case d.Negative:
		return -1
	}
	return 1
}

// NumericNeg is -a.
func NumericNeg(a *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal).Set(a)
	if a.Form != apd.NaN {
		out.Negative = !a.Negative
	}
	return noNegativeZero(out)
}

// NumericAdd is a + b, with the larger display scale.
func NumericAdd(a, b *apd.Decimal) *apd.Decimal {
	switch {
	case a.Form == apd.NaN || b.Form == apd.NaN:
		return nan()
	case a.Form == apd.Infinite:
		if b.Form == apd.Infinite && a.Negative != b.Negative {
			return nan()
		}
		return a
	case b.Form == apd.Infinite:
		return b
	}
	out := &apd.Decimal{Exponent: min(a.Exponent, b.Exponent)}
	a, b = rescale(a, -out.Exponent, false), rescale(b, -out.Exponent, false)
	switch {
	case a.Negative == b.Negative:
		out.Coeff.Add(&a.Coeff, &b.Coeff)
		out.Negative = a.Negative
	case a.Coeff.CmpAbs(&b.Coeff) >= 0:
		out.Coeff.Sub(&a.Coeff, &b.Coeff)
		out.Negative = a.Negative
	default:
		out.Coeff.Sub(&b.Coeff, &a.Coeff)
		out.Negative = b.Negative
	}
	return noNegativeZero(out)
}

// NumericSub is a - b.
func NumericSub(a, b *apd.Decimal) *apd.Decimal { return NumericAdd(a, NumericNeg(b)) }

// NumericMul is a * b, with the sum of the display scales.
func NumericMul(a, b *apd.Decimal) *apd.Decimal {
	if a.Form == apd.NaN || b.Form == apd.NaN {
		return nan()
	}
	if a.Form == apd.Infinite || b.Form == apd.Infinite {
		if NumericSign(a) == 0 || NumericSign(b) == 0 {
			return nan()
		}
		return inf(a.Negative != b.Negative)
	}
	out := &apd.Decimal{Negative: a.Negative != b.Negative, Exponent: a.Exponent + b.Exponent}
	out.Coeff.Mul(&a.Coeff, &b.Coeff)
	if -out.Exponent > numericScaleMax {
		out = RoundNumeric(out, numericScaleMax)
	}
	return noNegativeZero(out)
}

// weight10000 is the weight of the first base-10000 digit and that digit, as
// PostgreSQL's division scale needs them.
func weight10000(d *apd.Decimal) (weight, first int32) {
	if d.Coeff.Sign() == 0 {
		return 0, 0
	}
	var buf [64]byte
	digits := d.Coeff.Append(buf[:0], 10)
	top := int32(len(digits)) - 1 + d.Exponent // power of ten of the first digit
	weight = top / decDigits
	if top < 0 && top%decDigits != 0 {
		weight--
	}
	n := top - weight*decDigits + 1 // leading digits in the first base-10000 digit
	for i := range n {
		first *= 10
		if int(i) < len(digits) {
			first += int32(digits[i] - '0')
		}
	}
	return weight, first
}

// DivScale is the display scale of a / b: PostgreSQL's select_div_scale.
func DivScale(a, b *apd.Decimal) int32 {
	wa, fa := weight10000(a)
	wb, fb := weight10000(b)
	q := wa - wb
	if fa <= fb {
		q--
	}
	s := numericSigDigitsMin - q*decDigits
	s = max(s, NumericScale(a), NumericScale(b), 0)
	return min(s, numericDisplayScaleMax)
}

// ErrDivisionByZero is 22012.
var ErrDivisionByZero = pgerror.New(pgerror.DivisionByZero, "division by zero")

// NumericDiv is a / b with PostgreSQL's choice of scale.
func NumericDiv(a, b *apd.Decimal) (*apd.Decimal, error) {
	if a.Form == apd.NaN || b.Form == apd.NaN {
		return nan(), nil
	}
	if a.Form == apd.Infinite {
		if b.Form == apd.Infinite {
			return nan(), nil
		}
		if NumericSign(b) == 0 {
			return nil, ErrDivisionByZero
		}
		return inf(a.Negative != b.Negative), nil
	}
	if b.Form == apd.Infinite {
		return new(apd.Decimal), nil
	}
	if b.Coeff.Sign() == 0 {
		return nil, ErrDivisionByZero
	}
	return NumericDivScale(a, b, DivScale(a, b), true), nil
}

// NumericDivScale is a / b of finite numbers to scale digits, rounded or
// truncated; b is not zero.
func NumericDivScale(a, b *apd.Decimal, scale int32, round bool) *apd.Decimal {
	out := &apd.Decimal{Negative: a.Negative != b.Negative, Exponent: -scale}
	num, den := new(apd.BigInt).Set(&a.Coeff), new(apd.BigInt).Set(&b.Coeff)
	if shift := scale + a.Exponent - b.Exponent; shift >= 0 {
		num.Mul(num, pow10(shift))
	} else {
		den.Mul(den, pow10(-shift))
	}
	var rem apd.BigInt
	out.Coeff.QuoRem(num, den, &rem)
	if round {
		rem.Add(&rem, &rem)
		if rem.CmpAbs(den) >= 0 {
			out.Coeff.Add(&out.Coeff, apd.NewBigInt(1))
		}
	}
	return noNegativeZero(out)
}

// NumericMod is a % b, with the sign of a and the larger display scale.
func NumericMod(a, b *apd.Decimal) (*apd.Decimal, error) {
	if a.Form == apd.NaN || b.Form == apd.NaN {
		return nan(), nil
	}
	if a.Form == apd.Infinite {
		if NumericSign(b) == 0 && b.Form == apd.Finite {
			return nil, ErrDivisionByZero
		}
		return nan(), nil
	}
	if b.Form == apd.Infinite {
		return a, nil
	}
	if b.Coeff.Sign() == 0 {
		return nil, ErrDivisionByZero
	}
	out := &apd.Decimal{Negative: a.Negative, Exponent: min(a.Exponent, b.Exponent)}
	a, b = rescale(a, -out.Exponent, false), rescale(b, -out.Exponent, false)
	out.Coeff.Rem(&a.Coeff, &b.Coeff)
	return noNegativeZero(out), nil
}

// NumericCmp orders numerics as PostgreSQL does: NaN equals itself and is
// above everything, infinities in their places.
func NumericCmp(a, b *apd.Decimal) int {
	ra, rb := numericRank(a), numericRank(b)
	if ra != rb || ra != 0 {
		return ra - rb
	}
	if sa, sb := NumericSign(a), NumericSign(b); sa != sb || sa == 0 {
		return sa - sb
	}
	if a.Exponent != b.Exponent {
		e := min(a.Exponent, b.Exponent)
		a, b = rescale(a, -e, false), rescale(b, -e, false)
	}
	c := a.Coeff.CmpAbs(&b.Coeff)
	if a.Negative {
		return -c
	}
	return c
}

func numericRank(d *apd.Decimal) int {
	switch {
	case d.Form == apd.Finite:
		return 0
	case d.Form != apd.Infinite:
		return 2
	case d.Negative:
		return -1
	}
	return 1
}

// NumericFromFloat converts as PostgreSQL does: digits is 15 for float8, 6 for
// float4.
func NumericFromFloat(f float64, digits int) *apd.Decimal {
	switch {
	case math.IsNaN(f):
		return nan()
	case math.IsInf(f, 0):
		return inf(f < 0)
	}
	d, err := ParseNumeric(formatG(f, digits))
	if err != nil {
		panic("sqltypes: a float printed as " + formatG(f, digits) + " is not numeric: " + err.Error())
	}
	return d
}

// NumericFromInt is v with scale 0.
func NumericFromInt(v int64) *apd.Decimal {
	d := new(apd.Decimal)
	if v < 0 {
		d.Negative = true
		d.Coeff.SetUint64(uint64(-v))
	} else {
		d.Coeff.SetUint64(uint64(v))
	}
	return d
}

// NumericToInt rounds d to an integer; ok is false when it doesn't fit int64
// or isn't finite.
func NumericToInt(d *apd.Decimal) (v int64, ok bool) {
	if d.Form != apd.Finite {
		return 0, false
	}
	r := RoundNumeric(d, 0)
	if !r.Coeff.IsUint64() {
		return 0, false
	}
	u := r.Coeff.Uint64()
	if r.Negative {
		return int64(-u), u <= 1<<63
	}
	return int64(u), u < 1<<63
}

// literalDigitsMax is the length up to which a literal is a fixed-scale
// decimal: longer ones would soon overflow 38 digits.
const literalDigitsMax = 18

// NumericTypeOf is the type of a literal: numeric with the scale of its value
// for the short ones, which the kernels keep in Decimal128.
func NumericTypeOf(d *apd.Decimal) Type {
	if d.Form != apd.Finite || -d.Exponent > literalDigitsMax || d.Coeff.CmpAbs(pow10(literalDigitsMax)) >= 0 {
		return Numeric
	}
	return Type{OID: OIDNumeric, Scale: NumericScale(d)}
}
