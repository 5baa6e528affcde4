package sqlfront

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/copradb/copra/internal/spill"
)

func newTemp(t *testing.T, bytesMax int64) *spill.Manager {
	t.Helper()
	m, err := spill.Open(spill.Options{FS: vfs.NewMem(), Dir: "temp", BytesMax: bytesMax})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := m.UsedBytes(); n != 0 {
			t.Errorf("%d bytes of temporary files are left", n)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Statements that need more than their memory go on on disk, and say so.
func TestStatementsSpill(t *testing.T) {
	var out bytes.Buffer
	db := newTestDB(t, Options{
		Temp: newTemp(t, 0), StatementBytesMax: 4 << 20, SlowQueryThreshold: time.Nanosecond,
		Logger: slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	c := db.client(t)
	out.Reset()
	for _, q := range []string{
		"select count(distinct g * 7919 % 200003) from generate_series(1, 200000) g",
		"select count(*) from (select distinct g * 7919 % 150001 from generate_series(1, 200000) g) x",
		"select count(*), sum(a.g) from generate_series(1, 200000) a(g) join generate_series(1, 300000) b(g) on a.g = b.g",
		"select count(*) from (select g * 7919 % 200003, count(*) from generate_series(1, 200000) g group by 1) x",
		"select g from (select g from generate_series(1, 200000) g order by (g * 7919) % 300007) x offset 77777 limit 3",
	} {
		got := c.simple(q, "")
		line := slowQueries(t, &out)["select"]
		if files, _ := line["temp_files"].(float64); files == 0 || line["temp_bytes"].(float64) == 0 {
			t.Errorf("%s: nothing was written: %v", q, line)
		}
		c.simple("set copra.statement_memory = 1000000000", "")
		want := c.simple(q, "")
		if line := slowQueries(t, &out)["select"]; line["temp_files"] != nil {
			t.Errorf("%s: written with much memory: %v", q, line)
		}
		c.simple("reset copra.statement_memory", "")
		if got != want || strings.Contains(got, "ERROR") {
			t.Errorf("%s\n%s\nwant %s", q, got, want)
		}
	}
	// Windows keep a partition, not their input.
	windows := "select count(*), sum(rn), max(s), count(distinct p) from (select g / 1000 p, row_number() over (partition by g / 1000 order by g) rn, sum(g) over (partition by g / 1000) s from generate_series(1, 200000) g) x"
	c.simple("set copra.statement_memory = 12000000", "")
	if got := c.value(windows); got != "200000 | 100099001 | 199499500 | 201" {
		t.Error(got)
	}
	if got := c.simple("select count(*), sum(rn) from (select row_number() over (order by g) rn from generate_series(1, 200000) g) x", ""); !strings.Contains(got, "ERROR 53200") {
		t.Error(got)
	}
	c.simple("reset copra.statement_memory", "")
	plan := c.simple("explain analyze select g from generate_series(1, 200000) g order by -g", "")
	if !strings.Contains(plan, "Sort Method: external merge  Disk: ") {
		t.Error(plan)
	}
	if got := c.simple("set temp_file_limit = 100; select g from generate_series(1, 200000) g order by -g", ""); !strings.Contains(got, "ERROR 53400: temporary file size exceeds temp_file_limit (100kB)") {
		t.Error(got)
	}
	c.simple("reset temp_file_limit", "")
	if got := c.simple("set copra.spill_memory = 100000; explain analyze select g from generate_series(1, 20000) g order by -g", ""); !strings.Contains(got, "external merge") {
		t.Error(got)
	}
	if used := db.mem.Used(); used != 0 {
		t.Errorf("%d bytes are still charged", used)
	}
}

func TestTemporaryFilesOfANodeAreLimited(t *testing.T) {
	db := newTestDB(t, Options{Temp: newTemp(t, 300_000), StatementBytesMax: 1 << 20})
	c := db.client(t)
	got := c.simple("select count(*) from (select distinct g * 7919 % 200003 from generate_series(1, 200000) g) x", "")
	if !strings.Contains(got, "ERROR 53400: temporary file size exceeds the SQL node's limit of 300000 bytes") {
		t.Error(got)
	}
	if got := c.value("select 1"); got != "1" {
		t.Error(got)
	}
}

// A portal that is closed half-read, a statement that is cancelled and one that
// fails leave no files: newTemp looks.
func TestTemporaryFilesGo(t *testing.T) {
	temp := newTemp(t, 0)
	db := newTestDB(t, Options{Temp: temp, StatementBytesMax: 2 << 20})
	c := db.client(t)
	for name, end := range map[string]func(r Result){
		"closed": func(Result) {},
		"cancelled": func(r Result) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if _, err := r.Next(ctx); err == nil {
				t.Error("no error after cancel")
			}
		},
	} {
		ctx := context.Background()
		stmts, err := c.s.Parse(ctx, "select g from generate_series(1, 200000) g order by -g")
		if err != nil {
			t.Fatal(err)
		}
		p, err := c.s.Prepare(ctx, stmts[0], nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.s.Execute(ctx, p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Next(ctx); err != nil {
			t.Fatal(err)
		}
		if temp.UsedBytes() == 0 {
			t.Errorf("%s: nothing was written", name)
		}
		end(r)
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := temp.UsedBytes(); n != 0 {
			t.Errorf("%s: %d bytes are left", name, n)
		}
		c.s.Fail()
	}
	if got := c.simple("select 1 / (200000 - g) from generate_series(1, 200000) g order by -g % 1000", ""); !strings.Contains(got, "ERROR 22012") {
		t.Error(got)
	}
}
