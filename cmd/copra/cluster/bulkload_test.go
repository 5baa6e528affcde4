package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/copradb/copra/copr/columnar"
)

// bulkCluster is a playground where a COPY of some kilobytes is a bulk load of
// many runs.
type bulkCluster struct {
	t    *testing.T
	addr string
	pds  []string
}

func startBulkCluster(t *testing.T, dir string) (*bulkCluster, *Playground) {
	o := PlaygroundOptions{
		DataDir: dir, Stores: 3, PDs: 1, RegionSplitBytes: 96 << 20, CacheBytes: 32 << 20, SQLMemoryBytes: 64 << 20, SQLBulkRunBytes: 16 << 10,
		Columnar: columnar.Options{BytesMax: 64 << 20, BuildRowsMin: -1},
		Logger:   slog.New(slog.DiscardHandler), SQLAddr: freeAddrs(t, 1)[0], FlightAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		PDClientAddrs: freeAddrs(t, 1), PDPeerAddrs: freeAddrs(t, 1), StoreAddrs: freeAddrs(t, 3), StoreStatusAddrs: freeAddrs(t, 3),
	}
	p, err := StartPlayground(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return &bulkCluster{t, o.SQLAddr, o.PDClientAddrs}, p
}

func (c *bulkCluster) connect() *pgconn.PgConn {
	c.t.Helper()
	conn, err := pgconn.Connect(context.Background(), "postgres://root@"+c.addr+"/copra?sslmode=disable")
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	c.exec(conn, "SET copra.bulk_load_size = 8192")
	return conn
}

func (c *bulkCluster) exec(conn *pgconn.PgConn, sql string) string {
	c.t.Helper()
	out := answerOf(c.t, conn, sql)
	if strings.Contains(out, "ERROR") {
		c.t.Fatalf("%s: %s", sql, out)
	}
	return out
}

// copyInto runs COPY t and returns its error and whether it was a bulk load, which
// gives the table another id.
func (c *bulkCluster) copyInto(conn *pgconn.PgConn, table string, data io.Reader) (bulk bool, err error) {
	c.t.Helper()
	oid := "SELECT '" + table + "'::regclass::oid"
	before := c.exec(conn, oid)
	_, err = conn.CopyFrom(context.Background(), data, "COPY "+table+" FROM STDIN")
	return c.exec(conn, oid) != before, err
}

// bulkRows are lines for a table of (id, n, s, long), by shuffle in random order.
func bulkRows(n int, shuffle bool) []string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf("%d\t%d\tname %d\t%s\n", i, i%97, i, strings.Repeat("x", i%600))
	}
	if shuffle {
		rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(a, b int) { rows[a], rows[b] = rows[b], rows[a] })
	}
	return rows
}

func linesOf(rows []string) io.Reader { return strings.NewReader(strings.Join(rows, "")) }

const bulkTable = `(id bigint PRIMARY KEY, n int NOT NULL, s text, long text)`

func TestBulkLoad(t *testing.T) {
	dir := t.TempDir()
	c, p := startBulkCluster(t, dir)
	stop := sync.OnceFunc(p.Stop)
	defer stop()
	t.Run("content", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testContent() })
	t.Run("violations", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testViolations() })
	t.Run("default size", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testDefaultSize() })
	t.Run("not bulk", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testNotBulk() })
	t.Run("concurrent", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testConcurrent() })
	t.Run("readers", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testReaders() })
	t.Run("writers", func(t *testing.T) { (&bulkCluster{t, c.addr, c.pds}).testWriters() })
	conn := c.connect()
	want := c.exec(conn, "SELECT count(*), sum(n), sum(length(long)) FROM shuffled")
	stop()
	c, p = startBulkCluster(t, dir)
	defer p.Stop()
	if got := c.exec(c.connect(), "SELECT count(*), sum(n), sum(length(long)) FROM shuffled"); got != want {
		t.Errorf("after a restart there is %s, before it was %s", got, want)
	}
}

