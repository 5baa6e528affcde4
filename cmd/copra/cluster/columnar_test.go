package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/copradb/copra/copr/columnar"
)

// volatile are queries that may answer differently when they are asked again.
var volatile = regexp.MustCompile(`(?i)\b(nextval|setval|random|now|clock_timestamp|statement_timestamp|gen_random_uuid|for\s+update|for\s+share|into|explain|pg_\w+|version)\b`)

// goldenBlock is a block of a golden script: its first line and its input. What
// it is to answer is for sqlfront's own test.
var (
	goldenBlock = regexp.MustCompile(`(?m)^(sql[^\n]*)\n((?s:.*?))\n----$`)
	sessionArg  = regexp.MustCompile(`session=(\w+)`)
)

// TestColumnarGolden runs the golden scripts of SQL on a cluster, with small
// blocks that are built from the second scan on, and asks every query for its
// rows with and without columns.
func TestColumnarGolden(t *testing.T) {
	const golden = "../../../sqlfront/testdata/golden"
	entries, err := os.ReadDir(golden)
	if err != nil {
		t.Fatal(err)
	}
	served := 0
	for _, e := range entries {
		t.Run(e.Name(), func(t *testing.T) { served += runGolden(t, filepath.Join(golden, e.Name())) })
	}
	if served == 0 {
		t.Error("no query was served by columns")
	}
}

// startColumnar starts a playground that keeps columns of whatever is scanned
// twice, in small blocks, and returns its SQL address.
func startColumnar(t *testing.T, stores, blockRows int) string {
	o := PlaygroundOptions{
		DataDir: t.TempDir(), Stores: stores, PDs: 1, RegionSplitBytes: 96 << 20, CacheBytes: 32 << 20, SQLMemoryBytes: 64 << 20,
		Columnar: columnar.Options{BytesMax: 64 << 20, BlockRowsMax: blockRows, BuildRowsMin: -1},
		Logger:   slog.New(slog.DiscardHandler), SQLAddr: freeAddrs(t, 1)[0], FlightAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		PDClientAddrs: freeAddrs(t, 1), PDPeerAddrs: freeAddrs(t, 1), StoreAddrs: freeAddrs(t, stores), StoreStatusAddrs: freeAddrs(t, stores),
	}
	p, err := StartPlayground(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return o.SQLAddr
}

func runGolden(t *testing.T, path string) (served int) {
	addr := startColumnar(t, 1, 2)
	conns := map[string]*pgconn.PgConn{}
	defer func() {
		for _, c := range conns {
			_ = c.Close(context.Background())
		}
	}()
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	blocks := goldenBlock.FindAllStringSubmatch(string(script), -1)
	if len(blocks) < 10 {
		t.Fatalf("%s has %d blocks", path, len(blocks))
	}
	for _, block := range blocks {
		name, input := "main", block[2]
		if m := sessionArg.FindStringSubmatch(block[1]); m != nil {
			name = m[1]
		}
		c := conns[name]
		if c == nil {
			if c, err = pgconn.Connect(t.Context(), "postgres://root@"+addr+"/copra?sslmode=disable"); err != nil {
				t.Fatal(err)
			}
			conns[name] = c
		}
		sql, data, copied := strings.Cut(input, "\n<<\n")
		if copied {
			_, _ = c.CopyFrom(t.Context(), strings.NewReader(data+"\n"), sql)
			continue
		}
		text := answerOf(t, c, sql)
		if isPlainQuery(sql) && c.TxStatus() != 'E' && !strings.Contains(text, "ERROR") {
			for range 2 {
				for _, mode := range []string{"off", "on"} {
					answerOf(t, c, "SET copra.columnar = "+mode)
					if again := answerOf(t, c, sql); again != text {
						t.Errorf("%s: with columnar = %s\n%s\nand before\n%s", sql, mode, again, text)
					}
				}
			}
			served += strings.Count(answerOf(t, c, "EXPLAIN ANALYZE "+sql), "Columnar: regions=")
		}
	}
	return served
}

func isPlainQuery(sql string) bool {
	s := strings.TrimSpace(strings.ToLower(sql))
	return (strings.HasPrefix(s, "select") || strings.HasPrefix(s, "with") || strings.HasPrefix(s, "table")) &&
		!strings.Contains(s, ";") && !volatile.MatchString(s) && !strings.Contains(s, "insert") && !strings.Contains(s, "update") && !strings.Contains(s, "delete")
}

// answerOf is all that a simple query answers.
func answerOf(t *testing.T, c *pgconn.PgConn, sql string) string {
	results, err := c.Exec(t.Context(), sql).ReadAll()
	var b strings.Builder
	for _, r := range results {
		for _, row := range r.Rows {
			fmt.Fprintf(&b, "%q\n", row)
		}
		fmt.Fprintln(&b, r.CommandTag)
	}
	if err != nil {
		fmt.Fprintln(&b, "ERROR", err)
	}
	return b.String()
}

// TestColumnarBank moves money while it is counted by columns, on leaders and
// followers: it stays the same.
func TestColumnarBank(t *testing.T) {
	const accounts, writers, transfers, counts = 600, 3, 200, 200
	addr := startColumnar(t, 3, 32)
	connect := func() *pgconn.PgConn {
		c, err := pgconn.Connect(t.Context(), "postgres://root@"+addr+"/copra?sslmode=disable")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		return c
	}
	c := connect()
	answerOf(t, c, fmt.Sprintf("CREATE TABLE bank (id int PRIMARY KEY, v int NOT NULL); INSERT INTO bank SELECT i, 100 FROM generate_series(1, %d) i", accounts))
	var wg sync.WaitGroup
	for w := range writers {
		c, rng := connect(), rand.New(rand.NewPCG(uint64(w), 7))
		wg.Go(func() {
			for range transfers {
				a, b := 1+rng.IntN(accounts), 1+rng.IntN(accounts)
				sql := fmt.Sprintf("BEGIN; UPDATE bank SET v = v - 3 WHERE id = %d; UPDATE bank SET v = v + 3 WHERE id = %d; COMMIT", a, b)
				if rng.IntN(3) == 0 { // an account gets another number, and back
					sql = fmt.Sprintf("BEGIN; UPDATE bank SET id = id + 100000 WHERE id = %d; UPDATE bank SET id = id - 100000 WHERE id > 100000; COMMIT", a)
				}
				answerOf(t, c, sql)
				answerOf(t, c, "ROLLBACK") // of what failed: another one was faster
			}
		})
	}
	for _, replica := range []string{"leader", "follower"} {
		c := connect()
		answerOf(t, c, "SET copra.replica_read = "+replica)
		wg.Go(func() {
			want := fmt.Sprintf("[\"%d\" \"%d\"]\nSELECT 1\n", accounts*100, accounts)
			for range counts {
				if got := answerOf(t, c, "SELECT sum(v), count(*) FROM bank"); got != want {
					t.Errorf("%s: %s, not %s", replica, got, want)
				}
			}
		})
	}
	wg.Wait()
	answerOf(t, c, "SET copra.result_cache = off")
	for range 2 { // the first may build the blocks that the writers wore out
		answerOf(t, c, "SELECT sum(v) FROM bank")
	}
	if got := answerOf(t, c, "EXPLAIN ANALYZE SELECT sum(v) FROM bank"); !strings.Contains(got, "Columnar: regions=") {
		t.Errorf("columns do not serve: %s", got)
	}
	if got := answerOf(t, c, "SELECT count(*) > 100 FROM bank WHERE v <> 100"); got != "[\"t\"]\nSELECT 1\n" {
		t.Errorf("more than 100 accounts have changed: %s", got)
	}
}
