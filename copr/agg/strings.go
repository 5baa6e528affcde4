package agg

import (
	"bytes"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// ValueBytesMax is the longest string that string_agg and array_agg make, as
// PostgreSQL's.
const ValueBytesMax = 1<<30 - 1

func resolveStringAgg(args []sqltypes.Type) (signature, bool) {
	t := sqltypes.Text
	switch {
	case args[0].OID == sqltypes.OIDBytea && args[1].OID == sqltypes.OIDBytea:
		t = sqltypes.Bytea
	case args[0].Category() != 'S' || args[1].Category() != 'S':
		return signature{}, false
	}
	return signature{t, []sqltypes.Type{t, sqltypes.Int4}, func() Accumulator { return &stringAgg{} }}, true
}

// stringAgg keeps delimiter and value of every row, the first delimiter too:
// it counts once the state is merged behind another one.
type stringAgg struct {
	buf   [][]byte
	skip  []int32 // length of the first delimiter
	has   has
	bytes int64
}

func (s *stringAgg) Grow(groups int) {
	s.buf, s.skip = grown(s.buf, groups), grown(s.skip, groups)
	s.has.grow(groups)
}
func (s *stringAgg) Bytes() int64 { return s.bytes + 32*int64(cap(s.buf)) }

func (s *stringAgg) Update(rows Rows, args []colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if args[0].IsNull(i) {
			continue
		}
		var delim []byte
		if !args[1].IsNull(i) {
			delim = args[1].BytesAt(i)
		}
		if err := s.add(g, int32(len(delim)), delim, args[0].BytesAt(i)); err != nil {
			return err
		}
	}
	return nil
}

func (s *stringAgg) add(g, skip int32, parts ...[]byte) error {
	if !s.has[g] {
		s.has[g], s.skip[g] = true, skip
	}
	before := cap(s.buf[g])
	for _, p := range parts {
		if len(s.buf[g])+len(p) > ValueBytesMax {
			return errTooLong("string_agg")
		}
		s.buf[g] = append(s.buf[g], p...)
	}
	s.bytes += int64(cap(s.buf[g]) - before)
	return nil
}

func errTooLong(name string) error {
	return pgerror.New(pgerror.ProgramLimitExceeded, "the result of %s exceeds %d bytes", name, ValueBytesMax)
}

func (s *stringAgg) Merge(rows Rows, state []colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if state[0].IsNull(i) || state[1].IsNull(i) {
			continue
		}
		skip, part := state[1].I32[i], state[0].BytesAt(i)
		if skip < 0 || int(skip) > len(part) {
			return pgerror.New(pgerror.DataCorrupted, "a partial string_agg of %d bytes has a delimiter of %d", len(part), skip)
		}
		if err := s.add(g, skip, part); err != nil {
			return err
		}
	}
	return nil
}

func (s *stringAgg) State(out []*colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if !s.has[g] {
			out[0].AppendNull()
			out[1].AppendNull()
			continue
		}
		out[0].AppendBytes(s.buf[g])
		out[1].AppendInt(int64(s.skip[g]))
	}
	return nil
}

func (s *stringAgg) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.has[g] {
			out.AppendBytes(s.buf[g][s.skip[g]:])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

func resolveArrayAgg(t sqltypes.Type) (signature, bool) {
	result, ok := t.ArrayType()
	if !ok {
		return signature{}, false
	}
	return signature{result, []sqltypes.Type{sqltypes.Text}, func() Accumulator { return &arrayAgg{typ: t} }}, true
}

// arrayAgg keeps PostgreSQL's text of the elements, with commas between.
type arrayAgg struct {
	typ   sqltypes.Type
	buf   [][]byte
	has   has
	text  []byte
	bytes int64
}

func (a *arrayAgg) Grow(groups int) { a.buf = grown(a.buf, groups); a.has.grow(groups) }
func (a *arrayAgg) Bytes() int64    { return a.bytes + 32*int64(cap(a.buf)) }

func (a *arrayAgg) Update(rows Rows, args []colvec.Vec) error {
	in := &args[0]
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if in.IsNull(i) {
			a.text = append(a.text[:0], "NULL"...)
		} else {
			a.text = appendElement(a.text[:0], sqltypes.AppendText(nil, a.typ, in.At(i, a.typ)))
		}
		if err := a.add(g, a.text); err != nil {
			return err
		}
	}
	return nil
}

func (a *arrayAgg) add(g int32, elems []byte) error {
	if len(a.buf[g])+len(elems)+3 > ValueBytesMax {
		return errTooLong("array_agg")
	}
	before := cap(a.buf[g])
	if a.has[g] {
		a.buf[g] = append(a.buf[g], ',')
	}
	a.has[g] = true
	a.buf[g] = append(a.buf[g], elems...)
	a.bytes += int64(cap(a.buf[g]) - before)
	return nil
}

func (a *arrayAgg) Merge(rows Rows, state []colvec.Vec) error {
	for k := range rows.N {
		i, g := rows.at(k), rows.group(k)
		if !state[0].IsNull(i) {
			if err := a.add(g, state[0].BytesAt(i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *arrayAgg) State(out []*colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if a.has[g] {
			out[0].AppendBytes(a.buf[g])
		} else {
			out[0].AppendNull()
		}
	}
	return nil
}

func (a *arrayAgg) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if !a.has[g] {
			out.AppendNull()
			continue
		}
		a.text = append(append(append(a.text[:0], '{'), a.buf[g]...), '}')
		out.AppendBytes(a.text)
	}
	return nil
}

// appendElement quotes an array element as PostgreSQL's array_out does.
func appendElement(dst, text []byte) []byte {
	if len(text) > 0 && !bytes.ContainsAny(text, "{}\",\\ \t\n\r\v\f") && !bytes.EqualFold(text, []byte("NULL")) {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