// testDefaultSize: a bulk load begins at 8 MiB.
func (c *bulkCluster) testDefaultSize() {
	conn := c.connect()
	c.exec(conn, "RESET copra.bulk_load_size")
	for _, tc := range []struct {
		mib  int
		bulk bool
	}{{6, false}, {10, true}} {
		table := fmt.Sprintf("size%d", tc.mib)
		c.exec(conn, "CREATE TABLE "+table+bulkTable)
		rows := make([]string, tc.mib*4)
		for i := range rows {
			rows[i] = fmt.Sprintf("%d\t%d\tname\t%s\n", i, i, strings.Repeat("x", 1<<18))
		}
		if bulk, err := c.copyInto(conn, table, linesOf(rows)); err != nil || bulk != tc.bulk {
			c.t.Errorf("%d MiB: %v, bulk=%v, want %v", tc.mib, err, bulk, tc.bulk)
		}
		if got, want := c.exec(conn, "SELECT count(*), sum(length(long)) FROM "+table), fmt.Sprint(len(rows)); !strings.Contains(got, want) {
			c.t.Errorf("%d MiB: there is %s, want %s rows", tc.mib, got, want)
		}
	}
}

// testContent: what is loaded by files is what transactions load.
func (c *bulkCluster) testContent() {
	conn := c.connect()
	const n = 3000
	for _, tc := range []struct {
		name    string
		shuffle bool
		table   string
	}{
		{"sorted", false, bulkTable},
		{"shuffled", true, bulkTable},
		{"keyless", true, `(id bigint, n int NOT NULL, s text, long text)`},
	} {
		c.exec(conn, "CREATE TABLE "+tc.name+tc.table)
		c.exec(conn, "CREATE UNIQUE INDEX ON "+tc.name+" (s)")
		c.exec(conn, "CREATE INDEX ON "+tc.name+" (n, id)")
		bulk, err := c.copyInto(conn, tc.name, linesOf(bulkRows(n, tc.shuffle)))
		if err != nil || !bulk {
			c.t.Fatalf("%s: %v, bulk=%v", tc.name, err, bulk)
		}
		plain := tc.name + "_plain"
		c.exec(conn, "CREATE TABLE "+plain+tc.table)
		c.exec(conn, "SET copra.bulk_load = off")
		if bulk, err := c.copyInto(conn, plain, linesOf(bulkRows(n, tc.shuffle))); err != nil || bulk {
			c.t.Fatalf("%s: %v, bulk=%v", plain, err, bulk)
		}
		c.exec(conn, "SET copra.bulk_load = on")
		for range 3 { // by rows, then by columns
			for _, q := range []string{
				"SELECT count(*) FROM (SELECT * FROM %s EXCEPT SELECT * FROM %s) x",
				"SELECT count(*) FROM (SELECT * FROM %[2]s EXCEPT SELECT * FROM %[1]s) x",
			} {
				if got := c.exec(conn, fmt.Sprintf(q, tc.name, plain)); !strings.HasPrefix(got, `["0"]`) {
					c.t.Errorf("%s differs: %s: %s", tc.name, q, got)
				}
			}
		}
		for _, q := range [][2]string{
			{"SELECT id, n FROM " + tc.name + " WHERE s = 'name 1234'", `["1234" "70"]`},
			{"SELECT count(*), min(id), max(id) FROM " + tc.name + " WHERE n = 5", `["31" "5" "2915"]`},
			{"SELECT length(long) FROM " + tc.name + " WHERE id = 599", `["599"]`},
			{"SELECT count(*) FROM " + tc.name, `["3000"]`},
			{"UPDATE " + tc.name + " SET n = n + 1, s = 'other' WHERE s = 'name 7' RETURNING n", `["8"]`},
			{"DELETE FROM " + tc.name + " WHERE id = 8 RETURNING s", `["name 8"]`},
			{"INSERT INTO " + tc.name + " VALUES (-1, 1, 'new', '') RETURNING id", `["-1"]`},
		} {
			if got := c.exec(conn, q[0]); !strings.HasPrefix(got, q[1]) {
				c.t.Errorf("%s: %s, want %s", q[0], got, q[1])
			}
		}
		if got := answerOf(c.t, conn, "INSERT INTO "+tc.name+" VALUES (-2, 1, 'name 9', '')"); !strings.Contains(got, "23505") {
			c.t.Errorf("%s: a duplicate of a loaded row: %s", tc.name, got)
		}
	}
}

