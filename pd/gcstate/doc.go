// Package gcstate keeps the safe points of garbage collection.
//
//	gc safe point ≤ transaction safe point ≤ every barrier
//
// Old versions may be removed below the GC safe point; no transaction may start
// or read below the transaction safe point; a barrier (a backup, a change feed,
// a long transaction) keeps the transaction safe point at or below itself until
// it is deleted or its time is over. Safe points never go back.
//
// It does not move anything by itself, pd/gcworker does, and collects nothing: the
// stores do (tikv/gc).
//
// State is in etcd and is read from there on every call, since older clients
// write the transaction safe point's key themselves. A keyspace has safe points
// of its own only where its configuration says so; all others share those of
// NullKeyspace.
package gcstate
