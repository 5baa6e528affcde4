package exec

import (
	"math/bits"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// The keys of a hash join become one 64-bit word each, equal exactly for equal
// keys. First every value becomes a code, an int64:
//
//	integers, dates, times, floats, booleans   the value (intKey)
//	numerics of one scale                      the unscaled value, if it is small
//	everything else                            its number in an byteTable
//
// The codes of the build side have a least and a greatest value in each column;
// code - least takes only as many bits as the range needs, and the columns'
// bits are put side by side. If they are more than 64, the tuple of codes is
// interned as well. A probe row with a code out of range joins nothing.

// wideCode is where the codes of numerics begin that are not small: the number
// in the byteTable is added.
const wideCode = 1 << 62

// keyColumn is one key column of a join.
type keyColumn struct {
	typ   sqltypes.Type // in which both sides are compared
	ints  bool          // codes are values
	dec   bool          // codes are unscaled values, or interned
	names *byteTable    // of what is interned
	lo    int64         // least code
	span  uint64        // greatest code - lo
	shift uint          // where its bits are in a word
}

// joinKeys turns the keys of both sides into words.
type joinKeys struct {
	cols   []keyColumn
	tuples *byteTable // the bits of the columns do not fit a word
	span   uint64     // greatest word
}

func newJoinKeys(types []sqltypes.Type) *joinKeys {
	k := &joinKeys{cols: make([]keyColumn, len(types))}
	for i, t := range types {
		c := &k.cols[i]
		c.typ = t
		switch {
		case intKeyed(t):
			c.ints = true
		case colvec.KindOf(t) == colvec.Decimal:
			c.dec = true
		}
	}
	k.reset()
	return k
}

func (k *joinKeys) reset() {
	k.tuples = nil
	for i := range k.cols {
		c := &k.cols[i]
		c.names = nil
		if !c.ints {
			c.names = &byteTable{}
		}
	}
}

func (k *joinKeys) bytes() int64 {
	n := int64(0)
	for i := range k.cols {
		if t := k.cols[i].names; t != nil {
			n += t.Bytes()
		}
	}
	if k.tuples != nil {
		n += k.tuples.Bytes()
	}
	return n
}

// keySide evaluates the keys of one side of a join.
type keySide struct {
	exprs *exprList
	types []sqltypes.Type // in which they are compared
	vecs  []colvec.Vec
}

// eval opens the key columns of r.
func (s *keySide) eval(ctx *Ctx, r Raw) ([]colvec.Vec, error) {
	s.vecs = s.vecs[:0]
	for i, ev := range s.exprs.evals {
		t := s.exprs.types[i]
		var v colvec.Vec
		if c, ok := ev.Expr().(*expr.Column); ok {
			v = colvec.OpenEncoded(r.Cols[c.Index], t)
		} else {
			a, err := ev.Eval(ctx.Eval, r.Batch, r.Sel)
			if err != nil {
				return nil, err
			}
			v = colvec.OpenEncoded(a, t)
		}
		if s.types[i] == sqltypes.Numeric && v.Kind == colvec.Decimal {
			plain, err := numericTexts(&v, t, r.Sel)
			if err != nil {
				return nil, err
			}
			v = plain
		}
		s.vecs = append(s.vecs, v)
	}
	return s.vecs, nil
}

// numericTexts is a column of fixed scale as one whose values carry theirs.
func numericTexts(v *colvec.Vec, t sqltypes.Type, sel []int32) (colvec.Vec, error) {
	b := colvec.NewBuilder(sqltypes.Numeric, v.N)
	var text []byte
	one := func(i int) {
		if v.IsNull(i) {
			b.AppendNull()
			return
		}
		text = sqltypes.AppendDec128(text[:0], v.DecAt(i), t.Scale)
		b.AppendBytes(text)
	}
	if sel == nil {
		for i := range v.N {
			one(i)
		}
	} else {
		for _, i := range sel {
			for b.Len() < int(i) {
				b.AppendBytes(nil) // nobody reads it
			}
			one(int(i))
		}
	}
	a, err := b.Finish()
	if err != nil {
		return colvec.Vec{}, err
	}
	return colvec.Open(a, sqltypes.Numeric), nil
}

// withoutNulls returns the rows sel (nil = all of n) that have no NULL among
// their keys, sel itself if there is none; buf is for the rows.
func withoutNulls(vecs []colvec.Vec, n int, sel, buf []int32) (rows, newBuf []int32) {
	any := false
	for c := range vecs {
		any = any || vecs[c].Nulls > 0
	}
	if !any {
		return sel, buf
	}
	if buf == nil {
		buf = make([]int32, 0, n) // nil would be all rows
	}
	buf = buf[:0]
	if sel == nil {
		for i := range n {
			if !anyNull(vecs, i) {
				buf = append(buf, int32(i))
			}
		}
		return buf, buf
	}
	for _, i := range sel {
		if !anyNull(vecs, int(i)) {
			buf = append(buf, i)
		}
	}
	return buf, buf
}

func anyNull(vecs []colvec.Vec, i int) bool {
	for c := range vecs {
		if vecs[c].IsNull(i) {
			return true
		}
	}
	return false
}

// appendCodes appends the codes of the build side's rows (nil = all of v); none
// of them is NULL.
func (c *keyColumn) appendCodes(dst []int64, v *colvec.Vec, rows []int32, buf *[]byte) ([]int64, error) {
	switch {
	case c.ints:
		switch v.Kind {
		case colvec.Int64, colvec.Time, colvec.Timestamp:
			return appendInts(dst, v.I64, rows), nil
		case colvec.Int32, colvec.Date:
			return appendInts(dst, v.I32, rows), nil
		case colvec.Int16:
			return appendInts(dst, v.I16, rows), nil
		}
		eachRow(v.N, rows, func(i int) { dst = append(dst, intKey(v, i)) })
		return dst, nil
	case v.Dict != nil:
		seen := make([]int64, v.Dict.N)
		var err error
		eachRow(v.N, rows, func(i int) {
			code := v.Codes[i]
			if seen[code] == 0 && err == nil {
				var id int64
				id, err = c.code(v.Dict, int(code), buf, true)
				seen[code] = id + 1
			}
			dst = append(dst, seen[code]-1)
		})
		return dst, err
	}
	var err error
	eachRow(v.N, rows, func(i int) {
		if err != nil {
			return
		}
		var code int64
		code, err = c.code(v, i, buf, true)
		dst = append(dst, code)
	})
	return dst, err
}

func appendInts[T int16 | int32 | int64](dst []int64, src []T, rows []int32) []int64 {
	if rows == nil {
		for _, x := range src {
			dst = append(dst, int64(x))
		}
		return dst
	}
	for _, i := range rows {
		dst = append(dst, int64(src[i]))
	}
	return dst
}

func eachRow(n int, rows []int32, f func(i int)) {
	if rows == nil {
		for i := range n {
			f(i)
		}
		return
	}
	for _, i := range rows {
		f(int(i))
	}
}

// code is the code of one value, -1 if it is interned and not known; then
// insert makes it known.
func (c *keyColumn) code(v *colvec.Vec, i int, buf *[]byte, insert bool) (int64, error) {
	base := int64(0)
	if c.dec {
		if v.D64 != nil {
			if d := v.D64[i]; d > -wideCode && d < wideCode {
				return d, nil
			}
		} else if d, ok := colvec.ToDec64(v.Dec[i]); ok && d > -wideCode && d < wideCode {
			return d, nil
		}
		base = wideCode
	}
	var key []byte
	if (v.Kind == colvec.String || v.Kind == colvec.Binary) && c.typ.OID != sqltypes.OIDBpchar {
		key = v.BytesAt(i)
	} else {
		var err error
		if key, err = appendKeyBytes((*buf)[:0], c.typ, v, i); err != nil {
			return 0, err
		}
		*buf = key
	}
	id, err := c.names.find(key, hashBytes(key), insert)
	if id < 0 {
		return c.lo - 1, err // out of range
	}
	return base + int64(id), nil
}

// appendKeyBytes is appendEqualKey for columns that may hold small decimals.
func appendKeyBytes(dst []byte, t sqltypes.Type, v *colvec.Vec, i int) ([]byte, error) {
	if v.Kind == colvec.Decimal {
		d := v.DecAt(i)
		lo, hi := d.LowBits(), uint64(d.HighBits())
		for s := 0; s < 64; s += 8 {
			dst = append(dst, byte(lo>>s), byte(hi>>s))
		}
		return dst, nil
	}
	return appendEqualKey(dst, t, v, i)
}

// setRanges lays out words for the codes of the build side, given by column.
func (k *joinKeys) setRanges(lo, hi []int64, rows int) {
	width := uint(0)
	for i := range k.cols {
		c := &k.cols[i]
		c.lo, c.span, c.shift = 0, 0, width
		if rows > 0 {
			c.lo, c.span = lo[i], uint64(hi[i])-uint64(lo[i])
		}
		width += uint(bits.Len64(c.span))
	}
	switch {
	case len(k.cols) == 1:
		k.span = k.cols[0].span
	case width >= 64:
		k.tuples = &byteTable{}
		k.span = uint64(max(rows, 1) - 1)
	default:
		k.span = 1<<width - 1
	}
}

// words turns the codes of rows [from, to) of the build side into words.
func (k *joinKeys) words(codes [][]int64, from, to int, out []uint64) {
	for c := range k.cols {
		col := &k.cols[c]
		src, dst := codes[c][from:to], out[from:to]
		if c == 0 {
			for i, x := range src {
				dst[i] = uint64(x) - uint64(col.lo)
			}
			continue
		}
		for i, x := range src {
			dst[i] |= (uint64(x) - uint64(col.lo)) << col.shift
		}
	}
}

// internWords is words where the tuples are interned.
func (k *joinKeys) internWords(codes [][]int64, rows int, out []uint64) error {
	var buf []byte
	for i := range rows {
		buf = buf[:0]
		for c := range k.cols {
			buf = appendWord(buf, uint64(codes[c][i]))
		}
		id, err := k.tuples.find(buf, hashBytes(buf), true)
		if err != nil {
			return err
		}
		out[i] = uint64(id)
	}
	return nil
}

func appendWord(dst []byte, x uint64) []byte {
	return append(dst, byte(x), byte(x>>8), byte(x>>16), byte(x>>24), byte(x>>32), byte(x>>40), byte(x>>48), byte(x>>56))
}

func errJoinRows() error {
	return pgerror.New(pgerror.ProgramLimitExceeded, "a hash join cannot keep more than %d rows", joinRowsMax).
		WithHint("Let conditions on the smaller side of the join select fewer rows.")
}
