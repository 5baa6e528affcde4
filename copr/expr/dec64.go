package expr

import (
	"math/bits"

	"github.com/copradb/copra/internal/sqltypes"
)

// decNode is + - * of numerics with known scales. Operands that come as int64
// are computed as int64 as long as no row overflows; then the batch is computed
// in 128 bits from the same operands.
type decNode struct {
	callNode
	op   byte
	l, r int64     // what the sides are multiplied by to have the result's scale
	sum  *constSum // the right side of a product, if it is one
}

// newDecNode recognises a call that decNode computes.
func newDecNode(c callNode) (decNode, bool) {
	d := decNode{callNode: c, l: 1, r: 1}
	switch c.fn.Sig {
	case "+(numeric,numeric)", "-(numeric,numeric)":
		if !c.argTypes[0].FixedScale() || !c.argTypes[1].FixedScale() || !c.typ.FixedScale() {
			return d, false
		}
		l, r := c.typ.Scale-c.argTypes[0].Scale, c.typ.Scale-c.argTypes[1].Scale
		if l < 0 || r < 0 || max(l, r) >= int32(len(pow10i64)) {
			return d, false
		}
		d.l, d.r = pow10i64[l], pow10i64[r]
	case "*(numeric,numeric)":
		if !c.argTypes[0].FixedScale() || !c.argTypes[1].FixedScale() || !c.typ.FixedScale() {
			return d, false
		}
	default:
		return d, false
	}
	if d.op = c.fn.Sig[0]; d.op == '*' {
		d.sum = newConstSum(c.args[1])
	}
	return d, true
}

func (d decNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	v, err := d.evalEnc(ctx, b, sel)
	if err != nil {
		return vec{}, err
	}
	return v.plain(d.typ, b.N, sel), nil
}

func (d decNode) evalEnc(ctx *Ctx, b *Batch, sel []int32) (evec, error) {
	l, err := evalEnc(d.args[0], ctx, b, sel)
	if err != nil {
		return evec{}, err
	}
	if d.sum != nil {
		return d.timesSum(ctx, l, b, sel)
	}
	r, err := evalEnc(d.args[1], ctx, b, sel)
	if err != nil {
		l.release()
		return evec{}, err
	}
	return d.combine(ctx, l, r, b.N, sel)
}

// combine computes the call over its arguments, and releases them.
func (d decNode) combine(ctx *Ctx, l, r evec, n int, sel []int32) (evec, error) {
	if l.isNullConst() || r.isNullConst() {
		l.release()
		r.release()
		return evec{vec: nullVec(d.typ)}, nil
	}
	if l.enc == encDec64 && r.enc == encDec64 {
		if out, ok := d.compute(l, r, n, sel); ok {
			l.release()
			r.release()
			return out, nil
		}
	}
	args := []vec{l.plain(d.argTypes[0], n, sel), r.plain(d.argTypes[1], n, sel)}
	v, err := d.fn.eval(&call{ctx: ctx, fn: d.fn, typ: d.typ, args: d.argTypes}, args, n, sel)
	return evec{vec: v}, err
}

// compute is the call over int64; ok is false where a row may overflow.
func (d decNode) compute(l, r evec, n int, sel []int32) (out evec, ok bool) {
	out = evec{enc: encDec64}
	if out.cst = l.cst && r.cst; out.cst {
		n, sel = 1, nil
	}
	some := dense(n, sel)
	dst, mem := int64s(n)
	out.i64, out.mem = dst, mem
	if !out.cst {
		out.valid = andBits(n, l.valid, r.valid)
	}
	ok = d.rows(l, r, dst, some)
	if !ok && (some == nil && sel != nil || out.valid.bits != nil) { // because of a row that does not count?
		mem := getRows(n)
		ok = d.rows(l, r, dst, dropUnset(appendRows(n, sel, *mem), 0, out.valid))
		putRows(mem)
	}
	if !ok {
		out.release()
		return evec{}, false
	}
	return out, true
}

func (d decNode) rows(l, r evec, dst []int64, sel []int32) bool {
	switch {
	case d.op == '*':
		return mul64Rows(l.i64, r.i64, l.cst, r.cst, dst, sel)
	case l.cst && r.cst:
		return addScaled(l.i64, r.i64, d.l, d.sign()*d.r, dst, sel)
	case l.cst:
		c, ok := mulFits(l.i64[0], d.l)
		return ok && addConst(r.i64, d.sign()*d.r, c, dst, sel)
	case r.cst:
		c, ok := mulFits(r.i64[0], d.sign()*d.r)
		return ok && addConst(l.i64, d.l, c, dst, sel)
	}
	return addScaled(l.i64, r.i64, d.l, d.sign()*d.r, dst, sel)
}

// sign is what the right side is multiplied by.
func (d decNode) sign() int64 {
	if d.op == '-' {
		return -1
	}
	return 1
}

// mulFits is a·b; ok is false beyond int64.
func mulFits(a, b int64) (int64, bool) {
	p := mul64(a, b)
	return int64(p.LowBits()), fits64(p)
}

// size collects the magnitudes of numbers: the bits of their OR are as many as
// those of the largest.
func size(v int64) uint64 { return uint64(v ^ v>>63) }

// productFits reports whether the product of two numbers of these sizes fits:
// one of k bits is at least -2^k and less than 2^k.
func productFits(a, b uint64) bool { return bits.Len64(a)+bits.Len64(b) <= 62 }

