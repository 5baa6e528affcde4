package agg

import (
	"math"

	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// spread says which of the family a function is.
type spread struct{ sample, root bool }

func resolveVariance(name string, t sqltypes.Type) (signature, bool) {
	var s spread
	switch name {
	case "stddev", "stddev_samp":
		s = spread{true, true}
	case "stddev_pop":
		s = spread{false, true}
	case "variance", "var_samp":
		s = spread{true, false}
	case "var_pop":
		s = spread{false, false}
	default:
		return signature{}, false
	}
	switch {
	case t.IsFloat():
		return signature{sqltypes.Float8, []sqltypes.Type{sqltypes.Int8, sqltypes.Float8, sqltypes.Float8},
			func() Accumulator { return &floatSpread{spread: s} }}, true
	case t.IsNumeric():
		return signature{sqltypes.Numeric, []sqltypes.Type{sqltypes.Int8, sqltypes.Numeric, sqltypes.Numeric},
			func() Accumulator { return &numericSpread{spread: s, typ: t} }}, true
	}
	return signature{}, false
}

// floatSpread follows Youngs and Cramer, as PostgreSQL does: sum and the sum
// of squared distances from the mean (Comm. ACM 14, 1971), and for merging
// Chan, Golub and LeVeque's formula.
type floatSpread struct {
	spread
	n       []int64
	sx, sxx []float64
}

func (f *floatSpread) Grow(groups int) {
	f.n, f.sx, f.sxx = grown(f.n, groups), grown(f.sx, groups), grown(f.sxx, groups)
}
func (f *floatSpread) Bytes() int64 { return 24 * int64(cap(f.n)) }

func (f *floatSpread) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if in.IsNull(i) {
			continue
		}
		x := in.FloatAt(i)
		f.n[g]++
		n, sx := float64(f.n[g]), f.sx[g]+x
		switch {
		case f.n[g] > 1:
			d := x*n - sx
			f.sxx[g] += d * d / (n * (n - 1))
			if math.IsInf(sx, 0) || math.IsInf(f.sxx[g], 0) {
				if !math.IsInf(f.sx[g], 0) && !math.IsInf(x, 0) {
					return errFloatOverflow()
				}
				f.sxx[g] = math.NaN()
			}
		case math.IsNaN(x) || math.IsInf(x, 0):
			f.sxx[g] = math.NaN()
		}
		f.sx[g] = sx
	}
	return nil
}

func (f *floatSpread) Merge(rows Rows, state []colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		n2, sx2, sxx2 := state[0].I64[i], state[1].F64[i], state[2].F64[i]
		if n2 == 0 {
			continue
		}
		if f.n[g] == 0 {
			f.n[g], f.sx[g], f.sxx[g] = n2, sx2, sxx2
			continue
		}
		n1, m2 := float64(f.n[g]), float64(n2)
		d := f.sx[g]/n1 - sx2/m2
		f.sxx[g] += sxx2 + n1*m2*d*d/(n1+m2)
		f.sx[g] += sx2
		f.n[g] += n2
		if math.IsInf(f.sxx[g], 0) {
			return errFloatOverflow()
		}
	}
	return nil
}

func (f *floatSpread) State(out []*colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		out[0].AppendInt(f.n[g])
		out[1].AppendFloat(f.sx[g])
		out[2].AppendFloat(f.sxx[g])
	}
	return nil
}

func (f *floatSpread) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		n := f.n[g]
		if f.sample {
			n--
		}
		if n <= 0 {
			out.AppendNull()
			continue
		}
		v := f.sxx[g] / float64(n)
		if f.root {
			v = math.Sqrt(v)
		}
		out.AppendFloat(v)
	}
	return nil
}

// numericSpread is exact: sum and sum of squares.
type numericSpread struct {
	spread
	typ       sqltypes.Type
	n         []int64
	sum, sum2 []*apd.Decimal
}

func (s *numericSpread) Grow(groups int) {
	s.n, s.sum, s.sum2 = grown(s.n, groups), grown(s.sum, groups), grown(s.sum2, groups)
}
func (s *numericSpread) Bytes() int64 { return 160 * int64(cap(s.n)) }

func (s *numericSpread) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if in.IsNull(i) {
			continue
		}
		d := in.At(i, s.typ)
		x := d.Decimal()
		if d.Kind() == sqltypes.KindInt {
			x = sqltypes.NumericFromInt(d.Int())
		}
		s.add(g, 1, x, sqltypes.NumericMul(x, x))
	}
	return nil
}

func (s *numericSpread) add(g int32, n int64, sum, sum2 *apd.Decimal) {
	if s.n[g] += n; s.sum[g] != nil {
		sum, sum2 = sqltypes.NumericAdd(s.sum[g], sum), sqltypes.NumericAdd(s.sum2[g], sum2)
	}
	s.sum[g], s.sum2[g] = sum, sum2
}

func (s *numericSpread) Merge(rows Rows, state []colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if n := state[0].I64[i]; n > 0 && !state[1].IsNull(i) && !state[2].IsNull(i) {
			s.add(g, n, state[1].At(i, sqltypes.Numeric).Decimal(), state[2].At(i, sqltypes.Numeric).Decimal())
		}
	}
	return nil
}

func (s *numericSpread) State(out []*colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		out[0].AppendInt(s.n[g])
		if s.n[g] == 0 {
			out[1].AppendNull()
			out[2].AppendNull()
			continue
		}
		if err := out[1].AppendDatum(sqltypes.NewDecimal(s.sum[g])); err != nil {
			return err
		}
		if err := out[2].AppendDatum(sqltypes.NewDecimal(s.sum2[g])); err != nil {
			return err
		}
	}
	return nil
}

func (s *numericSpread) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		n := s.n[g]
		if n == 0 || s.sample && n == 1 {
			out.AppendNull()
			continue
		}
		v, err := s.result(n, s.sum[g], s.sum2[g])
		if err != nil {
			return err
		}
		if err := out.AppendDatum(sqltypes.NewDecimal(v)); err != nil {
			return err
		}
	}
	return nil
}

// result is (n Σx² - (Σx)²) / (n (n - 1)), or n² below for the population, and
// its root to the same scale.
func (s *numericSpread) result(n int64, sum, sum2 *apd.Decimal) (*apd.Decimal, error) {
	if sum.Form != apd.Finite || sum2.Form != apd.Finite {
		return &apd.Decimal{Form: apd.NaN}, nil
	}
	count := sqltypes.NumericFromInt(n)
	over := sqltypes.NumericSub(sqltypes.NumericMul(count, sum2), sqltypes.NumericMul(sum, sum))
	if sqltypes.NumericSign(over) <= 0 {
		return new(apd.Decimal), nil
	}
	below := sqltypes.NumericMul(count, count)
	if s.sample {
		below = sqltypes.NumericMul(count, sqltypes.NumericFromInt(n-1))
	}
	scale := sqltypes.DivScale(over, below)
	v := sqltypes.NumericDivScale(over, below, scale, true)
	if !s.root {
		return v, nil
	}
	return sqrt(v, scale)
}

// sqrt is the root of v ≥ 0 to scale digits.
func sqrt(v *apd.Decimal, scale int32) (*apd.Decimal, error) {
	digits := v.NumDigits() + int64(v.Exponent) // in front of the point
	ctx := apd.BaseContext.WithPrecision(uint32(max(digits, 0)/2 + int64(scale) + 4))
	out := new(apd.Decimal)
	if _, err := ctx.Sqrt(out, v); err != nil {
		return nil, err
	}
	return sqltypes.RoundNumeric(out, scale), nil
}
