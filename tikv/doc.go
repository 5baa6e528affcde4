// Package tikv is the storage node: it opens the disks, joins the cluster,
// serves TiKV's gRPC API, and wires together what does the work.
//
//	clients ─► gRPC server ─► Service ─┬─► txn.Store ──┐
//	SQL, in process ──────────┘        ├─► raw.Service ┼─► raftstore.Store ─► engine, raftlog
//	other stores ─► transport, deadlock┘               │
//	PD ◄─ heartbeats, max_ts ◄─────────────────────────┤
//	other stores ◄─ CheckLeader ◄─ resolvedts ◄────────┘
//
// # Start
//
//	lock the directory ─► open the databases ─► find PD ─► identity
//	   ─► first region, if the cluster has none ─► PutStore ─► serve
//
// The identity (cluster id, store id) is a file. The first region of a cluster
// is claimed in PD by exactly one store; a marker file remembers the claim
// until it has been settled, so a crash in between neither loses the region
// nor makes a second one.
//
// # Invariants
//
//   - A data directory belongs to one store of one cluster, and one process.
//   - Requests of another cluster are refused (InvalidArgument).
//   - Transactional V1 clients neither see nor touch V2's keyspaces; see
//     command.go and scan_v1.go.
//   - What a client wants passed on to another store goes to addresses that PD
//     knows only, once; see forward.go.
//   - A message of kvproto owns its bytes; see codec.go.
//   - An error inside a BatchCommands stream answers its own request only.
//   - No async commit before max_ts was synchronised with PD in the term;
//     see observer.go (hazard 18).
//
// # What it is not
//
// No consensus, no MVCC: raftstore and txn. No coprocessor: copr brings its own
// service by Config.ExtraServices.
//
// Read next: node.go, then service.go and commands_txn.go, batch_commands.go.
package tikv
