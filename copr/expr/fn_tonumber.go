package expr

import (
	"math"
	"strconv"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// numberTemplate is a parsed template of to_char for numbers.
type numberTemplate struct {
	items     []numberItem
	intDigits int // digit places before the point
	decDigits int
	hasPoint  bool
	fill      bool // FM
	scale     int  // V: powers of ten to multiply by
	sci       bool // EEEE
	roman     string
	firstZero int // the first 0 among the places before the point, -1 = none
	sign      string
	bracket   bool // PR
}

type numberItem struct {
	kind byte // '9' digit, '0' digit with zeros, '.' point, ',' group, 'S', 'M'(MI), 'P'(PL), 'G'(SG), 'T'/'t' ordinal, 'L', 'x' literal
	text string
}

func errNumberTemplate(format string, args ...any) error {
	return pgerror.New(pgerror.SyntaxError, format, args...)
}

func parseNumberTemplate(s string) (*numberTemplate, error) {
	t := &numberTemplate{firstZero: -1}
	for s != "" {
		upper := strings.ToUpper(s)
		add := func(kind byte, n int) {
			t.items = append(t.items, numberItem{kind, s[:n]})
			s = s[n:]
		}
		switch {
		case strings.HasPrefix(upper, "FM"):
			t.fill, s = true, s[2:]
		case strings.HasPrefix(upper, "EEEE"):
			t.sci, s = true, s[4:]
		case strings.HasPrefix(upper, "RN"):
			t.roman, s = s[:2], s[2:]
		case strings.HasPrefix(upper, "MI"):
			t.sign = "MI"
			add('M', 2)
		case strings.HasPrefix(upper, "PL"):
			t.sign = "PL"
			add('P', 2)
		case strings.HasPrefix(upper, "SG"):
			t.sign = "SG"
			add('G', 2)
		case strings.HasPrefix(upper, "PR"):
			t.bracket, s = true, s[2:]
		case strings.HasPrefix(upper, "TH"):
			add(s[0], 2)
		case upper[0] == 'S':
			t.sign = "S"
			add('S', 1)
		case s[0] == '9' || s[0] == '0':
			switch {
			case t.scaling():
				t.scale++
			case t.hasPoint:
				t.decDigits++
			}
			if !t.hasPoint {
				if s[0] == '0' && t.firstZero < 0 {
					t.firstZero = t.intDigits
				}
				t.intDigits++
			}
			add(s[0], 1)
		case s[0] == '.' || upper[0] == 'D':
			if t.hasPoint {
				return nil, errNumberTemplate("multiple decimal points")
			}
			t.hasPoint = true
			add('.', 1)
		case upper[0] == 'V':
			add('V', 1)
		case s[0] == ',' || upper[0] == 'G':
			add(',', 1)
		case upper[0] == 'L':
			add('L', 1)
		case s[0] == '"':
			text, rest, _ := strings.Cut(s[1:], `"`)
			t.items = append(t.items, numberItem{'x', text})
			s = rest
		default:
			add('x', 1)
		}
	}
	return t, nil
}

func (t *numberTemplate) scaling() bool {
	for _, it := range t.items {
		if it.kind == 'V' {
			return true
		}
	}
	return false
}

// formatByNumber prints d by a template.
func formatByNumber(d *apd.Decimal, t *numberTemplate) string {
	if t.roman != "" {
		return romanNumber(d, t)
	}
	if t.sci {
		return scientific(d, t)
	}
	if d.Form != apd.Finite {
		return specialNumber(d, t)
	}
	if t.scale > 0 {
		d = sqltypes.NumericMul(d, &apd.Decimal{Coeff: *apd.NewBigInt(1), Exponent: int32(t.scale)})
	}
	d = sqltypes.RoundNumeric(d, int32(t.decDigits))
	text := string(sqltypes.AppendNumeric(nil, numericAbs(d)))
	whole, frac, _ := strings.Cut(text, ".")
	if whole == "0" && t.decDigits > 0 {
		whole = ""
	}
	if len(whole) > t.intDigits {
		whole, frac = strings.Repeat("#", t.intDigits), strings.Repeat("#", t.decDigits)
	}
	return t.lay(whole, frac, sqltypes.NumericSign(d) < 0 || d.Negative)
}

func specialNumber(d *apd.Decimal, t *numberTemplate) string {
	return t.lay(strings.Repeat("#", t.intDigits), strings.Repeat("#", t.decDigits), d.Negative)
}

// lay puts digits, sign and separators in their places.
func (t *numberTemplate) lay(whole, frac string, neg bool) string {
	blank := t.intDigits - len(whole) // places without a digit
	if t.firstZero >= 0 {
		if t.firstZero < blank {
			whole = strings.Repeat("0", blank-t.firstZero) + whole
			blank = t.firstZero
		}
	}
	if whole == "" && t.intDigits > 0 && t.decDigits == 0 {
		whole, blank = "0", blank-1
	}
	if t.fill {
		frac = t.trimFraction(frac)
	}
	var out strings.Builder
	signDone := false
	putSign := func() {
		if signDone {
			return
		}
		signDone = true
		switch {
		case t.bracket && neg:
			out.WriteByte('<')
		case t.bracket && !t.fill:
			out.WriteByte(' ')
		case t.bracket, t.sign == "MI" || t.sign == "SG" || t.sign == "PL" && !neg:
			if t.sign == "PL" && !t.fill {
				out.WriteByte(' ')
			}
		case t.sign == "S":
			if t.leadingS() {
				out.WriteByte(map[bool]byte{true: '-', false: '+'}[neg])
			}
		case neg:
			out.WriteByte('-')
		case !t.fill:
			out.WriteByte(' ')
		}
	}
	place, printed := 0, false
	afterPoint := 0
	point := false
	for _, it := range t.items {
		switch it.kind {
		case '9', '0':
			if point {
				if afterPoint < len(frac) {
					out.WriteByte(frac[afterPoint])
				}
				afterPoint++
				continue
			}
			if place < blank {
				if !t.fill {
					out.WriteByte(' ')
				}
			} else {
				putSign()
				out.WriteByte(whole[place-blank])
				printed = true
			}
			place++
		case '.':
			putSign()
			point = true
			out.WriteByte('.')
		case ',':
			switch {
			case printed:
				out.WriteByte(',')
			case !t.fill:
				out.WriteByte(' ')
			}
		case 'M':
			t.mark(&out, neg, "-", " ")
			signDone = true
		case 'P':
			t.mark(&out, !neg, "+", " ")
		case 'G':
			t.mark(&out, neg, "-", "+")
			signDone = true
		case 'S':
			if !t.leadingS() {
				out.WriteByte(map[bool]byte{true: '-', false: '+'}[neg])
			}
		case 'T', 't':
			if !neg && !t.hasPoint {
				n, _ := strconv.ParseInt(whole, 10, 64)
				suffix := ordinalSuffix(n)
				if it.text == "TH" {
					suffix = strings.ToUpper(suffix)
				}
				out.WriteString(suffix)
			}
		case 'L':
			if !t.fill {
				out.WriteByte(' ')
			}
		case 'x':
			out.WriteString(it.text)
		}
	}
	if t.bracket {
		if neg {
			out.WriteByte('>')
		} else if !t.fill {
			out.WriteByte(' ')
		}
	}
	return out.String()
}

func (t *numberTemplate) mark(out *strings.Builder, first bool, a, b string) {
	if !first {
		a = b
	}
	if a == " " && t.fill {
		return
	}
	out.WriteString(a)
}

// leadingS reports whether S stands before the digits.
func (t *numberTemplate) leadingS() bool {
	for _, it := range t.items {
		switch it.kind {
		case 'S':
			return true
		case '9', '0':
			return false
		}
	}
	return true
}

// trimFraction drops trailing zeros at places of 9.
func (t *numberTemplate) trimFraction(frac string) string {
	keep, place, point := 0, 0, false
	for _, it := range t.items {
		switch it.kind {
		case '.':
			point = true
		case '9', '0':
			if point {
				place++
				if it.kind == '0' {
					keep = place
				}
			}
		}
	}
	for len(frac) > keep && frac[len(frac)-1] == '0' {
		frac = frac[:len(frac)-1]
	}
	return frac
}

func scientific(d *apd.Decimal, t *numberTemplate) string {
	if d.Form != apd.Finite {
		return strings.Repeat("#", t.intDigits+t.decDigits+6)
	}
	f := new(apd.Decimal).Set(d)
	exp := int32(0)
	if f.Coeff.Sign() != 0 {
		exp = topDigit(f)
	}
	f.Exponent -= exp
	f = sqltypes.RoundNumeric(f, int32(t.decDigits))
	if topDigit(f) > 0 && f.Coeff.Sign() != 0 {
		exp++
		f.Exponent--
		f = sqltypes.RoundNumeric(f, int32(t.decDigits))
	}
	text := string(sqltypes.AppendNumeric(nil, f))
	if !f.Negative && !t.fill {
		text = " " + text
	}
	sign := "+"
	if exp < 0 {
		sign, exp = "-", -exp
	}
	return text + "e" + sign + padZero(int64(exp), 2, false)
}

func romanNumber(d *apd.Decimal, t *numberTemplate) string {
	const width = 15
	n, ok := sqltypes.NumericToInt(d)
	out := ""
	if !ok || n < 1 || n > 3999 {
		out = strings.Repeat("#", width)
	} else {
		for _, r := range []struct {
			v int64
			s string
		}{{1000, "M"}, {900, "CM"}, {500, "D"}, {400, "CD"}, {100, "C"}, {90, "XC"}, {50, "L"}, {40, "XL"}, {10, "X"}, {9, "IX"}, {5, "V"}, {4, "IV"}, {1, "I"}} {
			for n >= r.v {
				out, n = out+r.s, n-r.v
			}
		}
	}
	if t.roman == "rn" {
		out = strings.ToLower(out)
	}
	if !t.fill {
		out = strings.Repeat(" ", max(width-len(out), 0)) + out
	}
	return out
}

// parseByNumber reads s by a template, as to_number does.
func parseByNumber(s, template string) (*apd.Decimal, error) {
	t, err := parseNumberTemplate(template)
	if err != nil {
		return nil, err
	}
	if t.roman != "" {
		return nil, pgerror.New(pgerror.FeatureNotSupported, `"RN" not supported for input`)
	}
	var digits strings.Builder
	neg, point := false, false
	places := t.intDigits
	for _, c := range []byte(strings.TrimSpace(s)) {
		switch {
		case c >= '0' && c <= '9':
			if places == 0 && !point {
				continue
			}
			if !point {
				places--
			}
			digits.WriteByte(c)
		case c == '.' && t.hasPoint && !point:
			point = true
			digits.WriteByte('.')
		case c == '-' || c == '<':
			neg = true
		}
	}
	text := digits.String()
	if text == "" || text == "." {
		return nil, pgerror.New(pgerror.InvalidTextRepresentation, "invalid input syntax for type numeric: %q", sqltypes.Quotable(" "))
	}
	d, err := sqltypes.ParseNumeric(text)
	if err != nil {
		return nil, err
	}
	d = sqltypes.RoundNumeric(d, int32(t.decDigits))
	if neg {
		d = sqltypes.NumericNeg(d)
	}
	return d, nil
}

func init() {
	number := func(name string, get func(v vec) func(i int) *apd.Decimal) {
		def("to_char("+name+",text) text", func(cc *call, args []vec, n int, sel []int32) (vec, error) {
			v, f := get(args[0]), reader[string](args[1])
			var last string
			var t *numberTemplate
			return lift(cc, args, n, sel, func(i int) (string, bool, error) {
				if x := f(i); t == nil || x != last {
					var err error
					if t, err = parseNumberTemplate(x); err != nil {
						return "", false, err
					}
					last = x
				}
				return formatByNumber(v(i), t), true, nil
			})
		}, stable)
	}
	ints := func(v vec) func(i int) *apd.Decimal {
		r := intsOf(v)
		return func(i int) *apd.Decimal { return sqltypes.NumericFromInt(r(i)) }
	}
	number("int4", ints)
	number("int8", ints)
	number("numeric", func(v vec) func(i int) *apd.Decimal { return reader[*apd.Decimal](v) })
	for name, digits := range map[string]int{"float4": 6, "float8": 15} {
		number(name, func(v vec) func(i int) *apd.Decimal {
			r := floatsOf(v)
			return func(i int) *apd.Decimal {
				f := r(i)
				if math.Abs(f) > 1e300 {
					return numInf(f < 0)
				}
				return sqltypes.NumericFromFloat(f, digits)
			}
		})
	}
	def("to_number(text,text) numeric", fn2(func(_ *call, s, f string) (*apd.Decimal, error) { return parseByNumber(s, f) }), stable)
}
