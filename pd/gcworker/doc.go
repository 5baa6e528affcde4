// Package gcworker drives garbage collection: in every cluster the leader of PD
// moves the safe points, so that nobody has to.
//
//	target = now - gc-life-time
//	  │  AdvanceTxnSafePoint: no further than barriers and running transactions
//	  ▼
//	resolve every lock with start_ts <= it, in all regions, memory included
//	  │
//	  ▼
//	AdvanceGCSafePoint ──► stores ask for it, and drop what it covers (tikv/gc)
//
// SQL nodes delete the data of dropped tables when the transaction safe point has
// passed the drop. Why all this runs at PD: docs/adr/0007.
//
// It stands back while somebody else moves the safe points (TiDB's GC worker, an
// application that calls client-go's KVStore.GC), and does nothing when it is
// switched off. It touches no data itself: locks are resolved by a Resolver.
package gcworker
