package expr

import (
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestPrint holds String to what PostgreSQL 15's EXPLAIN VERBOSE prints for
// the same expressions over a table of testColumns.
func TestPrint(t *testing.T) {
	datadriven.RunTest(t, "testdata/print", func(t *testing.T, d *datadriven.TestData) string {
		var out strings.Builder
		for line := range strings.SplitSeq(d.Input, "\n") {
			e, err := bindSQL(line, testScope())
			if err != nil {
				t.Fatal(line, err)
			}
			out.WriteString(FoldConst(nil, e).String() + "\n")
		}
		return out.String()
	})
}
