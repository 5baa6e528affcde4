// Package deadlock finds deadlocks between pessimistic transactions whose
// locks are on several stores.
//
// One store has the wait-for graph of the whole cluster: the one that leads the
// region with the empty start key. The others forward to it over kvproto's
// deadlock service.
//
//	txn ─► Detector ─┬─ this store leads: deadlock.Local
//	                 └─ another one does: stream ─► its Service ─► its deadlock.Local
//
// Unlike TiKV's detector ours answers every Detect, with an empty wait chain
// where there is no cycle, in the order of the requests: the waiter knows that
// its edge is in the graph.
//
// # Invariants
//
//   - A lost edge, or a detector that cannot be reached, costs a wait until the
//     lock wait times out; it never gives a wrong answer. A graph dies with its
//     leadership.
//   - Everything is bounded: requests under way, waits remembered, edges (by
//     deadlock.Local); hazard 24.
//
// Detector also remembers which waits this store has, for GetLockWaitInfo, and
// the last deadlocks, for GetLockWaitHistory.
//
// Read next: detector.go, forward.go, service.go; package txn/deadlock for the
// graph.
package deadlock
