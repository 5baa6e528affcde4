package plan

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// filterLab has a table of 2000 facts over three dimensions.
func filterLab(t *testing.T) *lab {
	t.Helper()
	l := newLab()
	if err := l.ddl(`create table fact (id int primary key, a int, b bigint, s text, v numeric(10,2), w int);
		create table da (a int primary key, g int, x text);
		create table db (b int primary key, a int);
		create table ds (s text, v numeric(10,2), w int)`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"insert into fact select i, i % 50, case when i % 11 = 0 then null else i % 40 end, 's' || (i % 30), i % 20 * 0.25, i % 7 from generate_series(1, 2000) i",
		"insert into da select i, i % 10, 'x' || (i % 5) from generate_series(0, 49) i",
		"insert into db select i, i % 50 from generate_series(0, 99) i",
		"insert into ds select 's' || (i * 3), i * 0.25, i % 7 from generate_series(1, 12) i",
		"insert into ds values (null, null, null)",
	} {
		if err := l.insert(sql); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// runFiltered runs a query with and without filters, in one goroutine and with
// workers, and returns what EXPLAIN says of its filters.
func runFiltered(t interface{ Fatalf(string, ...any) }, l *lab, sql string) (lines []string) {
	p, err := l.selectPlan(sql, true)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	want, _, err := l.run(p, nil)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	got, r, err := l.runBy(p, nil, 2)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	sort.Strings(want)
	sort.Strings(got)
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %d rows with filters, %d without\n%s", sql, len(got), len(want), strings.Join(Explain(p, ExplainOptions{}, r), "\n"))
	}
	for _, line := range Explain(p, ExplainOptions{}, r) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "Key Filter") {
			lines = append(lines, line)
		}
	}
	return lines
}

// Filters reach the scans that they may, and no others.
func TestJoinFilters(t *testing.T) {
	l := filterLab(t)
	for _, c := range []struct{ sql, want string }{
		{"select count(*) from fact join da on fact.a = da.a where da.g = 3", "Key Filter: fact.a = da.a, rows removed=1800"},
		{"select count(*) from fact join da on fact.a = da.a", ""},
		{"select count(*) from fact where a in (select a from da where g = 3)", "Key Filter: fact.a = da.a, rows removed=1800"},
		{"select count(*) from fact where a not in (select a from da where g = 3)", ""},
		{"select count(*) from fact where not exists (select 1 from da where da.a = fact.a and g = 3)", ""},
		{"select count(*) from fact left join da on fact.a = da.a and da.g = 3", ""},
		{"select count(*) from fact join ds on fact.s = ds.s where ds.w < 3", "Key Filter: fact.s = ds.s, rows removed="},
		{"select count(*) from fact join ds on fact.v = ds.v where ds.w < 3", "Key Filter: fact.v = ds.v, rows removed="},
		{"select count(*) from fact join db on fact.b = db.b where db.a < 4", "Key Filter: fact.b = (db.b)::bigint, rows removed="},
		{"select count(*) from fact join da on fact.a = da.a where da.g = 77", "Key Filter: fact.a = da.a"},
		{"select sum(n) from (select a, count(*) n from fact group by a) f join da on f.a = da.a where da.g = 3", "Key Filter: fact.a = da.a, rows removed=1800"},
		{"select count(*) from (select a from fact order by id limit 5) f join da on f.a = da.a where da.g = 3", ""},
		{"with c as materialized (select a from da where g = 3) select count(*) from fact join c on fact.a = c.a", "Key Filter: fact.a = c.a, rows removed=1800"},
		{"with c as materialized (select a from da) select count(*) from fact join c on fact.a = c.a", ""},
		{"with c as materialized (select fact.id, fact.w from fact join da on fact.a = da.a where da.g = 3) select x.w, count(*) from c x join c y on x.id = y.id group by x.w", "Key Filter: fact.a = da.a, rows removed=1800"},
		{"with recursive c as (select 1 as n union all select n + 1 from c join da on c.n = da.a where da.g < 8) select count(*) from fact join c on fact.a = c.n", ""},
	} {
		if got := strings.Join(runFiltered(t, l, c.sql), "; "); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s:\ngot  %s\nwant %s", c.sql, got, c.want)
		}
	}
	// Through a join, and across its equality.
	lines := runFiltered(t, l, "select count(*) from fact join db on fact.b = db.b join da on fact.a = da.a where da.g = 3 and db.a < 30")
	if len(lines) != 2 {
		t.Errorf("filters of two joins: %q", lines)
	}
}

// Queries with random joins give the same rows with filters and without.
func TestJoinFiltersChangeNothing(t *testing.T) {
	l := filterLab(t)
	rapid.Check(t, func(t *rapid.T) {
		from := "fact"
		for _, d := range []struct{ table, key string }{{"da", "a"}, {"db", "b"}, {"ds", rapid.SampledFrom([]string{"s", "v", "w"}).Draw(t, "key")}} {
			if rapid.Bool().Draw(t, "join "+d.table) {
				kind := rapid.SampledFrom([]string{"join", "left join", "right join", "full join"}).Draw(t, "kind")
				from += fmt.Sprintf(" %s %s on fact.%s = %s.%s", kind, d.table, d.key, d.table, d.key)
			}
		}
		conds := []string{"true"}
		for table, list := range map[string][]string{
			"da": {"da.g < 3", "da.x = 'x1'", "da.a between 10 and 14"}, "db": {"db.a < 5", "db.b > 30"}, "ds": {"ds.w = 2", "ds.v < 1"},
		} {
			if strings.Contains(from, " "+table+" ") && rapid.Bool().Draw(t, "filter "+table) {
				conds = append(conds, rapid.SampledFrom(list).Draw(t, "condition"))
			}
		}
		sub := rapid.SampledFrom([]string{
			"true", "fact.a in (select a from da where g = 2)", "fact.a not in (select a from da where g = 2)",
			"exists (select 1 from db where db.b = fact.b and db.a < 9)", "not exists (select 1 from db where db.b = fact.b and db.a < 9)",
			"fact.w > (select min(f.w) from fact f where f.a = fact.a and f.w > 1)",
		}).Draw(t, "subquery")
		sort.Strings(conds)
		runFiltered(t, l, "select fact.id, fact.a, fact.b from "+from+" where "+strings.Join(append(conds, sub), " and "))
	})
}
