// Package importer writes the tables of bulk loads and has stores ingest them
// (internal/bulkload). It serves the stores of its own process: a table is
// written once, in the import directory of one store, and linked into those of
// the others, so that on one disk all replicas share one file.
//
//	Writer ─► import/build of a store ─link─► import/ of every replica's store
//	                                             │ raftstore.Store.Ingest, on the leader
//	                                             ▼
//	                                        Pebble, by another link
//
// A table is one file of commit records and, if a value is too long to be kept
// in its record, a second one of the default family.
//
// What it is not: a service for other processes. A SQL node that runs apart from
// the stores loads through transactions.
package importer
