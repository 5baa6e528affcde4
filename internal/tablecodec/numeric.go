package tablecodec

import (
	"encoding/binary"
	"fmt"
)

// A numeric whose values carry their scale is encoded as a class byte and, for
// a finite value other than zero, written 0.d1d2d3… × 10^e with d1 ≠ 0: e as
// four bytes with the sign bit flipped, then the digits in pairs (each byte is
// the pair's value + 1, trailing zeros dropped), then a zero byte. Of a
// negative value all bytes after the class are inverted.
const (
	numNegInf byte = iota + 1
	numNegative
	numZero
	numPositive
	numPosInf
	numNaN
)

// Digits that PostgreSQL's numeric can have in front of and behind the point.
const (
	numericIntDigitsMax  = 131072
	numericFracDigitsMax = 16383
)

// appendNumeric appends the encoding of PostgreSQL's text of a numeric.
func appendNumeric(dst, text []byte) ([]byte, error) {
	switch string(text) {
	case "NaN":
		return append(dst, numNaN), nil
	case "Infinity":
		return append(dst, numPosInf), nil
	case "-Infinity":
		return append(dst, numNegInf), nil
	}
	s, neg := text, false
	if len(s) > 0 && s[0] == '-' {
		s, neg = s[1:], true
	}
	intDigits, point, first, last := 0, false, -1, -1
	digits := 0 // digits seen so far
	for _, c := range s {
		switch {
		case c == '.' && !point:
			point = true
			continue
		case c < '0' || c > '9':
			return dst, fmt.Errorf("tablecodec: %q is not a numeric", text)
		}
		if !point {
			intDigits++
		}
		if c != '0' {
			if first < 0 {
				first = digits
			}
			last = digits
		}
		digits++
	}
	if digits == 0 {
		return dst, fmt.Errorf("tablecodec: %q is not a numeric", text)
	}
	if first < 0 {
		return append(dst, numZero), nil
	}
	if intDigits-first > numericIntDigitsMax || last-intDigits >= numericFracDigitsMax {
		return dst, fmt.Errorf("tablecodec: a numeric of %d digits is too long for a key", digits)
	}
	class := numPositive
	if neg {
		class = numNegative
	}
	dst = append(dst, class)
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(intDigits-first))^(1<<31))
	dst = appendDigitPairs(dst, s, first, last)
	if neg {
		invert(dst[start:])
	}
	return dst, nil
}

// appendDigitPairs appends digits first to last of s, whose point does not
// count, and the closing zero.
func appendDigitPairs(dst, s []byte, first, last int) []byte {
	pos, half, pair := 0, false, byte(0)
	for _, c := range s {
		if c == '.' {
			continue
		}
		if pos >= first && pos <= last {
			if half {
				dst = append(dst, pair+c-'0'+1)
			} else {
				pair = (c - '0') * 10
			}
			half = !half
		}
		pos++
	}
	if half {
		dst = append(dst, pair+1)
	}
	return append(dst, 0)
}

// decodeNumeric appends PostgreSQL's text (without trailing zeros after the
// point) of the numeric at the start of b, whose bytes are XORed with mask.
func decodeNumeric(text, b []byte, mask byte) (out, rest []byte, err error) {
	if len(b) == 0 {
		return text, b, errCut
	}
	class := b[0] ^ mask
	b = b[1:]
	switch class {
	case numNaN:
		return append(text, "NaN"...), b, nil
	case numPosInf:
		return append(text, "Infinity"...), b, nil
	case numNegInf:
		return append(text, "-Infinity"...), b, nil
	case numZero:
		return append(text, '0'), b, nil
	case numNegative:
		mask ^= 0xFF
		text = append(text, '-')
	case numPositive:
	default:
		return text, b, fmt.Errorf("tablecodec: numeric class %d does not exist", class)
	}
	if len(b) < 5 {
		return text, b, errCut
	}
	exp := 0
	for _, c := range b[:4] {
		exp = exp<<8 | int(c^mask)
	}
	exp -= 1 << 31
	b = b[4:]
	end := 0
	for ; end < len(b) && b[end] != mask; end++ {
	}
	if end == len(b) || end == 0 {
		return text, b, errCut
	}
	if exp > numericIntDigitsMax || 2*end-exp > numericFracDigitsMax+1 {
		return text, b, fmt.Errorf("tablecodec: numeric exponent %d is out of range", exp)
	}
	text, err = appendNumericText(text, b[:end], mask, exp)
	return text, b[end+1:], err
}

// appendNumericText writes the digit pairs with the point after exp digits.
func appendNumericText(text, pairs []byte, mask byte, exp int) ([]byte, error) {
	digits := 2 * len(pairs)
	lastPair := pairs[len(pairs)-1] ^ mask
	if lastPair <= 1 || lastPair > 100 || (pairs[0]^mask)-1 < 10 {
		return text, fmt.Errorf("tablecodec: numeric digits are not in their normal form")
	}
	if (lastPair-1)%10 == 0 {
		digits--
	}
	digit := func(i int) (byte, error) {
		if i >= digits {
			return '0', nil
		}
		p := pairs[i/2] ^ mask
		if p < 1 || p > 100 {
			return 0, fmt.Errorf("tablecodec: numeric digit pair %d does not exist", p)
		}
		if i%2 == 0 {
			return '0' + (p-1)/10, nil
		}
		return '0' + (p-1)%10, nil
	}
	if exp <= 0 {
		text = append(text, "0."...)
		for range -exp {
			text = append(text, '0')
		}
	}
	for i := 0; i < max(digits, exp); i++ {
		if i == exp && exp > 0 {
			text = append(text, '.')
		}
		c, err := digit(i)
		if err != nil {
			return text, err
		}
		text = append(text, c)
	}
	return text, nil
}

func invert(b []byte) {
	for i := range b {
		b[i] ^= 0xFF
	}
}

var errCut = fmt.Errorf("tablecodec: a key column is cut off")
