// Package mvcc has the records of multi-version concurrency control as they lie
// in the column families, and the readers over one snapshot.
//
//	family    key                                      value
//	lock      EncodeBytes(user key)                    Lock
//	write     EncodeBytes(user key) ++ desc(commit_ts) Write
//	default   EncodeBytes(user key) ++ desc(start_ts)  values longer than ShortValueBytesMax
//
// A version is visible at ts when its commit record has commit_ts <= ts and is
// the newest such Put or Delete; Lock and Rollback records are stepped over:
//
//	k@90 Rollback   k@80 Put(start 75)   k@60 Lock   k@50 Delete
//	read at 95: 75's value      read at 70: not found (60 steps to 50)
//
// A Lock or Rollback record says, where it is known, where the last change below
// it is (LastChange), so that a long run of them is jumped over.
//
// Three readers live here: Reader, what the Percolator actions look things up
// with; Getter, point gets; Scanner, ranges in both directions.
//
// It is not the place of the protocol's rules: who may write which record is
// decided in package txn. Nothing here takes latches or raises max_ts.
//
// Invariants: at most one Lock a key (a shared one is of several transactions); a commit record's value, when not inline,
// is in default under (key, start_ts); the records of a key order newest first.
//
// Formats only grow, by flags: what former builds have written stays readable.
//
// Read next: lock.go, shared.go and write.go for the formats, scanner.go for the scan.
package mvcc
