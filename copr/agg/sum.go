package agg

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// summer is a sum that avg can share: it says for each group how many values
// it has taken.
type summer interface {
	Accumulator
	// divided appends sum / n of group g.
	divided(out *colvec.Builder, g int, n int64) error
}

func newSummer(t sqltypes.Type) (typ sqltypes.Type, make func() summer, ok bool) {
	switch colvec.KindOf(t) {
	case colvec.Int16, colvec.Int32:
		return sqltypes.Int8, func() summer { return &sumInt{} }, true
	case colvec.Int64:
		if t.OID != sqltypes.OIDInt8 {
			return typ, nil, false
		}
		return sqltypes.NumericOf(0, 0), func() summer { return &sumDecimal{} }, true
	case colvec.Decimal:
		return sqltypes.NumericOf(0, t.Scale), func() summer { return &sumDecimal{scale: t.Scale} }, true
	case colvec.NumericText:
		return sqltypes.Numeric, func() summer { return &sumNumeric{} }, true
	case colvec.Float32, colvec.Float64:
		return sqltypes.Float8, func() summer { return &sumFloat{} }, true
	case colvec.Interval:
		return sqltypes.Interval, func() summer { return &sumInterval{} }, true
	}
	return typ, nil, false
}

func resolveSum(t sqltypes.Type) (signature, bool) {
	state, mk, ok := newSummer(t)
	result := state
	if t.OID == sqltypes.OIDFloat4 {
		result = sqltypes.Float4
	}
	return signature{result, []sqltypes.Type{state}, func() Accumulator { return mk() }}, ok
}

func resolveAvg(t sqltypes.Type) (signature, bool) {
	state, mk, ok := newSummer(t)
	result := state
	switch colvec.KindOf(state) {
	case colvec.Int64, colvec.Decimal:
		result = sqltypes.Numeric
	}
	return signature{result, []sqltypes.Type{state, sqltypes.Int8}, func() Accumulator { return &avg{sum: mk()} }}, ok
}

// avg is a sum and a count.
type avg struct {
	sum summer
	n   []int64
}

func (a *avg) Grow(groups int) { a.sum.Grow(groups); a.n = grown(a.n, groups) }
func (a *avg) Bytes() int64    { return a.sum.Bytes() + 8*int64(cap(a.n)) }

func (a *avg) Update(groups []int32, args []colvec.Vec) error {
	for i, g := range groups {
		if !args[0].IsNull(i) {
			a.n[g]++
		}
	}
	return a.sum.Update(groups, args)
}

func (a *avg) Merge(groups []int32, state []colvec.Vec) error {
	addCounts(a.n, groups, &state[1])
	return a.sum.Merge(groups, state[:1])
}

func (a *avg) State(out []*colvec.Builder, lo, hi int) error {
	for _, n := range a.n[lo:hi] {
		out[1].AppendInt(n)
	}
	return a.sum.State(out[:1], lo, hi)
}

func (a *avg) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if a.n[g] == 0 {
			out.AppendNull()
			continue
		}
		if err := a.sum.divided(out, g, a.n[g]); err != nil {
			return err
		}
	}
	return nil
}

// sumInt is sum(int2) and sum(int4).
type sumInt struct {
	has has
	v   []int64
}

func (s *sumInt) Grow(groups int) { s.has.grow(groups); s.v = grown(s.v, groups) }
func (s *sumInt) Bytes() int64    { return 9 * int64(cap(s.v)) }

func (s *sumInt) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	if in.Kind == colvec.Int32 && in.Nulls == 0 {
		for i, g := range groups {
			if err := s.add(g, int64(in.I32[i])); err != nil {
				return err
			}
		}
		return nil
	}
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		if err := s.add(g, in.IntAt(i)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sumInt) add(g int32, v int64) error {
	sum := s.v[g] + v
	if (s.v[g]^sum)&(v^sum) < 0 {
		return pgerror.New(pgerror.NumericValueOutOfRange, "bigint out of range")
	}
	s.v[g], s.has[g] = sum, true
	return nil
}

