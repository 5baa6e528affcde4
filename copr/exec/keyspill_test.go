package exec_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
)

// Aggregates of all rows, of distinct ones and of some, with and without GROUP
// BY, give on disk what they give in memory.
func TestAggregateSpills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := append(drawTypes(t, 2), sqltypes.Int4)
		tb := drawTable(t, types, 150)
		num := tb.col(2)
		var groupBy []expr.Expr
		by := 0 // 0 = all
		switch rapid.IntRange(0, 4).Draw(t, "groups") {
		case 1:
			groupBy = []expr.Expr{tb.col(0)}
		case 2:
			groupBy = []expr.Expr{tb.col(2), tb.col(1)}
		case 3:
			e, err := expr.NewOperator("/", num, intConst(2))
			if err != nil {
				t.Fatal(err)
			}
			groupBy = []expr.Expr{e, tb.col(0)}
		case 4: // one that follows
			e, err := expr.NewOperator("/", num, intConst(2))
			if err != nil {
				t.Fatal(err)
			}
			groupBy, by = []expr.Expr{tb.col(2), e}, 1
		}
		if by == 0 {
			by = len(groupBy)
		}
		small, err := expr.NewOperator("<", num, intConst(0))
		if err != nil {
			t.Fatal(err)
		}
		aggs := []plan.AggCall{{Name: "count"}, {Name: "sum", Args: []expr.Expr{num}}, {Name: "min", Args: []expr.Expr{tb.col(2)}},
			{Name: "count", Args: []expr.Expr{tb.col(1)}, Filter: small}}
		if rapid.Bool().Draw(t, "distinct") {
			aggs = append(aggs, plan.AggCall{Name: "count", Args: []expr.Expr{tb.col(1)}, Distinct: true},
				plan.AggCall{Name: "sum", Args: []expr.Expr{num}, Distinct: true, Filter: small},
				plan.AggCall{Name: "array_agg", Args: []expr.Expr{num}, Distinct: true}) // in the order of coming
		}
		memory := rapid.Int64Range(8, 6000).Draw(t, "memory")
		want := sorted(run(t, mustOp(t)(exec.NewHashAgg(tb.op(t), exec.CompleteAgg, groupBy, aggs))))
		got, _ := spilled(t, mustOp(t)(exec.NewHashAggBy(tb.op(t), exec.CompleteAgg, groupBy, by, aggs)), memory)
		equal(t, "aggregate", sorted(got), want)

		aggs = aggs[:4]
		want = sorted(run(t, mustOp(t)(exec.NewHashAgg(tb.op(t), exec.CompleteAgg, groupBy, aggs))))
		op := mustOp(t)(exec.NewHashAggBy(tb.op(t), exec.PartialAgg, groupBy, by, aggs))
		op = mustOp(t)(exec.NewHashAggBy(op, exec.FinalAgg, groupBy, by, aggs))
		got, _ = spilled(t, op, memory)
		equal(t, "aggregate in two steps", sorted(got), want)
	})
}

func TestDistinctAndSetOpsSpill(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := drawTypes(t, rapid.IntRange(1, 2).Draw(t, "cols"))
		all := drawTable(t, types, 150)
		cut := rapid.IntRange(0, len(all.rows)).Draw(t, "cut")
		a, b := &table{types: types, rows: all.rows[:cut]}, &table{types: types, rows: all.rows[cut:]}
		memory := rapid.Int64Range(8, 3000).Draw(t, "memory")
		want := sorted(run(t, exec.NewDistinct(all.op(t))))
		got, _ := spilled(t, exec.NewDistinct(all.op(t)), memory)
		equal(t, "distinct", sorted(got), want)
		for _, kind := range []exec.SetKind{exec.Intersect, exec.Except} {
			for _, every := range []bool{false, true} {
				want := sorted(naiveSetOp(a, b, kind, every).texts())
				got, _ := spilled(t, exec.NewSetOp(kind, every, a.op(t), b.op(t)), memory)
				equal(t, fmt.Sprintf("set operation %d, all %v", kind, every), sorted(got), want)
			}
		}
	})
}

// Files of rows that are still too many are divided again.
func TestKeysAreDividedAgain(t *testing.T) {
	tb, _ := manyInts(t, 10, 10)
	in := func() exec.Operator { _, op := manyInts(t, 40_000, 500); return op }
	key := []expr.Expr{tb.col(0)}
	for name, op := range map[string]func() exec.Operator{
		"aggregate": func() exec.Operator {
			return mustOp(t)(exec.NewHashAgg(in(), exec.CompleteAgg, key, []plan.AggCall{{Name: "sum", Args: key}}))
		},
		"count distinct": func() exec.Operator {
			return mustOp(t)(exec.NewHashAgg(in(), exec.CompleteAgg, nil, []plan.AggCall{{Name: "count", Args: key, Distinct: true}}))
		},
		"distinct":  func() exec.Operator { return exec.NewDistinct(in()) },
		"intersect": func() exec.Operator { return exec.NewSetOp(exec.Intersect, false, in(), in()) },
		"except":    func() exec.Operator { return exec.NewSetOp(exec.Except, true, in(), exec.NewLimit(in(), 15_000, 0)) },
	} {
		want := sorted(run(t, op()))
		got, st := spilled(t, op(), 20_000)
		if !slices.Equal(sorted(got), want) {
			t.Errorf("%s: %d rows, want %d", name, len(got), len(want))
		}
		if st.Partitions <= 32 || st.Files <= 32 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}
