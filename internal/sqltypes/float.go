package sqltypes

import (
	"math"
	"strconv"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
)

// appendFloat appends f as float8out and float4out do: shortest digits that
// read back the same (extraDigits > 0), or 15/6 plus extraDigits digits.
func appendFloat(dst []byte, f float64, bits, extraDigits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	digits := 15
	if bits == 32 {
		digits = 6
	}
	if extraDigits <= 0 {
		return append(dst, formatG(f, max(digits+extraDigits, 1))...)
	}
	var buf [32]byte
	sci := strconv.AppendFloat(buf[:0], f, 'e', -1, bits)
	exp := sciExponent(sci)
	if exp < -4 || exp >= digits {
		return append(dst, sci...)
	}
	return strconv.AppendFloat(dst, f, 'f', -1, bits)
}

func sciExponent(sci []byte) int {
	i := len(sci) - 1
	for sci[i] != 'e' {
		i--
	}
	exp := 0
	for _, c := range sci[i+2:] {
		exp = exp*10 + int(c-'0')
	}
	if sci[i+1] == '-' {
		return -exp
	}
	return exp
}

// formatG is C's %.*g.
func formatG(f float64, digits int) string {
	sci := strconv.FormatFloat(f, 'e', digits-1, 64)
	mant, _, _ := strings.Cut(sci, "e")
	exp := sciExponent([]byte(sci))
	if exp >= -4 && exp < digits {
		s := strconv.FormatFloat(f, 'f', max(digits-1-exp, 0), 64)
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	if strings.Contains(mant, ".") {
		mant = strings.TrimRight(strings.TrimRight(mant, "0"), ".")
	}
	return mant + sci[strings.IndexByte(sci, 'e'):]
}

// parseFloat reads a float as strtod and PostgreSQL do.
func parseFloat(s string, bits int) (float64, error) {
	name := "double precision"
	if bits == 32 {
		name = "real"
	}
	t := trimSpace(s)
	switch strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(t, "+"), "-")) {
	case "nan":
		return math.NaN(), nil
	case "infinity", "inf":
		if t[0] == '-' {
			return math.Inf(-1), nil
		}
		return math.Inf(1), nil
	}
	if strings.ContainsAny(t, "_") || t == "" {
		return 0, badSyntax(name, s)
	}
	lower := strings.ToLower(t)
	hex := strings.Contains(lower, "0x")
	if hex && !strings.Contains(lower, "p") {
		t += "p0"
	}
	f, err := strconv.ParseFloat(t, bits)
	if err != nil {
		if err.(*strconv.NumError).Err == strconv.ErrRange {
			return 0, pgerror.New(pgerror.NumericValueOutOfRange, "%q is out of range for type %s", Quotable(trimSpace(s)), name)
		}
		return 0, badSyntax(name, s)
	}
	if f == 0 && !hex && strings.ContainsAny(strings.SplitN(lower, "e", 2)[0], "123456789") {
		return 0, pgerror.New(pgerror.NumericValueOutOfRange, "%q is out of range for type %s", Quotable(trimSpace(s)), name)
	}
	return f, nil
}
