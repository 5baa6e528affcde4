package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/copradb/copra/benchmarks/tpch"
)

const smallTPCH = "../../../benchmarks/tpch/testdata/small"

func TestPlaygroundKeepsDataOverRestart(t *testing.T) {
	dir, offset := t.TempDir(), freeOffset(t)
	p := startPlayground(t, dir, offset)
	c := p.connect()
	exec1(t, c, "CREATE TABLE kept (id int PRIMARY KEY, name text NOT NULL, price numeric(10,2))")
	exec1(t, c, "INSERT INTO kept VALUES (1, 'one', 1.50), (2, 'two', NULL)")

	// A second one on the same ports says which is taken, and touches nothing.
	out, err := exec.Command(binary, "playground", "--data-dir", t.TempDir(), "--port-offset", strconv.Itoa(offset)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is taken") || !strings.Contains(string(out), ":"+strconv.Itoa(2379+offset)) {
		t.Errorf("a second playground: %v\n%s", err, out)
	}
	for _, path := range []string{"/", "/metrics", "/status", "/healthz"} {
		resp, err := http.Get("http://" + p.addr(10080) + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("GET %s: %s, %d bytes", path, resp.Status, len(body))
		}
	}
	p.stop()

	p = startPlayground(t, dir, offset)
	c = p.connect()
	var name string
	var price *string
	if err := c.QueryRow(context.Background(), "SELECT name, price::text FROM kept WHERE id = 1").Scan(&name, &price); err != nil || name != "one" || price == nil || *price != "1.50" {
		t.Errorf("after the restart: %q, %v, %v", name, price, err)
	}
	p.stop()
}

func TestBadUsageIsOneClearLine(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"playground", "--no-such-flag"}, "unknown flag"},
		{[]string{"playground", "--stores", "0"}, "--stores 0"},
		{[]string{"playground", "--region-split-size", "lots"}, "is not a size"},
		{[]string{"tikv"}, "--pd is required"},
		{[]string{"tikv", "--pd", "nonsense"}, "want host:port"},
		{[]string{"sql", "--pd", "127.0.0.1:1", "--addr", "0.0.0.0:5433"}, "--insecure"},
		{[]string{"pd", "--client-addr", "127.0.0.1:0", "--peer-addr", "127.0.0.1:0", "--log-level", "loud"}, "--log-level"},
		{[]string{"nothing"}, "unknown command"},
		{[]string{"bench", "ycsb", "--workloads", "z"}, "--workloads"},
	} {
		cmd := exec.Command(binary, tc.args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		text := strings.TrimSpace(string(out))
		if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, tc.want) || strings.Contains(text, "\n") {
			t.Errorf("copra %s: exit %v\n%s\nwant one line with %q", strings.Join(tc.args, " "), err, text, tc.want)
		}
	}
}

// TestKill9DuringInserts: single-row inserts from several clients, kill -9 in
// the middle; every acknowledged row is there exactly once afterwards.
func TestKill9DuringInserts(t *testing.T) {
	dir, offset := t.TempDir(), freeOffset(t)
	p := startPlayground(t, dir, offset)
	exec1(t, p.connect(), "CREATE TABLE log (client int, n int, PRIMARY KEY (client, n))")
	const clients = 8
	acked := make([]int, clients)
	var wg sync.WaitGroup
	for client := range clients {
		conn := p.connect()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				if _, err := conn.Exec(context.Background(), "INSERT INTO log VALUES ($1, $2)", client, n); err != nil {
					return
				}
				acked[client] = n + 1
			}
		}()
	}
	time.Sleep(1500 * time.Millisecond) // load, not synchronisation: how much got in does not matter
	p.kill()
	wg.Wait()

	p = startPlayground(t, dir, offset)
	c := p.connect()
	total := 0
	for client, n := range acked {
		total += n
		got := queryInt(t, c, "SELECT count(*) FROM log WHERE client = $1 AND n < $2", client, n)
		if got != int64(n) {
			t.Errorf("client %d: %d rows acknowledged, %d found", client, n, got)
		}
		// At most the one insert in flight may have made it beyond.
		if extra := queryInt(t, c, "SELECT count(*) FROM log WHERE client = $1 AND n > $2", client, n); extra != 0 {
			t.Errorf("client %d: %d rows that were never sent", client, extra)
		}
	}
	if total == 0 {
		t.Error("no insert was acknowledged before the kill")
	}
	t.Logf("%d inserts acknowledged before the kill", total)
	p.stop()
}

