package expr

import (
	"slices"

	"github.com/apache/arrow/go/v17/arrow/bitutil"

	"github.com/copradb/copra/internal/sqltypes"
)

// logicNode is AND and OR with three values: rows that an argument decides are
// not looked at by the next ones.
type logicNode struct {
	or   bool
	args []node
}

// newLogicNode arranges the arguments of an AND: one test for all comparisons
// of a column with constants, and the cheap tests first. Neither moves anything
// across an argument that may fail.
func newLogicNode(or bool, args []node) node {
	if or {
		return logicNode{or: true, args: args}
	}
	var flat []node
	for _, a := range args {
		if l, ok := a.(logicNode); ok && !l.or {
			flat = append(flat, l.args...)
		} else {
			flat = append(flat, a)
		}
	}
	var out []node
	for len(flat) > 0 {
		run := 0
		for run < len(flat) && safe(flat[run]) {
			run++
		}
		part := mergeRanges(flat[:run])
		slices.SortStableFunc(part, func(a, b node) int { return cost(a) - cost(b) })
		out = append(out, part...)
		if run < len(flat) {
			out = append(out, flat[run])
			run++
		}
		flat = flat[run:]
	}
	if len(out) == 1 {
		return out[0]
	}
	return logicNode{args: out}
}

// mergeRanges makes one test of the comparisons of each column with constants.
func mergeRanges(args []node) []node {
	out := make([]node, 0, len(args))
	at := map[int]int{} // where a column's test is in out
	for _, a := range args {
		r, ok := asRange(a)
		if !ok {
			out = append(out, a)
			continue
		}
		k, seen := at[r.col.index]
		if !seen {
			at[r.col.index] = len(out)
			out = append(out, r)
			continue
		}
		out[k] = out[k].(rangeNode).and(r)
	}
	return out
}

// and is r and s, of the same column.
func (r rangeNode) and(s rangeNode) rangeNode {
	parts := func(r rangeNode) []node {
		if r.parts != nil {
			return r.parts
		}
		return []node{r.node}
	}
	r.parts = slices.Concat(parts(r), parts(s))
	r.node = logicNode{args: r.parts}
	r.lo, r.hi = max(r.lo, s.lo), min(r.hi, s.hi)
	return r
}

// safe reports whether no row can make a node fail.
func safe(n node) bool {
	switch n := n.(type) {
	case colNode, constNode, rangeNode:
		return true
	case dictNode:
		return safe(n.node)
	case cmpNode:
		l, r := n.argTypes[0], n.argTypes[1]
		return safe(n.args[0]) && safe(n.args[1]) && !l.IsArray() && (l.OID == r.OID || !l.IsDateTime())
	case nullTestNode:
		return safe(n.args[0])
	case notNode:
		return safe(n.args[0])
	case inNode:
		return safe(n.x)
	case likeNode:
		return n.pattern != nil && n.pattern.more == nil && safe(n.args[0])
	case logicNode:
		return !slices.ContainsFunc(n.args, func(a node) bool { return !safe(a) })
	}
	return false
}

// cost is about how long a row takes, for the order of tests only.
func cost(n node) int {
	switch n := n.(type) {
	case rangeNode, nullTestNode:
		return 1
	case dictNode:
		return 2
	case cmpNode:
		if n.argTypes[0].Kind() == sqltypes.KindInt {
			return 3
		}
		return 8
	case inNode:
		return 6
	case logicNode:
		sum := 2
		for _, a := range n.args {
			sum += cost(a)
		}
		return sum
	}
	return 30
}

func (l logicNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	n := b.N
	out, valid := allOnes(n), allOnes(n) // AND: true until decided
	if l.or {
		out = newBits(n)
	}
	mem := getRows(n)
	defer putRows(mem)
	rest := sel
	for k, a := range l.args {
		v, err := a.eval(ctx, b, rest)
		if err != nil {
			return vec{}, err
		}
		bits, ok := boolsOf(v.arr), vec{arr: v.arr}.bitmap()
		undecided := (*mem)[:0] // rest, if it is in the same memory, is ahead of it
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
	if !l.or {
		return narrow(ctx, l.args, b, sel, out)
	}
	rows := restLen(b.N, sel)
	var mem [4]*[]int32
	for i := range mem {
		mem[i] = getRows(rows)
		defer putRows(mem[i])
	}
	rest, found, spare := sel, (*mem[1])[:0], (*mem[2])[:0]
	for k, a := range l.args {
		hit, err := filter(ctx, a, b, rest, (*mem[3])[:0])
		if err != nil {
			return out, err
		}
		if len(hit) > 0 {
			found, spare = mergeRows(found, hit, spare[:0]), found
		}
		if k == len(l.args)-1 || len(found) == rows {
			break
		}
		rest = minusRows(b.N, rest, hit, (*mem[0])[:0])
	}
	return append(out, found...), nil
}

// mergeRows merges two ascending selections without common rows into out.
func mergeRows(a, b, out []int32) []int32 {
	for len(a) > 0 && len(b) > 0 {
		if a[0] < b[0] {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// minusRows appends the rows (nil = 0 … n-1) without drop, a subset of them, to
// out, which may be rows[:0].
func minusRows(n int, rows, drop, out []int32) []int32 {
	if rows == nil {
		from := int32(0)
		for _, d := range drop {
			for ; from < d; from++ {
				out = append(out, from)
			}
			from++
		}
		for ; from < int32(n); from++ {
			out = append(out, from)
		}
		return out
	}
	for _, r := range rows {
		if len(drop) > 0 && drop[0] == r {
			drop = drop[1:]
			continue
		}
		out = append(out, r)
	}
	return out
}
