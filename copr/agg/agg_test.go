package agg_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/colvec/coltest"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// call runs one aggregate over rows in one group; each argument is a list of
// texts, "NULL" for NULL. With split > 0 the rows are aggregated in two parts.
func call(t testing.TB, name string, types []sqltypes.Type, args [][]string, split int) string {
	t.Helper()
	result, state, err := agg.Resolve(name, types)
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	if len(args) > 0 {
		rows = len(args[0])
	}
	part := func(lo, hi int) agg.Accumulator {
		acc, err := agg.New(name, types)
		if err != nil {
			t.Fatal(err)
		}
		acc.Grow(1)
		vecs := make([]colvec.Vec, len(args))
		for i, texts := range args {
			b := sqltypes.NewBuilder(types[i])
			for _, s := range texts[lo:hi] {
				if s == "NULL" {
					b.AppendNull()
				} else if err := b.AppendText(s); err != nil {
					t.Fatal(err)
				}
			}
			vecs[i] = colvec.Open(b.Finish(), types[i])
		}
		if err := acc.Update(agg.Rows{N: hi - lo}, vecs); err != nil {
			t.Fatal(err)
		}
		return acc
	}
	acc := part(0, rows)
	if split > 0 {
		acc, _ = agg.New(name, types)
		acc.Grow(1)
		for _, p := range []agg.Accumulator{part(0, split), part(split, rows)} {
			bs := colvec.NewBuilders(state, 1)
			if err := p.State(bs, 0, 1); err != nil {
				t.Fatal(err)
			}
			cols, err := colvec.FinishAll(bs)
			if err != nil {
				t.Fatal(err)
			}
			if err := acc.Merge(agg.Rows{N: 1}, colvec.OpenAll(cols, state)); err != nil {
				t.Fatal(err)
			}
		}
	}
	out := colvec.NewBuilder(result, 1)
	if err := acc.Result(out, 0, 1); err != nil {
		t.Fatal(err)
	}
	col, err := out.Finish()
	if err != nil {
		t.Fatal(err)
	}
	v := colvec.Open(col, result)
	return result.Name() + " " + coltest.Text(result, v.At(0, result))
}

// The results are PostgreSQL's (15 was asked).
func TestResultsAsPostgreSQL(t *testing.T) {
	num := sqltypes.NumericOf(15, 2)
	for _, c := range []struct {
		name string
		typ  sqltypes.Type
		in   string
		want string
	}{
		{"count", sqltypes.Int4, "1 NULL 3", "bigint 2"},
		{"sum", sqltypes.Int4, "1 NULL 3", "bigint 4"},
		{"sum", sqltypes.Int4, "NULL", "bigint NULL"},
		{"sum", sqltypes.Int8, "9223372036854775807 9223372036854775807", "numeric 18446744073709551614"},
		{"sum", num, "1.50 2.25 NULL", "numeric 3.75"},
		{"sum", sqltypes.Numeric, "1.5 2.25 1", "numeric 4.75"},
		{"sum", sqltypes.Numeric, "1.5 NaN", "numeric NaN"},
		{"sum", sqltypes.Float8, "1.5 2.25", "double precision 3.75"},
		{"sum", sqltypes.Float4, "1.5 2.25", "real 3.75"},
		{"avg", sqltypes.Int4, "1 2 4", "numeric 2.3333333333333333"},
		{"avg", sqltypes.Int8, "10 20", "numeric 15.0000000000000000"},
		{"avg", num, "1.00 2.00 2.00", "numeric 1.6666666666666667"},
		{"avg", sqltypes.Numeric, "0.001 0.002", "numeric 0.00150000000000000000"},
		{"avg", sqltypes.Float8, "1 2", "double precision 1.5"},
		{"avg", sqltypes.Int4, "NULL NULL", "numeric NULL"},
		{"min", sqltypes.Text, "b a NULL c", "text a"},
		{"max", sqltypes.Numeric, "1.0 10 9.99", "numeric 10"},
		{"max", sqltypes.Float8, "1 NaN 2", "double precision NaN"},
		{"min", sqltypes.Float8, "1 NaN 2", "double precision 1"},
		{"min", sqltypes.Date, "2024-01-02 2023-12-31", "date 2023-12-31"},
		{"max", sqltypes.Int2, "-5 -7", "smallint -5"},
		{"bool_and", sqltypes.Bool, "t f NULL", "boolean f"},
		{"every", sqltypes.Bool, "t t", "boolean t"},
		{"bool_or", sqltypes.Bool, "f NULL", "boolean f"},
		{"var_pop", sqltypes.Int4, "1 2 4", "numeric 1.5555555555555556"},
		{"var_samp", sqltypes.Int4, "1 2 4", "numeric 2.3333333333333333"},
		{"stddev", sqltypes.Int4, "1 2 4", "numeric 1.5275252316519467"},
		{"stddev_pop", sqltypes.Int4, "5", "numeric 0"},
		{"stddev_samp", sqltypes.Int4, "5", "numeric NULL"},
		{"variance", sqltypes.Numeric, "1.5 2.5 4.5", "numeric 2.3333333333333333"},
		{"stddev_pop", sqltypes.Float8, "2 4 4 4 5 5 7 9", "double precision 2"},
		{"var_samp", sqltypes.Float8, "1", "double precision NULL"},
		{"array_agg", sqltypes.Int4, "1 NULL 3", "integer[] {1,NULL,3}"},
		{"array_agg", sqltypes.Text, `a "b null`, `text[] {a,"\"b","null"}`},
		{"any_value", sqltypes.Int4, "NULL 7 8", "integer 7"},
	} {
		in := strings.Fields(c.in)
		for split := range len(in) {
			if got := call(t, c.name, []sqltypes.Type{c.typ}, [][]string{in}, split); got != c.want {
				t.Errorf("%s(%s) of %s, split at %d: %s, want %s", c.name, c.typ.Name(), c.in, split, got, c.want)
			}
		}
	}
}

