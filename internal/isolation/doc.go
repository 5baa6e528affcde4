// Package isolation checks what clients of a database have seen for anomalies
// of isolation: it is given histories and says which of them no snapshot
// isolated (or serializable) database could have shown.
//
//	history of transactions ──► version orders ──► dependency graph ──► cycles
//	 appends, reads of lists     the lists read     ww wr rw [rt]        named, explained
//
// The main checker, Check, is for list-append: every key holds a list,
// transactions append values that are unique for their key, and read whole
// lists. A list that was read says in which order its values were appended, so
// that dependencies needn't be guessed:
//
//	ww  appended the value right before that of the other
//	wr  appended the value that the other read last
//	rw  read the list to which the other appended the next value
//	rt  had ended before the other began (only if asked for)
//
// A cycle of them is an anomaly, named after what is in it:
//
//	G0              only ww
//	G1c             ww and wr
//	G-single        one rw
//	G-nonadjacent   several rw, no two of them in a row (a long fork is one)
//	G2-item         two rw in a row (write skew is one)
//
// Snapshot isolation allows only the last. In the words of timestamps: ww, wr
// and rt say that one has committed before the other began, rw that one began
// before the other committed; a chain of these leads back to its beginning only
// over two rw in a row. Cycles with rt edges show that a snapshot was older
// than it may be (strong snapshot isolation); G0-realtime is one's name then.
//
// What needs no cycle is found on the way: reads of aborted (G1a) and
// intermediate (G1b) values, values nobody wrote, lists that are not prefixes
// of each other, lost updates, dirty updates, transactions that don't see their
// own writes.
//
// Beside it are small checkers of what transactions read: Bank, Monotonic and
// LongFork.
//
// What it is not: a client, or a generator of load. It doesn't see predicates
// (phantoms), and takes a transaction of unknown outcome for committed only if
// somebody saw its values.
//
// Sources: A. Adya, "Weak Consistency: A Generalized Theory and Optimistic
// Implementations for Distributed Transactions" (1999); K. Kingsbury and
// P. Alvaro, "Elle: Inferring Isolation Anomalies from Experimental
// Observations" (VLDB 2020).
//
// Read next: history.go, then check.go, order.go, graph.go, cycle.go.
package isolation
