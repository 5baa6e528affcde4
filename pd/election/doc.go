// Package election decides which member of PD leads. Whoever creates the leader
// key leads while its lease lasts.
//
// etcd's own leases are not used: a new etcd leader extends all of them, so that
// a dead PD leader would be waited for twice. Here a renewal is a write to a
// second key under the leader's fence, which all members see happen, and
// everybody measures with a monotonic clock of its own:
//
//	leader    sends a renewal ├────────── ttl ──────────┤ believes no longer
//	etcd                 commits it ●
//	follower               sees it    ├───────── ttl + margin ─────────┤ may depose
//
// The follower begins later and waits longer than the leader believes. It
// deposes in one transaction that compares both keys with what it saw; a renewal
// that it has not seen makes that fail, and one that comes later fails itself.
//
// # Invariants
//
//   - At any time at most one Lease is valid, however messages are delayed and
//     processes paused, as long as monotonic clocks run equally fast within
//     marginPercent.
//   - A leader that stops gives the key back after everything that leads has
//     stopped.
//
// Idea: Gray and Cheriton, Leases (SOSP 1989). Read next: election.go, and
// pd/leader.go, which has etcd's side of Store. pd/tso has the simulation.
package election
