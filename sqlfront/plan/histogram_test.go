package plan

import (
	"math"
	"testing"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/parse"
)

func statsKey(t testing.TB, typ sqltypes.Type, d sqltypes.Datum) []byte {
	t.Helper()
	k, err := tablecodec.AppendDatum(nil, tablecodec.IndexColumn(typ, false), d)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What a WHERE leaves of a table is estimated from the values that ANALYZE kept.
func TestSelectivityFromSamples(t *testing.T) {
	l := newLab()
	if err := l.ddl("create table t (id int8 primary key, n int8, s text, u int4)"); err != nil {
		t.Fatal(err)
	}
	tab := l.tables["t"]
	n, s := &catalog.ColumnStats{}, &catalog.ColumnStats{NullFrac: 0.2}
	for i := range 128 { // n: 0 … 9999, evenly
		n.Values = append(n.Values, statsKey(t, sqltypes.Int8, sqltypes.NewInt(int64(i*10000/128+39))))
	}
	for _, c := range []struct {
		v string
		f float64
	}{{"red", 0.5}, {"green", 0.2}, {"dark green", 0.1}} {
		s.Common = append(s.Common, catalog.CommonValue{Key: statsKey(t, sqltypes.Text, sqltypes.NewString(c.v)), Frac: c.f})
	}
	l.stats[tab.ID] = catalog.Stats{Rows: 100000,
		Distinct: map[uint32]int64{tab.Columns[1].ID: 10000, tab.Columns[2].ID: 3},
		Columns:  map[uint32]*catalog.ColumnStats{tab.Columns[1].ID: n, tab.Columns[2].ID: s}}
	for _, c := range []struct {
		where string
		want  float64 // of all rows
	}{
		{"n < 1000", 0.1},
		{"n >= 2000 and n < 3000", 0.1}, // not 0.8 * 0.3
		{"n > 9999", 0.5 / 128},
		{"n = 17", 1.0 / 10000},
		{"n in (1, 2) or n > 5000", 0.5},
		{"n % 2 = 0 and n between 1000 and 2000", 0.05},
		{"s = 'red'", 0.5},
		{"s like '%green%'", 0.3},
		{"s not like '%green%'", 0.5},
		{"s is null", 0.2},
		{"s is not null", 0.8},
		{"s = 'red' and n < 5000", 0.25},
		{"s = 'blue'", 1e-5},
		{"coalesce(s, 'none') = 'none'", 0.2},
		{"100 / (n - 39) > 1", 1.0 / 3}, // fails for some: no estimate
		{"u < 5", 1.0 / 3},              // no statistics
	} {
		sel := selectivityOf(t, l, "select id from t where "+c.where)
		if math.Abs(sel-c.want) > 0.02 && math.Abs(sel-c.want) > c.want/5 || c.want < 0.01 && math.Abs(sel-c.want) > c.want/2 {
			t.Errorf("%s: %.5f of the rows, want %.5f", c.where, sel, c.want)
		}
	}
}

// sampledLab has a table with samples of its keys and of another column.
func sampledLab(tb testing.TB) (*lab, *catalog.Table) {
	l := newLab()
	if err := l.ddl("create table t (id int8 primary key, n int8)"); err != nil {
		tb.Fatal(err)
	}
	tab := l.tables["t"]
	cols := map[uint32]*catalog.ColumnStats{}
	for _, c := range tab.Columns {
		st := &catalog.ColumnStats{}
		for i := range 128 {
			st.Values = append(st.Values, statsKey(tb, sqltypes.Int8, sqltypes.NewInt(int64(i))))
		}
		cols[c.ID] = st
	}
	l.stats[tab.ID] = catalog.Stats{Rows: 100000, Columns: cols}
	return l, tab
}

// A read of one row by its key is planned without looking at samples, and other
// conditions are computed over samples that are decoded already.
func TestSamplesCostPlanningLittle(t *testing.T) {
	l, tab := sampledLab(t)
	allocs := func(sql string) float64 {
		return testing.AllocsPerRun(20, func() {
			if _, err := l.selectPlan(sql, true); err != nil {
				t.Fatal(err)
			}
		})
	}
	const point, cond = "select n from t where id = 17", "select id from t where n = 17"
	withPoint, withCond := allocs(point), allocs(cond)
	l.stats[tab.ID] = catalog.Stats{Rows: 100000}
	if without := allocs(point); withPoint > without {
		t.Errorf("%s: %v allocations with samples, %v without", point, withPoint, without)
	}
	if without := allocs(cond); withCond > without+40 {
		t.Errorf("%s: %v allocations with samples, %v without", cond, withCond, without)
	}
}

func BenchmarkPlanSampled(b *testing.B) {
	l, _ := sampledLab(b)
	for _, where := range []string{"id = 17", "n = 17", "n > 10 and n < 20"} {
		b.Run(where, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.selectPlan("select id from t where "+where, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func selectivityOf(t *testing.T, l *lab, sql string) float64 {
	t.Helper()
	st, err := parse.Parse(sql)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Bind(l.context(true), st[0].Stmt.(*ast.Select))
	if err != nil {
		t.Fatal(err)
	}
	p, err := Optimize(b, l)
	if err != nil {
		t.Fatal(err)
	}
	return p.root.base().rows / 100000
}