// TestKill9DuringCopy: a COPY is all or nothing, also over a crash.
func TestKill9DuringCopy(t *testing.T) {
	dir, offset := t.TempDir(), freeOffset(t)
	p := startPlayground(t, dir, offset)
	c := p.connect()
	exec1(t, c, "CREATE TABLE whole (id int PRIMARY KEY, t text)")
	exec1(t, c, "CREATE TABLE part (id int PRIMARY KEY, t text)")
	if tag, err := c.PgConn().CopyFrom(context.Background(), rows(20_000), "COPY whole FROM STDIN"); err != nil || tag.RowsAffected() != 20_000 {
		t.Fatalf("COPY: %v, %v", tag, err)
	}
	// An endless COPY: the kill comes while rows are flowing.
	sent := &endless{}
	done := make(chan error, 1)
	go func() {
		_, err := c.PgConn().CopyFrom(context.Background(), sent, "COPY part FROM STDIN")
		done <- err
	}()
	poll(t, time.Minute, "the COPY to send 16 MiB", func() bool { return sent.bytes() > 16<<20 })
	p.kill()
	if err := <-done; err == nil {
		t.Fatal("the COPY was acknowledged although the server died")
	}

	p = startPlayground(t, dir, offset)
	c = p.connect()
	if n := queryInt(t, c, "SELECT count(*) FROM whole"); n != 20_000 {
		t.Errorf("the acknowledged COPY has %d rows", n)
	}
	if n := queryInt(t, c, "SELECT count(*) FROM part"); n != 0 {
		t.Errorf("the interrupted COPY left %d rows", n)
	}
	if tag, err := c.PgConn().CopyFrom(context.Background(), rows(1000), "COPY part FROM STDIN"); err != nil || tag.RowsAffected() != 1000 {
		t.Errorf("COPY again: %v, %v", tag, err)
	}
	p.stop()
}

func rows(n int) io.Reader {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%d\trow number %d\n", i, i)
	}
	return &b
}

// endless is COPY data without an end.
type endless struct {
	mu   sync.Mutex
	n    int
	sent int64
	rest []byte
}

func (e *endless) bytes() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sent
}

func (e *endless) Read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.rest) == 0 {
		e.rest = fmt.Appendf(e.rest[:0:0], "%d\t%s\n", e.n, strings.Repeat("x", 500))
		e.n++
	}
	n := copy(p, e.rest)
	e.rest = e.rest[n:]
	e.sent += int64(n)
	return n, nil
}

// TestTPCHSmall loads the sample with small regions, so that lineitem splits,
// and holds all queries against PostgreSQL's answers, with pushdown and without.
func TestTPCHSmall(t *testing.T) {
	p := startPlayground(t, t.TempDir(), freeOffset(t), "--region-split-size", "256KiB")
	ctx, c := context.Background(), p.connect()
	dir, err := filepath.Abs(smallTPCH)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpch.Load(ctx, c, tpch.LoadOptions{Dir: dir, Analyze: true, Progress: io.Discard}); err != nil {
		t.Fatal(err)
	}
	poll(t, time.Minute, "lineitem to split into several regions", func() bool { return regionsOf(t, c, "lineitem") >= 3 })
	for _, pushdown := range []string{"on", "off"} {
		exec1(t, c, "SET copra.pushdown = "+pushdown)
		results, err := tpch.Run(ctx, c, dir, tpchQueries, 0, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if !r.Checked || !r.OK() {
				t.Errorf("pushdown %s, query %d: %v %s", pushdown, r.Query, r.Err, r.Diff)
			}
		}
	}
	p.stop()
}

var tpchQueries = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22}

// regionsOf reads from EXPLAIN ANALYZE how many regions a scan visited.
func regionsOf(t *testing.T, c *pgx.Conn, table string) int {
	t.Helper()
	rows, err := c.Query(context.Background(), "EXPLAIN ANALYZE SELECT count(*) FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if _, rest, ok := strings.Cut(line, "regions"); ok {
			fields := strings.FieldsFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
			if len(fields) > 0 {
				n, err := strconv.Atoi(fields[0])
				if err == nil {
					return n
				}
			}
		}
	}
	t.Fatalf("EXPLAIN ANALYZE names no regions:\n%s", strings.Join(lines, "\n"))
	return 0
}

func TestPsqlBackslashCommands(t *testing.T) {
	if _, err := exec.LookPath("psql"); err != nil {
		t.Logf("no psql here: its queries are covered by sqlfront's tests")
		return
	}
	p := startPlayground(t, t.TempDir(), freeOffset(t))
	exec1(t, p.connect(), "CREATE TABLE item (id int PRIMARY KEY, name varchar(20) NOT NULL DEFAULT 'none', price numeric(10,2))")
	exec1(t, p.connect(), "CREATE UNIQUE INDEX item_name ON item (name)")
	for _, tc := range []struct {
		command string
		want    []string
	}{
		{`\d item`, []string{`Table "public.item"`, "character varying(20)", "not null", `"item_pkey" PRIMARY KEY, btree (id)`, `"item_name" UNIQUE, btree (name)`, "numeric(10,2)"}},
		{`\dt`, []string{"public", "item", "table", "root"}},
		{`\l`, []string{"copra", "UTF8"}},
		{`\di`, []string{"item_pkey", "item_name"}},
		{`\dn`, []string{"public"}},
		{`\du`, []string{"root"}},
		{`\d`, []string{"item"}},
	} {
		cmd := exec.Command("psql", "-X", "-h", "127.0.0.1", "-p", strconv.Itoa(5433+p.offset), "-U", "root", "-c", tc.command, "copra")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", tc.command, err, out)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s does not show %q:\n%s", tc.command, want, out)
			}
		}
	}
	p.stop()
}
