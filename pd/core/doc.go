// Package core is PD's picture of the cluster: regions by key and by id, and
// stores. Regions are memory fed by heartbeats; an older report never replaces
// a newer one.
//
// It is not where they are persisted (pd/cluster) and decides nothing about
// them (pd/schedule).
//
// # Invariants
//
//   - The regions in the tree never overlap: what a newer region covers is
//     removed. Holes are possible (a region just split and not yet reported).
//   - A *Region and a *Store are never changed once they are in here: a reader
//     keeps what it got, without a lock.
//
// # Epochs
//
// version grows with every split and merge, conf_ver with every change of
// peers. A report is stale when a region it overlaps has a larger version, or
// when the same region has a larger version or conf_ver.
//
// # Cost
//
// A heartbeat that changes nothing but figures takes the lock of one shard of
// 256 and one allocation; figures per store are atomics. Nothing walks all
// regions under a lock.
//
// Read next: regions.go, index.go.
package core
