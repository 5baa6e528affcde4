package exec

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// Each layout of the index finds what a map does, whatever number of goroutines
// built it.
func TestJoinIndex(t *testing.T) {
	together := func(n int, f func(i int)) {
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { f(i) })
		}
		wg.Wait()
	}
	const n = 3 * joinPartRowsMin
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name   string
		span   uint64
		unique bool
	}{
		{"array", n - 1, true}, {"array, repeated", n / 3, false},
		{"bits", 40 * n, true}, {"bits, repeated", 40 * n, false},
		{"hash", 1 << 60, true}, {"hash, repeated", 1 << 60, false},
	} {
		words := make([]uint64, n)
		step := c.span / n
		if step == 0 {
			step = 1
		}
		for i, k := range rnd.Perm(n) {
			if !c.unique {
				k = rnd.IntN(n / 3)
			}
			words[i] = uint64(k) * step % (c.span + 1)
		}
		rowOf := make([]int32, n)
		for i := range rowOf {
			rowOf[i] = int32(2 * i)
		}
		for _, exists := range []bool{false, true} {
			for _, workers := range []int{1, 3} {
				x := buildJoinIndex(words, c.span, rowOf, exists, workers, together)
				if x.unique != (c.unique || exists) {
					t.Fatalf("%s: unique is %v", c.name, x.unique)
				}
				checkIndex(t, c.name, x, words, rowOf, c.span, exists)
			}
		}
	}
}

func checkIndex(t *testing.T, name string, x *joinIndex, words []uint64, rowOf []int32, span uint64, exists bool) {
	t.Helper()
	want := map[uint64][]int32{}
	for i, w := range words {
		want[w] = append(want[w], rowOf[i])
	}
	probe := append(slices.Clone(words[:5000]), 0, span)
	for i := range uint64(5000) {
		probe = append(probe, i*i*7919%(span+1))
	}
	rows := make([]int32, len(probe))
	for i := range rows {
		rows[i] = int32(3 * i)
	}
	var h joinHits
	x.find(rows, probe, &h)
	k := 0
	for i, w := range probe {
		match := want[w]
		if len(match) == 0 {
			continue
		}
		if k >= len(h.probe) || h.probe[k] != rows[i] {
			t.Fatalf("%s: word %d was not found", name, w)
		}
		switch {
		case exists:
		case x.unique:
			if h.row[k] != match[0] {
				t.Fatalf("%s: word %d is in row %d, not %d", name, w, match[0], h.row[k])
			}
		default:
			if got := x.rows[h.row[k] : h.row[k]+h.count[k]]; !slices.Equal(got, match) {
				t.Fatalf("%s: word %d is in rows %v, not %v", name, w, match, got)
			}
		}
		k++
	}
	if k != len(h.probe) {
		t.Fatalf("%s: %d hits, %d words are there", name, len(h.probe), k)
	}
}
