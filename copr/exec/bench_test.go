package exec_test

import (
	"fmt"
	"testing"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// benchBatches are rows of an int4 key with so many groups and a numeric.
func benchBatches(b *testing.B, rows, groups int) (*table, []*expr.Batch) {
	tb := &table{types: []sqltypes.Type{sqltypes.Int4, sqltypes.NumericOf(15, 2)}}
	var out []*expr.Batch
	for lo := 0; lo < rows; lo += exec.BatchRowsMax {
		n := min(rows-lo, exec.BatchRowsMax)
		bs := colvec.NewBuilders(tb.types, n)
		for i := lo; i < lo+n; i++ {
			bs[0].AppendInt(int64(i) * 7919 % int64(groups))
			d, err := colvec.DecimalOf(sqltypes.NumericFromInt(int64(i)), 2)
			if err != nil {
				b.Fatal(err)
			}
			bs[1].AppendDecimal(d)
		}
		cols, err := colvec.FinishAll(bs)
		if err != nil {
			b.Fatal(err)
		}
		out = append(out, &expr.Batch{N: n, Cols: cols})
	}
	return tb, out
}

func BenchmarkHashAgg(b *testing.B) {
	const rows = 1 << 18
	for _, groups := range []int{4, 1000, 100_000} {
		b.Run(fmt.Sprint(groups), func(b *testing.B) {
			tb, bs := benchBatches(b, rows, groups)
			aggs := []plan.AggCall{{Name: "sum", Args: []expr.Expr{tb.col(1)}}, {Name: "count"}}
			for b.Loop() {
				op := mustOp(b)(exec.NewHashAgg(exec.NewBatches(tb.types, bs...), exec.CompleteAgg, []expr.Expr{tb.col(0)}, aggs))
				if _, err := exec.Collect(ctx(), op); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}

func BenchmarkHashJoin(b *testing.B) {
	const rows = 1 << 18
	tb, probe := benchBatches(b, rows, 100_000)
	_, build := benchBatches(b, 100_000, 100_000)
	for b.Loop() {
		op := mustOp(b)(exec.NewHashJoin(exec.HashJoinSpec{
			Left: exec.NewBatches(tb.types, probe...), Right: exec.NewBatches(tb.types, build...),
			LeftKeys: []expr.Expr{tb.col(0)}, RightKeys: []expr.Expr{tb.col(0)},
		}))
		if _, err := exec.Collect(ctx(), op); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}

func BenchmarkSort(b *testing.B) {
	const rows = 1 << 18
	tb, bs := benchBatches(b, rows, rows)
	for b.Loop() {
		op := mustOp(b)(exec.NewSort(exec.NewBatches(tb.types, bs...), []plan.SortKey{{Expr: tb.col(0)}}))
		if _, err := exec.Collect(ctx(), op); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
