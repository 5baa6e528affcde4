package agg

// Sums of a few groups are made in lanes: row k adds to the sums of lane k mod
// 4, so that rows of the same group that follow one another need not wait for
// one another's result to come back from memory. The lanes are added up at the
// end of a batch.
const (
	laneGroups  = 64
	laneRowsMin = 256     // fewer are not worth clearing the lanes
	laneRowsMax = 1 << 13 // at a time: so many 50-bit numbers fit in 64 bits
)

type lanes [4][laneGroups]int64

func (l *lanes) flush(groups int, add func(g int, sum int64)) {
	for g := range groups {
		if sum := l[0][g] + l[1][g] + l[2][g] + l[3][g]; sum != 0 {
			add(g, sum)
		}
	}
}

func (l *lanes) clear(groups int) {
	for i := range l {
		clear(l[i][:groups])
	}
}

func (l *lanes) count(groups []int32) {
	*l = lanes{}
	k := 0
	for ; k+4 <= len(groups); k += 4 {
		g := groups[k : k+4 : k+4]
		l[0][g[0]&(laneGroups-1)]++
		l[1][g[1]&(laneGroups-1)]++
		l[2][g[2]&(laneGroups-1)]++
		l[3][g[3]&(laneGroups-1)]++
	}
	for ; k < len(groups); k++ {
		l[0][groups[k]&(laneGroups-1)]++
	}
}

type integer interface{ int16 | int32 | int64 }

// magnitude is or'ed over numbers: no number has more bits than the result.
func magnitude[T integer](x T) uint64 { return uint64(int64(x) ^ int64(x)>>63) }

// laneSums adds values to the lanes of their groups. It returns the
// magnitudes of the values, or'ed.
func laneSums[T integer](l *lanes, vals []T, rows Rows) uint64 {
	groups := rows.Groups
	if rows.Sel != nil {
		return laneSumsSel(l, vals, rows.Sel, groups)
	}
	vals = vals[:len(groups)]
	var bits uint64
	k := 0
	for ; k+4 <= len(groups); k += 4 {
		g, v := groups[k:k+4:k+4], vals[k:k+4:k+4]
		a, b, c, d := v[0], v[1], v[2], v[3]
		l[0][g[0]&(laneGroups-1)] += int64(a)
		l[1][g[1]&(laneGroups-1)] += int64(b)
		l[2][g[2]&(laneGroups-1)] += int64(c)
		l[3][g[3]&(laneGroups-1)] += int64(d)
		bits |= magnitude(a) | magnitude(b) | magnitude(c) | magnitude(d)
	}
	for ; k < len(groups); k++ {
		l[0][groups[k]&(laneGroups-1)] += int64(vals[k])
		bits |= magnitude(vals[k])
	}
	return bits
}

func laneSumsSel[T integer](l *lanes, vals []T, sel, groups []int32) uint64 {
	sel = sel[:len(groups)]
	var bits uint64
	k := 0
	for ; k+4 <= len(groups); k += 4 {
		g, s := groups[k:k+4:k+4], sel[k:k+4:k+4]
		a, b, c, d := vals[s[0]], vals[s[1]], vals[s[2]], vals[s[3]]
		l[0][g[0]&(laneGroups-1)] += int64(a)
		l[1][g[1]&(laneGroups-1)] += int64(b)
		l[2][g[2]&(laneGroups-1)] += int64(c)
		l[3][g[3]&(laneGroups-1)] += int64(d)
		bits |= magnitude(a) | magnitude(b) | magnitude(c) | magnitude(d)
	}
	for ; k < len(groups); k++ {
		v := vals[sel[k]]
		l[0][groups[k]&(laneGroups-1)] += int64(v)
		bits |= magnitude(v)
	}
	return bits
}

// total is the sum of values of one group, modulo 2^64, and their magnitudes.
func total[T integer](vals []T, rows Rows) (sum int64, bits uint64) {
	if rows.Sel != nil {
		for _, i := range rows.Sel[:rows.N] {
			sum += int64(vals[i])
			bits |= magnitude(vals[i])
		}
		return sum, bits
	}
	for _, v := range vals[:rows.N] {
		sum += int64(v)
		bits |= magnitude(v)
	}
	return sum, bits
}

// summable reports whether laneRowsMax numbers of these magnitudes have a sum of
// 64 bits.
func summable(magnitudes uint64) bool { return magnitudes>>(63-13) == 0 }
