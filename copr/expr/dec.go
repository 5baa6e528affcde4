package expr

import (
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

var (
	pow10i64 = func() (t [19]int64) {
		t[0] = 1
		for i := 1; i < len(t); i++ {
			t[i] = t[i-1] * 10
		}
		return t
	}()
	pow10f64 = func() (t [23]float64) {
		t[0] = 1
		for i := 1; i < len(t); i++ {
			t[i] = t[i-1] * 10
		}
		return t
	}()
	errDecOverflow = pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
			WithDetail("A calculation with a fixed number of decimals has at most %d digits.", sqltypes.DecimalDigitsMax).
			WithHint("Cast an operand to numeric without a scale.")
)

// fits64 reports whether d is an int64.
func fits64(d dec) bool { return d.HighBits() == int64(d.LowBits())>>63 }

// mul64 is the full product of two int64.
func mul64(a, b int64) dec {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	h := int64(hi)
	if a < 0 {
		h -= b
	}
	if b < 0 {
		h -= a
	}
	return decimal128.New(h, lo)
}

// addDec adds; ok is false beyond 128 bits.
func addDec(a, b dec) (sum dec, ok bool) {
	lo, carry := bits.Add64(a.LowBits(), b.LowBits(), 0)
	hi, _ := bits.Add64(uint64(a.HighBits()), uint64(b.HighBits()), carry)
	h := int64(hi)
	return decimal128.New(h, lo), (a.HighBits()^h)&(b.HighBits()^h) >= 0
}

func subDec(a, b dec) (diff dec, ok bool) {
	lo, borrow := bits.Sub64(a.LowBits(), b.LowBits(), 0)
	hi, _ := bits.Sub64(uint64(a.HighBits()), uint64(b.HighBits()), borrow)
	h := int64(hi)
	return decimal128.New(h, lo), (a.HighBits()^b.HighBits())&(a.HighBits()^h) >= 0
}

// mulDec multiplies; ok is false beyond 128 bits.
func mulDec(a, b dec) (prod dec, ok bool) {
	if fits64(a) && fits64(b) {
		return mul64(int64(a.LowBits()), int64(b.LowBits())), true
	}
	neg := false
	if a.HighBits() < 0 {
		a, neg = a.Negate(), !neg
	}
	if b.HighBits() < 0 {
		b, neg = b.Negate(), !neg
	}
	ah, bh := uint64(a.HighBits()), uint64(b.HighBits())
	if ah != 0 && bh != 0 {
		return dec{}, false
	}
	hi, lo := bits.Mul64(a.LowBits(), b.LowBits())
	over1, cross1 := bits.Mul64(ah, b.LowBits())
	over2, cross2 := bits.Mul64(bh, a.LowBits())
	hi, c1 := bits.Add64(hi, cross1, 0)
	hi, c2 := bits.Add64(hi, cross2, 0)
	if over1|over2|c1|c2 != 0 || int64(hi) < 0 {
		return dec{}, false
	}
	prod = decimal128.New(int64(hi), lo)
	if neg {
		prod = prod.Negate()
	}
	return prod, true
}

// scaleUp multiplies by 10^k; ok is false beyond 38 digits.
func scaleUp(a dec, k int32) (dec, bool) {
	switch {
	case k == 0:
		return a, true
	case k < int32(len(pow10i64)) && fits64(a):
		p := mul64(int64(a.LowBits()), pow10i64[k])
		return p, true
	case k > sqltypes.DecimalDigitsMax:
		return dec{}, a == dec{}
	}
	p, ok := mulDec(a, decimal128.GetScaleMultiplier(int(k)))
	return p, ok && sqltypes.Dec128Fits(p)
}

// scaleDown divides by 10^k, rounding halves away from zero.
func scaleDown(a dec, k int32) dec {
	if k > sqltypes.DecimalDigitsMax {
		return dec{}
	}
	if k < int32(len(pow10i64)) && fits64(a) {
		p, v := pow10i64[k], int64(a.LowBits())
		q, r := v/p, v%p
		if r < 0 {
			r = -r
		}
		if r >= p-r {
			if v < 0 {
				q--
			} else {
				q++
			}
		}
		return decimal128.FromI64(q)
	}
	return a.ReduceScaleBy(k, true)
}

// rescaleDec changes the scale of a decimal.
func rescaleDec(a dec, from, to int32) (dec, bool) {
	if to >= from {
		return scaleUp(a, to-from)
	}
	return scaleDown(a, from-to), true
}

// castDecimals changes precision and scale of a Decimal128 column.
func castDecimals(cc *call, args []vec, n int, sel []int32) (vec, error) {
	from, to := decScale(args[0].arr), cc.typ.Scale
	src := values[dec](args[0].arr)
	if from == to && (cc.typ.Precision == 0 || cc.args[0].Precision != 0 && cc.args[0].Precision <= cc.typ.Precision) {
		return vec{arr: retype(args[0].arr, cc.typ.Arrow()), cst: args[0].cst}, nil
	}
	limit := sqltypes.Dec128Limit
	precision := cc.typ.Precision
	if precision != 0 && precision < sqltypes.DecimalDigitsMax {
		limit = decimal128.GetScaleMultiplier(int(precision))
	}
	if args[0].cst {
		n, sel = 1, nil
	}
	out := make([]dec, n)
	var err error
	rowsOf(n, sel, func(i int) {
		v, ok := rescaleDec(src[i], from, to)
		if (!ok || !v.Abs().Less(limit)) && !args[0].arr.IsNull(i) && err == nil {
			_, err = sqltypes.FitNumeric(sqltypes.Dec128ToNumeric(src[i], from), cc.typ)
			if err == nil {
				err = errDecOverflow
			}
		}
		out[i] = v
	})
	if err != nil {
		return vec{}, err
	}
	return sameNulls(args[0], cc.typ.Arrow(), out), nil
}
