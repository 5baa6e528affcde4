package agg

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// summer is a sum that avg can share.
type summer interface {
	Counting
	// addValues adds values, none of them NULL, that count counts apart.
	addValues(rows Rows, v *colvec.Vec) error
	// count has how many values each group has.
	count() *tally
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

// avg is a sum and its count.
type avg struct {
	sum    summer
	shared bool // the sum is another accumulator, which is updated itself
}

// ShareSum has an avg use the sum of another accumulator, sum's, of the same
// argument and the same rows, which is grown and updated besides. It reports
// whether the two are such; the avg is fresh then.
func ShareSum(average, sum Accumulator) bool {
	a, ok := average.(*avg)
	s, isSum := sum.(summer)
	if !ok || !isSum {
		return false
	}
	a.sum, a.shared = s, true
	return true
}

func (a *avg) UseCounter(c *Counter) {
	if !a.shared {
		a.sum.UseCounter(c)
	}
}

func (a *avg) Grow(groups int) {
	if !a.shared {
		a.sum.Grow(groups)
	}
}

func (a *avg) Bytes() int64 {
	if a.shared {
		return 0
	}
	return a.sum.Bytes()
}

func (a *avg) takesEncoded() bool { return takesEncoded(a.sum) }

func (a *avg) Update(rows Rows, args []colvec.Vec) error {
	if a.shared {
		return nil
	}
	return a.sum.Update(rows, args)
}

func (a *avg) Merge(rows Rows, state []colvec.Vec) error {
	a.sum.count().merge(rows, &state[1])
	var buf rowBuf
	return a.sum.addValues(buf.valid(rows, &state[0]), &state[0])
}

func (a *avg) State(out []*colvec.Builder, lo, hi int) error {
	n := a.sum.count()
	for g := lo; g < hi; g++ {
		out[1].AppendInt64(n.of(g))
	}
	return a.sum.State(out[:1], lo, hi)
}

func (a *avg) Result(out *colvec.Builder, lo, hi int) error {
	count := a.sum.count()
	for g := lo; g < hi; g++ {
		n := count.of(g)
		if n == 0 {
			out.AppendNull()
			continue
		}
		if err := a.sum.divided(out, g, n); err != nil {
			return err
		}
	}
	return nil
}

// summed is what all sums have.
type summed struct {
	n   tally
	buf rowBuf
}

func (s *summed) count() *tally         { return &s.n }
func (s *summed) UseCounter(c *Counter) { s.n.UseCounter(c) }

// rows counts the values of v and returns where they are.
func (s *summed) rows(rows Rows, v *colvec.Vec) Rows {
	valid := s.buf.valid(rows, v)
	s.n.add(rows, valid, v)
	return valid
}

// sumNumeric is the sum of numerics that carry their scale.
type sumNumeric struct {
	summed
	v      []*apd.Decimal
	scaled scaledSums // to be added to v
}

func (s *sumNumeric) Grow(groups int) { s.n.grow(groups); s.v = grown(s.v, groups) }
func (s *sumNumeric) Bytes() int64 {
	return s.n.bytes() + 64*int64(cap(s.v)) + 24*int64(cap(s.scaled.sums))
}

func (s *sumNumeric) Update(rows Rows, args []colvec.Vec) error {
	return s.addValues(s.rows(rows, &args[0]), &args[0])
}

func (s *sumNumeric) addValues(rows Rows, in *colvec.Vec) error {
	if in.D64 != nil {
		if !s.scaled.add(rows, in, len(s.v)) {
			s.fold()
			s.scaled.add(rows, in, len(s.v))
		}
		return nil
	}
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		d := in.At(i, sqltypes.Numeric).Decimal()
		if s.v[g] == nil {
			s.v[g] = d
		} else {
			s.v[g] = sqltypes.NumericAdd(s.v[g], d)
		}
	}
	return nil
}

func (s *sumNumeric) Merge(rows Rows, state []colvec.Vec) error { return s.Update(rows, state) }

func (s *sumNumeric) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumNumeric) Result(out *colvec.Builder, lo, hi int) error {
	s.fold()
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
	s.fold()
	if s.v[g] == nil { // a state with a count only
		out.AppendNull()
		return nil
	}
	return appendQuotient(out, s.v[g], n)
}

// sumFloat is sum(float4) and sum(float8).
type sumFloat struct {
	summed
	v []float64
}

func (s *sumFloat) Grow(groups int) { s.n.grow(groups); s.v = grown(s.v, groups) }
func (s *sumFloat) Bytes() int64    { return s.n.bytes() + 8*int64(cap(s.v)) }

func (s *sumFloat) Update(rows Rows, args []colvec.Vec) error {
	return s.addValues(s.rows(rows, &args[0]), &args[0])
}

func (s *sumFloat) addValues(rows Rows, in *colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		x := in.FloatAt(i)
		sum := s.v[g] + x
		if math.IsInf(sum, 0) && !math.IsInf(x, 0) && !math.IsInf(s.v[g], 0) {
			return errFloatOverflow()
		}
		s.v[g] = sum
	}
	return nil
}

func errFloatOverflow() error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "value out of range: overflow")
}

func (s *sumFloat) Merge(rows Rows, state []colvec.Vec) error { return s.Update(rows, state) }

func (s *sumFloat) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumFloat) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.n.of(g) == 0 {
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
	summed
	v []arrow.MonthDayNanoInterval
}

func (s *sumInterval) Grow(groups int) { s.n.grow(groups); s.v = grown(s.v, groups) }
func (s *sumInterval) Bytes() int64    { return s.n.bytes() + 16*int64(cap(s.v)) }

func (s *sumInterval) Update(rows Rows, args []colvec.Vec) error {
	return s.addValues(s.rows(rows, &args[0]), &args[0])
}

func (s *sumInterval) addValues(rows Rows, in *colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		a, b := s.v[g], in.Iv[i]
		months, days := int64(a.Months)+int64(b.Months), int64(a.Days)+int64(b.Days)
		ns := a.Nanoseconds + b.Nanoseconds
		if months != int64(int32(months)) || days != int64(int32(days)) ||
			(a.Nanoseconds^ns)&(b.Nanoseconds^ns) < 0 {
			return errIntervalRange()
		}
		s.v[g] = arrow.MonthDayNanoInterval{Months: int32(months), Days: int32(days), Nanoseconds: ns}
	}
	return nil
}

func errIntervalRange() error {
	return pgerror.New(pgerror.DatetimeFieldOverflow, "interval out of range")
}

func (s *sumInterval) Merge(rows Rows, state []colvec.Vec) error { return s.Update(rows, state) }

func (s *sumInterval) State(out []*colvec.Builder, lo, hi int) error {
	return s.Result(out[0], lo, hi)
}

func (s *sumInterval) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.n.of(g) > 0 {
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
