// Package mvcccheck verifies what is stored: it is given all records of all
// keys, when nobody writes any more and all locks are resolved, and says where
// they are not the result of transactions.
//
//	kv.Reader (a snapshot)  ─┐
//	MvccGetByKey (a store)  ─┴─► History ─► Verify: the records alone
//	                                     ─► Check: beside what a client knows
//
// Verify finds transactions that were committed at two timestamps, or committed
// here and rolled back there; locks that are left; commit records whose value is
// gone and values without one; and two transactions that ran at the same time
// and both wrote a key. Check compares a transaction's reads with the versions at
// its timestamp, and its writes with the records: all of them if it was committed, all
// or none if its client doesn't know, none if it failed.
//
// What it is not: it says nothing about versions that garbage collection has
// removed (History.SafePoint).
//
// Read next: history.go, verify.go.
package mvcccheck
