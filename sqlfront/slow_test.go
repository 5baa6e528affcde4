package sqlfront

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// slowQueries are the lines of the slow-query log by the beginning of their
// statement.
func slowQueries(t *testing.T, out *bytes.Buffer) map[string]map[string]any {
	t.Helper()
	lines := map[string]map[string]any{}
	for line := range strings.Lines(out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if m["msg"] == "slow query" {
			word, _, _ := strings.Cut(m["statement"].(string), " ")
			lines[word] = m
		}
	}
	out.Reset()
	return lines
}

func TestSlowQueriesAreLogged(t *testing.T) {
	var out bytes.Buffer
	db := newTestDB(t, Options{
		Logger:             slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})),
		SlowQueryThreshold: time.Nanosecond,
	})
	c := db.client(t)
	c.simple("SET application_name = 'test'", "")
	c.simple("CREATE TABLE t (a int PRIMARY KEY, b text)", "")
	out.Reset()
	c.simple("INSERT INTO t\n  VALUES (1, 'x'), (2, 'y')", "")
	c.simple("SELECT b FROM t WHERE a > 0", "")
	c.simple("UPDATE t SET nothing = 1", "")
	lines := slowQueries(t, &out)
	insert, query := lines["INSERT"], lines["SELECT"]
	if insert["tag"] != "INSERT 0 2" || insert["kind"] != "insert" || insert["application"] != "test" || insert["user"] != RootUser ||
		insert["statement"] != "INSERT INTO t VALUES (1, 'x'), (2, 'y')" {
		t.Errorf("the insert's line: %v", insert)
	}
	if insert["write_keys"] != 2.0 || insert["commit_kind"] == nil || insert["prewrite_ms"] == nil || insert["kv_wait_ms"] == nil {
		t.Errorf("the insert's line does not say how it was committed: %v", insert)
	}
	if query["tag"] != "SELECT 2" || query["plan_ms"] == nil || query["commit_ms"] != nil {
		t.Errorf("the query's line: %v", query)
	}
	if total := query["total_ms"].(float64); total < query["exec_ms"].(float64) || total < query["plan_ms"].(float64) {
		t.Errorf("the query's times: %v", query)
	}

	c.simple("SET log_min_duration_statement = '1h'", "")
	out.Reset()
	c.simple("SELECT 1", "")
	c.simple("SET log_min_duration_statement = -1", "")
	c.simple("SELECT 2", "")
	if lines := slowQueries(t, &out); len(lines) > 0 {
		t.Errorf("logged in spite of the setting: %v", lines)
	}
	if got := c.simple("SHOW log_min_duration_statement", ""); !strings.Contains(got, "-1") {
		t.Error(got)
	}
}

func TestSlowQueryDefaults(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "1s", -1: "-1", -time.Millisecond: "-1", time.Nanosecond: "0", 250 * time.Millisecond: "250ms"} {
		c := newTestDB(t, Options{SlowQueryThreshold: d}).client(t)
		if got := c.simple("SHOW log_min_duration_statement", ""); !strings.Contains(got, want) {
			t.Errorf("threshold %s is shown as %s", d, got)
		}
	}
}

func TestShortText(t *testing.T) {
	long := strings.Repeat("é", slowTextBytesMax)
	for text, want := range map[string]string{
		"SELECT\n\t 1": "SELECT 1",
		long:           strings.Repeat("é", slowTextBytesMax/2) + "...",
		"x" + long:     "x" + strings.Repeat("é", slowTextBytesMax/2-1) + "...",
	} {
		if got := shortText(text); got != want {
			t.Errorf("%d bytes became %d, want %d", len(text), len(got), len(want))
		}
	}
}
