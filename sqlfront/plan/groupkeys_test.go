package plan

import (
	"slices"
	"sort"
	"strings"
	"testing"
)

// Groups are told apart by as few keys as the primary keys and the equalities
// allow, and are the same groups as by all keys.
func TestGroupKeysThatFollow(t *testing.T) {
	l := newLab()
	if err := l.ddl(`create table cust (id int primary key, name text, nat int, note char(9));
		create table nat (id int primary key, name text, reg text);
		create table ord (cust bigint, no int, day date, primary key (cust, no));
		create table price (p numeric(10,2) primary key, what text);
		create table loose (id int, name text)`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"insert into cust select i, 'c' || (i % 7), i % 5, 'n' || (i % 3) from generate_series(1, 60) i",
		"insert into nat select i, 'nat' || (i % 2), 'r' || (i % 2) from generate_series(0, 3) i",
		"insert into ord select i % 20, i, '2024-01-01'::date + i % 9 from generate_series(1, 200) i",
		"insert into price select i * 0.5, 'w' || i from generate_series(1, 20) i",
		"insert into loose select case when i % 4 = 0 then null else i % 10 end, 'l' || (i % 3) from generate_series(1, 50) i",
	} {
		if err := l.insert(sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ keys, from, want string }{
		{"c.name, c.id, c.note", "cust c", "c.id"},
		{"c.name, c.note", "cust c", "c.name, c.note"},
		{"c.id, c.name, n.name, n.reg", "cust c join nat n on c.nat = n.id", "c.id"},
		{"c.id, c.name, n.name, n.reg", "cust c, nat n where c.nat = n.id and n.reg = 'r1'", "c.id"},
		{"c.id, n.name", "cust c join nat n on c.nat < n.id", "c.id, n.name"},
		{"c.id, n.name", "cust c left join nat n on c.nat = n.id", "c.id, n.name"},
		{"c.id, n.id, n.name, c.name", "cust c left join nat n on c.nat = n.id", "c.id, n.id"},
		{"n.id, n.name, c.id", "cust c full join nat n on c.nat = n.id and c.id < 30", "n.id, c.id"},
		{"o.cust, o.no, o.day, c.name", "ord o join cust c on o.cust = c.id", "o.cust, o.no"},
		{"o.cust, o.day, c.name", "ord o join cust c on o.cust = c.id", "o.cust, o.day"},
		{"o.no, c.id, o.day, c.name", "ord o join cust c on o.cust = c.id", "o.no, c.id"},
		{"p.p, p.what", "price p", "p.p, p.what"}, // equal numerics may differ
		{"l.id, l.name", "loose l", "l.id, l.name"},
		{"s.id, s.n, s.m", "(select id, count(*) n, max(name) m from loose group by id) s", "loose.id"},
		{"s.id, s.n", "cust c left join (select id, count(*) n from loose group by id) s on c.id = s.n", "loose.id, count"},
		{"c.id, c.name", "cust c where exists (select 1 from ord o where o.cust = c.id)", "c.id"},
		{"c.id, s.name", "cust c, lateral (select max(n.name) as name from nat n where n.id < c.nat) s", "c.id, max"},
	} {
		sql := "select " + c.keys + ", count(*) from " + c.from + " group by " + c.keys
		p, err := l.selectPlan(sql, true)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		if got := topKeys(p.root); got != c.want {
			t.Errorf("%s:\ngrouped by %s, want %s", sql, got, c.want)
		}
		got := groupsOf(t, l, sql)
		var computed []string // keys nothing is known of
		for _, k := range strings.Split(c.keys, ", ") {
			computed = append(computed, "case when "+k+" is null then null else "+k+" end")
		}
		plain := "select " + strings.Join(computed, ", ") + ", count(*) from " + c.from + " group by " + strings.Join(computed, ", ")
		if want := groupsOf(t, l, plain); !slices.Equal(got, want) {
			t.Errorf("%s:\n%d groups, want %d\n%s\n%s", sql, len(got), len(want), strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// topKeys are the keys that the uppermost aggregation looks up.
func topKeys(n physNode) string {
	if a, ok := n.(*physAgg); ok {
		var out []string
		for _, k := range a.keys[:a.by] {
			out = append(out, k.String())
		}
		return strings.Join(out, ", ")
	}
	for _, k := range n.kids() {
		if s := topKeys(k); s != "" {
			return s
		}
	}
	return ""
}

func groupsOf(t *testing.T, l *lab, sql string) []string {
	t.Helper()
	p, err := l.selectPlan(sql, true)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	rows, _, err := l.run(p, nil)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	par, _, err := l.runBy(p, nil, 2)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	sort.Strings(rows)
	sort.Strings(par)
	if !slices.Equal(rows, par) {
		t.Fatalf("%s: %d rows by workers, %d without", sql, len(par), len(rows))
	}
	return rows
}
