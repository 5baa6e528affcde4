// Package txnsim has the tests that simulate whole clusters under transactions:
// raftstore/sim's stores, faults, network and PD, with package txn and resolved
// timestamps on every store as the storage node wires them, and the unmodified
// client-go as the client, all in one process on made-up time.
//
//	clients: list-append, bank, pairs, long fork, counters      (workload*_test.go)
//	   │ client-go: 2PC, async commit, 1PC, pessimistic, stale and follower reads
//	   ▼
//	RPC: delayed, lost, answered by stores that are stopped or dead  (rpc_test.go)
//	   ▼
//	txn.Store, resolvedts.Manager   (stores_test.go)         PD: routes, timestamps (pd_test.go)
//	   ▼
//	raftstore/sim: kills, partitions, pauses, splits, merges, transfers, snapshots
//
// Clients die, too, in the middle of what they do, and leave locks behind. In two
// runs of five garbage is collected, up to some seconds ago.
//
// After each run all locks are resolved, replicas are compared, and
// txn/mvcccheck reads all records of all keys: every read of every transaction
// must have found the version at its timestamp, every commit be whole, every
// failure leave nothing. Independently of timestamps internal/isolation looks
// for anomalies in what the clients saw.
//
// Runs repeat less well than those of raftstore/sim: client-go has goroutines
// and random pauses of its own. The event log of a failed run is kept.
package txnsim
