package agg

import "github.com/copradb/copra/internal/colvec"

// Sums makes several sums in one loop over the rows, four at a time: the rows'
// positions and groups are read once, and the additions do not wait for one
// another. It is for numbers of 64 bits without NULLs in a few groups.
type Sums struct {
	list  []*sumDecimal
	vals  [][]int64
	quads *quads
}

// quads has four sums for each group.
type quads [laneGroups][4]int64

// Take reports whether Add will do what Update of an accumulator with these
// rows would, which all must be the same until then.
func (s *Sums) Take(a Accumulator, rows Rows, args []colvec.Vec) bool {
	if avg, ok := a.(*avg); ok && !avg.shared {
		a = avg.sum
	}
	sum, ok := a.(*sumDecimal)
	if !ok || rows.Groups == nil || rows.N < laneRowsMin || len(sum.v) > laneGroups || args[0].Nulls > 0 {
		return false
	}
	vals := args[0].I64
	if args[0].Kind == colvec.Decimal {
		if !args[0].Encoded {
			return false
		}
		vals = args[0].D64
	}
	if !sum.n.shared {
		sum.n.c.Add(rows)
	}
	s.list, s.vals = append(s.list, sum), append(s.vals, vals)
	return true
}

// Add adds what was taken.
func (s *Sums) Add(rows Rows) {
	for len(s.list) >= 2 {
		n := min(len(s.list), 4)
		for lo := 0; lo < rows.N; lo += laneRowsMax {
			part, base := rows.part(lo, min(lo+laneRowsMax, rows.N))
			s.add(part, base, n)
		}
		s.list, s.vals = s.list[n:], s.vals[n:]
	}
	for i, sum := range s.list {
		sum.add64s(s.vals[i], rows)
	}
	s.list, s.vals = nil, nil
}

// add makes the first n sums.
func (s *Sums) add(rows Rows, base, n int) {
	if s.quads == nil {
		s.quads = new(quads)
	}
	groups := len(s.list[0].v)
	clear(s.quads[:groups])
	var vals [4][]int64
	for j := range vals {
		vals[j] = s.vals[min(j, n-1)][base:]
	}
	if !s.quads.sum(&vals, rows) {
		for j, sum := range s.list[:n] {
			sum.add64s(vals[j], rows)
		}
		return
	}
	for j, sum := range s.list[:n] {
		for g := range groups {
			if x := s.quads[g][j]; x != 0 {
				sum.v[g].add64(x)
			}
		}
	}
}

// Numbers from -quadBias to quadBias-1 can be added up laneRowsMax times.
const (
	quadBias = 1 << 49
	quadBits = 50
)

// sum adds four columns up; false if a number is too large for that.
func (q *quads) sum(vals *[4][]int64, rows Rows) bool {
	a, b, c, d := vals[0], vals[1], vals[2], vals[3]
	groups := rows.Groups
	var bits uint64
	if rows.Sel == nil {
		a, b, c, d = a[:len(groups)], b[:len(groups)], c[:len(groups)], d[:len(groups)]
		for k, g := range groups {
			at := &q[g&(laneGroups-1)]
			v, w, x, y := a[k], b[k], c[k], d[k]
			at[0] += v
			at[1] += w
			at[2] += x
			at[3] += y
			bits |= uint64(v+quadBias) | uint64(w+quadBias) | uint64(x+quadBias) | uint64(y+quadBias)
		}
		return bits>>quadBits == 0
	}
	sel := rows.Sel[:len(groups)]
	b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
	for k, g := range groups {
		i := int(sel[k])
		at := &q[g&(laneGroups-1)]
		v, w, x, y := a[i], b[i], c[i], d[i]
		at[0] += v
		at[1] += w
		at[2] += x
		at[3] += y
		bits |= uint64(v+quadBias) | uint64(w+quadBias) | uint64(x+quadBias) | uint64(y+quadBias)
	}
	return bits>>quadBits == 0
}
