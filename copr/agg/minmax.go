package agg

import (
	"bytes"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
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
		mk = func() Accumulator { return &minMaxKeyed{max: isMax, typ: t} }
	}
	return signature{t, []sqltypes.Type{t}, mk}, true
}

// minMaxInt is min and max of integers, dates and times.
type minMaxInt struct {
	max bool
	has has
	v   []int64
}

func (m *minMaxInt) Grow(groups int) { m.has.grow(groups); m.v = grown(m.v, groups) }
func (m *minMaxInt) Bytes() int64    { return 9 * int64(cap(m.v)) }

func (m *minMaxInt) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		if v := in.IntAt(i); !m.has[g] || v > m.v[g] == m.max && v != m.v[g] {
			m.has[g], m.v[g] = true, v
		}
	}
	return nil
}

func (m *minMaxInt) Merge(groups []int32, state []colvec.Vec) error { return m.Update(groups, state) }

func (m *minMaxInt) State(out []*colvec.Builder, lo, hi int) error { return m.Result(out[0], lo, hi) }

func (m *minMaxInt) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if m.has[g] {
			out.AppendInt(m.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

// minMaxFloat is min and max of floats; NaN is above all.
type minMaxFloat struct {
	max bool
	has has
	v   []float64
}

func (m *minMaxFloat) Grow(groups int) { m.has.grow(groups); m.v = grown(m.v, groups) }
func (m *minMaxFloat) Bytes() int64    { return 9 * int64(cap(m.v)) }

func (m *minMaxFloat) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		v := in.FloatAt(i)
		above := v > m.v[g] || v != v && m.v[g] == m.v[g]
		below := v < m.v[g] || v == v && m.v[g] != m.v[g]
		if !m.has[g] || m.max && above || !m.max && below {
			m.has[g], m.v[g] = true, v
		}
	}
	return nil
}

func (m *minMaxFloat) Merge(groups []int32, state []colvec.Vec) error { return m.Update(groups, state) }

func (m *minMaxFloat) State(out []*colvec.Builder, lo, hi int) error { return m.Result(out[0], lo, hi) }

func (m *minMaxFloat) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if m.has[g] {
			out.AppendFloat(m.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

// minMaxDecimal is min and max of numerics of fixed scale.
type minMaxDecimal struct {
	max bool
	has has
	v   []decimal128.Num
}

func (m *minMaxDecimal) Grow(groups int) { m.has.grow(groups); m.v = grown(m.v, groups) }
func (m *minMaxDecimal) Bytes() int64    { return 17 * int64(cap(m.v)) }

func (m *minMaxDecimal) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		v := in.Dec[i]
		if !m.has[g] || m.max && m.v[g].Less(v) || !m.max && v.Less(m.v[g]) {
			m.has[g], m.v[g] = true, v
		}
	}
	return nil
}

func (m *minMaxDecimal) Merge(groups []int32, state []colvec.Vec) error {
	return m.Update(groups, state)
}

func (m *minMaxDecimal) State(out []*colvec.Builder, lo, hi int) error {
	return m.Result(out[0], lo, hi)
}

func (m *minMaxDecimal) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if m.has[g] {
			out.AppendDecimal(m.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

// minMaxKeyed is min and max of what is compared by its key encoding: strings,
// bytea, intervals and numerics that carry their scale.
type minMaxKeyed struct {
	max   bool
	typ   sqltypes.Type
	has   has
	key   [][]byte // tablecodec's encoding
	val   [][]byte // byte strings as they were
	iv    []arrow.MonthDayNanoInterval
	buf   []byte
	bytes int64
}

func (m *minMaxKeyed) Grow(groups int) {
	m.has.grow(groups)
	m.key = grown(m.key, groups)
	if m.typ.OID == sqltypes.OIDInterval {
		m.iv = grown(m.iv, groups)
	} else {
		m.val = grown(m.val, groups)
	}
}

func (m *minMaxKeyed) Bytes() int64 { return m.bytes + 64*int64(cap(m.key)) }

func (m *minMaxKeyed) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	col := tablecodec.Column{Type: m.typ}
	var err error
	for i, g := range groups {
		if in.IsNull(i) {
			continue
		}
		if m.buf, err = tablecodec.AppendVec(m.buf[:0], col, in, i); err != nil {
			return err
		}
		if m.has[g] {
			if c := bytes.Compare(m.buf, m.key[g]); c == 0 || c > 0 != m.max {
				continue
			}
		}
		before := cap(m.key[g])
		m.has[g] = true
		m.key[g] = append(m.key[g][:0], m.buf...)
		m.bytes += int64(cap(m.key[g]) - before)
		if m.iv != nil {
			m.iv[g] = in.Iv[i]
			continue
		}
		before = cap(m.val[g])
		m.val[g] = append(m.val[g][:0], in.BytesAt(i)...)
		m.bytes += int64(cap(m.val[g]) - before)
	}
	return nil
}

func (m *minMaxKeyed) Merge(groups []int32, state []colvec.Vec) error { return m.Update(groups, state) }

func (m *minMaxKeyed) State(out []*colvec.Builder, lo, hi int) error { return m.Result(out[0], lo, hi) }

func (m *minMaxKeyed) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		switch {
		case !m.has[g]:
			out.AppendNull()
		case m.iv != nil:
			out.AppendInterval(m.iv[g])
		default:
			out.AppendBytes(m.val[g])
		}
	}
	return nil
}

// anyValue is any_value: the first value that is not null.
type anyValue struct {
	typ   sqltypes.Type
	v     []sqltypes.Datum
	bytes int64
}

func (a *anyValue) Grow(groups int) { a.v = grown(a.v, groups) }
func (a *anyValue) Bytes() int64    { return a.bytes + 64*int64(cap(a.v)) }

func (a *anyValue) Update(groups []int32, args []colvec.Vec) error {
	in := &args[0]
	for i, g := range groups {
		if a.v[g].IsNull() && !in.IsNull(i) {
			a.v[g] = in.At(i, a.typ)
			if in.Kind.IsBytes() {
				a.bytes += int64(len(in.BytesAt(i)))
			}
		}
	}
	return nil
}

func (a *anyValue) Merge(groups []int32, state []colvec.Vec) error { return a.Update(groups, state) }

func (a *anyValue) State(out []*colvec.Builder, lo, hi int) error { return a.Result(out[0], lo, hi) }

func (a *anyValue) Result(out *colvec.Builder, lo, hi int) error {
	for _, d := range a.v[lo:hi] {
		if err := out.AppendDatum(d); err != nil {
			return err
		}
	}
	return nil
}
