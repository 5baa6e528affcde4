// Package engine is the data of one store: the applied state of all its
// regions in one Pebble database.
//
// # Layout
//
//	key on disk             what
//	'd' key                 default family     (EncodeBytes(user key) ++ desc ts)
//	'l' key                 lock family        (EncodeBytes(user key))
//	'm' key                 meta: applied indexes, region states, store identity
//	'r' key                 raw family         (the raw client's bytes)
//	'w' key                 write family       (EncodeBytes(user key) ++ desc ts)
//
// The comparer ("copra.v1") orders keys as bytes and splits the timestamp off
// the keys of 'd' and 'w', so that bloom filters work on user keys.
//
// # Durability
//
// There is no WAL: the Raft log (raftstore/raftlog) is one. What Apply wrote
// may be lost in a crash until its memtable is flushed, but always as a suffix
// of the history of each key, and a batch is lost or kept as a whole; whoever
// truncates the Raft log looks at GetMetaDurable first. IngestReplace and
// DestroyRange are durable when they return.
//
//	apply ──► Batch ──► memtable ──flush──► tables
//	snapshot ──► SSTs ──IngestReplace (one manifest edit)──► tables
//
// # What it is not
//
// It does not know regions, epochs or Raft: callers pass ranges, and raftstore
// checks that keys lie in them. It never syncs on the write path.
//
// Read next: comparer.go, snapshot.go (reads), ingest.go (snapshots), then
// raftstore's apply.
package engine