func (s *sumInt) Merge(groups []int32, state []colvec.Vec) error { return s.Update(groups, state) }

func (s *sumInt) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumInt) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.has[g] {
			out.AppendInt(s.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

func (s *sumInt) divided(out *colvec.Builder, g int, n int64) error {
	return appendQuotient(out, sqltypes.NumericFromInt(s.v[g]), n)
}

func appendQuotient(out *colvec.Builder, sum *apd.Decimal, n int64) error {
	q, err := sqltypes.NumericDiv(sum, sqltypes.NumericFromInt(n))
	if err != nil {
		return err
	}
	return out.AppendDatum(sqltypes.NewDecimal(q))
}

// sumDecimal is sum(int8) and sum of a numeric of fixed scale, in 128 bits.
type sumDecimal struct {
	scale int32
	has   has
	v     []decimal128.Num
}

func (s *sumDecimal) Grow(groups int) { s.has.grow(groups); s.v = grown(s.v, groups) }
func (s *sumDecimal) Bytes() int64    { return 17 * int64(cap(s.v)) }

func (s *sumDecimal) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	if in.Kind == colvec.Decimal {
		return s.Merge(groups, args)
	}
	for i, g := range groups {
		if !in.IsNull(i) {
			// 2^63 values of 64 bits cannot overflow 128.
			s.v[g], s.has[g] = s.v[g].Add(decimal128.FromI64(in.I64[i])), true
		}
	}
	return nil
}

func (s *sumDecimal) Merge(groups []int32, state []colvec.Vec) error {
	in := &state[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		a, b := s.v[g], in.Dec[i]
		sum := a.Add(b)
		ah, bh, sh := a.HighBits(), b.HighBits(), sum.HighBits()
		if (ah^sh)&(bh^sh) < 0 || !sqltypes.Dec128Fits(sum) {
			return errDecimalOverflow()
		}
		s.v[g], s.has[g] = sum, true
	}
	return nil
}

func errDecimalOverflow() error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
		WithDetail("A sum of numerics of fixed scale has at most %d digits.", sqltypes.DecimalDigitsMax).
		WithHint("Cast the argument to numeric.")
}

func (s *sumDecimal) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumDecimal) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.has[g] {
			out.AppendDecimal(s.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

func (s *sumDecimal) divided(out *colvec.Builder, g int, n int64) error {
	return appendQuotient(out, sqltypes.Dec128ToNumeric(s.v[g], s.scale), n)
}

// sumNumeric is the sum of numerics that carry their scale.
type sumNumeric struct{ v []*apd.Decimal }

func (s *sumNumeric) Grow(groups int) { s.v = grown(s.v, groups) }
func (s *sumNumeric) Bytes() int64    { return 64 * int64(cap(s.v)) }

func (s *sumNumeric) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		d := in.At(i, sqltypes.Numeric).Decimal()
		if s.v[g] == nil {
			s.v[g] = d
		} else {
			s.v[g] = sqltypes.NumericAdd(s.v[g], d)
		}
	}
	return nil
}

func (s *sumNumeric) Merge(groups []int32, state []colvec.Vec) error { return s.Update(groups, state) }

func (s *sumNumeric) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumNumeric) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.v[g] == nil {
			out.AppendNull()
		} else if err := out.AppendDatum(sqltypes.NewDecimal(s.v[g])); err != nil {
			return err
		}
	}
	return nil
}

func (s *sumNumeric) divided(out *colvec.Builder, g int, n int64) error {
	return appendQuotient(out, s.v[g], n)
}

// sumFloat is sum(float4) and sum(float8).
type sumFloat struct {
	has has
	v   []float64
}

func (s *sumFloat) Grow(groups int) { s.has.grow(groups); s.v = grown(s.v, groups) }
func (s *sumFloat) Bytes() int64    { return 9 * int64(cap(s.v)) }

