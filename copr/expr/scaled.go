package expr

import (
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// A CASE over numerics of several scales has no scale of its own: PostgreSQL
// shows 1.50 for one row and 0 for another. A sum shows as many decimals as the
// most of its values have, so that it can take the values in one scale with the
// decimals of each beside them.

// scaledArm is a result of a CASE whose values all have the same decimals.
type scaledArm struct {
	n     node
	typ   sqltypes.Type // of n; of a fixed scale
	scale int32
	null  bool
}

// scaledScaleMax is the most decimals of a value in 64 bits.
const scaledScaleMax = 18

// scaledArms recognises results with known decimals; nil if one has not.
func scaledArms(results []node) []scaledArm {
	out := make([]scaledArm, len(results))
	for i, n := range results {
		switch n := n.(type) {
		case callNode:
			if n.fn.Kind != KindCast || !n.argTypes[0].FixedScale() || n.typ.Precision != 0 || n.argTypes[0].Scale > scaledScaleMax {
				return nil
			}
			out[i] = scaledArm{n: n.args[0], typ: n.argTypes[0], scale: n.argTypes[0].Scale}
		case constNode:
			if n.v.nullConst() {
				out[i] = scaledArm{null: true}
				continue
			}
			d := numericReader(n.v.arr)(0)
			t := scaled(sqltypes.NumericScale(d))
			if t.Scale > scaledScaleMax {
				return nil
			}
			if _, err := colvec.DecimalOf(d, t.Scale); err != nil { // NaN
				return nil
			}
			out[i] = scaledArm{n: newConstNode(&Const{Value: sqltypes.NewDecimal(d), Typ: t}), typ: t, scale: t.Scale}
		default:
			return nil
		}
	}
	return out
}

// EvalScaled computes a CASE of such results.
func (e *evaluator) EvalScaled(ctx *Ctx, s *Scratch, b *Batch, sel []int32) (colvec.Vec, bool, error) {
	c, ok := e.n.(caseNode)
	if !ok || c.scaled == nil {
		return colvec.Vec{}, false, nil
	}
	scale, mixed := int32(0), false
	for _, a := range c.scaled {
		if !a.null {
			scale = max(scale, a.scale)
		}
	}
	for _, a := range c.scaled {
		mixed = mixed || !a.null && a.scale != scale
	}
	var dscale []uint8
	if mixed {
		dscale = s.bytes(b.N)
	}
	dst := newDecMerge(b.N)
	fits := true
	err := c.arms(ctx, b, sel, func(a arm) error {
		if !fits {
			return nil
		}
		v, err := c.scaledResult(ctx, b, a)
		if err != nil {
			return err
		}
		if a.result == noResult || c.scaled[a.result].null {
			dst.clear(a.rows, bitmap{})
			return nil
		}
		own := c.scaled[a.result].scale
		fits = dst.add(v, pow10i64[scale-own], a.rows)
		v.release()
		if mixed {
			for _, i := range a.rows {
				dscale[i] = uint8(own)
			}
		}
		return nil
	})
	out := dst.finish()
	if err != nil || !fits { // an error is found again, by the other way
		out.release()
		return colvec.Vec{}, false, nil
	}
	s.held = append(s.held, out)
	return colvec.ScaledVec(out.i64, scale, dscale, out.valid.bits, 0), true, nil
}

func (c caseNode) scaledResult(ctx *Ctx, b *Batch, a arm) (evec, error) {
	if a.result == noResult || c.scaled[a.result].null {
		return evec{}, nil
	}
	return evalEnc(c.scaled[a.result].n, ctx, b, a.rows)
}
