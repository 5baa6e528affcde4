// Package raftlog keeps the Raft logs of all regions of a store in one Pebble
// database with a synced WAL, so that the Readys of many regions share one
// fsync.
//
// # Layout
//
//	key                              value
//	'm' key                          meta of the caller
//	'r' region(8, BE) 0x00           hard state: uvarint term, vote, commit
//	'r' region(8, BE) 0x01           truncated: uvarint index, term
//	'r' region(8, BE) 0x02 index(8)  entry: type(1) uvarint term, data
//
// # Invariants
//
//   - A region's entries are contiguous, from truncated index + 1 on.
//   - A batch is kept or lost as a whole; after Commit with sync it is kept
//     (hazard 1).
//   - The first error of a commit is sticky: the log takes no further write, and
//     the OnFatal hook stops the process (hazard 2). What a failed sync left on
//     disk is unknown.
//
// # What it is not
//
// It does not know what entries mean, and keeps none in memory: raftstore has
// the entry cache. It applies nothing: that is raftstore/engine.
//
// Read next: batch.go (writes), read.go (what raft.Storage needs).
package raftlog
