package expr

import (
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/sqltypes"
)

// rangeNode is a comparison of a column with a constant, or several of one
// column in one AND (BETWEEN), as an interval of the column's integers: unscaled
// decimals, days, microseconds. lo > hi is never true.
type rangeNode struct {
	node          // the comparison itself
	parts  []node // the comparisons in their order, when there are several
	col    colNode
	lo, hi int64
}

// asRange recognises a comparison that is true for an interval of integers.
func asRange(n node) (rangeNode, bool) {
	switch n := n.(type) {
	case rangeNode:
		return n, true
	case cmpNode:
		col, isCol := n.args[0].(colNode)
		con, isCon := n.args[1].(constNode)
		lt, rt, op := n.argTypes[0], n.argTypes[1], n.op
		if !isCol {
			col, isCol = n.args[1].(colNode)
			con, isCon = n.args[0].(constNode)
			lt, rt, op = rt, lt, op.swap()
		}
		if !isCol || !isCon || op == opNE || con.v.arr.IsNull(0) {
			return rangeNode{}, false
		}
		v, exact, ok := threshold(lt, rt, con.v)
		if !ok {
			return rangeNode{}, false
		}
		r := rangeNode{node: n, col: col}
		r.lo, r.hi = interval64(op, v, exact)
		return r, true
	}
	return rangeNode{}, false
}

// interval64 are the integers x for which x op c, c being v or, if not exact,
// something between v and v+1.
func interval64(op cmpOp, v int64, exact bool) (lo, hi int64) {
	lo, hi = math.MinInt64, math.MaxInt64
	none := func() (int64, int64) { return 1, 0 }
	switch {
	case op == opEQ && exact:
		return v, v
	case op == opEQ:
		return none()
	case op == opLT && exact:
		if v == math.MinInt64 {
			return none()
		}
		return lo, v - 1
	case op == opLT, op == opLE:
		return lo, v
	case op == opGE && exact:
		return v, hi
	}
	if v == math.MaxInt64 { // opGT, or opGE and not exact
		return none()
	}
	return v + 1, hi
}

// threshold is a constant of type rt as an integer of a column of type lt: the
// largest that is not above it.
func threshold(lt, rt sqltypes.Type, c vec) (v int64, exact, ok bool) {
	switch {
	case lt.OID == sqltypes.OIDNumeric && rt.OID == sqltypes.OIDNumeric:
		if !lt.FixedScale() {
			return 0, false, false
		}
		return floorUnscaled(numericReader(c.arr)(0), lt.Scale)
	case lt.IsInteger() && rt.IsInteger():
		return intsOf(c)(0), true, true
	case lt.OID == rt.OID && (lt.IsDateTime() && lt.OID != sqltypes.OIDInterval):
		return intsOf(c)(0), true, true
	case lt.OID == sqltypes.OIDDate && rt.OID == sqltypes.OIDTimestamp:
		ts := values[int64](c.arr)[0]
		if ts == sqltypes.TimestampInfinity || ts == sqltypes.TimestampMinusInf {
			return 0, false, false
		}
		day, rest := sqltypes.SplitTimestamp(ts)
		return int64(day), rest == 0, true
	}
	return 0, false, false
}

// floorUnscaled is floor(d·10^scale); ok is false when that is no int64.
func floorUnscaled(d *apd.Decimal, scale int32) (v int64, exact, ok bool) {
	if d.Form != apd.Finite {
		return 0, false, false
	}
	digits := max(scale, sqltypes.NumericScale(d))
	u, ok := sqltypes.NumericToDec128(d, digits)
	if !ok {
		return 0, false, false
	}
	down := digits - scale
	if down >= int32(len(pow10i64)) || !fits64(u) {
		return 0, false, false
	}
	p := pow10i64[down]
	q, r := int64(u.LowBits())/p, int64(u.LowBits())%p
	if r < 0 {
		q--
	}
	return q, r == 0, true
}

