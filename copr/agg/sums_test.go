package agg_test

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// Sums of the largest numbers, alone and together, in few groups and in many,
// are exact.
func TestSumsAreExact(t *testing.T) {
	num := sqltypes.NumericOf(18, 0)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{1, 100, 600, 9000}).Draw(t, "rows")
		groups := rapid.SampledFrom([]int{0, 1, 5, 64, 65}).Draw(t, "groups")
		rows := agg.Rows{N: n}
		if groups > 0 {
			rows.Groups = make([]int32, n)
			for k := range rows.Groups {
				rows.Groups[k] = int32(k * 7 % groups)
			}
		}
		if rapid.Bool().Draw(t, "select") {
			for k := range n {
				rows.Sel = append(rows.Sel, int32(2*k))
			}
		}
		count := rapid.IntRange(1, 6).Draw(t, "sums")
		var sums agg.Sums
		var accs []agg.Accumulator
		var want [][]*big.Int
		for range count {
			pool := rapid.SliceOfN(rapid.SampledFrom([]int64{0, 1, -1, 1 << 48, -1 << 49, 1 << 50, math.MaxInt64, math.MinInt64}), 1, 4).Draw(t, "values")
			vals := make([]int64, 2*n)
			for i := range vals {
				vals[i] = pool[i/2%len(pool)]
			}
			v := colvec.OpenEncoded(colvec.NewDec64(vals, nil, 0), num)
			acc, err := agg.New(rapid.SampledFrom([]string{"sum", "avg"}).Draw(t, "name"), []sqltypes.Type{num})
			if err != nil {
				t.Fatal(err)
			}
			acc.Grow(max(groups, 1))
			if !sums.Take(acc, rows, []colvec.Vec{v}) {
				if err := acc.Update(rows, []colvec.Vec{v}); err != nil {
					t.Fatal(err)
				}
			}
			exact := make([]*big.Int, max(groups, 1))
			for g := range exact {
				exact[g] = new(big.Int)
			}
			for k := range n {
				i, g := k, 0
				if rows.Sel != nil {
					i = 2 * k
				}
				if groups > 0 {
					g = int(rows.Groups[k])
				}
				exact[g].Add(exact[g], big.NewInt(vals[i]))
			}
			accs, want = append(accs, acc), append(want, exact)
		}
		sums.Add(rows)
		for j, acc := range accs {
			out := colvec.NewBuilders([]sqltypes.Type{sqltypes.NumericOf(0, 0), sqltypes.Int8}, 0)
			if err := acc.State(out, 0, len(want[j])); err != nil {
				t.Fatal(err)
			}
			col, err := out[0].Finish()
			if err != nil {
				t.Fatal(err)
			}
			v := colvec.Open(col, sqltypes.NumericOf(0, 0))
			for g, sum := range want[j] {
				if rows.Groups != nil && !slices.Contains(rows.Groups, int32(g)) {
					if !v.IsNull(g) {
						t.Fatalf("sum %d of group %d, which is empty: %v", j, g, v.Dec[g])
					}
					continue
				}
				if got := coltest.Text(sqltypes.NumericOf(0, 0), v.At(g, sqltypes.NumericOf(0, 0))); got != sum.String() {
					t.Fatalf("sum %d of group %d: %s, want %s", j, g, got, sum)
				}
			}
		}
	})
}
