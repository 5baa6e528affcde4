package exec_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// truth is three-valued.
type truth int

const (
	no truth = iota
	unknown
	yes
)

// matchOf compares the first keys columns, and, if there is a residual, asks that
// column less of the left side is below that of the right one.
func matchOf(types []sqltypes.Type, keys, less int, residual bool) func(a, b []sqltypes.Datum) truth {
	return func(a, b []sqltypes.Datum) truth {
		out := yes
		for c := range keys {
			switch {
			case a[c].IsNull() || b[c].IsNull():
				out = min(out, unknown)
			case coltest.Compare(types[c], a[c], b[c]) != 0:
				return no
			}
		}
		if residual {
			switch {
			case a[less].IsNull() || b[less].IsNull():
				out = min(out, unknown)
			case a[less].Int() >= b[less].Int():
				return no
			}
		}
		return out
	}
}

// naiveJoinRows joins by definition.
func naiveJoinRows(kind exec.JoinKind, l, r *table, nullAware bool, match func(a, b []sqltypes.Datum) truth) [][]sqltypes.Datum {
	nulls := func(n int) []sqltypes.Datum { return make([]sqltypes.Datum, n) }
	var out [][]sqltypes.Datum
	hit := make([]bool, len(r.rows))
	for _, a := range l.rows {
		matched, maybe := false, false
		for i, b := range r.rows {
			m := match(a, b)
			maybe = maybe || m == unknown
			if m != yes {
				continue
			}
			matched, hit[i] = true, true
			if kind < exec.SemiJoin {
				out = append(out, slices.Concat(a, b))
			}
		}
		switch {
		case kind == exec.SemiJoin && matched, kind == exec.AntiJoin && !matched && !(nullAware && maybe):
			out = append(out, a)
		case (kind == exec.LeftJoin || kind == exec.FullJoin) && !matched:
			out = append(out, slices.Concat(a, nulls(len(r.types))))
		}
	}
	for i, b := range r.rows {
		switch {
		case (kind == exec.RightJoin || kind == exec.FullJoin) && !hit[i]:
			out = append(out, slices.Concat(nulls(len(l.types)), b))
		case kind == exec.RightSemiJoin && hit[i], kind == exec.RightAntiJoin && !hit[i]:
			out = append(out, b)
		}
	}
	return out
}

// naiveJoin is naiveJoinRows as texts.
func naiveJoin(kind exec.JoinKind, l, r *table, nullAware bool, match func(a, b []sqltypes.Datum) truth) []string {
	types := slices.Concat(l.types, r.types)
	if kind >= exec.RightSemiJoin {
		types = r.types
	}
	var out []string
	for _, row := range naiveJoinRows(kind, l, r, nullAware, match) {
		out = append(out, rowText(types[:len(row)], row))
	}
	return out
}

var joinKinds = []exec.JoinKind{exec.InnerJoin, exec.LeftJoin, exec.RightJoin, exec.FullJoin, exec.SemiJoin, exec.AntiJoin,
	exec.RightSemiJoin, exec.RightAntiJoin}

func TestJoins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(1, 2).Draw(t, "keys")
		types := append(drawTypes(t, keys), sqltypes.Int4)
		all := drawTable(t, types, 24)
		cut := rapid.IntRange(0, len(all.rows)).Draw(t, "cut")
		l, r := &table{types: types, rows: all.rows[:cut]}, &table{types: types, rows: all.rows[cut:]}
		kind := rapid.SampledFrom(joinKinds).Draw(t, "kind")
		residual := rapid.Bool().Draw(t, "residual")
		match := matchOf(types, keys, keys, residual)
		spec := exec.HashJoinSpec{Kind: kind, Left: l.op(t), Right: r.op(t)}
		var conds []expr.Expr
		right := func(c int) expr.Expr { return &expr.Column{Index: len(types) + c, Typ: types[c]} }
		for c := range keys {
			spec.LeftKeys, spec.RightKeys = append(spec.LeftKeys, l.col(c)), append(spec.RightKeys, r.col(c))
			e, err := expr.NewOperator("=", l.col(c), right(c))
			if err != nil {
				t.Fatal(err)
			}
			conds = append(conds, e)
		}
		if residual {
			e, err := expr.NewOperator("<", l.col(keys), right(keys))
			if err != nil {
				t.Fatal(err)
			}
			spec.Residual = []expr.Expr{e}
			conds = append(conds, e)
		}
		want := sorted(naiveJoin(kind, l, r, false, match))
		equal(t, fmt.Sprintf("hash join %d", kind), sorted(run(t, mustOp(t)(exec.NewHashJoin(spec)))), want)
		nl := exec.NestedLoopSpec{Kind: kind, Left: l.op(t), Right: r.op(t), Conds: conds}
		if kind >= exec.RightSemiJoin {
			if _, err := exec.NewNestedLoopJoin(nl); err == nil {
				t.Fatal("a nested loop took a kind that it cannot do")
			}
			return
		}
		equal(t, fmt.Sprintf("nested loop %d", kind), sorted(run(t, mustOp(t)(exec.NewNestedLoopJoin(nl)))), want)
		if kind == exec.AntiJoin && keys == 1 && !residual {
			spec.Left, spec.Right, spec.NullAware = l.op(t), r.op(t), true
			nl.Left, nl.Right, nl.NullAware = l.op(t), r.op(t), true
			want := sorted(naiveJoin(kind, l, r, true, match))
			equal(t, "NOT IN by hash", sorted(run(t, mustOp(t)(exec.NewHashJoin(spec)))), want)
			equal(t, "NOT IN by nested loop", sorted(run(t, mustOp(t)(exec.NewNestedLoopJoin(nl)))), want)
		}
	})
}