func (r rangeNode) filter(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	if r.lo > r.hi {
		return out, nil
	}
	v := openEnc(b.Cols[r.col.index], r.col.typ)
	start := len(out)
	if v.enc == encDec64 {
		out = rangeRows(v.i64, r.lo, r.hi, sel, out)
		return dropUnset(out, start, v.valid), nil
	}
	switch a := v.vec.arr.(type) {
	case *array.Int16:
		out = rangeRows(values[int16](a), r.lo, r.hi, sel, out)
	case *array.Int32, *array.Date32:
		out = rangeRows(values[int32](a), r.lo, r.hi, sel, out)
	case *array.Int64, *array.Time64, *array.Timestamp:
		out = rangeRows(values[int64](a), r.lo, r.hi, sel, out)
	case *array.Decimal128:
		if r.lo == math.MinInt64 || r.hi == math.MaxInt64 {
			return r.filterParts(ctx, b, sel, out)
		}
		out = rangeDecs(values[dec](a), r.lo, r.hi, sel, out)
	default:
		panic("expr: a range over a column of " + a.DataType().String())
	}
	return dropUnset(out, start, v.bitmap()), nil
}

// filterParts is the comparisons one after the other.
func (r rangeNode) filterParts(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	if r.parts == nil {
		return r.node.(cmpNode).filter(ctx, b, sel, out)
	}
	return narrow(ctx, r.parts, b, sel, out)
}

// growRows is out with room for rows more, and that room.
func growRows(out []int32, rows int) (grown, room []int32) {
	out = slices.Grow(out, rows)
	return out, out[len(out) : len(out)+rows]
}

// rangeRows appends the rows with lo ≤ a ≤ hi. It writes every row number and
// advances where it counts: no branch.
func rangeRows[T integer](a []T, lo, hi int64, sel, out []int32) []int32 {
	span := uint64(hi) - uint64(lo)
	k := 0
	if sel == nil {
		out, buf := growRows(out, len(a))
		for i, v := range a {
			buf[k] = int32(i)
			k += b2i(uint64(int64(v))-uint64(lo) <= span)
		}
		return out[:len(out)+k]
	}
	out, buf := growRows(out, len(sel))
	for _, i := range sel {
		v := a[i]
		buf[k] = i
		k += b2i(uint64(int64(v))-uint64(lo) <= span)
	}
	return out[:len(out)+k]
}

// rangeDecs is rangeRows for 128-bit decimals.
func rangeDecs(a []dec, lo, hi int64, sel, out []int32) []int32 {
	span := uint64(hi) - uint64(lo)
	k := 0
	if sel == nil {
		out, buf := growRows(out, len(a))
		for i := range a {
			v := &a[i]
			buf[k] = int32(i)
			k += b2i(v.LowBits()-uint64(lo) <= span) & b2i(fits64(*v))
		}
		return out[:len(out)+k]
	}
	out, buf := growRows(out, len(sel))
	for _, i := range sel {
		v := &a[i]
		buf[k] = i
		k += b2i(v.LowBits()-uint64(lo) <= span) & b2i(fits64(*v))
	}
	return out[:len(out)+k]
}

// dropUnset removes from out[start:] the rows whose bit is not set.
func dropUnset(out []int32, start int, bm bitmap) []int32 {
	if bm.bits == nil {
		return out
	}
	k := start
	for _, i := range out[start:] {
		out[k] = i
		k += bm.bit(int(i))
	}
	return out[:k]
}

// narrow passes the rows of sel through filters one after the other.
func narrow(ctx *Ctx, conds []node, b *Batch, sel, out []int32) ([]int32, error) {
	start := len(out)
	for k, a := range conds {
		var err error
		if k == 0 {
			out, err = filter(ctx, a, b, sel, out)
		} else {
			out, err = filter(ctx, a, b, out[start:], out[:start])
		}
		if err != nil || len(out) == start {
			return out, err
		}
	}
	return out, nil
}
