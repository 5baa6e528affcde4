package exec

import (
	"math"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// joinColumn is a column of all rows of a join's build side, in one piece.
type joinColumn struct {
	typ   sqltypes.Type
	kind  colvec.Kind
	nulls []bool // nil = none
	bools []bool
	i16   []int16
	i32   []int32
	i64   []int64
	f32   []float32
	f64   []float64
	d64   []int64 // Decimal, if all fit
	dec   []decimal128.Num
	iv    []arrow.MonthDayNanoInterval
	off   []int64 // byte strings: one more than rows
	data  []byte
	long  longest
	codes []int32     // byte strings over one dictionary
	dict  arrow.Array // a plain column
}

// dictRowsPerValue is how many rows a value of the dictionaries of a column must
// have on average for them to be merged into one.
const dictRowsPerValue = 2

// newJoinColumn makes room for the column that stands in the parts as vecs, of
// so many rows in all. It decides about the encoding.
func newJoinColumn(t sqltypes.Type, vecs []colvec.Vec, sels [][]int32, rows int) *joinColumn {
	c := &joinColumn{typ: t, kind: colvec.KindOf(t)}
	for i := range vecs {
		if vecs[i].Nulls > 0 {
			c.nulls = make([]bool, rows)
			break
		}
	}
	switch c.kind {
	case colvec.Bool:
		c.bools = make([]bool, rows)
	case colvec.Int16:
		c.i16 = make([]int16, rows)
	case colvec.Int32, colvec.Date:
		c.i32 = make([]int32, rows)
	case colvec.Int64, colvec.Time, colvec.Timestamp:
		c.i64 = make([]int64, rows)
	case colvec.Float32:
		c.f32 = make([]float32, rows)
	case colvec.Float64:
		c.f64 = make([]float64, rows)
	case colvec.Interval:
		c.iv = make([]arrow.MonthDayNanoInterval, rows)
	case colvec.Decimal:
		if allSmall(vecs, sels) {
			c.d64 = make([]int64, rows)
		} else {
			c.dec = make([]decimal128.Num, rows)
		}
	}
	return c
}

// allSmall reports whether all decimals fit an int64.
func allSmall(vecs []colvec.Vec, sels [][]int32) bool {
	for p := range vecs {
		v := &vecs[p]
		if v.D64 != nil {
			continue
		}
		small := true
		eachRow(v.N, sels[p], func(i int) {
			if !v.IsNull(i) {
				_, ok := colvec.ToDec64(v.Dec[i])
				small = small && ok
			}
		})
		if !small {
			return false
		}
	}
	return true
}

func (c *joinColumn) bytes() int64 {
	n := cap(c.nulls) + cap(c.bools) + 2*cap(c.i16) + 4*cap(c.i32) + 8*cap(c.i64) + 4*cap(c.f32) + 8*cap(c.f64) +
		8*cap(c.d64) + 16*cap(c.dec) + 16*cap(c.iv) + 8*cap(c.off) + cap(c.data) + 4*cap(c.codes)
	return int64(n)
}

// fill copies one part of a column of values of fixed width to its place.
func (c *joinColumn) fill(v *colvec.Vec, sel []int32, at int) {
	n := v.N
	if sel != nil {
		n = len(sel)
	}
	if c.nulls != nil && v.Nulls > 0 {
		k := at
		eachRow(v.N, sel, func(i int) { c.nulls[k] = v.IsNull(i); k++ })
	}
	switch c.kind {
	case colvec.Bool:
		k := at
		eachRow(v.N, sel, func(i int) { c.bools[k] = v.BoolAt(i); k++ })
	case colvec.Int16:
		copyRows(c.i16[at:at+n], v.I16, sel)
	case colvec.Int32, colvec.Date:
		copyRows(c.i32[at:at+n], v.I32, sel)
	case colvec.Int64, colvec.Time, colvec.Timestamp:
		copyRows(c.i64[at:at+n], v.I64, sel)
	case colvec.Float32:
		copyRows(c.f32[at:at+n], v.F32, sel)
	case colvec.Float64:
		copyRows(c.f64[at:at+n], v.F64, sel)
	case colvec.Interval:
		copyRows(c.iv[at:at+n], v.Iv, sel)
	case colvec.Decimal:
		c.fillDecimals(v, sel, at, n)
	}
}

func (c *joinColumn) fillDecimals(v *colvec.Vec, sel []int32, at, n int) {
	switch {
	case c.d64 != nil && v.D64 != nil:
		copyRows(c.d64[at:at+n], v.D64, sel)
	case c.dec != nil && v.D64 == nil:
		copyRows(c.dec[at:at+n], v.Dec, sel)
	default:
		k := at
		eachRow(v.N, sel, func(i int) {
			if c.dec != nil {
				c.dec[k] = v.DecAt(i)
			} else {
				c.d64[k] = int64(v.Dec[i].LowBits())
			}
			k++
		})
	}
}

func copyRows[T any](dst, src []T, sel []int32) {
	if sel == nil {
		copy(dst, src)
		return
	}
	for k, i := range sel {
		dst[k] = src[i]
	}
}

// fillBytes copies all parts of a column of byte strings, as codes of one
// dictionary if that is worth it.
func (c *joinColumn) fillBytes(vecs []colvec.Vec, sels [][]int32, ends []int) error {
	rows := ends[len(ends)-1]
	if c.nulls != nil {
		for p := range vecs {
			k := ends[p]
			eachRow(vecs[p].N, sels[p], func(i int) { c.nulls[k] = vecs[p].IsNull(i); k++ })
		}
	}
	if dicts, values := dictsOf(vecs); dicts != nil && (len(dicts) == 1 || values*dictRowsPerValue <= rows) {
		return c.fillCodes(vecs, sels, ends, dicts)
	}
	c.off = make([]int64, 1, rows+1)
	for p := range vecs {
		v := &vecs[p]
		eachRow(v.N, sels[p], func(i int) {
			if !v.IsNull(i) {
				if v.Dict != nil {
					c.data = append(c.data, v.Dict.BytesAt(int(v.Codes[i]))...)
				} else {
					c.data = append(c.data, v.BytesAt(i)...)
				}
			}
			c.off = append(c.off, int64(len(c.data)))
		})
	}
	return nil
}

// dictsOf returns the dictionaries of a column all of whose parts have one, each
// once, and how many values they have; nil if there is a part without.
func dictsOf(vecs []colvec.Vec) (dicts map[arrow.ArrayData]*colvec.Vec, values int) {
	for p := range vecs {
		v := &vecs[p]
		if v.Dict == nil {
			return nil, 0
		}
		if dicts[v.DictID] == nil {
			if dicts == nil {
				dicts = map[arrow.ArrayData]*colvec.Vec{}
			}
			dicts[v.DictID] = v.Dict
			values += v.Dict.N
		}
	}
	return dicts, values
}

func (c *joinColumn) fillCodes(vecs []colvec.Vec, sels [][]int32, ends []int, dicts map[arrow.ArrayData]*colvec.Vec) error {
	c.codes = make([]int32, ends[len(ends)-1])
	if len(dicts) == 1 {
		c.dict = vecs[0].DictArray()
		for p := range vecs {
			copyRows(c.codes[ends[p]:ends[p+1]], vecs[p].Codes, sels[p])
		}
		return nil
	}
	names, maps := &byteTable{}, map[arrow.ArrayData][]int32{}
	b := colvec.NewBuilder(c.typ, 0)
	for p := range vecs { // in order, so that runs do not differ
		v := &vecs[p]
		m, ok := maps[v.DictID]
		if !ok {
			m = make([]int32, v.Dict.N)
			for i := range m {
				s := v.Dict.BytesAt(i)
				var err error
				if m[i], err = names.find(s, hashBytes(s), true); err != nil {
					return err
				}
				if int(m[i]) == b.Len() {
					b.AppendBytes(s)
				}
			}
			maps[v.DictID] = m
		}
		k := ends[p]
		eachRow(v.N, sels[p], func(i int) {
			if !v.IsNull(i) {
				c.codes[k] = m[v.Codes[i]]
			}
			k++
		})
	}
	var err error
	c.dict, err = b.Finish()
	return err
}

// gather makes a column of the given rows; a negative one is NULL.
func (c *joinColumn) gather(rows []int32) (arrow.Array, error) {
	valid, nulls := c.validity(rows)
	holes := nulls > 0
	switch c.kind {
	case colvec.Bool:
		bits := make([]byte, (len(rows)+7)/8)
		for k, r := range rows {
			if r >= 0 && c.bools[r] {
				bits[k>>3] |= 1 << (k & 7)
			}
		}
		return colvec.FromBits(c.typ, len(rows), bits, valid, nulls), nil
	case colvec.Int16:
		return colvec.FromFixed(c.typ, pick(c.i16, rows, holes), valid, nulls), nil
	case colvec.Int32, colvec.Date:
		return colvec.FromFixed(c.typ, pick(c.i32, rows, holes), valid, nulls), nil
	case colvec.Int64, colvec.Time, colvec.Timestamp:
		return colvec.FromFixed(c.typ, pick(c.i64, rows, holes), valid, nulls), nil
	case colvec.Float32:
		return colvec.FromFixed(c.typ, pick(c.f32, rows, holes), valid, nulls), nil
	case colvec.Float64:
		return colvec.FromFixed(c.typ, pick(c.f64, rows, holes), valid, nulls), nil
	case colvec.Interval:
		return colvec.FromFixed(c.typ, pick(c.iv, rows, holes), valid, nulls), nil
	case colvec.Decimal:
		if c.d64 != nil {
			return colvec.NewDec64(pick(c.d64, rows, holes), valid, nulls), nil
		}
		return colvec.FromFixed(c.typ, pick(c.dec, rows, holes), valid, nulls), nil
	}
	if c.codes != nil {
		return colvec.NewDict(c.dict, pick(c.codes, rows, holes), valid, nulls), nil
	}
	return c.gatherBytes(rows, valid, nulls)
}

func (c *joinColumn) validity(rows []int32) (valid []byte, nulls int) {
	null := func(k int) {
		if valid == nil {
			valid = make([]byte, (len(rows)+7)/8)
			for i := range valid {
				valid[i] = 0xFF
			}
		}
		valid[k>>3] &^= 1 << (k & 7)
		nulls++
	}
	if c.nulls == nil {
		for k, r := range rows {
			if r < 0 {
				null(k)
			}
		}
		return valid, nulls
	}
	for k, r := range rows {
		if r < 0 || c.nulls[r] {
			null(k)
		}
	}
	return valid, nulls
}

func pick[T any](src []T, rows []int32, holes bool) []T {
	out := make([]T, len(rows))
	if !holes {
		for k, r := range rows {
			out[k] = src[r]
		}
		return out
	}
	for k, r := range rows {
		if r >= 0 {
			out[k] = src[r]
		}
	}
	return out
}

func (c *joinColumn) gatherBytes(rows []int32, valid []byte, nulls int) (arrow.Array, error) {
	off := make([]int32, len(rows)+1)
	size := int64(0)
	for k, r := range rows {
		if r >= 0 {
			size += c.off[r+1] - c.off[r]
		}
		off[k+1] = int32(min(size, math.MaxInt32))
	}
	if size > colvec.ColumnDataBytesMax {
		return nil, pgerror.New(pgerror.ProgramLimitExceeded, "the values of one column of one batch exceed %d bytes", colvec.ColumnDataBytesMax)
	}
	data := make([]byte, 0, size)
	for _, r := range rows {
		if r >= 0 {
			data = append(data, c.data[c.off[r]:c.off[r+1]]...)
		}
	}
	return colvec.FromBytes(c.typ, off, data, valid, nulls), nil
}
