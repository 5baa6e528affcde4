package sqltypes

import (
	"math/big"
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/cockroachdb/apd/v3"
)

// Dec128Limit is 10^38: fixed-scale decimals are smaller in absolute value.
var Dec128Limit = func() decimal128.Num {
	return decimal128.FromBigInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(DecimalDigitsMax), nil))
}()

// abs128 is the absolute value of n as two words.
func abs128(n decimal128.Num) (hi, lo uint64, neg bool) {
	hi, lo = uint64(n.HighBits()), n.LowBits()
	if n.HighBits() < 0 {
		var borrow uint64
		lo, borrow = bits.Sub64(0, lo, 0)
		hi, _ = bits.Sub64(0, hi, borrow)
		neg = true
	}
	return hi, lo, neg
}

const ten19 = 10_000_000_000_000_000_000

// AppendDec128 appends a fixed-scale decimal's text, without allocating.
func AppendDec128(dst []byte, n decimal128.Num, scale int32) []byte {
	hi, lo, neg := abs128(n)
	if neg {
		dst = append(dst, '-')
	}
	start := len(dst)
	if hi == 0 {
		dst = appendUint(dst, lo)
		return insertPoint(dst, start, int(scale))
	}
	q1, r1 := bits.Div64(0, hi, ten19)
	q0, low := bits.Div64(r1, lo, ten19)
	if q1 == 0 && q0 < ten19 {
		dst = appendUint(dst, q0)
	} else {
		top, mid := bits.Div64(q1, q0, ten19)
		dst = appendUint(dst, top)
		dst = appendUint19(dst, mid)
	}
	dst = appendUint19(dst, low)
	return insertPoint(dst, start, int(scale))
}

func appendUint(dst []byte, v uint64) []byte {
	var buf [20]byte
	i := len(buf)
	for {
		i--
		buf[i] = byte('0' + v%10)
		if v /= 10; v == 0 {
			return append(dst, buf[i:]...)
		}
	}
}

func appendUint19(dst []byte, v uint64) []byte {
	var buf [19]byte
	for i := len(buf) - 1; i >= 0; i-- {
		buf[i] = byte('0' + v%10)
		v /= 10
	}
	return append(dst, buf[:]...)
}

// Dec128ToNumeric is the numeric of a fixed-scale decimal.
func Dec128ToNumeric(n decimal128.Num, scale int32) *apd.Decimal {
	hi, lo, neg := abs128(n)
	d := &apd.Decimal{Negative: neg, Exponent: -scale}
	d.Coeff.SetUint64(lo)
	if hi != 0 {
		var h apd.BigInt
		h.SetUint64(hi)
		h.Lsh(&h, 64)
		d.Coeff.Add(&d.Coeff, &h)
	}
	return d
}

// NumericToDec128 rounds d to scale; ok is false when it isn't finite or has
// more than 38 digits.
func NumericToDec128(d *apd.Decimal, scale int32) (n decimal128.Num, ok bool) {
	if d.Form != apd.Finite {
		return n, false
	}
	r := RoundNumeric(d, scale)
	if r.Coeff.IsUint64() {
		n = decimal128.New(0, r.Coeff.Uint64())
	} else {
		if r.Coeff.CmpAbs(pow10(DecimalDigitsMax)) >= 0 {
			return n, false
		}
		n = decimal128.FromBigInt(r.Coeff.MathBigInt())
	}
	if r.Negative {
		n = n.Negate()
	}
	return n, true
}

// Dec128Fits reports whether n has at most 38 digits.
func Dec128Fits(n decimal128.Num) bool {
	hi, lo, _ := abs128(n)
	lh, ll := uint64(Dec128Limit.HighBits()), Dec128Limit.LowBits()
	return hi < lh || hi == lh && lo < ll
}
