package sqlfront

import (
	"runtime"
	"strconv"

	"github.com/copradb/copra/sqlfront/plan"
)

// workers is how many goroutines may run a part of the statement that reads
// with st. What a transaction has written is read through its buffer, which
// serves one goroutine.
func (st *storage) workers() int {
	if st.serial || st.txn != nil && len(st.txn.written) > 0 {
		return 1
	}
	n, err := strconv.Atoi(st.s.settings.Text("copra.parallel_workers"))
	if err != nil || n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if n = min(n, plan.WorkersMax); n > 1 {
		st.txn = nil // nor is what it writes while workers read
	}
	return n
}