// testViolations: all rows or none.
func (c *bulkCluster) testViolations() {
	conn := c.connect()
	const n = 2000
	rows := bulkRows(n, true)
	with := func(at int, line string) []string {
		out := append([]string{}, rows[:at]...)
		return append(append(out, line), rows[at:]...)
	}
	for name, tc := range map[string]struct {
		rows []string
		want string
	}{
		"near":   {with(1, rows[0]), "23505"},
		"far":    {with(n, rows[0]), "23505"},
		"unique": {with(n, "100000\t1\tname 3\t\n"), "23505"},
		"null":   {with(n, "100000\t\\N\tx\t\n"), "23502"},
		"type":   {with(n, "100000\tone\tx\t\n"), "22P02"},
		"check":  {with(n, "100000\t-1\tx\t\n"), "23514"},
	} {
		c.exec(conn, "DROP TABLE IF EXISTS v; CREATE TABLE v (id bigint PRIMARY KEY, n int NOT NULL CHECK (n >= 0), s text UNIQUE, long text)")
		bulk, err := c.copyInto(conn, "v", linesOf(tc.rows))
		if err == nil || !strings.Contains(err.Error(), tc.want) || bulk {
			c.t.Errorf("%s: %v, bulk=%v, want %s", name, err, bulk, tc.want)
		}
		if got := c.exec(conn, "SELECT count(*) FROM v"); !strings.HasPrefix(got, `["0"]`) {
			c.t.Errorf("%s: the table has %s", name, got)
		}
		if bulk, err := c.copyInto(conn, "v", linesOf(rows)); err != nil || !bulk {
			c.t.Errorf("%s: the next COPY: %v, bulk=%v", name, err, bulk)
		}
	}
}

// testNotBulk: what cannot be loaded by files is loaded by transactions.
func (c *bulkCluster) testNotBulk() {
	conn := c.connect()
	rows := bulkRows(1000, false)
	c.exec(conn, "CREATE TABLE nb "+bulkTable+"; INSERT INTO nb VALUES (-1, 0, '', '')")
	if bulk, err := c.copyInto(conn, "nb", linesOf(rows)); err != nil || bulk {
		c.t.Errorf("into a table with a row: %v, bulk=%v", err, bulk)
	}
	c.exec(conn, "TRUNCATE nb")
	c.exec(conn, "BEGIN")
	if bulk, err := c.copyInto(conn, "nb", linesOf(rows)); err != nil || bulk {
		c.t.Errorf("in a transaction: %v, bulk=%v", err, bulk)
	}
	c.exec(conn, "ROLLBACK")
	if bulk, err := c.copyInto(conn, "nb", linesOf(rows[:10])); err != nil || bulk {
		c.t.Errorf("ten rows: %v, bulk=%v", err, bulk)
	}
	if got := c.exec(conn, "SELECT count(*) FROM nb"); !strings.HasPrefix(got, `["10"]`) {
		c.t.Errorf("the table has %s", got)
	}
}

// slowCopy starts a COPY and returns once half of its rows are in; finish sends
// the rest.
func (c *bulkCluster) slowCopy(table string, rows []string) (finish func() (bool, error)) {
	conn := c.connect()
	r, w := io.Pipe()
	type result struct {
		bulk bool
		err  error
	}
	done := make(chan result, 1)
	go func() {
		bulk, err := c.copyInto(conn, table, r)
		_ = r.CloseWithError(io.ErrClosedPipe)
		done <- result{bulk, err}
	}()
	_, _ = io.Copy(w, linesOf(rows[:len(rows)/2]))
	return func() (bool, error) {
		_, _ = io.Copy(w, linesOf(rows[len(rows)/2:]))
		_ = w.Close()
		res := <-done
		return res.bulk, res.err
	}
}

