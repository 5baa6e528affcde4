// Package colvec builds and reads Arrow columns of PostgreSQL types without a
// call through an interface, and without an allocation, per value.
//
// Arrow's own builders check, reserve and dispatch for each value; a scan that
// appends sixteen columns a row feels that. A Builder here is one concrete
// struct with a typed slice for each physical layout; a Vec is the same for an
// existing arrow.Array. Both are chosen once a column by Kind:
//
//	sqltypes.Type ──KindOf──► Kind ──► which slice of Builder/Vec holds it
//
// Invariants: a Builder's buffers belong to the array that Finish returns, and
// the Builder starts with new ones; a Vec aliases its array, honours its
// offset, and is read-only.
//
// A column may be encoded (encoding.go): small decimals as int64, byte strings by
// a dictionary. Open hides that, OpenEncoded does not.
//
// It is not a kernel library: evaluation lives in copr/expr, aggregates in
// copr/agg.
package colvec
