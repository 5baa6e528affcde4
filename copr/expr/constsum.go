package expr

import "math/bits"

// constSum is 1 - x or x + 1: a sum with a constant as the right side of a
// product, which is computed in the product's own loop.
type constSum struct {
	decNode
	x    int   // which argument is not the constant
	f, c int64 // the sum is x·f + c
}

func newConstSum(n node) *constSum {
	d, ok := n.(decNode)
	if !ok || d.op == '*' {
		return nil
	}
	s := &constSum{decNode: d, x: 1, f: d.sign() * d.r}
	scale := d.l
	k, ok := d.args[0].(constNode)
	if !ok {
		s.x, s.f, scale = 0, d.l, d.sign()*d.r
		k, ok = d.args[1].(constNode)
	}
	if !ok || k.enc.enc != encDec64 {
		return nil
	}
	if s.c, ok = mulFits(k.enc.i64[0], scale); !ok || bits.Len64(size(s.c)) > sumBits {
		return nil
	}
	return s
}

// timesSum is l times the sum, and releases l.
func (d decNode) timesSum(ctx *Ctx, l evec, b *Batch, sel []int32) (evec, error) {
	s := d.sum
	x, err := evalEnc(s.args[s.x], ctx, b, sel)
	if err != nil {
		l.release()
		return evec{}, err
	}
	if l.enc == encDec64 && x.enc == encDec64 && !l.cst && !x.cst {
		out := evec{enc: encDec64}
		out.i64, out.mem = int64s(b.N)
		if mulSumRows(l.i64, x.i64, s.f, s.c, out.i64, dense(b.N, sel)) {
			out.valid = andBits(b.N, l.valid, x.valid)
			l.release()
			x.release()
			return out, nil
		}
		out.release()
	}
	args := [2]evec{x, x}
	if args[1-s.x], err = evalEnc(s.args[1-s.x], ctx, b, sel); err != nil {
		return evec{}, err
	}
	r, err := s.combine(ctx, args[0], args[1], b.N, sel)
	if err != nil {
		l.release()
		return evec{}, err
	}
	return d.combine(ctx, l, r, b.N, sel)
}

// mulSumRows is a·(x·f + c); false if it may not fit.
func mulSumRows(a, x []int64, f, c int64, dst []int64, sel []int32) bool {
	var sa, sx, sy uint64
	if sel == nil {
		x, dst := x[:len(a)], dst[:len(a)]
		for i, v := range a {
			w := x[i]
			y := w*f + c
			sa |= size(v)
			sx |= size(w)
			sy |= size(y)
			dst[i] = v * y
		}
	} else {
		for _, i := range sel {
			v, w := a[i], x[i]
			y := w*f + c
			sa |= size(v)
			sx |= size(w)
			sy |= size(y)
			dst[i] = v * y
		}
	}
	return bits.Len64(sx)+bits.Len64(size(f)) <= sumBits && productFits(sa, sy)
}
