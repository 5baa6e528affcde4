package exec_test

import (
	"slices"
	"testing"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// skewed has rows of two columns: a key that is the same in a share of the rows,
// or NULL, and a number of its own.
func skewed(t fataler, rows, same int, from int64) (*table, exec.Operator) {
	tb := &table{types: []sqltypes.Type{sqltypes.Int8, sqltypes.Int4}}
	for i := range rows {
		key := sqltypes.NewInt(from + int64(i*7%rows))
		switch {
		case i%100 < same:
			key = sqltypes.NewInt(42)
		case i%97 == 0:
			key = sqltypes.Null
		}
		tb.rows = append(tb.rows, []sqltypes.Datum{key, sqltypes.NewInt(int64(i))})
	}
	var bs []*expr.Batch
	for lo := 0; lo < rows; lo += 300 {
		bs = append(bs, tb.batch(t, lo, min(rows, lo+300)))
	}
	return tb, exec.NewBatches(tb.types, bs...)
}

// Joins of every kind give the rows on disk that they give in memory: with keys
// that divide well, and with most rows of one key.
func TestJoinSpills(t *testing.T) {
	for _, c := range []struct {
		name             string
		left, right      int
		same, partitions int
	}{
		{"divided", 3000, 4000, 0, 16},
		{"divided again", 3000, 20_000, 0, 100},
		{"one key", 100, 8000, 95, 32},
	} {
		for _, kind := range joinKinds {
			l, _ := skewed(t, 10, 0, 0)
			join := func() exec.Operator {
				_, left := skewed(t, c.left, c.same/10, 100)
				_, right := skewed(t, c.right, c.same, 0)
				return mustOp(t)(exec.NewHashJoin(exec.HashJoinSpec{Kind: kind, Left: left, Right: right,
					LeftKeys: []expr.Expr{l.col(0)}, RightKeys: []expr.Expr{l.col(0)}}))
			}
			want := sorted(run(t, join()))
			got, st := spilled(t, join(), 30_000)
			if !slices.Equal(sorted(got), want) {
				t.Errorf("%s,%s join: %d rows, want %d", c.name, kind, len(got), len(want))
			}
			if st.Partitions < int64(c.partitions) || st.Files == 0 || len(want) == 0 {
				t.Errorf("%s,%s join of %d rows: %+v", c.name, kind, len(want), st)
			}
		}
	}
}
