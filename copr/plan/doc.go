// Package plan is what a SQL node asks of a region's coprocessor: a short
// chain of nodes that starts with a scan. It is built by sqlfront/plan,
// travels as protobuf (proto/coprpb) inside an Arrow Flight ticket, and is
// run by copr/exec over one region's rows, or locally by the SQL node over
// the rows of its own transaction.
package plan
