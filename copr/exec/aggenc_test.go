package exec_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// rawBatches are batches that come with selections and encoded columns.
type rawBatches struct{ rest []exec.Raw }

func (r *rawBatches) Next() (*expr.Batch, error) { panic("NextRaw is called") }

func (r *rawBatches) NextRaw() (exec.Raw, error) {
	if len(r.rest) == 0 {
		return exec.Raw{}, nil
	}
	out := r.rest[0]
	r.rest = r.rest[1:]
	return out, nil
}

func (r *rawBatches) Close() error { return nil }

// rawOp draws the rows of tb as batches of encoded columns, with rows between
// them that are not selected and have any value.
func (tb *table) rawOp(t *rapid.T) exec.Operator {
	var all []exec.Raw
	for lo := 0; lo < len(tb.rows); {
		hi := min(lo+rapid.SampledFrom([]int{1, 5, 400}).Draw(t, "batch"), len(tb.rows))
		part := &table{types: tb.types}
		var sel []int32
		gaps := rapid.IntRange(0, 2).Draw(t, "gaps")
		for i, r := range tb.rows[lo:hi] {
			if gaps > 0 && i%5 < gaps {
				part.rows = append(part.rows, tb.rows[(i*7+lo)%len(tb.rows)])
			}
			sel = append(sel, int32(len(part.rows)))
			part.rows = append(part.rows, r)
		}
		b := part.batch(t, 0, len(part.rows))
		for c := range b.Cols {
			b.Cols[c] = coltest.Encoded(t, b.Cols[c], tb.types[c])
		}
		r := exec.Raw{Batch: b}
		if gaps > 0 {
			r.Sel = sel
		}
		all, lo = append(all, r), hi
	}
	return exec.NewSource("Raw", tb.types, func(*exec.Ctx) (exec.Source, error) {
		return &rawBatches{rest: all}, nil
	})
}

// drawCalls draws aggregates of tb's columns from column first on; with parts
// they are such that can be computed in parts, in any order.
func drawCalls(t *rapid.T, tb *table, first int, parts bool) []plan.AggCall {
	var out []plan.AggCall
	for range rapid.IntRange(0, 5).Draw(t, "calls") {
		c := first + rapid.IntRange(0, len(tb.types)-first-2).Draw(t, "argument")
		call := plan.AggCall{Name: rapid.SampledFrom(agg.Names()).Draw(t, "name"), Args: []expr.Expr{tb.col(c)}}
		if _, _, err := agg.Resolve(call.Name, tb.types[c:c+1]); err != nil {
			continue
		}
		switch typ := tb.types[c]; {
		case typ.IsFloat() && (call.Name == "sum" || call.Name == "avg" || call.Name[0] == 's' || call.Name[0] == 'v'):
			continue // depends on the order
		case parts && (call.Name == "array_agg" || call.Name == "string_agg" || call.Name == "any_value"):
			continue
		case typ.OID == sqltypes.OIDInterval && call.Name == "avg":
			continue
		}
		call.Distinct = !parts && rapid.IntRange(0, 3).Draw(t, "distinct") == 0
		if rapid.IntRange(0, 3).Draw(t, "filter") == 0 {
			call.Filter = tb.col(len(tb.types) - 1)
		}
		out = append(out, call)
	}
	return append(out, plan.AggCall{Name: "count"})
}

// repeated is tb with its rows several times over, so that a batch has enough
// of them for the loops that few groups get.
func (tb *table) repeated(times int) *table {
	out := &table{types: tb.types}
	for range times {
		out.rows = append(out.rows, tb.rows...)
	}
	return out
}

// valueByRow computes an aggregate of rows one by one.
func valueByRow(t *rapid.T, tb *table, call plan.AggCall, rows [][]sqltypes.Datum) string {
	var in [][]sqltypes.Datum
	for _, r := range rows {
		f := r[len(r)-1]
		if call.Filter != nil && (f.IsNull() || !f.Bool()) {
			continue
		}
		if call.Distinct {
			c := call.Args[0].(*expr.Column).Index
			dup := false
			for _, old := range in {
				dup = dup || coltest.Compare(tb.types[c], old[c], r[c]) == 0
			}
			if dup {
				continue
			}
		}
		in = append(in, r)
	}
	call.Distinct, call.Filter = false, nil
	one := &table{types: tb.types, rows: in}
	var bs []*expr.Batch
	for i := range in {
		bs = append(bs, one.batch(t, i, i+1))
	}
	// Plain rows one at a time, in one group: the accumulators without any
	// shortcut.
	out := run(t, mustOp(t)(exec.NewHashAgg(exec.NewBatches(tb.types, bs...), exec.CompleteAgg, nil, []plan.AggCall{call})))
	return out[0]
}

