// Package txn is the transactional store: multi-version concurrency control
// and the server side of Percolator, speaking TiKV's requests (kvrpcpb). A
// Store has one method per request; the storage node hands requests in, the
// replicated store is behind kv.Engine.
//
//	             KvPrewrite, KvCommit, …            KvGet, KvScan, OpenReader
//	                    │                                     │
//	  command:  latches │ snapshot │ check │ write            │ max_ts, memlock, snapshot
//	  ┌─────────┬───────┴──┬───────┴──┐                       │
//	latch    memlock    lockwait   deadlock                 mvcc (Getter, Scanner)
//	          max_ts     pessimistic                          │
//	            └──────────────► kv.Engine (one region) ◄─────┘
//
// A write command takes the latches of its keys, reads a snapshot, decides,
// writes one batch and keeps the latches until the batch is applied or is known
// not to be. It sends the snapshot's term along, so that a batch checked under
// one leadership is never written under another.
//
// The transaction protocol in short. A transaction is named by its start_ts;
// one of its keys is the primary, whose commit record decides.
//
//	2PC            prewrite all keys ─ commit primary ─ commit the others
//	async commit   prewrite all keys (the primary lists the others): committed
//	               as soon as all locks are there, at max(min_commit_ts)
//	1PC            prewrite writes commit records at once
//	pessimistic    acquire locks first, prewrite turns them into real locks
//	pipelined      KvFlush prewrites in generations while the statement runs
//	shared         pessimistic locks of several transactions on one key, which
//	               none of them changes; committed in two phases
//
// Invariants:
//   - at most one lock record a key, of one transaction, or shared by several
//     that leave the key as it is; a key's lock and its commit record of the same
//     transaction exist together only as the residue of a late request, and the
//     record wins;
//   - a transaction never commits below the min_commit_ts of its primary lock;
//   - a reader at ts that passed a lock because of its min_commit_ts > ts is
//     never proved wrong, hence max_ts (package memlock);
//   - a rollback record on a primary is protected: no later prewrite passes it
//     (hazards 21, 22);
//   - a write whose outcome is not known is answered UndeterminedResult, or not
//     at all (ErrUndetermined) if it may have committed, but never as failed
//     (hazard 23); requests are idempotent, so the client can ask again.
//
// What it is not: no Raft, no gRPC, no transaction files (refused by name).
// Pessimistic locks are always replicated, never kept in memory only (hazard 24).
//
// Methods answer region and key errors inside the response. A Go error means
// that there is no answer: ErrInvalidArgument, ErrUnimplemented, ErrClosed, a
// context's error, or storage that failed.
//
// Read next: command.go, prewrite.go, prewrite_key.go; docs of package mvcc for
// the records; hazards 18 to 25 of the design's list.
package txn
