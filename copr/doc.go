// Package copr is the coprocessor: a SQL node's plans run where the rows are,
// and columns come back. The packages below are its parts; this one only says
// how they fit.
//
//	sqlfront/plan ──► copr/plan ──► copr/client ──ticket──► copr/server ──► copr/exec ──► copr/scan ──► txn
//	                  the plan      regions, retries        a store         operators     rows → Arrow  MVCC
//	                                     ▲                                      │
//	                                     └────────────── Arrow batches ─────────┘
//
// In the order of reading:
//
//	copr/plan     the chain of nodes that is pushed down; its protobuf form
//	copr/expr     expressions and their kernels
//	copr/agg      aggregate functions, in parts or whole
//	copr/exec     operators, run by regions and by the SQL node alike
//	copr/scan     rows and index entries as batches
//	copr/server   the service on a store, Arrow Flight or in process
//	copr/client   fan-out over regions
//
// and below them internal/tablecodec (keys), internal/rowcodec (row values) and
// internal/colvec (typed columns).
//
// Two rules hold it together. The same kernels and operators run on both
// sides, so that pushing down never changes an answer. And a region's answer
// counts only if it is whole: what was read before a failure is either resumed
// behind a known key or dropped.
package copr
