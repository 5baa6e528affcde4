// Package expr has typed, bound expressions and their vectorised evaluation
// over Arrow columns. The coprocessor and the SQL layer run the very same
// kernels, so that pushing an expression down never changes its answer.
//
// The binder (sqlfront/plan) resolves names and overloads through this
// package's registry and builds the nodes of node.go; Compile turns a node
// into an Evaluator. A node travels to a coprocessor as protobuf
// (proto/coprpb): a function by its overload's signature.
package expr
