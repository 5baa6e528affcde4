// Package cpusched shares the cores of a process among its computing work, so
// that queries that scan are fair to each other and do not keep short requests
// waiting.
//
//	group (one query) ──► workers ──► Start: a core    ┐
//	group (one query) ──► workers ──► Yield: my turn?  ├─ at most `cores` of them compute
//	point gets ─────────────────────► Touch            ┘  (one less while there are many short requests)
//
// Nothing is run here: a worker is a goroutine of its owner's that asks before
// it computes (Start), asks again between pieces of work of well under a
// millisecond (Yield), and gives its core back before anything that waits for
// somebody else (Pause). A group that has computed less than ExpressMax in all
// does not wait: short queries overtake long ones. Of the others that wait, the
// one that has computed least is next (who comes or comes back starts where the
// others are), so that queries get equal parts, however many workers they have.
//
// A worker that waits with a core in its hands is a mistake, which costs others
// StallMax, but never stops them for good.
//
// What does not compute for long (reads of single keys, writes, Raft) does not
// ask at all: it calls Touch, and while there is more than a little of that, one
// core is left to it. Go's own scheduler gets processors to spare (SpareProcs).
package cpusched
