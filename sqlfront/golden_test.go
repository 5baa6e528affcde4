package sqlfront

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/copradb/copra/sqlfront/catalog/pgcatalog"
)

// TestGolden runs testdata/golden: each file is a fresh database, each block
//
//	sql [session=name] [sort]
//	statements
//
// a simple query of a session; COPY's data follows a line "<<". The output is
// rows, tags, notices and errors.
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata/golden", func(t *testing.T, path string) {
		db := newTestDB(t, Options{Virtuals: pgcatalog.Virtuals{}})
		clients := map[string]*testClient{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			name := "main"
			if d.HasArg("session") {
				d.ScanArgs(t, "session", &name)
			}
			c := clients[name]
			if c == nil {
				c = db.client(t)
				clients[name] = c
			}
			c.t = t
			sql, data, _ := strings.Cut(d.Input, "\n<<\n")
			if data != "" {
				data += "\n"
			}
			out := c.simple(sql, data)
			if d.HasArg("sort") {
				out = sorted(out)
			}
			return out
		})
	})
}
