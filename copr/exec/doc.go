// Package exec has the operators that run plans over batches of Arrow columns.
// The coprocessor and the SQL node share them, so that an operator gives the
// same answer wherever the planner puts it.
//
// Operators pull: Open, then Next until it returns nil, then Close (also after
// an error; Close closes the inputs). A tree is run by one goroutine; Gather,
// GatherMerge and Repartition run several trees, each by its own, over one
// Shared input (gather.go).
//
//	            Next()            Next()
//	consumer ─────────► HashAgg ─────────► Filter ─────────► scan (copr/scan, or a copr/client stream)
//	         ◄───────── batch   ◄───────── batch   ◄─────────
//
// Operators that know encoded columns (internal/colvec) and selections pass
// rows on with NextRaw (raw.go) and gather as late as they can; Next gives the
// same rows gathered and plain.
//
// Batches have from one to BatchRowsMax rows, never none. They are immutable:
// an operator may keep one as long as it likes.
//
// Rows are compared in two ways: for equality (GROUP BY, DISTINCT, joins, set
// operations) by the words of a keyPacker (keys.go), for order (Sort, TopN, Merge)
// by the bytes of sortKeys, which come from tablecodec's order-preserving
// encoding. In both, 1.0 equals 1.00, -0 equals 0 and NaN equals NaN and is above
// everything.
//
// A hash join is a JoinTable, its right side by key, and probes, one for each
// goroutine (jointable.go, joinprobe.go). Keys become 64-bit words (joinkey.go),
// words an array, a bitmap with counts or a hash table (joinindex.go). Once the
// right side is read, scans of the left one can be told which keys matter
// (JoinFilter).
//
// What an operator keeps beyond one batch is charged to Ctx.Mem. Where that runs
// short and Ctx.Spill is set, rows go to disk (internal/spill): a sort's as runs
// (sortext.go), those of hash tables divided by hash (joinspill.go, keyspill.go),
// those that are read again in a Buffer. Nested loops keep their right side, and
// what cannot spill fails at the limit with 53200. Operators spill at three
// quarters of the limit, so that there is room for the others and for buffers:
//
//	0 ─────────── in memory ─────────── spill ──────── limit ─► 53200
//
// Read operator.go, then keytable.go (the hash table under grouping and
// joins), then the operator you care about: one file each.
package exec