// A cross join and a join with very many matches come out in many batches.
func TestJoinOutputIsCut(t *testing.T) {
	l, r := ints(), ints()
	for range 200 {
		l.rows = append(l.rows, []sqltypes.Datum{sqltypes.NewInt(1)})
		r.rows = append(r.rows, []sqltypes.Datum{sqltypes.NewInt(1)})
	}
	for name, op := range map[string]exec.Operator{
		"cross": mustOp(t)(exec.NewNestedLoopJoin(exec.NestedLoopSpec{Left: plain(l, t), Right: plain(r, t)})),
		"hash":  mustOp(t)(exec.NewHashJoin(exec.HashJoinSpec{Left: plain(l, t), Right: plain(r, t), LeftKeys: []expr.Expr{l.col(0)}, RightKeys: []expr.Expr{r.col(0)}})),
	} {
		bs, err := exec.Collect(ctx(), op)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, b := range bs {
			if b.N > exec.BatchRowsMax {
				t.Errorf("%s: a batch of %d rows", name, b.N)
			}
			n += b.N
		}
		if n != 40_000 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
}

// Numerics of different scales, and integers of different widths, are equal
// where their values are.
func TestHashJoinAcrossLayouts(t *testing.T) {
	num := func(typ sqltypes.Type, texts ...string) *table {
		tb := &table{types: []sqltypes.Type{typ}}
		for _, s := range texts {
			b := sqltypes.NewBuilder(typ)
			if err := b.AppendText(s); err != nil {
				t.Fatal(err)
			}
			v := colvec.Open(b.Finish(), typ)
			tb.rows = append(tb.rows, []sqltypes.Datum{v.At(0, typ)})
		}
		return tb
	}
	for _, c := range []struct{ l, r *table }{
		{num(sqltypes.NumericOf(10, 1), "1.5", "2.0"), num(sqltypes.NumericOf(10, 3), "2.000", "7.001")},
		{num(sqltypes.NumericOf(10, 1), "1.5", "2.0"), num(sqltypes.Numeric, "2", "7.001")},
		{num(sqltypes.Int2, "1", "2"), num(sqltypes.Int8, "2", "3")},
	} {
		op := mustOp(t)(exec.NewHashJoin(exec.HashJoinSpec{
			Kind: exec.SemiJoin, Left: plain(c.l, t), Right: plain(c.r, t), LeftKeys: []expr.Expr{c.l.col(0)}, RightKeys: []expr.Expr{c.r.col(0)},
		}))
		if got := run(t, op); len(got) != 1 || got[0][:1] != "2" {
			t.Errorf("%s = %s: %q", c.l.types[0].Name(), c.r.types[0].Name(), got)
		}
	}
	_, err := exec.NewHashJoin(exec.HashJoinSpec{
		Left: plain(ints(), t), Right: plain(num(sqltypes.Text), t),
		LeftKeys: []expr.Expr{ints().col(0)}, RightKeys: []expr.Expr{num(sqltypes.Text).col(0)},
	})
	if err == nil {
		t.Error("an integer key was joined with a text key")
	}
}