func TestIntervals(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []string
		want string
	}{
		{"avg", []string{"1 mon", "3 days 05:00"}, "interval 16 days 14:30:00"},
		{"avg", []string{"1 mon", "2 mon", "-1 day"}, "interval 1 mon -08:00:00"},
		{"sum", []string{"1 mon", "2 mon", "-1 day"}, "interval 3 mons -1 days"},
		{"max", []string{"29 days", "1 mon", "NULL"}, "interval 1 mon"},
	} {
		if got := call(t, c.name, []sqltypes.Type{sqltypes.Interval}, [][]string{c.in}, 1); got != c.want {
			t.Errorf("%s of %v: %s, want %s", c.name, c.in, got, c.want)
		}
	}
}

func TestStringAgg(t *testing.T) {
	args := [][]string{{"NULL", "a", "b", "c"}, {"?", ",", ";", "NULL"}}
	for split := range 4 {
		if got := call(t, "string_agg", []sqltypes.Type{sqltypes.Text, sqltypes.Text}, args, split); got != "text a;bc" {
			t.Errorf("split at %d: %s", split, got)
		}
	}
}

// However rows are divided, the result is the same.
func TestPartsMakeTheWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		typ := coltest.Type(rt)
		name := rapid.SampledFrom(agg.Names()).Draw(rt, "name")
		args := []sqltypes.Type{typ}
		if _, _, err := agg.Resolve(name, args); err != nil {
			if pgerror.Code(err) != pgerror.UndefinedFunction {
				rt.Fatal(err)
			}
			return
		}
		if typ.IsFloat() && name != "min" && name != "max" && name != "count" {
			return // sums of floats depend on the order
		}
		var in []string
		for range rapid.IntRange(1, 12).Draw(rt, "rows") {
			d := coltest.Nullable(rt, typ)
			if typ.OID == sqltypes.OIDInterval || d.Kind() == sqltypes.KindDecimal && len(coltest.Text(typ, d)) > 25 {
				d = sqltypes.Null
			}
			if d.Kind() == sqltypes.KindString && d.Str() == "NULL" || d.Kind() == sqltypes.KindString && strings.Contains(d.Str(), "\x00") {
				d = sqltypes.Null
			}
			in = append(in, coltest.Text(typ, d))
		}
		whole := call(t, name, args, [][]string{in}, 0)
		split := rapid.IntRange(0, len(in)-1).Draw(rt, "split")
		if parts := call(t, name, args, [][]string{in}, split); parts != whole {
			rt.Fatalf("%s(%s) of %q: %s in one, %s in parts", name, typ.Name(), in, whole, parts)
		}
	})
}

func TestOverflow(t *testing.T) {
	num := sqltypes.NumericOf(38, 0)
	acc, err := agg.New("sum", []sqltypes.Type{num})
	if err != nil {
		t.Fatal(err)
	}
	acc.Grow(1)
	d, _ := sqltypes.ParseNumeric(strings.Repeat("9", 38))
	col := coltest.Array(t, num, []sqltypes.Datum{sqltypes.NewDecimal(d), sqltypes.NewDecimal(d)})
	err = acc.Update(agg.Rows{N: 2}, []colvec.Vec{colvec.Open(col, num)})
	if pgerror.Code(err) != pgerror.NumericValueOutOfRange {
		t.Errorf("sum of two 38-digit numbers: %v", err)
	}
}

func TestUnknownCalls(t *testing.T) {
	for _, c := range []struct {
		name string
		args []sqltypes.Type
	}{
		{"sum", []sqltypes.Type{sqltypes.Text}}, {"sum", nil}, {"avg", []sqltypes.Type{sqltypes.Date}}, {"min", []sqltypes.Type{sqltypes.Bool}},
		{"median", []sqltypes.Type{sqltypes.Int4}}, {"bool_and", []sqltypes.Type{sqltypes.Int4}}, {"count", []sqltypes.Type{sqltypes.Int4, sqltypes.Int4}},
		{"string_agg", []sqltypes.Type{sqltypes.Text}}, {"sum", []sqltypes.Type{sqltypes.Oid}},
	} {
		if _, _, err := agg.Resolve(c.name, c.args); pgerror.Code(err) != pgerror.UndefinedFunction {
			t.Errorf("%s of %v: %v", c.name, c.args, err)
		}
	}
}
