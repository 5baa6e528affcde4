package schedule

import (
	"sort"
	"time"
)

// historyOperatorsMax is how many operators that ended are kept in the order of
// their ends.
const historyOperatorsMax = 4096

// remember is called with the lock held.
func (c *Controller) remember(rec Record) {
	if len(c.history) < historyOperatorsMax {
		c.history = append(c.history, rec)
		return
	}
	c.history[c.historyAt] = rec
	c.historyAt = (c.historyAt + 1) % historyOperatorsMax
}

// History returns the operators that ended since, the oldest first.
func (c *Controller) History(since time.Time) []Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Record
	for i := range c.history {
		if rec := c.history[(c.historyAt+i)%len(c.history)]; !rec.FinishedAt.Before(since) {
			out = append(out, rec)
		}
	}
	return out
}

// Running is an operator under way, as it was when it was asked for.
type Running struct {
	Operator
	Text string
}

// Operators returns the operators under way, by region.
func (c *Controller) Operators() []Running {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Running, 0, len(c.ops))
	for _, op := range c.ops {
		out = append(out, Running{*op, op.String()})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Region < out[j].Region })
	return out
}
