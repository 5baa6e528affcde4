package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// diffType is a type of columns with what makes its values.
type diffType struct {
	name  string
	value func(r *rand.Rand) string // as in COPY
	sums  bool                      // there are sums, and they are exact
}

func pickOf(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

var diffTypes = []diffType{
	{"int", func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(2000)-1000), "2147483647", "0", "-2147483648", strconv.Itoa(r.IntN(9)))
	}, true},
	{"bigint", func(r *rand.Rand) string {
		return pickOf(r, strconv.Itoa(r.IntN(1<<40)), strconv.Itoa(r.IntN(9)), "-9223372036854775808")
	}, true},
	{"smallint", func(r *rand.Rand) string { return strconv.Itoa(r.IntN(200) - 100) }, true},
	{"numeric(10,2)", func(r *rand.Rand) string { return fmt.Sprintf("%d.%02d", r.IntN(2000)-1000, r.IntN(100)) }, true},
	{"numeric", func(r *rand.Rand) string {
		return pickOf(r, fmt.Sprintf("%d.%d", r.IntN(100), r.IntN(10)), fmt.Sprintf("%d.%d0", r.IntN(100), r.IntN(10)), strconv.Itoa(r.IntN(100)), "-0.000001", "123456789012345678901234567890.5")
	}, true},
	{"text", func(r *rand.Rand) string {
		return pickOf(r, "a", "B", "", "zz", "straße", "x"+strconv.Itoa(r.IntN(500)))
	}, false},
	{"date", func(r *rand.Rand) string {
		return fmt.Sprintf("20%02d-%02d-%02d", r.IntN(30), 1+r.IntN(12), 1+r.IntN(28))
	}, false},
	{"timestamp", func(r *rand.Rand) string {
		return fmt.Sprintf("2024-%02d-%02d %02d:%02d:00", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60))
	}, false},
	{"timestamptz", func(r *rand.Rand) string {
		return fmt.Sprintf("2024-%02d-%02d %02d:%02d:00+%02d", 1+r.IntN(12), 1+r.IntN(28), r.IntN(24), r.IntN(60), r.IntN(12))
	}, false},
	{"bool", func(r *rand.Rand) string { return pickOf(r, "t", "f") }, false},
	{"float8", func(r *rand.Rand) string {
		return pickOf(r, "NaN", "-0", "0", "Infinity", "-Infinity", strconv.Itoa(r.IntN(100)), fmt.Sprintf("%d.5", r.IntN(100)))
	}, false},
}

func diffTypeOf(name string) diffType {
	return diffTypes[slices.IndexFunc(diffTypes, func(t diffType) bool { return t.name == name })]
}

// diffTable is a table of the differential run.
type diffTable struct {
	name string
	keys []string

	mu   sync.Mutex
	cols []diffColumn
	next int
}

type diffColumn struct {
	name string
	typ  diffType
	key  bool
}

func (t *diffTable) columns() []diffColumn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.cols)
}

// diffKeys are the types of the tables' primary keys; none: hidden row ids.
var diffKeys = [][]string{{"bigint"}, nil, {"int", "text"}, {"numeric", "date"}, {"timestamptz", "smallint"}}

func newDiffTable(i int, r *rand.Rand) (t *diffTable, ddl string) {
	t = &diffTable{name: fmt.Sprintf("d%d", i)}
	var defs []string
	for j, k := range diffKeys[i%len(diffKeys)] {
		c := diffColumn{fmt.Sprintf("k%d", j), diffTypeOf(k), true}
		t.cols, t.keys = append(t.cols, c), append(t.keys, c.name)
		defs = append(defs, c.name+" "+k+" NOT NULL")
	}
	for _, j := range r.Perm(len(diffTypes))[:7] {
		c := diffColumn{fmt.Sprintf("c%d", t.next), diffTypes[j], false}
		t.next++
		t.cols = append(t.cols, c)
		defs = append(defs, c.name+" "+c.typ.name)
	}
	if len(t.keys) > 0 {
		defs = append(defs, "PRIMARY KEY ("+strings.Join(t.keys, ", ")+")")
	}
	return t, "CREATE TABLE " + t.name + " (" + strings.Join(defs, ", ") + ")"
}

func (c diffColumn) raw(r *rand.Rand) (s string, null bool) {
	if !c.key && r.IntN(6) == 0 {
		return "", true
	}
	return c.typ.value(r), false
}

func (c diffColumn) literal(r *rand.Rand) string {
	s, null := c.raw(r)
	if null {
		return "NULL"
	}
	return "'" + s + "'"
}

func names(cols []diffColumn) string {
	var out []string
	for _, c := range cols {
		out = append(out, c.name)
	}
	return strings.Join(out, ", ")
}

