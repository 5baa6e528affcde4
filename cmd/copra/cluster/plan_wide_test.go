package cluster

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// wideModes are settings under which queries of all kinds are asked, each over
// a connection of its own, all at the same time. cursor fetches in pieces.
var wideModes = []struct {
	settings []string
	cursor   int
}{
	{},
	{settings: []string{"copra.columnar = off"}},
	{settings: []string{"copra.pushdown = off"}},
	{settings: []string{"copra.parallel_workers = 1", "copra.join_filters = off"}},
	{settings: []string{"copra.parallel_workers = 3", "copra.spill_memory = 20000"}},
	{settings: []string{"copra.columnar = off", "copra.pushdown = off", "copra.parallel_workers = 1", "copra.spill_memory = 30000"}},
	{settings: []string{"copra.replica_read = follower", "plan_cache_mode = force_generic_plan"}},
	{cursor: 37},
}

// wideQuestion is a statement with what an answer to it depends on.
type wideQuestion struct {
	sql            string
	params         []string
	ordered, loose bool
	binary, risky  bool
}

// answer is that of c, as text.
func (q *wideQuestion) answer(c *pgconn.PgConn, cursor int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var rows [][][]byte
	var err error
	switch {
	case cursor > 0 && len(q.params) == 0 && !q.binary:
		var res []*pgconn.Result
		sql := "BEGIN; DECLARE wc CURSOR FOR " + q.sql + "; FETCH " + strconv.Itoa(cursor) + " FROM wc; FETCH 1 FROM wc; FETCH ALL FROM wc; COMMIT"
		res, err = c.Exec(ctx, sql).ReadAll()
		for _, r := range res {
			rows = append(rows, r.Rows...)
		}
		if err != nil {
			_, _ = c.Exec(ctx, "ROLLBACK").ReadAll()
		}
	case len(q.params) > 0 || q.binary:
		var vals [][]byte
		for _, p := range q.params {
			vals = append(vals, []byte(p))
		}
		format := []int16{0}
		if q.binary {
			format[0] = 1
		}
		res := c.ExecParams(ctx, q.sql, vals, nil, nil, format).Read()
		rows, err = res.Rows, res.Err
	default:
		var res []*pgconn.Result
		if res, err = c.Exec(ctx, q.sql).ReadAll(); err == nil {
			rows = res[len(res)-1].Rows
		}
	}
	if err != nil {
		if e, ok := err.(*pgconn.PgError); ok {
			if strings.HasSuffix(e.Detail, "has at most 38 digits.") || strings.Contains(e.Detail, "precision 38,") { // docs/adr/0003-numeric-in-arrow.md
				e.Code = "0A000"
			}
			return "ERROR " + e.Code + " (" + e.Message + ")"
		}
		return "ERROR " + err.Error()
	}
	var lines []string
	for _, row := range rows {
		var b strings.Builder
		for _, v := range row {
			switch {
			case v == nil:
				b.WriteString("<null>")
			case q.binary:
				b.WriteString(hex.EncodeToString(v))
			case q.loose:
				b.WriteString(strings.TrimRight(plainNumber(string(v)), " "))
			default:
				b.Write(v)
			}
			b.WriteByte('|')
		}
		lines = append(lines, b.String())
	}
	if !q.ordered {
		slices.Sort(lines)
	}
	return strings.Join(lines, "\n")
}

// sqlState is an answer without the message of its error.
func sqlState(answer string) string {
	if strings.HasPrefix(answer, "ERROR") {
		answer, _, _ = strings.Cut(answer, " (")
	}
	return answer
}

