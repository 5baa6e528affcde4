package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/copradb/copra/copr/columnar"
)

// planModes are settings that must not change an answer.
var planModes = [][]string{
	nil,
	{"copra.columnar = off"},
	{"copra.pushdown = off"},
	{"copra.parallel_workers = 1"},
	{"copra.parallel_workers = 3", "copra.spill_memory = 20000"},
	{"copra.columnar = on"},
	{"copra.join_filters = off"},
	{"copra.columnar = off", "copra.pushdown = off", "copra.parallel_workers = 1"},
	{"copra.replica_read = follower"},
}

// startPostgres starts a PostgreSQL if there is one on this machine, and returns
// how to connect to it, "" otherwise.
func startPostgres(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		return ""
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "copra-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := func(name string, args ...string) *exec.Cmd {
		name = filepath.Join(bin, name)
		if os.Getuid() == 0 { // PostgreSQL does not run as root
			args, name = append([]string{"--reuid=nobody", "--clear-groups", "--", name}, args...), "setpriv"
		}
		c := exec.Command(name, args...)
		c.Dir = dir
		return c
	}
	if os.Getuid() == 0 {
		if err := exec.Command("chown", "nobody", dir).Run(); err != nil {
			return ""
		}
	}
	data := filepath.Join(dir, "data")
	if out, err := as("initdb", "-D", data, "-A", "trust", "-U", "root", "--lc-collate=C", "--lc-ctype=C.UTF-8", "-E", "UTF8", "--no-sync").CombinedOutput(); err != nil {
		t.Logf("no PostgreSQL to compare with: %v\n%s", err, out)
		return ""
	}
	addr := freeAddrs(t, 1)[0]
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	server := as("postgres", "-D", data, "-p", port, "-k", dir, "-h", "127.0.0.1", "-c", "fsync=off")
	server.Stdout, server.Stderr = io.Discard, io.Discard
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Process.Signal(os.Interrupt); _ = server.Wait() })
	dsn := "postgres://root@" + addr + "/postgres?sslmode=disable"
	for range 200 {
		c, err := pgconn.Connect(t.Context(), dsn)
		if err == nil {
			_ = c.Close(t.Context())
			return dsn
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("PostgreSQL does not answer")
	return ""
}

// startPlans starts a playground whose tables come in many regions and blocks.
func startPlans(t *testing.T) string {
	o := PlaygroundOptions{
		DataDir: t.TempDir(), Stores: 3, PDs: 1, RegionSplitBytes: 64 << 10, CacheBytes: 32 << 20, SQLMemoryBytes: 256 << 20,
		Columnar: columnar.Options{BytesMax: 64 << 20, BlockRowsMax: 64, BuildRowsMin: -1},
		Logger:   slog.New(slog.DiscardHandler), SQLAddr: freeAddrs(t, 1)[0], FlightAddr: "127.0.0.1:0", StatusAddr: "127.0.0.1:0",
		PDClientAddrs: freeAddrs(t, 1), PDPeerAddrs: freeAddrs(t, 1), StoreAddrs: freeAddrs(t, 3), StoreStatusAddrs: freeAddrs(t, 3),
	}
	p, err := StartPlayground(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return "postgres://root@" + o.SQLAddr + "/copra?sslmode=disable"
}

// planAnswer is the text of an answer; rows are sorted unless ordered. loose
// takes numbers that are equal for the same.
func planAnswer(c *pgconn.PgConn, sql string, ordered, loose bool) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := c.Exec(ctx, sql).ReadAll()
	if err != nil {
		if e, ok := err.(*pgconn.PgError); ok {
			return "ERROR " + e.Code + " (" + e.Message + ")"
		}
		return "ERROR " + err.Error()
	}
	var rows []string
	for _, row := range res[len(res)-1].Rows {
		var b strings.Builder
		for _, v := range row {
			switch {
			case v == nil:
				b.WriteString("<null>")
			case loose:
				b.WriteString(plainNumber(string(v)))
			default:
				b.Write(v)
			}
			b.WriteByte('|')
		}
		rows = append(rows, b.String())
	}
	if !ordered {
		slices.Sort(rows)
	}
	return strings.Join(rows, "\n")
}

// TestPlansAgree asks random queries under all kinds of settings, and of
// PostgreSQL where it is installed: the answers are the same to the digit.
func TestPlansAgree(t *testing.T) {
	queries, rows := 50, 1500
	if os.Getenv("COPRA_TEST_LONG") != "" {
		queries, rows = 4000, 6000
	}
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("COPRA_TEST_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("COPRA_TEST_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	conns := map[string]*pgconn.PgConn{}
	dsns := map[string]string{"copra": startPlans(t)}
	if dsn := startPostgres(t); dsn != "" {
		dsns["postgres"] = dsn
	}
	load := map[string]string{}
	for i, table := range []string{"f", "g", "h"} {
		var b strings.Builder
		for id := range rows >> (2 * i) {
			b.WriteString(genRow(r, id))
		}
		load[table] = b.String()
	}
	for name, dsn := range dsns {
		c, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(name, err)
		}
		t.Cleanup(func() { _ = c.Close(context.Background()) })
		conns[name] = c
		for _, table := range []string{"f", "g", "h"} {
			if got := planAnswer(c, genDDL(table), false, false); got != "" {
				t.Fatal(name, got)
			}
			if _, err := c.CopyFrom(t.Context(), strings.NewReader(load[table]), "COPY "+table+" FROM STDIN"); err != nil {
				t.Fatal(name, err)
			}
			if got := planAnswer(c, "ANALYZE "+table, false, false); got != "" {
				t.Fatal(name, got)
			}
		}
	}
	g := &gen{r: r}
	failures, errored := 0, 0
	for i := range queries {
		sql, ordered := g.query()
		if one := os.Getenv("COPRA_TEST_SQL"); one != "" {
			sql, ordered = one, false
		}
		want, by := "", ""
		ask := func(name, who string, c *pgconn.PgConn) {
			got := planAnswer(c, sql, ordered, g.loose)
			if by == "" {
				want, by = got, who
				if strings.HasPrefix(got, "ERROR") {
					errored++
				}
				return
			}
			if code := func(s string) string { a, _, _ := strings.Cut(s, " ("); return a }; strings.HasPrefix(want, "ERROR") && code(got) == code(want) {
				return
			}
			if got != want {
				failures++
				t.Errorf("query %d:\n%s\n%s differs from %s: %s", i, sql, who, by, firstDiff(want, got))
			}
		}
		if c := conns["postgres"]; c != nil {
			ask("postgres", "PostgreSQL", c)
		}
		modes := planModes
		if i%4 != 0 {
			modes = [][]string{nil, planModes[1+r.IntN(len(planModes)-1)]}
		}
		for _, mode := range modes {
			for _, s := range mode {
				if got := planAnswer(conns["copra"], "SET "+s, false, false); got != "" {
					t.Fatal(s, got)
				}
			}
			ask("copra", fmt.Sprint(mode), conns["copra"])
			for _, s := range mode {
				name, _, _ := strings.Cut(s, " ")
				if got := planAnswer(conns["copra"], "RESET "+name, false, false); got != "" {
					t.Fatal(s, got)
				}
			}
		}
		if failures > 20 {
			t.Fatal("too many differences")
		}
	}
	if errored > queries/10 {
		t.Errorf("%d of %d queries failed: the generator makes bad ones", errored, queries)
	}
}
