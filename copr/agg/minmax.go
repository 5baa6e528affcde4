package agg

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

func resolveMinMax(isMax bool, t sqltypes.Type) (signature, bool) {
	switch t.OID {
	case sqltypes.OIDBool, sqltypes.OIDJSON, sqltypes.OIDUUID, sqltypes.OIDUnknown:
		return signature{}, false
	case sqltypes.OIDVarchar, sqltypes.OIDName, sqltypes.OIDChar:
		t = sqltypes.Text
	case sqltypes.OIDBpchar:
		t = sqltypes.Bpchar
	}
	if !t.IsArray() && t.Size() == -1 && colvec.KindOf(t) == colvec.String && t.Category() != 'S' {
		return signature{}, false
	}
	var mk func() Accumulator
	switch k := colvec.KindOf(t); {
	case k.IsInt():
		mk = func() Accumulator { return &minMaxInt{max: isMax} }
	case k == colvec.Float32 || k == colvec.Float64:
		mk = func() Accumulator { return &minMaxFloat{max: isMax} }
	case k == colvec.Decimal:
		mk = func() Accumulator { return &minMaxDecimal{max: isMax} }
	default:
		mk = func() Accumulator { return newMinMaxKeyed(isMax, t) }
	}
	return signature{t, []sqltypes.Type{t}, mk}, true
}

// extremes is what min and max of fixed-width values have: groups begin at the
// value that loses against all, and that a value was there is counted apart.
func extremes[T any](s []T, groups int, worst T) []T {
	from := len(s)
	s = grown(s, groups)
	for g := from; g < len(s); g++ {
		s[g] = worst
	}
	return s
}

// minMaxInt is min and max of integers, dates and times.
type minMaxInt struct {
	summed
	max bool
	v   []int64
}

func (m *minMaxInt) Grow(groups int) {
	m.n.grow(groups)
	worst := int64(math.MaxInt64)
	if m.max {
		worst = math.MinInt64
	}
	m.v = extremes(m.v, groups, worst)
}

func (m *minMaxInt) Bytes() int64 { return m.n.bytes() + 8*int64(cap(m.v)) }

func (m *minMaxInt) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	rows = m.rows(rows, in)
	switch in.Kind {
	case colvec.Int16:
		extremeInts(m.v, m.max, in.I16, rows)
	case colvec.Int32, colvec.Date:
		extremeInts(m.v, m.max, in.I32, rows)
	default:
		extremeInts(m.v, m.max, in.I64, rows)
	}
	return nil
}

func extremeInts[T integer](v []int64, isMax bool, vals []T, rows Rows) {
	if rows.Groups == nil {
		best := v[0]
		if isMax {
			for k := range rows.N {
				best = max(best, int64(vals[rows.at(k)]))
			}
		} else {
			for k := range rows.N {
				best = min(best, int64(vals[rows.at(k)]))
			}
		}
		v[0] = best
		return
	}
	if isMax {
		for k, g := range rows.Groups {
			if x := int64(vals[rows.at(k)]); x > v[g] {
				v[g] = x
			}
		}
		return
	}
	for k, g := range rows.Groups {
		if x := int64(vals[rows.at(k)]); x < v[g] {
			v[g] = x
		}
	}
}

func (m *minMaxInt) Merge(rows Rows, state []colvec.Vec) error { return m.Update(rows, state) }

func (m *minMaxInt) State(out []*colvec.Builder, lo, hi int) error { return m.Result(out[0], lo, hi) }

func (m *minMaxInt) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if m.n.of(g) > 0 {
			out.AppendInt(m.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

// minMaxFloat is min and max of floats; NaN is above all.
type minMaxFloat struct {
	summed
	max bool
	v   []float64
}

func (m *minMaxFloat) Grow(groups int) {
	m.n.grow(groups)
	worst := math.NaN()
	if m.max {
		worst = math.Inf(-1)
	}
	m.v = extremes(m.v, groups, worst)
}

func (m *minMaxFloat) Bytes() int64 { return m.n.bytes() + 8*int64(cap(m.v)) }

func (m *minMaxFloat) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	rows = m.rows(rows, in)
	for k := range rows.N {
		x, g := in.FloatAt(rows.at(k)), rows.group(k)
		best := m.v[g]
		if m.max && (x > best || x != x) || !m.max && (x < best || best != best) {
			m.v[g] = x
		}
	}
	return nil
}

func (m *minMaxFloat) Merge(rows Rows, state []colvec.Vec) error { return m.Update(rows, state) }

func (m *minMaxFloat) State(out []*colvec.Builder, lo, hi int) error { return m.Result(out[0], lo, hi) }

func (m *minMaxFloat) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if m.n.of(g) > 0 {
			out.AppendFloat(m.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

// minMaxDecimal is min and max of numerics of fixed scale.
type minMaxDecimal struct {
	summed
	max bool
	v   []int128
}

func (m *minMaxDecimal) Grow(groups int) {
	m.n.grow(groups)
	worst := int128{math.MaxUint64, math.MaxInt64}
	if m.max {
		worst = int128{0, math.MinInt64}
	}
	m.v = extremes(m.v, groups, worst)
}

func (m *minMaxDecimal) Bytes() int64       { return m.n.bytes() + 16*int64(cap(m.v)) }
func (m *minMaxDecimal) takesEncoded() bool { return true }

func (x int128) less(y int128) bool { return x.hi < y.hi || x.hi == y.hi && x.lo < y.lo }

func (m *minMaxDecimal) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	rows = m.rows(rows, in)
	if in.Encoded {
		for k := range rows.N {
			x := in.D64[rows.at(k)]
			m.take(rows.group(k), int128{uint64(x), x >> 63})
		}
		return nil
	}
	for k := range rows.N {
		x := in.Dec[rows.at(k)]
		m.take(rows.group(k), int128{x.LowBits(), x.HighBits()})
	}
	return nil
}

func (m *minMaxDecimal) take(g int32, x int128) {
	if m.max && m.v[g].less(x) || !m.max && x.less(m.v[g]) {
		m.v[g] = x
	}
}

func (m *minMaxDecimal) Merge(rows Rows, state []colvec.Vec) error { return m.Update(rows, state) }

func (m *minMaxDecimal) State(out []*colvec.Builder, lo, hi int) error {
	return m.Result(out[0], lo, hi)
}

func (m *minMaxDecimal) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if m.n.of(g) > 0 {
			out.AppendDecimal(decimal128.New(m.v[g].hi, m.v[g].lo))
		} else {
			out.AppendNull()
		}
	}
	return nil
}
