package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSlowLogs: a statement and the requests that it makes leave their lines,
// with thresholds that are set while all of it runs.
func TestSlowLogs(t *testing.T) {
	dir := t.TempDir()
	p := startPlayground(t, dir, freeOffset(t))
	sql := p.connect()
	exec1(t, sql, "CREATE TABLE t (a int PRIMARY KEY, b int)")
	for i := range 3 {
		resp, err := http.Post("http://"+p.addr(20180+i)+"/config", "application/json", strings.NewReader(`{"slow-log-threshold": "0s"}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status)
		}
	}
	exec1(t, sql, "SET log_min_duration_statement = 0")
	// Each line may be among those that its second had no room for.
	want := map[string][]string{
		"msg=\"slow query\"": {"kind=insert", "commit_kind=", "write_keys=", "statement=\"INSERT"},
		"kind=select":        {"msg=\"slow query\"", "regions=", "rows_scanned=", "copr_ms=", "statement=\"SELECT sum"},
		"method=kv_prewrite": {"msg=\"slow request\"", "persist_ms=", "commit_ms=", "apply_ms=", "client=local", "store="},
		"method=coprocessor": {"msg=\"slow request\"", "plan=tablescan", "rows_scanned=", "slowest_region="},
	}
	poll(t, 30*time.Second, "lines of both slow logs", func() bool {
		exec1(t, sql, "INSERT INTO t SELECT coalesce(max(a), 0) + 1, 1 FROM t")
		if _, err := sql.Exec(context.Background(), "SELECT sum(b) FROM t"); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "copra.log"))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			for name, words := range want {
				all := strings.Contains(line, name)
				for _, w := range words {
					all = all && strings.Contains(line, w)
				}
				if all {
					delete(want, name)
				}
			}
		}
		return len(want) == 0
	})
}
