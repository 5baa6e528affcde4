package exec_test

import (
	"fmt"
	"testing"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// joinBatches are rows of a key that key makes and an int8.
func joinBatches(b *testing.B, typ sqltypes.Type, rows int, key func(i int, to *colvec.Builder)) ([]sqltypes.Type, []*expr.Batch) {
	types := []sqltypes.Type{typ, sqltypes.Int8}
	var out []*expr.Batch
	for lo := 0; lo < rows; lo += exec.BatchRowsMax {
		n := min(rows-lo, exec.BatchRowsMax)
		bs := colvec.NewBuilders(types, n)
		for i := lo; i < lo+n; i++ {
			key(i, bs[0])
			bs[1].AppendInt(int64(i))
		}
		cols, err := colvec.FinishAll(bs)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, &expr.Batch{N: n, Cols: cols})
	}
	return types, out
}

// drain reads an operator as another operator would.
func drain(b *testing.B, op exec.Operator) (rows int) {
	if err := op.Open(ctx()); err != nil {
		b.Fatal(err)
	}
	for {
		r, err := exec.NextRaw(op)
		if err != nil {
			b.Fatal(err)
		}
		if r.Batch == nil {
			break
		}
		rows += r.Len()
	}
	if err := op.Close(); err != nil {
		b.Fatal(err)
	}
	return rows
}

// BenchmarkJoin has the shapes of TPC-H: a foreign key into a primary key.
func BenchmarkJoin(b *testing.B) {
	const probe = 6_000_000
	ints := func(stride, groups int) func(int, *colvec.Builder) {
		return func(i int, to *colvec.Builder) { to.AppendInt(int64(i) * int64(stride) % int64(groups)) }
	}
	texts := func(groups int) func(int, *colvec.Builder) {
		return func(i int, to *colvec.Builder) {
			to.AppendString(fmt.Sprintf("Customer#%09d", i*7919%groups))
		}
	}
	for _, c := range []struct {
		name      string
		typ       sqltypes.Type
		build     int
		buildKey  func(int, *colvec.Builder)
		probeKey  func(int, *colvec.Builder)
		probeRows int
		kind      exec.JoinKind
	}{
		{"dense 1.5M", sqltypes.Int8, 1_500_000, ints(7919, 1_500_000), ints(7919, 1_500_000), probe, exec.InnerJoin},
		{"sparse 1.5M", sqltypes.Int8, 1_500_000, ints(7919<<20, 1_500_000<<20), ints(7919<<20, 1_500_000<<20), probe, exec.InnerJoin},
		{"sorted 1.5M", sqltypes.Int8, 1_500_000, ints(1, 1_500_000), func(i int, to *colvec.Builder) { to.AppendInt(int64(i / 4)) }, probe, exec.InnerJoin},
		{"10k", sqltypes.Int8, 10_000, ints(1, 10_000), ints(7919, 10_000), probe, exec.InnerJoin},
		{"10k of 1M", sqltypes.Int8, 10_000, ints(100, 1_000_000), ints(7919, 1_000_000), probe, exec.InnerJoin},
		{"10k, 4 each", sqltypes.Int8, 40_000, ints(1, 10_000), ints(7919, 10_000), 1_500_000, exec.InnerJoin},
		{"semi 1.5M", sqltypes.Int8, 1_500_000, ints(7919, 3_000_000), ints(7919, 3_000_000), probe, exec.SemiJoin},
		{"text 100k", sqltypes.Text, 100_000, texts(100_000), texts(100_000), 1_000_000, exec.InnerJoin},
	} {
		types, right := joinBatches(b, c.typ, c.build, c.buildKey)
		_, left := joinBatches(b, c.typ, c.probeRows, c.probeKey)
		key := []expr.Expr{&expr.Column{Typ: c.typ}}
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				op := mustOp(b)(exec.NewHashJoin(exec.HashJoinSpec{
					Kind: c.kind, Left: exec.NewBatches(types, left...), Right: exec.NewBatches(types, right...), LeftKeys: key, RightKeys: key,
				}))
				drain(b, op)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.probeRows), "ns/row")
		})
	}
}
