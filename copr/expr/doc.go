// Package expr has typed, bound expressions and their vectorised evaluation
// over Arrow columns. The coprocessor and the SQL layer run the very same
// kernels, so that pushing an expression down never changes its answer.
//
// The binder (sqlfront/plan) resolves names and overloads through this
// package's registry and builds the nodes of node.go; Compile turns a node
// into an Evaluator. A node travels to a coprocessor as protobuf
// (proto/coprpb): a function by its overload's signature.
//
//	        resolve.go, cast.go          tree.go            compile.go
//	names ──► ResolveFunc, NewCast ──► Expr ──► FoldConst ──► Evaluator
//	             func.go: registry                              │ Eval: a column
//	                                                            │ Filter: the rows where true
//	 arith, floats, dec      compare, in, like      fn_*.go     ▼
//	 └── loops over raw values ──┘  └── fused filters ┘  └── row functions lifted by scalar.go
//
// # Invariants
//
//   - Evaluators, nodes and functions have no state: any number of goroutines
//     may use them. Columns and batches never change once made.
//   - A selection is ascending. What a column holds outside the selection it
//     was computed for is unspecified, and no row outside it can fail.
//   - Arguments of AND, OR, CASE and COALESCE are computed only for the rows
//     that reach them; so a row guarded from a division by zero never fails.
//   - A column of type t has exactly t's Arrow type.
//   - Signatures and hashes are the same on every node and in every version.
//
// # Numbers with and without a scale
//
// Columns of numeric(p,s), short literals and + - * of them are Decimal128 of
// a known scale. Everything whose display scale depends on the value in
// PostgreSQL (division, round(x, n), CASE over different scales) is numeric
// without scale and carries PostgreSQL's text, so that it prints the same
// digits. A fixed-scale result beyond 38 digits is 22003.
//
// # Encoded columns
//
// Columns may be encoded (colvec). Nodes that know it (encNode, encoded.go) take
// decimals as int64 and compute in 64 bits until a batch may overflow, then in
// 128 bits from the same operands (dec64.go). An immutable expression of one
// column of byte strings is computed once for each entry of its dictionary
// (dict.go). All other nodes see plain columns. Comparisons of a column with
// constants are intervals of integers, one for all of an AND (range.go); an AND
// makes cheap tests first, but moves none across one that may fail (logic.go).
// Intermediate results are in pooled memory, of which a column that leaves the
// package is never part, but for EvalScratch and EvalScaled.
//
// # What differs from PostgreSQL
//
// Text is ordered by bytes (collation C), upper and lower know Unicode.
// Regular expressions run on RE2: back references and look-around are 0A000.
// Transcendental functions of float8 may differ in the last digit. Arrays have
// one dimension. char(n) whose length is no longer known (a CASE over several
// lengths) prints without its trailing blanks.
//
// Read next: func.go, vec.go, scalar.go, then compare.go for a fused filter.
package expr
