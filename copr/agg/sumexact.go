package agg

import (
	"math/bits"

	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/cockroachdb/apd/v3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// batchSums adds up numbers of 64 bits and fewer, laneRowsMax rows at a time:
// add gets the exact sums of groups if they are few, or if there is but one; each
// gets single values otherwise. Nothing is lost to overflow on the way.
func batchSums[T integer](l **lanes, vals []T, rows Rows, groups int, add func(g int, sum int64), each func(vals []T, rows Rows)) {
	for lo := 0; lo < rows.N; lo += laneRowsMax {
		part, base := rows.part(lo, min(lo+laneRowsMax, rows.N))
		vals := vals[base:]
		switch {
		case part.Groups == nil:
			if sum, bits := total(vals, part); summable(bits) {
				add(0, sum)
				continue
			}
		case groups <= laneGroups && part.N >= laneRowsMin:
			if *l == nil {
				*l = new(lanes)
			}
			(*l).clear(groups)
			if summable(laneSums(*l, vals, part)) {
				(*l).flush(groups, add)
				continue
			}
		}
		each(vals, part)
	}
}

// sumInt is sum(int2) and sum(int4).
type sumInt struct {
	summed
	v     []int64
	lanes *lanes
}

func (s *sumInt) Grow(groups int) { s.n.grow(groups); s.v = grown(s.v, groups) }
func (s *sumInt) Bytes() int64    { return s.n.bytes() + 8*int64(cap(s.v)) }

func (s *sumInt) Update(rows Rows, args []colvec.Vec) error {
	return s.addValues(s.rows(rows, &args[0]), &args[0])
}

func (s *sumInt) addValues(rows Rows, v *colvec.Vec) error {
	over := int64(0) // negative: a sum left the range
	switch v.Kind {
	case colvec.Int16:
		sumInts(s, v.I16, rows, &over)
	case colvec.Int32:
		sumInts(s, v.I32, rows, &over)
	default:
		sumInts(s, v.I64, rows, &over)
	}
	if over < 0 {
		return pgerror.New(pgerror.NumericValueOutOfRange, "bigint out of range")
	}
	return nil
}

func sumInts[T integer](s *sumInt, vals []T, rows Rows, over *int64) {
	add := func(g int, x int64) {
		sum := s.v[g] + x
		*over |= (s.v[g] ^ sum) & (x ^ sum)
		s.v[g] = sum
	}
	batchSums(&s.lanes, vals, rows, len(s.v), add, func(vals []T, rows Rows) {
		v, bad := s.v, int64(0)
		if rows.Sel == nil && rows.Groups != nil {
			for k, g := range rows.Groups {
				x, old := int64(vals[k]), v[g]
				sum := old + x
				bad |= (old ^ sum) & (x ^ sum)
				v[g] = sum
			}
		} else {
			for k := range rows.N {
				x, g := int64(vals[rows.at(k)]), rows.group(k)
				sum := v[g] + x
				bad |= (v[g] ^ sum) & (x ^ sum)
				v[g] = sum
			}
		}
		*over |= bad
	})
}

func (s *sumInt) Merge(rows Rows, state []colvec.Vec) error { return s.Update(rows, state) }

func (s *sumInt) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumInt) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.n.of(g) > 0 {
			out.AppendInt64(s.v[g])
		} else {
			out.AppendNull()
		}
	}
	return nil
}

func (s *sumInt) divided(out *colvec.Builder, g int, n int64) error {
	return appendQuotient(out, sqltypes.NumericFromInt(s.v[g]), n)
}

// int128 is a number of 128 bits, in two's complement.
type int128 struct {
	lo uint64
	hi int64
}

func (x *int128) add64(v int64) {
	lo, carry := bits.Add64(x.lo, uint64(v), 0)
	x.lo, x.hi = lo, x.hi+v>>63+int64(carry)
}

func (x int128) num() decimal128.Num { return decimal128.New(x.hi, x.lo) }