// testConcurrent: who writes the table meanwhile is not lost, nor is the load.
func (c *bulkCluster) testConcurrent() {
	conn := c.connect()
	rows := bulkRows(4000, false)
	c.exec(conn, "CREATE TABLE cc "+bulkTable)
	finish := c.slowCopy("cc", rows)
	c.exec(conn, "INSERT INTO cc VALUES (-1, 0, '', '')")
	bulk, err := finish()
	got := c.exec(conn, "SELECT count(*), min(id) FROM cc")
	switch {
	case err == nil && (bulk || !strings.HasPrefix(got, `["4001" "-1"]`)):
		c.t.Errorf("the COPY succeeded, bulk=%v, and there is %s", bulk, got)
	case err != nil && (!strings.Contains(err.Error(), "40001") || !strings.HasPrefix(got, `["1" "-1"]`)):
		c.t.Errorf("the COPY failed with %v, and there is %s", err, got)
	}

	c.exec(conn, "TRUNCATE cc")
	old := c.connect()
	c.exec(old, "BEGIN; INSERT INTO cc VALUES (-2, 0, '', '')")
	if bulk, err := c.copyInto(conn, "cc", linesOf(rows)); err != nil || !bulk {
		c.t.Fatalf("beside an open transaction: %v, bulk=%v", err, bulk)
	}
	if got := answerOf(c.t, old, "COMMIT"); !strings.Contains(got, "40001") {
		c.t.Errorf("a transaction that wrote the table as it was commits: %s", got)
	}
	if got := c.exec(conn, "SELECT count(*), min(id) FROM cc"); !strings.HasPrefix(got, `["4000" "0"]`) {
		c.t.Errorf("there is %s", got)
	}
	c.exec(conn, "TRUNCATE cc")
	finish = c.slowCopy("cc", rows)
	c.exec(conn, "ALTER TABLE cc ADD COLUMN extra int")
	if bulk, err := finish(); err == nil || bulk || !strings.Contains(err.Error(), "40001") {
		c.t.Errorf("a COPY into a table that is altered meanwhile: %v, bulk=%v", err, bulk)
	}
}

// testReaders: who began before the load's end does not see it.
func (c *bulkCluster) testReaders() {
	conn, old := c.connect(), c.connect()
	c.exec(conn, "CREATE TABLE rd "+bulkTable)
	finish := c.slowCopy("rd", bulkRows(4000, true))
	const count = "SELECT count(*) FROM rd"
	c.exec(old, "BEGIN ISOLATION LEVEL REPEATABLE READ; "+count)
	if got := c.exec(conn, count); !strings.HasPrefix(got, `["0"]`) {
		c.t.Errorf("half of a COPY shows %s", got)
	}
	if bulk, err := finish(); err != nil || !bulk {
		c.t.Fatalf("%v, bulk=%v", err, bulk)
	}
	if got := c.exec(old, count); !strings.HasPrefix(got, `["0"]`) {
		c.t.Errorf("a snapshot from before the COPY's end shows %s", got)
	}
	c.exec(old, "COMMIT")
	for _, who := range []*pgconn.PgConn{conn, old} {
		if got := c.exec(who, count); !strings.HasPrefix(got, `["4000"]`) {
			c.t.Errorf("after the COPY there is %s", got)
		}
	}
}

// testWriters has writers insert all the time while tables are loaded: whatever
// they were told is committed is there.
func (c *bulkCluster) testWriters() {
	conn := c.connect()
	rows := bulkRows(500, false)
	loads, fails := 0, 0
	for round := range 6 {
		c.exec(conn, "DROP TABLE IF EXISTS wr; CREATE TABLE wr "+bulkTable)
		var stop atomic.Bool
		var inserted atomic.Int64
		var wg sync.WaitGroup
		for w := range 3 {
			wr := c.connect()
			wg.Go(func() {
				time.Sleep(time.Duration(round*60+w*20) * time.Millisecond) // so that some begin in the fence
				for i := 0; !stop.Load() || i == 0; i++ {
					if got := answerOf(c.t, wr, fmt.Sprintf("INSERT INTO wr VALUES (%d, 0, '', '')", -(1+i*3+w))); strings.Contains(got, "INSERT 0 1") {
						inserted.Add(1)
					}
				}
			})
		}
		bulk, err := c.copyInto(conn, "wr", linesOf(rows))
		stop.Store(true)
		wg.Wait()
		want := inserted.Load()
		if err == nil {
			want += int64(len(rows))
		}
		if bulk {
			loads++
		} else {
			fails++
		}
		if got := c.exec(conn, "SELECT count(*) FROM wr"); !strings.HasPrefix(got, fmt.Sprintf(`["%d"]`, want)) {
			c.t.Errorf("round %d: COPY: %v, bulk=%v; there is %s, want %d", round, err, bulk, got, want)
		}
	}
	c.t.Logf("%d loads, %d others", loads, fails)
}
