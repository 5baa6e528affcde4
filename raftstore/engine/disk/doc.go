// Package disk is what the two Pebble databases of a store (raftstore/engine
// and raftstore/raftlog) share: the format file that refuses a newer layout,
// the adapter from Pebble's logger to slog, the hook that stops the process
// on an I/O error, the watch over free space with its reserve and placeholder,
// and the metrics.
//
// It knows nothing of regions, keys or Raft.
package disk
