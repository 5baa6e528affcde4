// Package raftstore keeps regions: contiguous key ranges, each replicated by a
// Raft group of its own, many on one store.
package raftstore