func (s *sumFloat) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		x := in.FloatAt(i)
		sum := s.v[g] + x
		if math.IsInf(sum, 0) && !math.IsInf(x, 0) && !math.IsInf(s.v[g], 0) {
			return errFloatOverflow()
		}
		s.v[g], s.has[g] = sum, true
	}
	return nil
}

func errFloatOverflow() error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "value out of range: overflow")
}

func (s *sumFloat) Merge(groups []int32, state []colvec.Vec) error { return s.Update(groups, state) }

func (s *sumFloat) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumFloat) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if !s.has[g] {
			out.AppendNull()
			continue
		}
		if out.Kind() == colvec.Float32 && math.Abs(s.v[g]) > math.MaxFloat32 && !math.IsInf(s.v[g], 0) {
			return errFloatOverflow()
		}
		out.AppendFloat(s.v[g])
	}
	return nil
}

func (s *sumFloat) divided(out *colvec.Builder, g int, n int64) error {
	out.AppendFloat(s.v[g] / float64(n))
	return nil
}

// sumInterval is sum(interval), field by field.
type sumInterval struct {
	has has
	v   []arrow.MonthDayNanoInterval
}

func (s *sumInterval) Grow(groups int) { s.has.grow(groups); s.v = grown(s.v, groups) }
func (s *sumInterval) Bytes() int64    { return 17 * int64(cap(s.v)) }

func (s *sumInterval) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		a, b := s.v[g], in.Iv[i]
		months, days := int64(a.Months)+int64(b.Months), int64(a.Days)+int64(b.Days)
		ns := a.Nanoseconds + b.Nanoseconds
		if months != int64(int32(months)) || days != int64(int32(days)) ||
			(a.Nanoseconds^ns)&(b.Nanoseconds^ns) < 0 {
			return errIntervalRange()
		}
		s.v[g] = arrow.MonthDayNanoInterval{Months: int32(months), Days: int32(days), Nanoseconds: ns}
		s.has[g] = true
	}
	return nil
}

func errIntervalRange() error {
	return pgerror.New(pgerror.DatetimeFieldOverflow, "interval out of range")
}

func (s *sumInterval) Merge(groups []int32, state []colvec.Vec) error { return s.Update(groups, state) }

func (s *sumInterval) State(out []*colvec.Builder, lo, hi int) error {
	return s.Result(out[0], lo, hi)
}

func (s *sumInterval) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.has[g] {
			out.AppendInterval(s.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

// divided follows PostgreSQL's interval_div: what is left of the months goes
// to the days (30 a month), what is left of the days to the time.
func (s *sumInterval) divided(out *colvec.Builder, g int, n int64) error {
	const secsPerDay = 24 * 60 * 60
	v, f := s.v[g], float64(n)
	months, days := int64(v.Months)/n, int64(v.Days)/n
	restDays := roundMicro((float64(v.Months)/f - float64(months)) * 30)
	secs := roundMicro((float64(v.Days)/f - float64(days) + restDays - math.Trunc(restDays)) * secsPerDay)
	if math.Abs(secs) >= secsPerDay {
		whole := math.Trunc(secs / secsPerDay)
		days += int64(whole)
		secs -= whole * secsPerDay
	}
	days += int64(restDays)
	micros := math.RoundToEven(float64(v.Nanoseconds/1000)/f + secs*1e6)
	if math.Abs(micros) > math.MaxInt64/1000 {
		return errIntervalRange()
	}
	out.AppendInterval(arrow.MonthDayNanoInterval{
		Months: int32(months), Days: int32(days), Nanoseconds: int64(micros) * 1000,
	})
	return nil
}

// roundMicro rounds to six digits after the point, as PostgreSQL's TSROUND.
func roundMicro(x float64) float64 { return math.RoundToEven(x*1e6) / 1e6 }
