package exec_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// groupsOf is GROUP BY by definition: for each group its first row and all its
// rows, in order of arrival.
func groupsOf(tb *table, keys int) [][][]sqltypes.Datum {
	var out [][][]sqltypes.Datum
rows:
	for _, r := range tb.rows {
		for i, g := range out {
			if sameRow(tb.types[:keys], g[0][:keys], r[:keys]) {
				out[i] = append(out[i], r)
				continue rows
			}
		}
		out = append(out, [][]sqltypes.Datum{r})
	}
	return out
}

func TestHashAgg(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(0, 2).Draw(t, "keys")
		tb := drawTable(t, append(drawTypes(t, keys), sqltypes.Int4, sqltypes.Bool), 30)
		x, f := tb.col(keys), tb.col(keys+1)
		var groupBy []expr.Expr
		for c := range keys {
			groupBy = append(groupBy, tb.col(c))
		}
		parts := []plan.AggCall{
			{Name: "count"},
			{Name: "count", Args: []expr.Expr{x}},
			{Name: "sum", Args: []expr.Expr{x}, Filter: f},
			{Name: "max", Args: []expr.Expr{x}},
		}
		whole := append(slices.Clone(parts),
			plan.AggCall{Name: "count", Args: []expr.Expr{x}, Distinct: true},
			plan.AggCall{Name: "sum", Args: []expr.Expr{x}, Distinct: true, Filter: f})
		groups := groupsOf(tb, keys)
		if keys == 0 && len(groups) == 0 {
			groups = append(groups, nil)
		}
		wantWhole, wantParts := naiveAgg(tb, groups, keys)
		equal(t, "complete", run(t, mustOp(t)(exec.NewHashAgg(tb.op(t), exec.CompleteAgg, groupBy, whole))), wantWhole)

		cut := rapid.IntRange(0, len(tb.rows)).Draw(t, "cut")
		ins := func() (ins []exec.Operator) {
			for _, rows := range [][][]sqltypes.Datum{tb.rows[:cut], tb.rows[cut:]} {
				part := &table{types: tb.types, rows: rows}
				ins = append(ins, mustOp(t)(exec.NewHashAgg(part.op(t), exec.PartialAgg, groupBy, parts)))
			}
			return ins
		}
		final := mustOp(t)(exec.NewHashAgg(exec.NewUnionAll(ins()...), exec.FinalAgg, groupBy, parts))
		equal(t, "partial and final", run(t, final), wantParts)
		merged := mustOp(t)(exec.NewHashAgg(exec.NewUnionAll(ins()...), exec.MergeAgg, groupBy, parts))
		final = mustOp(t)(exec.NewHashAgg(merged, exec.FinalAgg, groupBy, parts))
		equal(t, "partial, merged and final", run(t, final), wantParts)
		if n := merged.Stats().Rows; n > int64(len(groups)) {
			t.Errorf("%d states of %d groups", n, len(groups))
		}
	})
}

// naiveAgg computes what TestHashAgg asks: count(*), count(x), sum(x) filter
// (f), max(x), and count(distinct x), sum(distinct x) filter (f).
func naiveAgg(tb *table, groups [][][]sqltypes.Datum, keys int) (whole, parts []string) {
	types := append(slices.Clone(tb.types[:keys]), sqltypes.Int8, sqltypes.Int8, sqltypes.Int8, sqltypes.Int4, sqltypes.Int8, sqltypes.Int8)
	for _, g := range groups {
		row := make([]sqltypes.Datum, keys, len(types))
		if len(g) > 0 {
			copy(row, g[0][:keys])
		}
		n, sum, sumDistinct, maximum := int64(0), sqltypes.Null, sqltypes.Null, sqltypes.Null
		seen, seenFiltered := map[int64]bool{}, map[int64]bool{}
		for _, r := range g {
			x, f := r[keys], r[keys+1]
			if x.IsNull() {
				continue
			}
			n++
			seen[x.Int()] = true
			if coltest.Compare(sqltypes.Int4, x, maximum) > 0 || maximum.IsNull() {
				maximum = x
			}
			if !f.IsNull() && f.Bool() {
				sum = sqltypes.NewInt(sum.Int() + x.Int())
				if !seenFiltered[x.Int()] {
					seenFiltered[x.Int()] = true
					sumDistinct = sqltypes.NewInt(sumDistinct.Int() + x.Int())
				}
			}
		}
		row = append(row, sqltypes.NewInt(int64(len(g))), sqltypes.NewInt(n), sum, maximum)
		parts = append(parts, rowText(types[:len(row)], row))
		row = append(row, sqltypes.NewInt(int64(len(seen))), sumDistinct)
		whole = append(whole, rowText(types, row))
	}
	return whole, parts
}

func TestAggWithoutRows(t *testing.T) {
	tb := ints()
	aggs := []plan.AggCall{{Name: "count"}, {Name: "sum", Args: []expr.Expr{tb.col(0)}}}
	if got := run(t, mustOp(t)(exec.NewHashAgg(plain(tb, t), exec.CompleteAgg, nil, aggs))); !slices.Equal(got, []string{"0 | NULL"}) {
		t.Errorf("complete: %q", got)
	}
	partial := mustOp(t)(exec.NewHashAgg(plain(tb, t), exec.PartialAgg, nil, aggs))
	if got := run(t, mustOp(t)(exec.NewHashAgg(partial, exec.FinalAgg, nil, aggs))); !slices.Equal(got, []string{"0 | NULL"}) {
		t.Errorf("final: %q", got)
	}
	partial = mustOp(t)(exec.NewHashAgg(plain(tb, t), exec.PartialAgg, nil, aggs))
	if got := run(t, partial); got != nil {
		t.Errorf("partial: %q", got)
	}
	grouped := mustOp(t)(exec.NewHashAgg(plain(tb, t), exec.CompleteAgg, []expr.Expr{tb.col(0)}, aggs))
	if got := run(t, grouped); got != nil {
		t.Errorf("grouped: %q", got)
	}
}

// A partial aggregation with very many groups hands them on in pieces.
func TestPartialAggFlushes(t *testing.T) {
	tb := ints()
	const n = 300_000
	for i := range n {
		tb.rows = append(tb.rows, []sqltypes.Datum{sqltypes.NewInt(int64(i % (n / 2)))})
	}
	var bs []*expr.Batch
	for lo := 0; lo < n; lo += 6000 {
		bs = append(bs, tb.batch(t, lo, lo+6000))
	}
	aggs := []plan.AggCall{{Name: "count"}}
	groupBy := []expr.Expr{tb.col(0)}
	partial := mustOp(t)(exec.NewHashAgg(exec.NewBatches(tb.types, bs...), exec.PartialAgg, groupBy, aggs))
	final := mustOp(t)(exec.NewHashAgg(partial, exec.FinalAgg, groupBy, aggs))
	got, err := exec.Collect(ctx(), final)
	if err != nil {
		t.Fatal(err)
	}
	rows := texts(got, final.Types())
	if len(rows) != n/2 || rows[0] != "0 | 2" || rows[n/2-1] != "149999 | 2" {
		t.Errorf("%d groups, the first %q", len(rows), rows[0])
	}
	if partial.Stats().Rows <= n/2 {
		t.Errorf("the partial aggregation kept all %d groups", partial.Stats().Rows)
	}
}
