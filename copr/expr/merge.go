package expr

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

// merge puts a column together from rows of several. Values of a fixed width
// are copied as they come.
type merge struct {
	typ   sqltypes.Type
	n     int
	valid []byte // rows added that are not NULL

	i16  []int16
	i32  []int32
	i64  []int64
	wide []dec
	bits []byte
	// Of byte strings: per row the source plus one, 0 = NULL.
	which []int16
	srcs  []vec
}

func newMerge(t sqltypes.Type, n int) *merge {
	m := &merge{typ: t, n: n, valid: newBits(n)}
	switch t.Arrow().ID() {
	case arrow.BOOL:
		m.bits = newBits(n)
	case arrow.STRING, arrow.BINARY:
		m.which = make([]int16, n)
	case arrow.INT16:
		m.i16 = make([]int16, n)
	case arrow.INT32, arrow.DATE32, arrow.FLOAT32:
		m.i32 = make([]int32, n)
	case arrow.DECIMAL128, arrow.INTERVAL_MONTH_DAY_NANO:
		m.wide = make([]dec, n)
	default:
		m.i64 = make([]int64, n)
	}
	return m
}

// add takes the rows of v, which replace those added before.
func (m *merge) add(v vec, rows []int32) {
	if v.cst && v.arr.IsNull(0) {
		for _, i := range rows {
			bitutil.ClearBit(m.valid, int(i))
		}
		return
	}
	if bm := v.bitmap(); bm.bits == nil {
		for _, i := range rows {
			m.valid[i>>3] |= 1 << (i & 7)
		}
	} else {
		for _, i := range rows {
			bitutil.SetBitTo(m.valid, int(i), bm.get(int(i)))
		}
	}
	switch {
	case m.i16 != nil:
		scatter(m.i16, v, rows)
	case m.i32 != nil:
		scatter(m.i32, v, rows)
	case m.i64 != nil:
		scatter(m.i64, v, rows)
	case m.wide != nil:
		scatter(m.wide, v, rows)
	case m.bits != nil:
		src := boolsOf(v.arr)
		for _, i := range rows {
			bitutil.SetBitTo(m.bits, int(i), src.get(v.at(int(i))))
		}
	default:
		m.srcs = append(m.srcs, v)
		for _, i := range rows {
			m.which[i] = int16(len(m.srcs))
		}
	}
}

func scatter[T any](out []T, v vec, rows []int32) {
	src := values[T](v.arr)
	if v.cst {
		c := src[0]
		for _, i := range rows {
			out[i] = c
		}
		return
	}
	for _, i := range rows {
		out[i] = src[i]
	}
}

func (m *merge) finish() arrow.Array {
	dt := m.typ.Arrow()
	switch {
	case m.i16 != nil:
		return fixed(dt, m.i16, m.valid)
	case m.i32 != nil:
		return fixed(dt, m.i32, m.valid)
	case m.i64 != nil:
		return fixed(dt, m.i64, m.valid)
	case m.wide != nil:
		return fixed(dt, m.wide, m.valid)
	case m.bits != nil:
		return boolArray(m.n, m.valid, m.bits)
	}
	return m.strings()
}

func (m *merge) strings() arrow.Array {
	cols := make([]strs, len(m.srcs))
	for k, s := range m.srcs {
		cols[k] = stringsOf(s.arr)
	}
	offs := make([]int32, m.n+1)
	var data []byte
	for i, w := range m.which {
		if w != 0 && bitutil.BitIsSet(m.valid, i) {
			data = append(data, cols[w-1].get(m.srcs[w-1].at(i))...)
		}
		if len(data) > blockTextBytesMax {
			panic(errBlockText()) // sqlfront/plan and copr/server make it the statement's error
		}
		offs[i+1] = int32(len(data))
	}
	return rawArray(m.typ.Arrow(), m.n, m.valid, rawBytes(offs), data)
}

// decMerge is merge for decimals that come as int64, when every row that counts
// is added.
type decMerge struct {
	i64   []int64
	mem   *[]int64
	valid []byte // nil: no NULL so far
}

func newDecMerge(n int) *decMerge {
	m := &decMerge{}
	m.i64, m.mem = int64s(n)
	return m
}

// add takes the rows of v times f; it is false if v is in another encoding or
// may not fit, and nothing has been added then.
func (m *decMerge) add(v evec, f int64, rows []int32) bool {
	switch {
	case v.isNullConst():
		m.clear(rows, bitmap{})
		return true
	case v.enc != encDec64:
		return false
	case v.cst:
		c, ok := mulFits(v.i64[0], f)
		if !ok {
			return false
		}
		for _, i := range rows {
			m.i64[i] = c
		}
		return true
	case f == 1:
		for _, i := range rows {
			m.i64[i] = v.i64[i]
		}
	default:
		mem := getRows(len(rows))
		valid := dropUnset(append(*mem, rows...), 0, v.valid)
		ok := addConst(v.i64, f, 0, m.i64, valid)
		putRows(mem)
		if !ok {
			return false
		}
	}
	if v.valid.bits != nil {
		m.clear(rows, v.valid)
	}
	return true
}

// clear makes NULL of the rows whose bit is not set, all of them if there are no
// bits.
func (m *decMerge) clear(rows []int32, valid bitmap) {
	if m.valid == nil {
		m.valid = allOnes(len(m.i64))
	}
	for _, i := range rows {
		if valid.bits == nil || !valid.get(int(i)) {
			bitutil.ClearBit(m.valid, int(i))
		}
	}
}

func (m *decMerge) finish() evec {
	return evec{enc: encDec64, i64: m.i64, mem: m.mem, valid: bitmap{bits: m.valid}}
}
