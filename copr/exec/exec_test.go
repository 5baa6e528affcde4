package exec_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

func drawKeys(t *rapid.T, tb *table) []plan.SortKey {
	keys := make([]plan.SortKey, rapid.IntRange(1, 2).Draw(t, "keys"))
	for i := range keys {
		keys[i] = plan.SortKey{
			Expr: tb.col(rapid.IntRange(0, len(tb.types)-1).Draw(t, "col")),
			Desc: rapid.Bool().Draw(t, "desc"), NullsFirst: rapid.Bool().Draw(t, "nulls first"),
		}
	}
	return keys
}

func (tb *table) sortBy(keys []plan.SortKey) *table {
	out := &table{types: tb.types, rows: slices.Clone(tb.rows)}
	slices.SortStableFunc(out.rows, func(a, b []sqltypes.Datum) int {
		for _, k := range keys {
			c := k.Expr.(*expr.Column)
			x, y := a[c.Index], b[c.Index]
			switch {
			case x.IsNull() && y.IsNull():
				continue
			case x.IsNull() || y.IsNull():
				if x.IsNull() == k.NullsFirst {
					return -1
				}
				return 1
			}
			r := coltest.Compare(c.Typ, x, y)
			if k.Desc {
				r = -r
			}
			if r != 0 {
				return r
			}
		}
		return 0
	})
	return out
}

func TestSortTopNMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tb := drawTable(t, drawTypes(t, 2), 30)
		keys := drawKeys(t, tb)
		want := tb.sortBy(keys).texts()
		equal(t, "sort", run(t, mustOp(t)(exec.NewSort(tb.op(t), keys))), want)

		n, offset := rapid.IntRange(0, 35).Draw(t, "n"), rapid.IntRange(0, 10).Draw(t, "offset")
		lo := min(offset, len(want))
		hi := min(lo+n, len(want))
		part := want[lo:hi]
		if len(part) == 0 {
			part = nil
		}
		equal(t, "top-n", run(t, mustOp(t)(exec.NewTopN(tb.op(t), keys, uint64(n), uint64(offset)))), part)
		sortedOp := mustOp(t)(exec.NewSort(tb.op(t), keys))
		equal(t, "limit", run(t, exec.NewLimit(sortedOp, uint64(n), uint64(offset))), part)

		cut := rapid.IntRange(0, len(tb.rows)).Draw(t, "cut")
		left := (&table{types: tb.types, rows: tb.rows[:cut]}).sortBy(keys)
		right := (&table{types: tb.types, rows: tb.rows[cut:]}).sortBy(keys)
		merge := mustOp(t)(exec.NewMerge([]exec.Operator{left.op(t), right.op(t)}, keys))
		equal(t, "merge", run(t, merge), want)
	})
}

// Top-N throws rows away on the way; many rows make it do so.
func TestTopNOfManyRows(t *testing.T) {
	tb := ints()
	x := uint32(1)
	for range 60_000 {
		x = x*1664525 + 1013904223
		tb.rows = append(tb.rows, []sqltypes.Datum{sqltypes.NewInt(int64(x >> 8))})
	}
	keys := []plan.SortKey{{Expr: tb.col(0)}}
	want := tb.sortBy(keys).texts()[5:105]
	var bs []*expr.Batch
	for lo := 0; lo < len(tb.rows); lo += 6000 {
		bs = append(bs, tb.batch(t, lo, lo+6000))
	}
	got := run(t, mustOp(t)(exec.NewTopN(exec.NewBatches(tb.types, bs...), keys, 100, 5)))
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func TestDistinctAndSetOps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		types := drawTypes(t, rapid.IntRange(1, 2).Draw(t, "cols"))
		a := drawTable(t, types, 20)
		b := &table{types: types}
		for range rapid.IntRange(0, 12).Draw(t, "right") {
			if len(a.rows) == 0 {
				break
			}
			row := slices.Clone(rapid.SampledFrom(a.rows).Draw(t, "row"))
			if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
				row[0] = coltest.Nullable(t, types[0])
			}
			b.rows = append(b.rows, row)
		}
		distinct := &table{types: types}
		for _, r := range a.rows {
			if distinct.count(r) == 0 {
				distinct.rows = append(distinct.rows, r)
			}
		}
		equal(t, "distinct", run(t, exec.NewDistinct(a.op(t))), distinct.texts())
		for _, all := range []bool{false, true} {
			for _, kind := range []exec.SetKind{exec.Intersect, exec.Except} {
				want := naiveSetOp(a, b, kind, all)
				equal(t, fmt.Sprintf("set operation %d, all %v", kind, all), run(t, exec.NewSetOp(kind, all, a.op(t), b.op(t))), want.texts())
			}
		}
		equal(t, "union all", run(t, exec.NewUnionAll(a.op(t), b.op(t))), append(a.texts(), b.texts()...))
	})
}

