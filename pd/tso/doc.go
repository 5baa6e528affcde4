// Package tso hands out timestamps: 46 bits of milliseconds and 18 bits of
// counter, strictly increasing over the life of the cluster, whoever leads.
//
// It is not a clock for people: after a clock step backwards it runs ahead of
// the wall clock until that has caught up.
//
// # Invariants
//
//   - A timestamp is granted only below the window that is saved in etcd, and
//     the window is saved under the leader key's fence.
//   - A new leader starts at the saved window, so above all that was granted.
//   - Every grant checks, under the lock that orders grants, that the leader's
//     lease holds on the monotonic clock (hazard 17).
//
// # Picture
//
//	saved by the last leader          saved by this one
//	        │  start                         │
//	────────┼──►●●●●●●●●●●●●●●●●►            │
//	        │   granted      │ physical      │ never beyond
//
// Idea: Percolator's timestamp oracle (Peng and Dabek, OSDI 2010), in the shape
// of TiKV's PD. Read next: oracle.go.
package tso