// sumDecimal is sum(int8) and sum of a numeric of fixed scale, in 128 bits.
type sumDecimal struct {
	summed
	scale int32
	v     []int128
	lanes *lanes
}

func (s *sumDecimal) Grow(groups int)    { s.n.grow(groups); s.v = grown(s.v, groups) }
func (s *sumDecimal) Bytes() int64       { return s.n.bytes() + 16*int64(cap(s.v)) }
func (s *sumDecimal) takesEncoded() bool { return true }

func (s *sumDecimal) Update(rows Rows, args []colvec.Vec) error {
	return s.addValues(s.rows(rows, &args[0]), &args[0])
}

func (s *sumDecimal) addValues(rows Rows, v *colvec.Vec) error {
	switch {
	case v.Kind != colvec.Decimal:
		s.add64s(v.I64, rows)
	case v.Encoded:
		s.add64s(v.D64, rows)
	default:
		return s.add128s(v.Dec, rows)
	}
	return nil
}

// add64s cannot overflow: 2^63 values of 64 bits fit in 128.
func (s *sumDecimal) add64s(vals []int64, rows Rows) {
	batchSums(&s.lanes, vals, rows, len(s.v), func(g int, x int64) { s.v[g].add64(x) },
		func(vals []int64, rows Rows) {
			v := s.v
			switch {
			case rows.Groups == nil:
				for k := range rows.N {
					v[0].add64(vals[rows.at(k)])
				}
			case rows.Sel == nil:
				vals = vals[:len(rows.Groups)]
				for k, g := range rows.Groups {
					v[g].add64(vals[k])
				}
			default:
				sel := rows.Sel[:len(rows.Groups)]
				for k, g := range rows.Groups {
					v[g].add64(vals[sel[k]])
				}
			}
		})
}

func (s *sumDecimal) add128s(vals []decimal128.Num, rows Rows) error {
	over := int64(0) // negative: a sum left the range
	for k := range rows.N {
		x, b := &s.v[rows.group(k)], vals[rows.at(k)]
		lo, carry := bits.Add64(x.lo, b.LowBits(), 0)
		hi := x.hi + b.HighBits() + int64(carry)
		over |= (x.hi ^ hi) & (b.HighBits() ^ hi)
		x.lo, x.hi = lo, hi
	}
	if over < 0 {
		return errDecimalOverflow()
	}
	return nil
}

func (s *sumDecimal) Merge(rows Rows, state []colvec.Vec) error { return s.Update(rows, state) }

func errDecimalOverflow() error {
	return pgerror.New(pgerror.NumericValueOutOfRange, "numeric field overflow").
		WithDetail("A sum of numerics of fixed scale has at most %d digits.", sqltypes.DecimalDigitsMax).
		WithHint("Cast the argument to numeric.")
}

func (s *sumDecimal) State(out []*colvec.Builder, lo, hi int) error { return s.Result(out[0], lo, hi) }

func (s *sumDecimal) Result(out *colvec.Builder, lo, hi int) error {
	for g := lo; g < hi; g++ {
		if s.n.of(g) == 0 {
			out.AppendNull()
			continue
		}
		sum := s.v[g].num()
		if !sqltypes.Dec128Fits(sum) {
			return errDecimalOverflow()
		}
		out.AppendDecimal(sum)
	}
	return nil
}

func (s *sumDecimal) divided(out *colvec.Builder, g int, n int64) error {
	if !sqltypes.Dec128Fits(s.v[g].num()) {
		return errDecimalOverflow()
	}
	return appendQuotient(out, sqltypes.Dec128ToNumeric(s.v[g].num(), s.scale), n)
}

func appendQuotient(out *colvec.Builder, sum *apd.Decimal, n int64) error {
	q, err := sqltypes.NumericDiv(sum, sqltypes.NumericFromInt(n))
	if err != nil {
		return err
	}
	return out.AppendDatum(sqltypes.NewDecimal(q))
}
