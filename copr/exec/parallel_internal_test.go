package exec

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copradb/copra/internal/pgerror"
)

// TestPanicsOfHelpers: what panics in a goroutine that helps to build a join's
// table is the statement's error, not the end of the process.
func TestPanicsOfHelpers(t *testing.T) {
	limit := pgerror.New(pgerror.ProgramLimitExceeded, "a column is too large")
	for _, what := range []any{limit, errors.New("index out of range")} {
		var ran atomic.Int32
		var got any
		func() {
			defer func() { got = recover() }()
			parallel(8, 3, func(i int) {
				ran.Add(1)
				if i == 5 {
					panic(what)
				}
			})
		}()
		text, isText := got.(string)
		switch {
		case ran.Load() < 6 || got == nil:
			t.Errorf("%d ran, recovered %v", ran.Load(), got)
		case what == any(limit) && got != what:
			t.Errorf("recovered %v", got)
		case what != any(limit) && (!isText || !strings.Contains(text, "index out of range") || !strings.Contains(text, "parallel")):
			t.Errorf("recovered %v", got)
		}
	}
}