// eitherFails says that two errors may be those of one expression for two rows:
// which row is first is not given.
func eitherFails(a, b string) bool {
	for _, pair := range []string{"ERROR 22003, ERROR 22012", "ERROR 22007, ERROR 22008"} {
		if strings.HasPrefix(a, "ERROR 22") && strings.Contains(pair, a) && strings.HasPrefix(b, "ERROR 22") && strings.Contains(pair, b) {
			return true
		}
	}
	return false
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

// TestWideAgree asks queries of all kinds (windows, set operations, lateral and
// full joins, subqueries, values at the edges of their types, expressions that
// fail) under all kinds of settings at the same time, between changes of the
// tables, and of PostgreSQL where it is installed.
func TestWideAgree(t *testing.T) {
	queries, rows, timeout := 60, 250, "8s"
	if os.Getenv("COPRA_TEST_LONG") != "" {
		queries, rows, timeout = 3000, 600, "40s"
	}
	if n, err := strconv.Atoi(os.Getenv("COPRA_TEST_QUERIES")); err == nil {
		queries = n
	}
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("COPRA_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("COPRA_TEST_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	connect := func(dsn string) *pgconn.PgConn {
		c, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	do := func(c *pgconn.PgConn, sql string) string {
		return (&wideQuestion{sql: sql}).answer(c, 0)
	}
	dsn := startPlans(t)
	first := []*pgconn.PgConn{connect(dsn)} // then PostgreSQL's, if there is one
	if pg := startPostgres(t); pg != "" {
		first = append(first, connect(pg))
		do(first[1], "SET statement_timeout = '"+timeout+"'")
	}
	for i, table := range []string{"x", "y", "z"} {
		var b strings.Builder
		for id := range rows >> i {
			b.WriteString(wideRow(r, id))
		}
		for _, c := range first {
			if got := do(c, "SET TimeZone = 'UTC'"); got != "" {
				t.Fatal(got)
			}
			if got := do(c, wideDDL(table)); got != "" {
				t.Fatal(got)
			}
			if _, err := c.CopyFrom(t.Context(), strings.NewReader(b.String()), "COPY "+table+" FROM STDIN"); err != nil {
				t.Fatal(err)
			}
			if i < 2 { // of z nothing is known
				_ = do(c, "ANALYZE "+table)
			}
		}
	}
	conns := make([]*pgconn.PgConn, len(wideModes))
	for i, m := range wideModes {
		conns[i] = connect(dsn)
		do(conns[i], "SET statement_timeout = '"+timeout+"'")
		for _, s := range m.settings {
			if got := do(conns[i], "SET "+s); got != "" {
				t.Fatal(s, got)
			}
		}
	}
	g, again, asked := &wide{r: r}, 0, []wideQuestion(nil)
	failures, errored, slow, unsupported := 0, 0, 0, map[string]int{}
	for i := range queries {
		q := wideQuestion{}
		switch k := r.IntN(20); {
		case k == 0:
			change := g.change()
			var got []string
			for _, c := range first {
				got = append(got, do(c, change))
			}
			if got[0] != got[len(got)-1] {
				t.Fatalf("%s\n%s, and PostgreSQL: %s", change, got[0], got[1])
			}
			again = len(asked)
			continue
		case again > 0 || k == 1 && len(asked) > 0: // what was answered before the change, from caches maybe
			again--
			q = asked[r.IntN(len(asked))]
		case k < 3:
			q.sql, q.risky = g.risky(), true
		case k < 5:
			q.sql = g.guarded()
		default:
			q.sql, q.ordered = g.query()
			q.sql = g.usedParams(q.sql)
			q.params = g.params
		}
		if !slices.ContainsFunc(asked, func(a wideQuestion) bool { return a.sql == q.sql }) {
			q.loose = g.loose
			q.binary = !q.loose && r.IntN(3) == 0
			asked = append(asked, q)
			if len(asked) > 6 {
				asked = slices.Delete(asked, 0, 1)
			}
		}
		if one := os.Getenv("COPRA_TEST_SQL"); one != "" {
			q = wideQuestion{sql: one, loose: true}
		}
		if i%10 == 9 && len(q.params) == 0 { // among a transaction's own writes
			change, m := (&wide{r: r}).change(), r.IntN(len(conns))
			var got []string
			for _, c := range append([]*pgconn.PgConn{conns[m]}, first[1:]...) {
				a := do(c, "BEGIN") + do(c, change)
				got = append(got, a+q.answer(c, 0))
				_ = do(c, "ROLLBACK")
			}
			if want, got := got[len(got)-1], got[0]; sqlState(got) != sqlState(want) && !strings.Contains(got+want, "ERROR 0A") && !strings.Contains(got+want, "ERROR 57014") && !(q.risky && eitherFails(sqlState(got), sqlState(want))) {
				failures++
				t.Errorf("query %d:\n%s\nafter %s\n%v differs from PostgreSQL: %s", i, q.sql, change, wideModes[m].settings, firstDiff(want, got))
			}
			continue
		}
		answers := make([]string, len(wideModes))
		var wg sync.WaitGroup
		for m := range wideModes {
			wg.Go(func() { answers[m] = q.answer(conns[m], wideModes[m].cursor) })
		}
		want, by := "", ""
		if len(first) > 1 {
			want, by = q.answer(first[1], 0), "PostgreSQL"
		}
		wg.Wait()
		if by == "" {
			want, by = answers[0], "the default"
		}
		// PostgreSQL takes too long, or has no way to do such a FULL JOIN.
		if state := sqlState(want); state == "ERROR 57014" || state == "ERROR 0A000" {
			m := max(0, slices.IndexFunc(answers, func(a string) bool { return sqlState(a) != "ERROR 57014" }))
			want, by = answers[m], fmt.Sprint(wideModes[m].settings)
		}
		if strings.HasPrefix(want, "ERROR 42") {
			t.Logf("query %d, a bad one: %s\n%s", i, q.sql, want)
			errored++
		}
		for m, got := range answers {
			switch state := sqlState(got); {
			case state == "ERROR 0A000" && sqlState(want) != state:
				unsupported[got]++
				continue
			case state == "ERROR 57014":
				slow++
				t.Logf("query %d is slow: %s", i, q.sql)
				continue
			}
			if sqlState(got) != sqlState(want) && !(q.risky && eitherFails(sqlState(got), sqlState(want))) {
				failures++
				if strings.HasPrefix(got, "ERROR") {
					want = firstLine(want)
				}
				t.Errorf("query %d:\n%s\n%q\n%v %d differs from %s: %s", i, q.sql, q.params, wideModes[m].settings, wideModes[m].cursor, by, firstDiff(want, got))
				if os.Getenv("COPRA_TEST_ALLMODES") == "" {
					break
				}
			}
		}
		if failures > 20 {
			t.Fatal("too many differences")
		}
	}
	for what, n := range unsupported {
		t.Logf("%d: %s", n, what)
	}
	if errored+slow > queries/5 || len(unsupported) > queries/5 {
		t.Errorf("%d of %d queries failed, %v are not supported: the generator makes bad ones", errored, queries, unsupported)
	}
}
