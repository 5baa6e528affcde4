package expr

import (
	"github.com/copradb/copra/internal/sqltypes"
)

// caseNode is CASE; results may have one more than conds, the ELSE.
type caseNode struct {
	typ     sqltypes.Type
	conds   []node
	results []node
	scaled  []scaledArm // of the results, if all of them have one
}

func newCaseNode(t sqltypes.Type, conds, results []node) caseNode {
	c := caseNode{typ: t, conds: conds, results: results}
	if t.OID == sqltypes.OIDNumeric && !t.FixedScale() {
		c.scaled = scaledArms(results)
	}
	return c
}

// arm is the rows that take a result of a CASE.
type arm struct {
	result int
	rows   []int32
	mem    *[]int32
}

// noResult is the NULL of a CASE without ELSE.
const noResult = -1

// compute evaluates a result for the rows that take it.
func (c caseNode) compute(ctx *Ctx, b *Batch, a arm) (evec, error) {
	if a.result == noResult {
		return evec{vec: nullVec(c.typ)}, nil
	}
	return evalEnc(c.results[a.result], ctx, b, a.rows)
}

// arms decides which row takes which result. Results are computed by the time
// that their rows are known: each(arm) may fail before a later condition does.
// An arm's rows are in memory that is used again after each.
func (c caseNode) arms(ctx *Ctx, b *Batch, sel []int32, each func(a arm) error) error {
	n := restLen(b.N, sel)
	mem := getRows(n)
	defer putRows(mem)
	rest := sel
	for k, cond := range c.conds {
		a := arm{result: k, mem: getRows(n)}
		var err error
		if a.rows, err = filter(ctx, cond, b, rest, (*a.mem)[:0]); err != nil {
			return err
		}
		if len(a.rows) == 0 {
			putRows(a.mem)
			continue
		}
		if err := each(a); err != nil {
			return err
		}
		rest = minusRows(b.N, rest, a.rows, (*mem)[:0])
		if putRows(a.mem); len(rest) == 0 {
			return nil
		}
	}
	a := arm{result: len(c.conds), mem: getRows(n)}
	if len(c.results) == len(c.conds) {
		a.result = noResult
	}
	defer putRows(a.mem)
	if a.rows = appendRows(b.N, rest, (*a.mem)[:0]); len(a.rows) == 0 {
		return nil
	}
	return each(a)
}

func (c caseNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	m := newMerge(c.typ, b.N)
	err := c.arms(ctx, b, sel, func(a arm) error {
		v, err := c.compute(ctx, b, a)
		if err == nil {
			m.add(v.plain(c.typ, b.N, a.rows), a.rows)
		}
		return err
	})
	if err != nil {
		return vec{}, err
	}
	return vec{arr: m.finish()}, nil
}

// evalEnc puts decimals together as int64 as long as all results come so.
func (c caseNode) evalEnc(ctx *Ctx, b *Batch, sel []int32) (evec, error) {
	if !c.typ.FixedScale() {
		v, err := c.eval(ctx, b, sel)
		return evec{vec: v}, err
	}
	var m *merge // of plain results
	dst := newDecMerge(b.N)
	err := c.arms(ctx, b, sel, func(a arm) error {
		v, err := c.compute(ctx, b, a)
		if err != nil {
			return err
		}
		if m == nil && dst.add(v, 1, a.rows) {
			v.release()
			return nil
		}
		if m == nil { // what there is so far
			m = newMerge(c.typ, b.N)
			part, rows := dst.finish().plain(c.typ, b.N, nil), appendRows(b.N, nil, nil)
			m.add(part, rows)
		}
		m.add(v.plain(c.typ, b.N, a.rows), a.rows)
		return nil
	})
	if err != nil {
		return evec{}, err
	}
	if m != nil {
		return evec{vec: vec{arr: m.finish()}}, nil
	}
	return dst.finish(), nil
}

// coalesceNode is COALESCE.
type coalesceNode struct {
	typ  sqltypes.Type
	args []node
}

func (c coalesceNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	m := newMerge(c.typ, b.N)
	var mem [2]*[]int32
	for i := range mem {
		mem[i] = getRows(b.N)
		defer putRows(mem[i])
	}
	rest := sel
	for k, a := range c.args {
		v, err := a.eval(ctx, b, rest)
		if err != nil {
			return vec{}, err
		}
		if k == 0 && !v.cst && v.arr.NullN() == 0 {
			return v, nil
		}
		hit, left := (*mem[0])[:0], (*mem[1])[:0] // rest, if it is in the same memory, is ahead of it
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
