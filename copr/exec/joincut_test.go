package exec_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// A join that repeats large values returns them in batches that are not large.
func TestJoinRepeatsLargeValues(t *testing.T) {
	const bytes, copies = 1 << 20, 600
	large := &table{types: []sqltypes.Type{sqltypes.Int4, sqltypes.Text},
		rows: [][]sqltypes.Datum{{sqltypes.NewInt(1), sqltypes.NewString(strings.Repeat("x", bytes))}, {sqltypes.NewInt(2), sqltypes.NewString("y")}}}
	many := &table{types: []sqltypes.Type{sqltypes.Int4, sqltypes.Text}}
	for i := range copies {
		many.rows = append(many.rows, []sqltypes.Datum{sqltypes.NewInt(1), sqltypes.NewString(strings.Repeat("z", i))})
	}
	longer := call(t, "<", &expr.Column{Index: 1, Typ: sqltypes.Text}, &expr.Column{Index: 3, Typ: sqltypes.Text})
	for _, c := range []struct {
		name        string
		left, right *table
		residual    []expr.Expr
		kind        exec.JoinKind
		rows        int
	}{
		{"left", large, many, nil, exec.LeftJoin, copies + 1},
		{"right", many, large, nil, exec.FullJoin, copies + 1},
		{"residual", large, many, []expr.Expr{longer}, exec.InnerJoin, copies - 1},
	} {
		op := mustOp(t)(exec.NewHashJoin(exec.HashJoinSpec{Kind: c.kind, Left: plain(c.left, t), Right: plain(c.right, t), Residual: c.residual,
			LeftKeys: []expr.Expr{c.left.col(0)}, RightKeys: []expr.Expr{c.right.col(0)}}))
		if err := op.Open(ctx()); err != nil {
			t.Fatal(err)
		}
		var lengths []int
		for {
			b, err := op.Next()
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if b == nil {
				break
			}
			size := int64(0)
			vecs := colvec.OpenAll(b.Cols, op.Types())
			for i := range b.N {
				lengths = append(lengths, len(vecs[1].BytesAt(i))+len(vecs[3].BytesAt(i)))
			}
			for _, col := range b.Cols {
				size += colvec.ArrayBytes(col)
			}
			if size > 17<<20 {
				t.Errorf("%s: a batch of %d bytes", c.name, size)
			}
		}
		if err := op.Close(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(lengths)
		if n := len(lengths); n != c.rows || lengths[n-1] != bytes+copies-1 || lengths[n-copies+1] != bytes+1 {
			t.Errorf("%s: %d rows", c.name, len(lengths))
		}
	}
}