func (t *diffTable) insert(r *rand.Rand, cols []diffColumn, rows int) string {
	var vals []string
	for range rows {
		var v []string
		for _, c := range cols {
			v = append(v, c.literal(r))
		}
		vals = append(vals, "("+strings.Join(v, ", ")+")")
	}
	sql := "INSERT INTO " + t.name + " (" + names(cols) + ") VALUES " + strings.Join(vals, ", ")
	if len(t.keys) == 0 {
		return sql
	}
	c := cols[len(cols)-1]
	if r.IntN(3) == 0 && !c.key {
		return sql[:strings.Index(sql, "VALUES")] + "VALUES " + vals[0] + " ON CONFLICT (" + strings.Join(t.keys, ", ") + ") DO UPDATE SET " + c.name + " = excluded." + c.name
	}
	return sql + " ON CONFLICT DO NOTHING"
}

// cond is a condition on one or more columns.
func cond(r *rand.Rand, cols []diffColumn) string {
	c := cols[r.IntN(len(cols))]
	k := func() string { return c.typ.name + " '" + c.typ.value(r) + "'" }
	if strings.HasPrefix(c.typ.name, "numeric") || r.IntN(2) == 0 {
		k = func() string { return "'" + c.typ.value(r) + "'" }
	}
	switch r.IntN(11) {
	case 0:
		return c.name + " < " + k()
	case 1:
		return c.name + " <= " + k()
	case 2:
		return c.name + " > " + k()
	case 3:
		return c.name + " >= " + k()
	case 4:
		return c.name + " BETWEEN " + k() + " AND " + k()
	case 5:
		return c.name + " IN (" + k() + ", " + k() + ", " + k() + ")"
	case 6:
		return c.name + " IS NULL"
	case 7:
		return c.name + " <> " + k()
	case 8:
		return c.name + " = " + k()
	case 9:
		return "NOT (" + cond(r, cols) + ")"
	}
	return "(" + cond(r, cols) + pickOf(r, " AND ", " AND ", " OR ") + cond(r, cols) + ")"
}

func (t *diffTable) query(r *rand.Rand) string {
	cols := t.columns()
	where := ""
	if r.IntN(4) > 0 {
		where = " WHERE " + cond(r, cols)
		for r.IntN(3) == 0 {
			where += " AND " + cond(r, cols)
		}
	}
	c, d := cols[r.IntN(len(cols))], cols[r.IntN(len(cols))]
	agg := "count(" + d.name + ")"
	if d.typ.sums {
		agg += ", sum(" + d.name + "), avg(" + d.name + ")"
	}
	if d.typ.name != "bool" {
		agg += ", min(" + d.name + "), max(" + d.name + ")"
	}
	switch r.IntN(7) {
	case 0:
		return "SELECT count(*) FROM " + t.name + where
	case 1, 2:
		return "SELECT count(*), " + agg + " FROM " + t.name + where
	case 3:
		return "SELECT " + c.name + ", count(*), " + agg + " FROM " + t.name + where + " GROUP BY " + c.name
	case 4: // ties are broken by all columns
		return "SELECT " + names(cols) + " FROM " + t.name + where + " ORDER BY " + c.name + pickOf(r, "", " DESC", " NULLS FIRST") + ", " + names(cols) + " LIMIT " + strconv.Itoa(1+r.IntN(50))
	case 5:
		return "SELECT " + names(cols) + " FROM " + t.name + where
	}
	return "SELECT DISTINCT " + c.name + ", " + d.name + " FROM " + t.name + where
}

// diffRun compares answers with and without columns while tables change.
type diffRun struct {
	t       *testing.T
	addr    string
	tables  []*diffTable
	queries atomic.Int64
	failed  atomic.Int64 // statements
}

