package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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

func runGolden(t *testing.T, path string) (served int) {
	o := PlaygroundOptions{
		DataDir: t.TempDir(), Stores: 1, PDs: 1, RegionSplitBytes: 96 << 20, CacheBytes: 32 << 20, SQLMemoryBytes: 64 << 20,
		Columnar: columnar.Options{BytesMax: 64 << 20, BlockRowsMax: 2, BuildRowsMin: -1, BuildScansMin: -1},
		Logger:   slog.New(slog.DiscardHandler), SQLAddr: freeAddrs(t, 1)[0], FlightAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		PDClientAddrs: freeAddrs(t, 1), PDPeerAddrs: freeAddrs(t, 1), StoreAddrs: freeAddrs(t, 1), StoreStatusAddrs: freeAddrs(t, 1),
	}
	p, err := StartPlayground(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
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
			if c, err = pgconn.Connect(t.Context(), "postgres://root@"+o.SQLAddr+"/copra?sslmode=disable"); err != nil {
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
