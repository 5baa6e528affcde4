package expr

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

// caseNode is CASE; results may have one more than conds, the ELSE.
type caseNode struct {
	typ     sqltypes.Type
	conds   []node
	results []node
}

func (c caseNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	m := newMerge(c.typ, b.N)
	rest := appendRows(b.N, sel, make([]int32, 0, restLen(b.N, sel)))
	for k, cond := range c.conds {
		if len(rest) == 0 {
			break
		}
		hit, err := filter(ctx, cond, b, rest, nil)
		if err != nil {
			return vec{}, err
		}
		if len(hit) == 0 {
			continue
		}
		v, err := c.results[k].eval(ctx, b, hit)
		if err != nil {
			return vec{}, err
		}
		m.add(v, hit)
		rest = minusRows(b.N, rest, hit, rest[:0])
	}
	if len(rest) > 0 && len(c.results) > len(c.conds) {
		v, err := c.results[len(c.conds)].eval(ctx, b, rest)
		if err != nil {
			return vec{}, err
		}
		m.add(v, rest)
	}
	return vec{arr: m.finish()}, nil
}

// coalesceNode is COALESCE.
type coalesceNode struct {
	typ  sqltypes.Type
	args []node
}

func (c coalesceNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	m := newMerge(c.typ, b.N)
	rest := sel
	for k, a := range c.args {
		v, err := a.eval(ctx, b, rest)
		if err != nil {
			return vec{}, err
		}
		if k == 0 && !v.cst && v.arr.NullN() == 0 {
			return v, nil
		}
		hit := make([]int32, 0, restLen(b.N, rest))
		left := make([]int32, 0)
		rowsOf(b.N, rest, func(i int) {
			if v.isNull(i) {
				left = append(left, int32(i))
			} else {
				hit = append(hit, int32(i))
			}
		})
		m.add(v, hit)
		if rest = left; len(rest) == 0 {
			break
		}
	}
	return vec{arr: m.finish()}, nil
}

// merge puts a column together from rows of several.
type merge struct {
	typ   sqltypes.Type
	n     int
	which []int16 // per row the source plus one, 0 = NULL
	srcs  []vec
}

func newMerge(t sqltypes.Type, n int) *merge { return &merge{typ: t, n: n, which: make([]int16, n)} }

func (m *merge) add(v vec, rows []int32) {
	m.srcs = append(m.srcs, v)
	id := int16(len(m.srcs))
	for _, r := range rows {
		m.which[r] = id
	}
}

func (m *merge) finish() arrow.Array {
	switch m.typ.Arrow().ID() {
	case arrow.BOOL:
		return mergeBools(m)
	case arrow.STRING, arrow.BINARY:
		return mergeStrings(m)
	case arrow.INT16:
		return mergeFixed[int16](m)
	case arrow.INT32, arrow.DATE32, arrow.FLOAT32:
		return mergeFixed[int32](m)
	case arrow.DECIMAL128, arrow.INTERVAL_MONTH_DAY_NANO:
		return mergeFixed[dec](m)
	}
	return mergeFixed[int64](m)
}

// validRows is the validity of a merged column, nil = all valid.
func (m *merge) validRows() []byte {
	valid := newBits(m.n)
	all := true
	for i, w := range m.which {
		if w != 0 && !m.srcs[w-1].isNull(i) {
			bitutil.SetBit(valid, i)
		} else {
			all = false
		}
	}
	if all {
		return nil
	}
	return valid
}

func mergeFixed[T any](m *merge) arrow.Array {
	out := make([]T, m.n)
	cols := make([][]T, len(m.srcs))
	for k, s := range m.srcs {
		cols[k] = values[T](s.arr)
	}
	for i, w := range m.which {
		if w != 0 {
			out[i] = cols[w-1][m.srcs[w-1].at(i)]
		}
	}
	return fixed(m.typ.Arrow(), out, m.validRows())
}

func mergeBools(m *merge) arrow.Array {
	out := newBits(m.n)
	cols := make([]bitmap, len(m.srcs))
	for k, s := range m.srcs {
		cols[k] = boolsOf(s.arr)
	}
	for i, w := range m.which {
		if w != 0 && cols[w-1].get(m.srcs[w-1].at(i)) {
			bitutil.SetBit(out, i)
		}
	}
	return boolArray(m.n, m.validRows(), out)
}

func mergeStrings(m *merge) arrow.Array {
	cols := make([]strs, len(m.srcs))
	for k, s := range m.srcs {
		cols[k] = stringsOf(s.arr)
	}
	offs := make([]int32, m.n+1)
	var data []byte
	for i, w := range m.which {
		if w != 0 {
			data = append(data, cols[w-1].get(m.srcs[w-1].at(i))...)
		}
		offs[i+1] = int32(len(data))
	}
	return rawArray(m.typ.Arrow(), m.n, m.validRows(), rawBytes(offs), data)
}
