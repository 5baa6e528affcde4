package exec_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/sqltypes"
)

// table is rows as Datums, for the naive side of a test.
type table struct {
	types []sqltypes.Type
	rows  [][]sqltypes.Datum
}

// drawTable draws rows with few distinct values, so that they meet.
func drawTable(t *rapid.T, types []sqltypes.Type, rowsMax int) *table {
	pools := make([][]sqltypes.Datum, len(types))
	for c, typ := range types {
		pools[c] = []sqltypes.Datum{sqltypes.Null}
		for range rapid.IntRange(1, 3).Draw(t, "pool") {
			pools[c] = append(pools[c], coltest.Value(t, typ))
		}
	}
	out := &table{types: types}
	for range rapid.IntRange(0, rowsMax).Draw(t, "rows") {
		row := make([]sqltypes.Datum, len(types))
		for c := range types {
			row[c] = rapid.SampledFrom(pools[c]).Draw(t, "value")
		}
		out.rows = append(out.rows, row)
	}
	return out
}

func (tb *table) op(t *rapid.T) exec.Operator {
	var bs []*expr.Batch
	for lo := 0; lo < len(tb.rows); {
		hi := lo + rapid.IntRange(1, 6).Draw(t, "batch")
		hi = min(hi, len(tb.rows))
		bs = append(bs, tb.batch(t, lo, hi))
		lo = hi
	}
	return exec.NewBatches(tb.types, bs...)
}

func (tb *table) batch(t interface{ Fatal(...any) }, lo, hi int) *expr.Batch {
	b := &expr.Batch{N: hi - lo}
	for c, typ := range tb.types {
		var vals []sqltypes.Datum
		for _, r := range tb.rows[lo:hi] {
			vals = append(vals, r[c])
		}
		b.Cols = append(b.Cols, coltest.Array(t, typ, vals))
	}
	return b
}

func (tb *table) col(i int) expr.Expr { return &expr.Column{Index: i, Typ: tb.types[i]} }

func ctx() *exec.Ctx {
	return &exec.Ctx{Context: context.Background(), Eval: &expr.Ctx{}, Mem: exec.NewMemAccount(1<<30, nil)}
}

// run collects the rows of op as texts and checks that all memory came back.
func run(t interface{ Fatal(...any) }, op exec.Operator) []string {
	c := ctx()
	bs, err := exec.Collect(c, op)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mem.Used() != 0 {
		t.Fatal("memory still charged after Close:", c.Mem.Used())
	}
	return texts(bs, op.Types())
}

func texts(bs []*expr.Batch, types []sqltypes.Type) []string {
	var out []string
	for _, b := range bs {
		vecs := colvec.OpenAll(b.Cols, types)
		for i := range b.N {
			row := make([]sqltypes.Datum, len(types))
			for c := range vecs {
				row[c] = vecs[c].At(i, types[c])
			}
			out = append(out, rowText(types, row))
		}
	}
	return out
}

func rowText(types []sqltypes.Type, row []sqltypes.Datum) string {
	parts := make([]string, len(row))
	for i, d := range row {
		parts[i] = coltest.Text(types[i], d)
	}
	return strings.Join(parts, " | ")
}

func (tb *table) texts() []string {
	var out []string
	for _, r := range tb.rows {
		out = append(out, rowText(tb.types, r))
	}
	return out
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func equal(t *rapid.T, what string, got, want []string) {
	if !slices.Equal(got, want) {
		t.Fatalf("%s:\ngot  %q\nwant %q", what, got, want)
	}
}

// sameRow compares as GROUP BY does.
func sameRow(types []sqltypes.Type, a, b []sqltypes.Datum) bool {
	for i, typ := range types {
		if coltest.Compare(typ, a[i], b[i]) != 0 {
			return false
		}
	}
	return true
}

func drawTypes(t *rapid.T, n int) []sqltypes.Type {
	out := make([]sqltypes.Type, n)
	for i := range out {
		out[i] = coltest.Type(t)
	}
	return out
}

func mustOp(t interface{ Fatal(...any) }) func(exec.Operator, error) exec.Operator {
	return func(op exec.Operator, err error) exec.Operator {
		if err != nil {
			t.Fatal(err)
		}
		return op
	}
}

func call(t testing.TB, op string, l, r expr.Expr) expr.Expr {
	t.Helper()
	e, err := expr.NewOperator(op, l, r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func intConst(v int64) expr.Expr { return &expr.Const{Value: sqltypes.NewInt(v), Typ: sqltypes.Int4} }

func ints(vals ...any) *table {
	tb := &table{types: []sqltypes.Type{sqltypes.Int4}}
	for _, v := range vals {
		d := sqltypes.Null
		if n, ok := v.(int); ok {
			d = sqltypes.NewInt(int64(n))
		}
		tb.rows = append(tb.rows, []sqltypes.Datum{d})
	}
	return tb
}

func plain(tb *table, t testing.TB) exec.Operator {
	if len(tb.rows) == 0 {
		return exec.NewBatches(tb.types)
	}
	return exec.NewBatches(tb.types, tb.batch(t, 0, len(tb.rows)))
}
