// Package labeler gives labels to the regions of key ranges: what should not be
// scheduled (schedule=deny) or merged (merge_option=deny) for now, or for good.
// A label may run out by itself (ttl).
//
// Rules are looked up like placement rules: a region that crosses the end of a
// range has no labels until it is split there. Of two rules that give the same
// label the one with the larger index wins.
//
// # Invariants
//
//   - The rules in force are an immutable snapshot; readers take no lock.
//   - A change is saved in etcd under the leader's term before it is in force.
//
// JSON is PD's (/pd/api/v1/config/region-label). Read next: labeler.go.
package labeler
