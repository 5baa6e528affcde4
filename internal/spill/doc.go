// Package spill keeps rows on local disk for a statement that needs more memory
// than it may have: runs of a sort, partitions of a join or an aggregation,
// rows that are read again.
//
//	Manager (a SQL node)          one folder, one limit of bytes, metrics
//	  └─ Space (a statement)      a limit of its own; Close removes all its files
//	       └─ Writer ──► Run ──► Reader     one file; a Run can be read any number of times
//
// A file is a sequence of frames, each a batch of columns in Arrow's layout:
//
//	frame  [ magic | codec | rows | body bytes | stored bytes | checksum ] body
//	body   per column { nulls, data bytes }, then its buffers, each aligned to 8 bytes:
//	       validity (if there are nulls), values or offsets, data
//
// It is no Arrow IPC stream: that has no checksum, writes its metadata anew for
// each of many small batches, and cannot be read back without copies. The
// arrays that a Reader returns alias the frame as it was read.
//
// Invariants: nothing here outlives the process, so nothing is synced and the
// format has no versions. What is read back is what was written or an error: the
// checksum covers the frame's place in its file, and a Run knows how many
// frames it has. A folder belongs to one Manager at a time, by a lock; folders
// whose owner is dead are removed by the next Manager in the same place.
//
// A Space is safe for concurrent use; Writers and Readers are not. What may be
// in memory at a time, and when to spill, is for the operators to decide
// (copr/exec); a Writer buffers up to writeBufferBytes.
package spill
