// Package plan turns a statement's syntax tree into operators that run.
//
//	ast.Stmt ──Bind──▶ Bound ──Optimize──▶ Physical ──Build──▶ exec.Operator
//	          names,          rules on the           parameters,
//	          types,          logical tree,          key ranges,
//	          overloads       access paths           storage
//
// Bind resolves names, types and overloads as PostgreSQL does and reports its
// errors with its SQLSTATEs and positions. The logical tree (logical.go)
// speaks of columns by ids that are unique in the statement, so that a rule
// can move a subtree without renumbering anything: inside this package, until
// the tree is lowered, expr.Column.Index is such an id, not a position.
//
// Optimize applies the rules (one file each, rule_*.go), orders joins by
// estimated cardinality, chooses access paths and lowers the tree to physical
// nodes, whose expressions speak of positions in the input batch. A Physical
// is immutable and keeps statement parameters as expr.Param, so that a
// prepared statement is optimized once and built many times; a Physical may be
// built by several sessions at once.
//
// Build makes operators (copr/exec) and asks ExecEnv for everything outside:
// rows of tables, parameters, memory. What a scan pushes to the coprocessors
// is a copr/plan chain in which parameters have become constants.
//
// What this package is not: it does not parse, holds no session state, writes
// nothing, and talks to no store; ExecEnv is where those begin.
//
// Invariants: a column id is produced by exactly one node; a node's
// expressions mention only columns of its inputs and outer columns of a
// correlated subquery; rules never change the set or order of visible output
// columns.
//
// Read next: logical.go, bind_select.go, optimize.go, physical.go, build.go.
package plan