func (tb *table) count(row []sqltypes.Datum) (n int) {
	for _, r := range tb.rows {
		if sameRow(tb.types, r, row) {
			n++
		}
	}
	return n
}

func naiveSetOp(a, b *table, kind exec.SetKind, all bool) *table {
	out, seen := &table{types: a.types}, &table{types: a.types}
	for _, r := range a.rows {
		before, right := seen.count(r), b.count(r)
		keep := right > before == (kind == exec.Intersect)
		if !all {
			keep = before == 0 && right > 0 == (kind == exec.Intersect)
		}
		if keep {
			out.rows = append(out.rows, r)
		}
		seen.rows = append(seen.rows, r)
	}
	return out
}

func TestFilterAndProject(t *testing.T) {
	tb := ints(1, nil, 3, 4, 5, 0)
	// 6 / x > 1 is only looked at where x <> 0.
	conds := []expr.Expr{call(t, "<>", tb.col(0), intConst(0)), call(t, ">", call(t, "/", intConst(6), tb.col(0)), intConst(1))}
	op := mustOp(t)(exec.NewFilter(plain(tb, t), conds))
	op = mustOp(t)(exec.NewProject(op, []expr.Expr{call(t, "+", tb.col(0), intConst(10)), tb.col(0)}))
	if got, want := run(t, op), []string{"11 | 1", "13 | 3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	st := op.Stats()
	if st.Rows != 2 || st.Batches != 1 || op.Inputs()[0].Inputs()[0].Stats().Rows != 6 {
		t.Errorf("statistics %+v", st)
	}
}

func TestValues(t *testing.T) {
	param := &expr.Param{Index: 0, Typ: sqltypes.Int4}
	op := mustOp(t)(exec.NewValues([]sqltypes.Type{sqltypes.Int4}, [][]expr.Expr{{intConst(1)}, {param}}))
	c := ctx()
	c.Eval.Params = []sqltypes.Datum{sqltypes.NewInt(7)}
	bs, err := exec.Collect(c, op)
	if err != nil || !slices.Equal(texts(bs, op.Types()), []string{"1", "7"}) {
		t.Errorf("%q, %v", texts(bs, op.Types()), err)
	}
}

func TestMemoryLimit(t *testing.T) {
	tb := ints()
	for i := range 5000 {
		tb.rows = append(tb.rows, []sqltypes.Datum{sqltypes.NewInt(int64(i))})
	}
	keys := []plan.SortKey{{Expr: tb.col(0)}}
	for name, op := range map[string]exec.Operator{
		"sort":      mustOp(t)(exec.NewSort(plain(tb, t), keys)),
		"distinct":  exec.NewDistinct(plain(tb, t)),
		"aggregate": mustOp(t)(exec.NewHashAgg(plain(tb, t), exec.CompleteAgg, []expr.Expr{tb.col(0)}, nil)),
		"hash join": mustOp(t)(exec.NewHashJoin(exec.HashJoinSpec{Left: plain(tb, t), Right: plain(tb, t), LeftKeys: []expr.Expr{tb.col(0)}, RightKeys: []expr.Expr{tb.col(0)}})),
	} {
		c := ctx()
		c.Mem = exec.NewMemAccount(10_000, nil)
		if _, err := exec.Collect(c, op); pgerror.Code(err) != pgerror.OutOfMemory {
			t.Errorf("%s: %v", name, err)
		}
		if c.Mem.Used() != 0 {
			t.Errorf("%s: %d bytes still charged", name, c.Mem.Used())
		}
	}
}

func TestCancellation(t *testing.T) {
	tb := ints(1, 2, 3)
	c := ctx()
	cctx, cancel := context.WithCancel(context.Background())
	c.Context = cctx
	op := exec.NewDistinct(plain(tb, t))
	if err := op.Open(c); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := op.Next(); pgerror.Code(err) != pgerror.QueryCanceled {
		t.Errorf("after cancel: %v", err)
	}
	if err := op.Close(); err != nil {
		t.Fatal(err)
	}
}
