// Package pd is copra's placement driver: the one place that knows where the
// regions are, what time it is, and which store should hold what. It speaks
// TiKV's PD protocol (kvproto's pdpb) to stores and clients, and pd-ctl's HTTP.
//
// It is not on the data path: clients cache regions, and a cluster goes on
// serving what needs no new timestamp, region or id while PD restarts.
//
// # Picture
//
//	one client port: PD gRPC ─┐   etcd gRPC ─┐   HTTP ─┐
//	┌──────────────────────────▼─────────────▼─────────▼─────┐
//	│ Server   embedded etcd member, election, GetMembers    │
//	│   └─ term   all that exists only while this one leads: │
//	│        fence    etcd writes guarded by the leader key  │
//	│        tso      timestamps       idalloc   ids         │
//	│        cluster  stores, regions  schedule  operators   │
//	│        gcstate  safe points      keyspace  keyspaces   │
//	└────────────────────────────────────────────────────────┘
//
// # Invariants
//
//   - State lives in etcd. A leader's memory is made anew at the start of its
//     term from etcd and dropped at its end; nothing carries over.
//   - Every write of state compares the leader key's create revision, and every
//     answer that depends on leading checks the lease (hazard 17).
//   - Ids and timestamps are never given twice.
//
// # Names in etcd
//
//	/pd/cluster_id                          made once
//	/pd/<cluster>/leader                    who leads, bound to the lease
//	/pd/<cluster>/timestamp                 end of the TSO window, milliseconds
//	/pd/<cluster>/alloc_id                  end of the reserved ids
//	/pd/<cluster>/raft                      the bootstrapped cluster
//	/pd/<cluster>/raft/s/<id>, …/r/<id>     stores, regions
//	/pd/<cluster>/config                    settings changed at run time
//	/pd/<cluster>/scheduler_config/<name>   schedulers added, removed or changed at run time
//	/pd/<cluster>/rules/…, …/rule_group/…   placement rules
//	/pd/<cluster>/region_label/…            labels of key ranges
//	/pd/<cluster>/schedule/store_weight/…   weights of stores
//	/pd/<cluster>/gc/…, …/keyspaces/…       packages gcstate and keyspace
//	/tidb/store/gcworker/saved_safe_point   transaction safe point (older clients read it)
//
// Read next: server.go, leader.go, term.go, cluster.go, then the packages below.
package pd
