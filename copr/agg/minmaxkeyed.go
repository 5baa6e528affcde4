package agg

import (
	"bytes"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// minMaxKeyed is min and max of byte strings, intervals and numerics that carry
// their scale. They are compared by their keys (tablecodec's), but strings that
// order as their bytes do by themselves.
type minMaxKeyed struct {
	max   bool
	typ   sqltypes.Type
	raw   bool // values are their own keys
	has   has
	key   [][]byte
	val   [][]byte // byte strings as they were; not if raw
	iv    []arrow.MonthDayNanoInterval
	buf   []byte
	rows  rowBuf
	bytes int64

	dict arrow.ArrayData // the dictionary of last
	last []int32         // by group: the code compared last, + 1
}

func newMinMaxKeyed(isMax bool, t sqltypes.Type) *minMaxKeyed {
	k := colvec.KindOf(t)
	raw := k == colvec.Binary || k == colvec.String && t.OID != sqltypes.OIDBpchar
	return &minMaxKeyed{max: isMax, typ: t, raw: raw}
}

func (m *minMaxKeyed) Grow(groups int) {
	m.has.grow(groups)
	m.key = grown(m.key, groups)
	switch {
	case m.typ.OID == sqltypes.OIDInterval:
		m.iv = grown(m.iv, groups)
	case !m.raw:
		m.val = grown(m.val, groups)
	}
	if m.last != nil {
		m.last = grown(m.last, groups)
	}
}

func (m *minMaxKeyed) Bytes() int64 {
	return m.bytes + 64*int64(cap(m.key)) + 4*int64(cap(m.last))
}

func (m *minMaxKeyed) takesEncoded() bool { return true }

func (m *minMaxKeyed) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	rows = m.rows.valid(rows, in)
	if in.Dict != nil {
		return m.updateDict(rows, in)
	}
	for k := range rows.N {
		if err := m.take(rows.group(k), in, rows.at(k)); err != nil {
			return err
		}
	}
	return nil
}

// updateDict skips values that their group has just been compared with.
func (m *minMaxKeyed) updateDict(rows Rows, in *colvec.Vec) error {
	if m.dict != in.DictID {
		m.dict, m.last = in.DictID, grown(m.last, len(m.has))
		clear(m.last)
	}
	for k := range rows.N {
		g, code := rows.group(k), in.Codes[rows.at(k)]
		if m.last[g] == code+1 {
			continue
		}
		m.last[g] = code + 1
		if err := m.take(g, in.Dict, int(code)); err != nil {
			return err
		}
	}
	return nil
}

// take compares value i with what group g has.
func (m *minMaxKeyed) take(g int32, in *colvec.Vec, i int) error {
	var key []byte
	if m.raw {
		key = in.BytesAt(i)
	} else {
		var err error
		if m.buf, err = tablecodec.AppendVec(m.buf[:0], tablecodec.Column{Type: m.typ}, in, i); err != nil {
			return err
		}
		key = m.buf
	}
	if m.has[g] {
		if c := bytes.Compare(key, m.key[g]); c == 0 || c > 0 != m.max {
			return nil
		}
	}
	m.has[g] = true
	m.keep(&m.key[g], key)
	switch {
	case m.iv != nil:
		m.iv[g] = in.Iv[i]
	case !m.raw:
		m.keep(&m.val[g], in.BytesAt(i))
	}
	return nil
}

func (m *minMaxKeyed) keep(dst *[]byte, b []byte) {
	before := cap(*dst)
	*dst = append((*dst)[:0], b...)
	m.bytes += int64(cap(*dst) - before)
}

func (m *minMaxKeyed) Merge(rows Rows, state []colvec.Vec) error { return m.Update(rows, state) }

func (m *minMaxKeyed) State(out []*colvec.Builder, lo, hi int) error { return m.Result(out[0], lo, hi) }

func (m *minMaxKeyed) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		switch {
		case !m.has[g]:
			out.AppendNull()
		case m.iv != nil:
			out.AppendInterval(m.iv[g])
		case m.raw:
			out.AppendBytes(m.key[g])
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

func (a *anyValue) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if a.v[g].IsNull() && !in.IsNull(i) {
			a.v[g] = in.At(i, a.typ)
			if in.Kind.IsBytes() {
				a.bytes += int64(len(in.BytesAt(i)))
			}
		}
	}
	return nil
}

func (a *anyValue) Merge(rows Rows, state []colvec.Vec) error { return a.Update(rows, state) }

func (a *anyValue) State(out []*colvec.Builder, lo, hi int) error { return a.Result(out[0], lo, hi) }

func (a *anyValue) Result(out *colvec.Builder, lo, hi int) error {
	for _, d := range a.v[lo:hi] {
		if err := out.AppendDatum(d); err != nil {
			return err
		}
	}
	return nil
}
