// Package resolvedts finds out, for the regions that a store leads, up to which
// timestamp nothing will be committed any more, and tells all their replicas:
// below it they serve reads on their own (stale reads).
//
//	every interval, once for all regions:
//
//	1 ts from PD ─► 2 max_ts raised to it, floor of locks in memory
//	   ─► 3 leaders of this store, as they are now
//	   ─► 4 CheckLeader to the other stores: is this still the leader you know?
//	        (the request carries what was resolved last time)
//	   ─► 5 where a quorum agreed: min(ts, floor, oldest lock in the log)
//
//	raftstore ─ Applied ─► tracker of the region: its locks, up to an index
//
// # Why that is right
//
// Whoever committed at or below ts without being in the log yet when the answer
// is computed had either prewritten before ts was given out, so its locks were
// acknowledged by then: they are in the tracker, since Applied comes before the
// acknowledgement, and the tracker began with a leader's read. Or it computes its
// commit timestamp (async commit, 1PC): then it is in memory at step 2, or
// computes a larger one. Or another peer leads, which was elected after step 4
// and raises max_ts with a timestamp of PD's before it lets such transactions in
// (hazard 18). Steps 3 and 4 come after 1 for that.
//
// The result is a raftstore.ReadState and holds for ever, also when this peer
// leads no longer. It names the version of the region's epoch: steps 3 and 4 show
// that nobody had split or merged the region before ts was given out.
//
// # Invariants
//
//   - No message of Raft is sent and no peer is woken, so that regions at rest
//     stay at rest.
//   - Memory for locks is bounded (lockBytesMax). A region beyond it stops
//     to advance until a later scan fits; reads go to its leader meanwhile.
//   - Pessimistic locks and locks without a write do not count: they commit
//     nothing. A large (pipelined) transaction counts with one key, see locks.
//   - A tracker that misses a lock would make a stale read meet that lock, never
//     miss a row: stale reads check locks as all reads do.
//
// It knows no gRPC and no PD: Options has functions for both.
//
// Read next: advance.go, tracker.go, locks.go; raftstore/staleread.go for the
// replicas' side.
package resolvedts
