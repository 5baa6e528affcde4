package expr

import (
	"strings"
	"testing"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// A block that outgrows its limit is the statement's error, not the process's
// end: a join may repeat a long value thousands of times.
func TestTakeOfTooMuchText(t *testing.T) {
	long := sqltypes.ArrayOf(sqltypes.Text, []sqltypes.Datum{sqltypes.NewString(strings.Repeat("x", 1<<20))})
	defer func() {
		err, ok := recover().(*pgerror.Error)
		if !ok || err.Code != pgerror.OutOfMemory {
			t.Errorf("got %v, want SQLSTATE %s", err, pgerror.OutOfMemory)
		}
	}()
	Take(long, make([]int32, blockTextBytesMax>>20+1))
	t.Error("the block was made")
}
