package expr

import (
	"math"
	"math/rand"
	"slices"
	"testing"
)

func TestIntSet(t *testing.T) {
	r := rand.New(rand.NewSource(4))
	for round := range 300 {
		width := []int64{3, 100, 5000, 1 << 40, math.MaxInt64}[round%5]
		draw := func() int64 {
			if width == math.MaxInt64 {
				return []int64{math.MinInt64, math.MaxInt64, 0, 1, -1, int64(r.Uint64())}[r.Intn(6)]
			}
			return r.Int63n(width) - width/2
		}
		vals := make([]int64, 1+r.Intn([]int{3, 10, 2000}[round%3]))
		for i := range vals {
			vals[i] = draw()
		}
		in := map[int64]bool{}
		for _, v := range vals {
			in[v] = true
		}
		s := newIntSet(vals)
		col := make([]int64, 200)
		for i := range col {
			if col[i] = draw(); i%2 == 0 {
				col[i] = vals[r.Intn(len(vals))] + int64(r.Intn(3)-1)
			}
		}
		var sel, want, wantNot, all []int32
		for i, v := range col {
			if in[v] {
				all = append(all, int32(i))
			}
			if r.Intn(3) == 0 {
				continue
			}
			if sel = append(sel, int32(i)); in[v] {
				want = append(want, int32(i))
			} else {
				wantNot = append(wantNot, int32(i))
			}
		}
		if got := inRows(s, col, false, nil, nil); !slices.Equal(got, all) {
			t.Fatalf("%v in %v: %v, want %v", col, vals, got, all)
		}
		if got := inRows(s, col, false, sel, nil); !slices.Equal(got, want) {
			t.Fatalf("%v in %v: %v, want %v", col, vals, got, want)
		}
		if got := inRows(s, col, true, sel, slices.Clone(sel)[:0]); !slices.Equal(got, wantNot) {
			t.Fatalf("%v not in %v: %v, want %v", col, vals, got, wantNot)
		}
	}
}
