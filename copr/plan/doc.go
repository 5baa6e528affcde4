// Package plan is what a SQL node asks of a region's coprocessor: a short
// chain of nodes that starts with a scan. It is built by sqlfront/plan,
// travels as protobuf (proto/coprpb) inside an Arrow Flight ticket, and is
// run by copr/exec over one region's rows, or locally by the SQL node over
// the rows of its own transaction.
//
//	plan.go    the nodes
//	types.go   what columns a plan returns, and whether it makes sense
//	encode.go  to protobuf
//	decode.go  from protobuf, trusting nothing
//
// A plan that Decode or Check accepts has column references inside their
// inputs, functions with arguments of the layouts that they were declared
// with, boolean conditions, and sizes within the limits below, so that it can
// be compiled and run. Anything else is ErrInvalid.
package plan
