package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/internal/cpusched"
)

// resultModes are what must not change an answer of one snapshot; the first
// ones may be served by the result cache.
var resultModes = [][]string{
	{"copra.result_cache = on", "copra.columnar = on", "copra.replica_read = leader"},
	{"copra.result_cache = on", "copra.columnar = on", "copra.replica_read = leader"},
	{"copra.result_cache = on", "copra.columnar = on", "copra.replica_read = follower"},
	{"copra.result_cache = off", "copra.columnar = on", "copra.replica_read = leader"},
	{"copra.result_cache = off", "copra.columnar = off", "copra.replica_read = leader"},
}

// checkResults asks for a few aggregations again and again, of one snapshot,
// which gets old meanwhile.
func (d *diffRun) checkResults(c *pgconn.PgConn, r *rand.Rand, pool []string) {
	if d.exec(c, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") != nil {
		return
	}
	defer func() { _ = d.exec(c, "COMMIT") }()
	_ = d.exec(c, "SET timezone = '"+pickOf(r, "UTC", "Asia/Tokyo")+"'")
	queries := []string{pool[r.IntN(len(pool))], pool[r.IntN(len(pool))], pool[r.IntN(len(pool))]}
	first := make([]string, len(queries))
	for round, n := range r.Perm(len(resultModes)) {
		for _, set := range resultModes[n] {
			if d.exec(c, "SET "+set) != nil {
				return
			}
		}
		for i, sql := range queries {
			got, err := d.rowsOf(c, sql)
			if d.judge(sql, err); err != nil {
				return
			}
			d.queries.Add(1)
			if round == 0 {
				first[i] = got
			} else if got != first[i] {
				d.t.Errorf("%v: %s: %s", resultModes[n], sql, firstDiff(first[i], got))
			}
		}
		if r.IntN(3) == 0 {
			time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		}
	}
}

// rewrite changes all rows of a table, of which blocks without changes are made
// then.
func (d *diffRun) rewrite(c *pgconn.PgConn, r *rand.Rand) {
	t := d.tables[r.IntN(len(d.tables))]
	cols := t.columns()
	col := cols[len(cols)-1]
	if col.key {
		return
	}
	sql := "UPDATE " + t.name + " SET " + col.name + " = " + col.literal(r)
	if r.IntN(2) == 0 {
		_ = d.exec(c, sql)
		return
	}
	_ = d.exec(c, "BEGIN; "+sql)
	time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond)
	_ = d.exec(c, pickOf(r, "COMMIT", "COMMIT", "ROLLBACK"))
}

// interrupt begins queries and does not wait for their ends: by a timeout of a
// random length, by a cancel request, by a cursor that is closed early, by a
// LIMIT, or by a connection that breaks.
func (d *diffRun) interrupt(c *pgconn.PgConn, r *rand.Rand, pool []string) {
	t, u := d.tables[r.IntN(len(d.tables))], d.tables[r.IntN(len(d.tables))]
	x, y := t.columns(), u.columns()
	join := fmt.Sprintf("FROM %s a JOIN %s b ON a.%s::text = b.%s::text", t.name, u.name, x[len(x)-1].name, y[len(y)-1].name)
	sql := pickOf(r, pool[r.IntN(len(pool))], "SELECT count(*) "+join, "SELECT a.* "+join+" ORDER BY 1",
		"WITH w AS (SELECT a.* "+join+") SELECT count(*) FROM w UNION ALL SELECT count(*) FROM w", "SELECT DISTINCT a.* "+join)
	switch r.IntN(4) {
	case 0, 1:
		_ = d.exec(c, "SET statement_timeout = '"+strconv.Itoa(1+r.IntN(40))+"ms'")
		_ = d.exec(c, sql)
		_ = d.exec(c, "SET statement_timeout = 0")
	case 2:
		_ = d.exec(c, "BEGIN; DECLARE cur CURSOR FOR "+sql)
		_ = d.exec(c, "FETCH "+strconv.Itoa(1+r.IntN(100))+" FROM cur")
		if r.IntN(2) == 0 {
			_ = d.exec(c, "CLOSE cur")
		}
		_ = d.exec(c, "ROLLBACK")
	case 3:
		_ = d.exec(c, "SELECT * FROM ("+sql+") q LIMIT "+strconv.Itoa(r.IntN(20)))
	}
}

// vanish is a client that goes away in the middle of a query.
func (d *diffRun) vanish(r *rand.Rand, pool []string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+r.IntN(30))*time.Millisecond)
	defer cancel()
	c, err := pgconn.Connect(ctx, "postgres://root@"+d.addr+"/copra?sslmode=disable")
	if err != nil {
		return
	}
	_, _ = c.Exec(ctx, pool[r.IntN(len(pool))]).ReadAll()
	_ = c.Close(context.Background())
}

