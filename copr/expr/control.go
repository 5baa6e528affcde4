package expr

import (
	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

// logicNode is AND and OR with three values: rows that an argument decides are
// not looked at by the next ones.
type logicNode struct {
	or   bool
	args []node
}

func (l logicNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	n := b.N
	out, valid := allOnes(n), allOnes(n) // AND: true until decided
	if l.or {
		out = newBits(n)
	}
	rest := sel
	for k, a := range l.args {
		v, err := a.eval(ctx, b, rest)
		if err != nil {
			return vec{}, err
		}
		bits, ok := boolsOf(v.arr), vec{arr: v.arr}.bitmap()
		undecided := make([]int32, 0, restLen(n, rest))
		rowsOf(n, rest, func(i int) {
			p := v.at(i)
			switch {
			case !ok.set(p):
				bitutil.ClearBit(valid, i)
				undecided = append(undecided, int32(i))
			case bits.get(p) == l.or: // decided
				bitutil.SetBitTo(out, i, l.or)
				bitutil.SetBit(valid, i)
			default:
				undecided = append(undecided, int32(i))
			}
		})
		if rest = undecided; len(rest) == 0 || k == len(l.args)-1 {
			break
		}
	}
	return vec{arr: boolArray(n, valid, out)}, nil
}

func restLen(n int, sel []int32) int {
	if sel == nil {
		return n
	}
	return len(sel)
}

// filter of AND narrows the selection argument by argument, in place; OR
// merges what its arguments add.
func (l logicNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	start := len(out)
	if !l.or {
		for k, a := range l.args {
			var err error
			if k == 0 {
				out, err = filter(ctx, a, b, sel, out)
			} else {
				out, err = filter(ctx, a, b, out[start:], out[:start])
			}
			if err != nil {
				return out, err
			}
			if len(out) == start {
				return out, nil
			}
		}
		return out, nil
	}
	rest := appendRows(b.N, sel, make([]int32, 0, restLen(b.N, sel)))
	var found []int32
	for k, a := range l.args {
		hit, err := filter(ctx, a, b, rest, nil)
		if err != nil {
			return out, err
		}
		found = mergeRows(found, hit)
		if k < len(l.args)-1 {
			rest = minusRows(rest, hit)
		}
	}
	return append(out, found...), nil
}

// mergeRows merges two ascending selections without common rows.
func mergeRows(a, b []int32) []int32 {
	if len(a) == 0 {
		return b
	}
	if len(b) == 0 {
		return a
	}
	out := make([]int32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// minusRows removes drop, a subset of rows, from rows in place.
func minusRows(rows, drop []int32) []int32 {
	if len(drop) == 0 {
		return rows
	}
	out := rows[:0]
	for _, r := range rows {
		if len(drop) > 0 && drop[0] == r {
			drop = drop[1:]
			continue
		}
		out = append(out, r)
	}
	return out
}

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
		rest = minusRows(rest, hit)
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
