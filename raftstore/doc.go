// Package raftstore keeps regions: contiguous key ranges, each replicated by a
// Raft group of its own, many on one store. It implements kv.Engine.
//
// # A write, a read
//
//	caller      Write ─────────────────────────────────────────────► answer
//	             │ mail                                               ▲
//	Raft worker  └► RawNode ► Ready ┬► messages to other stores       │
//	                    ▲           ├► log task        apply task ────┤
//	log writer          │           └────► one synced      ▲          │
//	                    └── responses ◄─── commit of all   │          │
//	                                       regions      committed     │
//	apply worker                                           └► one batch of many
//	                                                          regions + indexes
//
//	caller      Snapshot: role, epoch, lease ► engine snapshot ► all of it again
//	            without a lease: read index (one for all that wait), then the same
//	            a stale read: epoch, safe timestamp ► engine snapshot ► epoch again
//
// A fixed pool of workers drives all regions (sched.go): no region has a
// goroutine or a timer. A peer belongs to one Raft worker and one apply worker
// at a time; they talk by mail (mailbox.go), and publish what readers need
// through atomics.
//
// # Invariants
//
//   - Nothing is promised before it is durable: responses leave behind the
//     synced commit that holds what they promise (logwriter.go).
//   - The data engine has no log of its own. Its applied index is in the batch
//     of the data (apply.go), the log is truncated behind what is durably
//     applied (loggc.go), so after a crash it is behind the log, never before.
//   - Apply depends on the entry and the region alone; the epoch is checked at
//     propose and again at apply.
//   - Ranges on a store never overlap. One map under the store's lock has them,
//     with those of snapshots on their way; a split or a merge passes a range
//     on in one step (ranges.go, split.go, mergecommit.go).
//   - A region's epoch and the record of the regions it has consumed change
//     together, so whoever knows its state knows what became of a merge.
//   - A lease is valid only while a quorum is known to refuse other leaders
//     (lease.go).
//   - A peer id that has ended never comes back (destroy.go).
//   - A peer that sleeps costs nothing; sleep neither makes a lease longer nor a
//     promise not to vote shorter (hibernate.go, adr 5).
//
// # What it is not
//
// It knows nothing of transactions, MVCC or coprocessors, and speaks no gRPC:
// Transport and PD are interfaces.
//
// # Files
//
//	store.go, load.go        the store, and how it starts
//	peer.go, ready.go        what a Raft worker does
//	storage.go               raft.Storage with the entry cache
//	propose.go, apply.go     writes
//	read.go, readindex.go, lease.go   reads
//	staleread.go             reads at timestamps that are safe, see tikv/resolvedts
//	split.go, splitcheck.go, loadsplit.go, membership.go, loggc.go   commands
//	merge.go, mergemsg.go, mergecommit.go, mergestop.go   two regions become one
//	snapshot.go, snapshotrecv.go, mergesnap.go   peers that lag too far
//	route.go, destroy.go     messages for peers that are not here, and the end
//	hibernate.go, awake.go, signal.go   idle regions fall asleep and wake up
//	liveness.go, patrol.go   who notices that a sleeper's leader is gone
//	sleepcheck.go            sleepers ask whether they are still members
//	lazy.go                  peers that are loaded when they are needed
//	handover.go              a store that stops gives its leaders away
//	report.go                heartbeats to PD
//
// Read next: raftstore/engine and raftstore/raftlog (the two databases),
// raftstore/local (the transport inside a process), raftstore/rafttest (whole
// clusters in a test).
package raftstore
