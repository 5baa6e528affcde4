package expr

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/copradb/copra/internal/sqltypes"
)

func testCtx() *Ctx {
	loc, err := sqltypes.LoadZone("America/New_York")
	if err != nil {
		panic(err)
	}
	now := time.Date(2024, 2, 29, 13, 14, 15, 678901000, time.UTC)
	return &Ctx{Now: now, TxnNow: now, TimeZone: loc, Clock: func() time.Time { return now }}
}

// evalSQL computes a SQL expression and prints the value as psql would.
func evalSQL(sql string) string {
	e, err := bindSQL(sql, &scope{})
	if err != nil {
		return errorText(err)
	}
	ctx := testCtx()
	d, err := EvalConst(ctx, e)
	if err != nil {
		return errorText(err)
	}
	if d.IsNull() {
		return "NULL"
	}
	s := string(sqltypes.AppendTextOpt(nil, e.Type(), d, &sqltypes.TextOptions{TimeZone: ctx.TimeZone}))
	if s == "" {
		return "(empty)"
	}
	return s
}

// TestEval runs the scripts: each line of input is an expression, each line of
// output its value. The answers are PostgreSQL 15's, in time zone
// America/New_York, DateStyle ISO, MDY; testdata/check.sh compares them with
// a server.
func TestEval(t *testing.T) {
	datadriven.Walk(t, "testdata/eval", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "eval" {
				t.Fatalf("unknown command %q", d.Cmd)
			}
			var out strings.Builder
			for line := range strings.SplitSeq(d.Input, "\n") {
				fmt.Fprintf(&out, "%s\n", strings.ReplaceAll(evalSQL(line), "\n", `\n`))
			}
			return out.String()
		})
	})
}
