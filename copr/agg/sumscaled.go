package agg

import (
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow/decimal128"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// TakesScaled reports whether an accumulator's Update takes numerics without a
// scale as int64 (see colvec.ScaledVec).
func TakesScaled(a Accumulator) bool {
	switch a := a.(type) {
	case *sumNumeric:
		return true
	case *avg:
		return !a.shared && TakesScaled(a.sum)
	}
	return false
}

// scaledSums are the sums of values that came as int64 of one scale, in 128
// bits: 2^63 of them fit. PostgreSQL shows a sum with the most decimals that one
// of its values has.
type scaledSums struct {
	scale int32
	sums  []scaledSum
}

type scaledSum struct {
	hi    int64
	lo    uint64
	shown uint8 // decimals, plus one; 0 = no value
}

func (s *scaledSum) add(v int64, shown uint8) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, uint64(v), 0)
	s.hi += v>>63 + int64(carry)
	s.shown = max(s.shown, shown)
}

// add takes values of the scale that earlier ones had; false if they have
// another.
func (s *scaledSums) add(rows Rows, in *colvec.Vec, groups int) bool {
	if s.sums != nil && s.scale != in.Scale {
		return false
	}
	s.scale, s.sums = in.Scale, grown(s.sums, groups)
	all := uint8(in.Scale) + 1
	switch {
	case rows.Groups == nil:
		sum := s.sums[0]
		for k := range rows.N {
			i := rows.at(k)
			shown := all
			if in.DScale != nil {
				shown = in.DScale[i] + 1
			}
			sum.add(in.D64[i], shown)
		}
		s.sums[0] = sum
	case in.DScale == nil:
		for k, g := range rows.Groups[:rows.N] {
			s.sums[g].add(in.D64[rows.at(k)], all)
		}
	default:
		for k, g := range rows.Groups[:rows.N] {
			i := rows.at(k)
			s.sums[g].add(in.D64[i], in.DScale[i]+1)
		}
	}
	return true
}

// fold adds the sums to those of other values and forgets them.
func (s *sumNumeric) fold() {
	for g, x := range s.scaled.sums {
		if x.shown == 0 {
			continue
		}
		// All digits behind the last one that is shown are zeros.
		d := sqltypes.Dec128ToNumeric(decimal128.New(x.hi, x.lo), s.scaled.scale)
		d = sqltypes.RoundNumeric(d, int32(x.shown)-1)
		if s.v[g] != nil {
			d = sqltypes.NumericAdd(s.v[g], d)
		}
		s.v[g] = d
	}
	s.scaled.sums = nil
}