// mul64Rows multiplies; false if a product may not fit.
func mul64Rows(a, b []int64, ca, cb bool, dst []int64, sel []int32) bool {
	if ca && cb {
		p, ok := mulFits(a[0], b[0])
		dst[0] = p
		return ok
	}
	if ca {
		a, b, cb = b, a, true
	}
	var sa, sb uint64
	switch {
	case cb:
		c := b[0]
		if sb = size(c); sel == nil {
			for i, x := range a[:len(dst)] {
				sa |= size(x)
				dst[i] = x * c
			}
			break
		}
		for _, i := range sel {
			x := a[i]
			sa |= size(x)
			dst[i] = x * c
		}
	case sel == nil:
		b, dst := b[:len(a)], dst[:len(a)]
		for i, x := range a {
			y := b[i]
			sa |= size(x)
			sb |= size(y)
			dst[i] = x * y
		}
	default:
		for _, i := range sel {
			x, y := a[i], b[i]
			sa |= size(x)
			sb |= size(y)
			dst[i] = x * y
		}
	}
	return productFits(sa, sb)
}

// sumBits is the most bits of two numbers whose sum cannot overflow.
const sumBits = 61

// addConst is a·f + c; false if it may not fit.
func addConst(a []int64, f, c int64, dst []int64, sel []int32) bool {
	var s uint64
	if sel == nil {
		for i, x := range a[:len(dst)] {
			s |= size(x)
			dst[i] = x*f + c
		}
	} else {
		for _, i := range sel {
			x := a[i]
			s |= size(x)
			dst[i] = x*f + c
		}
	}
	return bits.Len64(s)+bits.Len64(size(f)) <= sumBits && bits.Len64(size(c)) <= sumBits
}

// addScaled is a·fa + b·fb; false if it may not fit.
func addScaled(a, b []int64, fa, fb int64, dst []int64, sel []int32) bool {
	var sa, sb uint64
	if sel == nil {
		b, dst := b[:len(a)], dst[:len(a)]
		for i, x := range a {
			y := b[i]
			sa |= size(x)
			sb |= size(y)
			dst[i] = x*fa + y*fb
		}
	} else {
		for _, i := range sel {
			x, y := a[i], b[i]
			sa |= size(x)
			sb |= size(y)
			dst[i] = x*fa + y*fb
		}
	}
	return bits.Len64(sa)+bits.Len64(size(fa)) <= sumBits && bits.Len64(sb)+bits.Len64(size(fb)) <= sumBits
}

// andBits is the validity of rows that need both.
func andBits(n int, a, b bitmap) bitmap {
	switch {
	case a.bits == nil:
		return b
	case b.bits == nil:
		return a
	}
	out := copyBits(a, n)
	for i := range n {
		if b.bit(i) == 0 {
			out[i>>3] &^= 1 << (i & 7)
		}
	}
	return bitmap{bits: out}
}

// filterDecs compares numerics of known scales that may come as int64.
func (c cmpNode) filterDecs(ctx *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	l, err := evalEnc(c.args[0], ctx, b, sel)
	if err != nil {
		return out, err
	}
	r, err := evalEnc(c.args[1], ctx, b, sel)
	if err != nil {
		l.release()
		return out, err
	}
	lt, rt, op := c.argTypes[0], c.argTypes[1], c.op
	if l.cst {
		l, r, lt, rt, op = r, l, rt, lt, op.swap()
	}
	if l.enc == encDec64 && r.enc == encDec64 && !l.cst {
		if rows, ok := cmpDec64(op, l, r, lt.Scale, rt.Scale, b.N, sel, out); ok {
			l.release()
			r.release()
			return rows, nil
		}
	}
	cc := &call{ctx: ctx, fn: c.fn, typ: c.typ, args: []sqltypes.Type{lt, rt}}
	return filterCmp(cc, op, l.plain(lt, b.N, sel), r.plain(rt, b.N, sel), b.N, sel, out)
}

// cmpDec64 appends the rows where l op r, of scales ls and rs; ok is false where
// a scale would not fit. l is a column.
func cmpDec64(op cmpOp, l, r evec, ls, rs int32, n int, sel, out []int32) (rows []int32, ok bool) {
	start, d := len(out), ls-rs
	if d >= int32(len(pow10i64)) || -d >= int32(len(pow10i64)) {
		return out, false
	}
	switch {
	case r.cst && d >= 0:
		c, ok := mulFits(r.i64[0], pow10i64[d])
		if !ok {
			return out, false
		}
		out = cmpSlices(op, l.i64, []int64{c}, true, sel, out)
	case r.cst:
		out = cmpThreshold(op, l.i64, r.i64[0], pow10i64[-d], n, sel, out)
	case d == 0:
		out = cmpSlices(op, l.i64, r.i64, false, sel, out)
	default:
		a, b := l.i64, r.i64
		dst, mem := int64s(n)
		defer evec{mem: mem}.release()
		if d > 0 {
			ok, b = addConst(b, pow10i64[d], 0, dst, sel), dst
		} else {
			ok, a = addConst(a, pow10i64[-d], 0, dst, sel), dst
		}
		if !ok {
			return out, false
		}
		out = cmpSlices(op, a, b, false, sel, out)
	}
	return dropUnset(dropUnset(out, start, l.valid), start, r.valid), true
}

// cmpThreshold compares with c/p, which may be no integer.
func cmpThreshold(op cmpOp, a []int64, c, p int64, n int, sel, out []int32) []int32 {
	v, rest := c/p, c%p
	if rest < 0 {
		v--
	}
	if rest == 0 {
		return cmpSlices(op, a, []int64{v}, true, sel, out)
	}
	switch op {
	case opEQ:
		return out
	case opNE:
		return appendRows(n, sel, out)
	case opLT:
		op = opLE
	case opGE:
		op = opGT
	}
	return cmpSlices(op, a, []int64{v}, true, sel, out)
}