// TestResultsDifferential: the answers of the result cache are those of the rows
// at the same snapshot, whatever writers, splits, ALTER TABLE and TRUNCATE do; and
// when statements have been interrupted in all kinds of ways no memory, no core
// and no goroutine is left to them.
func TestResultsDifferential(t *testing.T) {
	rounds, rows := 12, 600
	if os.Getenv("COPRA_TEST_LONG") != "" {
		rounds, rows = 300, 3000
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	status := freeAddrs(t, 1)[0]
	o := PlaygroundOptions{
		DataDir: t.TempDir(), Stores: 3, PDs: 1, RegionSplitBytes: 128 << 10, CacheBytes: 32 << 20, SQLMemoryBytes: 64 << 20,
		Columnar: columnar.Options{BytesMax: 64 << 20, BlockRowsMax: 64, BuildRowsMin: -1},
		Logger:   slog.New(slog.DiscardHandler), SQLAddr: freeAddrs(t, 1)[0], FlightAddr: "127.0.0.1:0", StatusAddr: status,
		PDClientAddrs: freeAddrs(t, 1), PDPeerAddrs: freeAddrs(t, 1), StoreAddrs: freeAddrs(t, 3), StoreStatusAddrs: freeAddrs(t, 3),
	}
	p, err := StartPlayground(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	d := &diffRun{t: t, addr: o.SQLAddr}
	c := d.connect()
	r := rand.New(rand.NewPCG(seed, 0))
	var pool []string
	for i := range diffKeys {
		tab, ddl := newDiffTable(i, r)
		if err := d.exec(c, ddl); err != nil {
			t.Fatal(ddl, err)
		}
		d.tables = append(d.tables, tab)
		d.copyIn(c, tab, r, rows)
		pool = append(pool, "SELECT count(*) FROM "+tab.name)
		for n := 0; n < 5; {
			if sql := tab.query(r); strings.Contains(sql, "count(*)") {
				pool, n = append(pool, sql), n+1
			}
		}
	}
	idle := ofStatements()
	var writers, readers sync.WaitGroup
	var done atomic.Bool
	work := func(wg *sync.WaitGroup, rounds int, pause time.Duration, f func(*pgconn.PgConn, *rand.Rand)) {
		r := rand.New(rand.NewPCG(seed, r.Uint64()))
		wg.Go(func() {
			c, err := pgconn.Connect(context.Background(), "postgres://root@"+d.addr+"/copra?sslmode=disable")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close(context.Background()) }()
			for i := 0; i < rounds || rounds == 0 && !done.Load(); i++ {
				f(c, r)
				time.Sleep(time.Duration(r.Int64N(int64(pause) + 1)))
			}
		})
	}
	for range 3 {
		work(&readers, rounds, 0, func(c *pgconn.PgConn, r *rand.Rand) { d.checkResults(c, r, pool) })
		work(&writers, 0, 5*time.Millisecond, func(c *pgconn.PgConn, r *rand.Rand) { d.interrupt(c, r, pool) })
	}
	work(&writers, 0, 300*time.Millisecond, d.write)
	work(&writers, 0, 300*time.Millisecond, d.rewrite)
	work(&writers, 0, 10*time.Millisecond, func(_ *pgconn.PgConn, r *rand.Rand) { d.vanish(r, pool) })
	work(&writers, 0, time.Second, d.reshape)
	readers.Wait()
	done.Store(true)
	writers.Wait()
	hits := 0.0
	scrape(t, status, func(name string, v float64) {
		if name == `copra_copr_result_cache_total` {
			hits += v
		}
	})
	t.Logf("%d queries; %d errors of changing tables and interrupts; %v answers of the result cache", d.queries.Load(), d.failed.Load(), hits)
	if hits == 0 {
		t.Error("nothing came from the result cache")
	}
	nothingLeft(t, status, idle)
}

// scrape calls f with what a status server says; of the result cache, hits.
func scrape(t *testing.T, addr string, f func(name string, v float64)) {
	t.Helper()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = io.Copy(io.Discard, resp.Body); _ = resp.Body.Close() }()
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		line := sc.Text()
		at := strings.LastIndexByte(line, ' ')
		if at < 0 || strings.HasPrefix(line, "#") || strings.Contains(line, "result=") && !strings.Contains(line, `result="hit"`) {
			continue
		}
		if v, err := strconv.ParseFloat(line[at+1:], 64); err == nil {
			name, _, _ := strings.Cut(line[:at], "{")
			f(name, v)
		}
	}
}

// ofStatements counts the goroutines that plans and coprocessors have started.
// (All goroutines say nothing: connections between nodes come as they are used.)
func ofStatements() int {
	buf := make([]byte, 16<<20)
	n := 0
	for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if _, by, ok := strings.Cut(g, "created by github.com/copradb/copra/"); ok && (strings.HasPrefix(by, "copr/") || strings.HasPrefix(by, "sqlfront/plan")) {
			n++
		} else if strings.Contains(g, "github.com/copradb/copra/copr/exec.") || strings.Contains(g, "github.com/copradb/copra/copr/server.(*task)") {
			n++
		}
	}
	return n
}

// nothingLeft waits until no statement holds anything.
func nothingLeft(t *testing.T, status string, idle int) {
	t.Helper()
	left := errors.New("not looked")
	for end := time.Now().Add(20 * time.Second); left != nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		left = nil
		scrape(t, status, func(name string, v float64) {
			if v != 0 && (name == "copra_copr_memory_bytes" || name == "copra_copr_running_requests" || name == "copra_sql_memory_bytes") {
				left = fmt.Errorf("%s is %v", name, v)
			}
		})
		if running, express, waiting := cpusched.Default().Stats(); running+express+waiting > 0 {
			left = fmt.Errorf("%d workers have a core (%d express), %d wait", running, express, waiting)
		}
		if n := ofStatements(); n > idle {
			left = fmt.Errorf("%d goroutines of statements, %d before", n, idle)
		}
	}
	if left != nil {
		buf := make([]byte, 1<<20)
		t.Errorf("%v\n%s", left, buf[:runtime.Stack(buf, true)])
	}
}