func (d *diffRun) connect() *pgconn.PgConn {
	c, err := pgconn.Connect(context.Background(), "postgres://root@"+d.addr+"/copra?sslmode=disable")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func (d *diffRun) exec(c *pgconn.PgConn, sql string) error {
	_, err := c.Exec(context.Background(), sql).ReadAll()
	d.judge(sql, err)
	return err
}

// judge counts errors that changing tables make, and fails for others.
func (d *diffRun) judge(sql string, err error) {
	var e *pgconn.PgError
	switch {
	case err == nil:
	case !errors.As(err, &e), strings.HasPrefix(e.Code, "XX"), strings.HasPrefix(e.Code, "22"), e.Code == "42601":
		d.t.Errorf("%.200s: %v", sql, err)
	default:
		d.failed.Add(1)
	}
}

func (d *diffRun) copyIn(c *pgconn.PgConn, t *diffTable, r *rand.Rand, rows int) {
	cols := t.columns()
	var b strings.Builder
	for range rows {
		for i, col := range cols {
			if i > 0 {
				b.WriteByte('\t')
			}
			if s, null := col.raw(r); null {
				b.WriteString(`\N`)
			} else if col.key && col.typ.name == "bigint" {
				b.WriteString(strconv.Itoa(r.IntN(1 << 40)))
			} else if col.key && col.typ.name == "text" {
				b.WriteString(strconv.Itoa(r.IntN(1 << 30)))
			} else if col.key && col.typ.name == "numeric" {
				fmt.Fprintf(&b, "%d.%d0", r.IntN(1<<30), r.IntN(10))
			} else if col.key && col.typ.name == "timestamptz" {
				b.WriteString(time.Unix(int64(1e9+r.IntN(1e9)), 0).UTC().Format(time.RFC3339))
			} else {
				b.WriteString(s)
			}
		}
		b.WriteByte('\n')
	}
	sql := "COPY " + t.name + " (" + names(cols) + ") FROM STDIN"
	_, err := c.CopyFrom(context.Background(), strings.NewReader(b.String()), sql)
	d.judge(sql, err)
}

func (d *diffRun) write(c *pgconn.PgConn, r *rand.Rand) {
	t := d.tables[r.IntN(len(d.tables))]
	cols := t.columns()
	col := cols[r.IntN(len(cols))]
	one := "(" + cond(r, cols) + ") AND (" + cond(r, cols) + ") AND (" + cond(r, cols) + ")"
	stmt := func() string {
		switch r.IntN(8) {
		case 0, 1, 2:
			return t.insert(r, cols, 1+r.IntN(20))
		case 3, 4:
			return "UPDATE " + t.name + " SET " + cols[len(cols)-1].name + " = " + cols[len(cols)-1].literal(r) + " WHERE " + one
		case 5:
			return "DELETE FROM " + t.name + " WHERE " + one + " AND " + col.name + " = " + col.literal(r)
		case 6:
			return "SELECT * FROM " + t.name + " WHERE " + one + " LIMIT 5 FOR UPDATE"
		}
		if len(t.keys) > 0 { // keys move
			return "UPDATE " + t.name + " SET " + t.keys[0] + " = " + cols[0].literal(r) + " WHERE " + one + " AND " + cond(r, cols)
		}
		return t.insert(r, cols, 3)
	}
	switch r.IntN(10) {
	case 0:
		d.copyIn(c, t, r, 1+r.IntN(200))
	case 1, 2, 3:
		end := pickOf(r, "COMMIT", "ROLLBACK", "COMMIT")
		if d.exec(c, "BEGIN"+pickOf(r, "", " ISOLATION LEVEL REPEATABLE READ")) == nil {
			for range 1 + r.IntN(4) {
				if d.exec(c, stmt()) != nil {
					break
				}
				if r.IntN(4) == 0 {
					_ = d.exec(c, "SAVEPOINT s")
					_ = d.exec(c, stmt())
					_ = d.exec(c, "ROLLBACK TO s")
				}
			}
			_ = d.exec(c, end)
		}
	default:
		_ = d.exec(c, stmt())
	}
}

// reshape changes a table's columns.
func (d *diffRun) reshape(c *pgconn.PgConn, r *rand.Rand) {
	t := d.tables[r.IntN(len(d.tables))]
	switch r.IntN(5) {
	case 0, 1, 2:
		typ := diffTypes[r.IntN(len(diffTypes))]
		t.mu.Lock()
		name := fmt.Sprintf("c%d", t.next)
		t.next++
		t.mu.Unlock()
		dflt := ""
		if r.IntN(3) > 0 {
			dflt = " DEFAULT '" + typ.value(r) + "'"
		}
		if d.exec(c, "ALTER TABLE "+t.name+" ADD COLUMN "+name+" "+typ.name+dflt) == nil {
			t.mu.Lock()
			t.cols = append(t.cols, diffColumn{name, typ, false})
			t.mu.Unlock()
		}
	case 3:
		cols := t.columns()
		if i := r.IntN(len(cols)); !cols[i].key && len(cols) > 4 {
			t.mu.Lock()
			t.cols = slices.Delete(t.cols, i, i+1)
			t.mu.Unlock()
			_ = d.exec(c, "ALTER TABLE "+t.name+" DROP COLUMN "+cols[i].name)
		}
	case 4:
		if r.IntN(6) == 0 {
			_ = d.exec(c, "TRUNCATE "+t.name)
			d.copyIn(c, t, r, 2000)
		}
	}
}

// rowsOf is a query's answer, its rows sorted.
func (d *diffRun) rowsOf(c *pgconn.PgConn, sql string) (string, error) {
	res, err := c.Exec(context.Background(), sql).ReadAll()
	if err != nil {
		return "", err
	}
	var rows []string
	for _, q := range res {
		for _, row := range q.Rows {
			s := ""
			for _, v := range row {
				if v == nil {
					s += "<null>|"
				} else {
					s += plainNumber(string(v)) + "|"
				}
			}
			rows = append(rows, s)
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, "\n"), nil
}

var decimal = regexp.MustCompile(`^-?\d+\.\d+$`)

// plainNumber is a value in the same words as all that are equal to it: which
// of -0 and 0, or of 1.5 and 1.50, stands for a group, or is its minimum,
// depends on the order in which regions answer.
func plainNumber(s string) string {
	if decimal.MatchString(s) {
		s = strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	if s == "-0" {
		return "0"
	}
	return s
}

func firstDiff(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	in := map[string]int{}
	for _, s := range x {
		in[s]++
	}
	for _, s := range y {
		in[s]--
	}
	out, n := "", 0
	for s, k := range in {
		if k != 0 && n < 10 {
			n++
			out += fmt.Sprintf("  %+d %s\n", k, s)
		}
	}
	return fmt.Sprintf("%d and %d rows\n%s", len(x), len(y), out)
}

// check compares queries of one snapshot.
func (d *diffRun) check(c *pgconn.PgConn, r *rand.Rand) {
	if d.exec(c, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") != nil {
		return
	}
	defer func() { _ = d.exec(c, "COMMIT") }()
	_ = d.exec(c, "SET timezone = '"+pickOf(r, "UTC", "Asia/Tokyo", "America/New_York")+"'")
	_ = d.exec(c, "SET copra.replica_read = '"+pickOf(r, "leader", "leader", "follower")+"'")
	for range 1 + r.IntN(6) {
		t := d.tables[r.IntN(len(d.tables))]
		sql := t.query(r)
		first := ""
		for i, mode := range [][]string{{"on", "off", "on"}, {"off", "on", "on"}}[r.IntN(2)] {
			if d.exec(c, "SET copra.columnar = "+mode) != nil {
				return
			}
			got, err := d.rowsOf(c, sql)
			if d.judge(sql, err); err != nil {
				return
			}
			d.queries.Add(1)
			if i == 0 {
				first = got
				if r.IntN(6) == 0 { // the snapshot gets old
					time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				}
			} else if got != first {
				d.t.Errorf("run %d (%s) of %s: %s", i, mode, sql, firstDiff(first, got))
			}
		}
	}
}

// TestColumnarDifferential compares random queries with and without columns at
// the same snapshots, while writers and ALTER TABLE change the tables.
func TestColumnarDifferential(t *testing.T) {
	const checkers = 3
	rounds, rows := 30, 400
	if os.Getenv("COPRA_TEST_LONG") != "" {
		rounds, rows = 1000, 3000
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	d := &diffRun{t: t, addr: startColumnar(t, 3, 32)}
	c := d.connect()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range diffKeys {
		tab, ddl := newDiffTable(i, r)
		if err := d.exec(c, ddl); err != nil {
			t.Fatal(ddl, err)
		}
		d.tables = append(d.tables, tab)
		d.copyIn(c, tab, r, rows)
	}
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	work := func(wg *sync.WaitGroup, rounds int, pause time.Duration, f func(*pgconn.PgConn, *rand.Rand)) {
		r := rand.New(rand.NewPCG(seed, r.Uint64()))
		c := d.connect()
		wg.Go(func() {
			for i := 0; i < rounds || rounds == 0 && !done.Load(); i++ {
				f(c, r)
				time.Sleep(time.Duration(r.Int64N(int64(pause) + 1)))
			}
		})
	}
	for range checkers {
		work(&writers, 0, 20*time.Millisecond, d.write)
		work(&readers, rounds, 0, d.check)
	}
	work(&writers, 0, 500*time.Millisecond, d.reshape)
	readers.Wait()
	done.Store(true)
	writers.Wait()
	served := 0
	for _, tab := range d.tables {
		for range 3 {
			answerOf(t, c, "SELECT count(*) FROM "+tab.name)
		}
		served += strings.Count(answerOf(t, c, "EXPLAIN ANALYZE SELECT count(*) FROM "+tab.name), "Columnar: regions=")
	}
	t.Logf("%d queries; %d errors of changing tables", d.queries.Load(), d.failed.Load())
	if d.queries.Load() == 0 || served == 0 {
		t.Errorf("%d queries were compared; %d tables are served by columns", d.queries.Load(), served)
	}
}
