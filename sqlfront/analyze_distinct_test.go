package sqlfront

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// TestCountDistinct: what is counted in parallel, and without repeated decimals,
// is what one goroutine counts value by value.
func TestCountDistinct(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	money := sqltypes.Numeric
	money.Precision, money.Scale = 15, 2
	types := []sqltypes.Type{sqltypes.Int8, sqltypes.Text, money, money, sqltypes.Date, sqltypes.Bool}
	counts, plain := make([]distinct, len(types)), make([]sketch, len(types))
	for _, n := range []int{1, distinctRowsMin - 1, distinctRowsMin, 5000, 8192} {
		cols := make([]arrow.Array, len(types))
		for c, typ := range types {
			vals := make([]sqltypes.Datum, n)
			for i := range vals {
				if rnd.IntN(10) == 0 {
					vals[i] = sqltypes.Null
					continue
				}
				d, err := sqltypes.ParseText(typ, randomText(rnd, typ, c))
				if err != nil {
					t.Fatal(err)
				}
				vals[i] = d
			}
			cols[c] = sqltypes.ArrayOf(typ, vals)
			for i := range n {
				if !cols[c].IsNull(i) {
					plain[c].add(sqltypes.AppendArrowBinary(nil, typ, cols[c], i))
				}
			}
		}
		countDistinct(counts, types, cols, n)
		for c := range types {
			if counts[c].registers != plain[c].registers || counts[c].count() == 0 {
				t.Fatalf("%d rows, column %d: %d distinct values, want %d", n, c, counts[c].count(), plain[c].count())
			}
		}
	}
}

// randomText is a value for a column: few or many different ones, by column.
func randomText(rnd *rand.Rand, t sqltypes.Type, column int) string {
	switch t.OID {
	case sqltypes.OIDNumeric:
		if column%2 == 0 {
			return fmt.Sprintf("%d.%02d", rnd.IntN(3)-1, rnd.IntN(100))
		}
		return fmt.Sprintf("%d.%02d", rnd.IntN(1e6)-5e5, rnd.IntN(100))
	case sqltypes.OIDDate:
		return fmt.Sprintf("19%02d-05-%02d", 10+rnd.IntN(80), 1+rnd.IntN(28))
	case sqltypes.OIDBool:
		return []string{"t", "f"}[rnd.IntN(2)]
	}
	return fmt.Sprint(rnd.IntN(3000))
}