// Whatever the encodings, the selections and the parts, an aggregation is what
// the definition says.
func TestHashAggOfEncodedRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(0, 3).Draw(t, "keys")
		args := rapid.IntRange(1, 3).Draw(t, "arguments")
		tb := drawTable(t, append(drawTypes(t, keys+args), sqltypes.Bool), 20)
		tb = tb.repeated(rapid.SampledFrom([]int{1, 1, 30}).Draw(t, "times"))
		var groupBy []expr.Expr
		for c := range keys {
			groupBy = append(groupBy, tb.col(c))
		}
		parts := rapid.Bool().Draw(t, "parts")
		calls := drawCalls(t, tb, keys, parts)
		var want []string
		groups := groupsOf(tb, keys)
		if keys == 0 && len(groups) == 0 {
			groups = append(groups, nil)
		}
		for _, g := range groups {
			row := ""
			if keys > 0 {
				row = rowText(tb.types[:keys], g[0][:keys]) + " | "
			}
			for i, call := range calls {
				if i > 0 {
					row += " | "
				}
				row += valueByRow(t, tb, call, g)
			}
			want = append(want, row)
		}
		if !parts {
			equal(t, "complete", run(t, mustOp(t)(exec.NewHashAgg(tb.rawOp(t), exec.CompleteAgg, groupBy, calls))), want)
			return
		}
		cut := rapid.IntRange(0, len(tb.rows)).Draw(t, "cut")
		var ins []exec.Operator
		for _, rows := range [][][]sqltypes.Datum{tb.rows[:cut], tb.rows[cut:]} {
			part := &table{types: tb.types, rows: rows}
			ins = append(ins, mustOp(t)(exec.NewHashAgg(part.rawOp(t), exec.PartialAgg, groupBy, calls)))
		}
		final := mustOp(t)(exec.NewHashAgg(exec.NewUnionAll(ins...), exec.FinalAgg, groupBy, calls))
		equal(t, "partial and final", run(t, final), want)
	})
}

func TestDistinctOfEncodedRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := drawTable(t, drawTypes(t, rapid.IntRange(1, 3).Draw(t, "columns")), 40)
		var want []string
		for _, g := range groupsOf(tb, len(tb.types)) {
			want = append(want, rowText(tb.types, g[0]))
		}
		equal(t, "distinct", run(t, exec.NewDistinct(tb.rawOp(t))), want)
	})
}

// A partial aggregation of keys that are almost all new, or come in runs, gives
// up its table; what comes out is still right.
func TestPartialAggPassesOn(t *testing.T) {
	const n = 400_000
	for _, each := range []int{1, 3} {
		t.Run(fmt.Sprint(each), func(t *testing.T) {
			tb := ints()
			for i := range n {
				tb.rows = append(tb.rows, []sqltypes.Datum{sqltypes.NewInt(int64(i / each))})
			}
			var bs []*expr.Batch
			for lo := 0; lo < n; lo += 8000 {
				bs = append(bs, tb.batch(t, lo, lo+8000))
			}
			aggs := []plan.AggCall{{Name: "count"}, {Name: "sum", Args: []expr.Expr{tb.col(0)}}}
			groupBy := []expr.Expr{tb.col(0)}
			c := ctx()
			partial := mustOp(t)(exec.NewHashAgg(exec.NewBatches(tb.types, bs...), exec.PartialAgg, groupBy, aggs))
			final := mustOp(t)(exec.NewHashAgg(partial, exec.FinalAgg, groupBy, aggs))
			got, err := exec.Collect(c, final)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for k := range (n + each - 1) / each {
				rows := min(each, n-k*each)
				want = append(want, fmt.Sprintf("%d | %d | %d", k, rows, k*rows))
			}
			if rows := texts(got, final.Types()); !slices.Equal(rows, want) {
				t.Errorf("%d groups, want %d", len(rows), len(want))
			}
			if batches := partial.Stats().Batches; batches < n/int64(each)/8192 {
				t.Errorf("%d batches of partial results", batches)
			}
		})
	}
}

// The first rows of many, of encoded columns and selections, by keys of which
// the first is a number that later batches are tested by.
func TestTopNOfEncodedRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.SampledFrom([]sqltypes.Type{sqltypes.Int4, sqltypes.Int8, sqltypes.Int2, sqltypes.Date,
			sqltypes.NumericOf(15, 2), sqltypes.NumericOf(38, 0)}).Draw(t, "type")
		tb := drawTable(t, append([]sqltypes.Type{first}, drawTypes(t, 2)...), 30)
		tb = tb.repeated(rapid.SampledFrom([]int{1, 20}).Draw(t, "times"))
		keys := []plan.SortKey{{Expr: tb.col(0)}, {Expr: tb.col(1)}}[:rapid.IntRange(1, 2).Draw(t, "keys")]
		for i := range keys {
			keys[i].Desc, keys[i].NullsFirst = rapid.Bool().Draw(t, "desc"), rapid.Bool().Draw(t, "nulls first")
		}
		n := rapid.SampledFrom([]int{0, 1, 3, 50, 700}).Draw(t, "n")
		want := tb.sortBy(keys).texts()
		want = want[:min(n, len(want))]
		if len(want) == 0 {
			want = nil
		}
		equal(t, "top-n", run(t, mustOp(t)(exec.NewTopN(tb.rawOp(t), keys, uint64(n), 0))), want)
	})
}
