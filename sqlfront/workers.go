package sqlfront

import (
	"strconv"
	"sync"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/internal/cpusched"
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
		n = cpusched.Default().Cores()
	}
	if n = min(n, plan.WorkersMax); n > 1 {
		st.txn = nil // nor is what it writes while workers read
	}
	return n
}

// cores is the statement's share of the process's cores, which it has in common
// with its scans on stores of this process. It is taken when the first worker
// needs it.
type cores struct {
	ts    uint64
	mu    sync.Mutex
	group *cpusched.Group
}

func (c *cores) worker() exec.Core {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.group == nil {
		c.group = cpusched.Default().Group(c.ts)
	}
	return c.group.Worker()
}

func (c *cores) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.group != nil {
		c.group.Close()
		c.group = nil
	}
}
