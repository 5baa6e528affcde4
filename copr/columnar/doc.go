// Package columnar keeps the columns of regions' tables decoded, so that a scan
// need not take rows apart again. It is a cache: what a scan returns is, byte
// for byte, what the row scan (copr/scan) returns at the same timestamp.
//
//	              a table's rows in one region, in key order
//	┌───────────┬───────────┬─────────────────────────┬───────────┐
//	│ block     │ block     │ gap: not built, dropped │ block     │
//	│ index 71  │ index 90  │                         │ index 71  │
//	│ dirty b,d │ dirty     │                         │ dirty y   │
//	└───────────┴───────────┴─────────────────────────┴───────────┘
//	   columns     columns            rows               columns
//	   + b, d                                            + y
//
// A block holds, of the keys between its bounds, the newest committed version
// as of the applied index at which it was built. Its columns come and go one by
// one, in small forms (see chunk). Apply feeds it (Cache.Advanced) with the keys
// whose commit records change behind that index: they are dirty. A scan at
// timestamp ts, on a snapshot at applied index A, takes from a block the rows whose
// keys are not dirty and reads the dirty ones, and those with a lock, through its
// snapshot as every row scan does.
//
// # Why that is exact
//
// A block serves the scan only if A >= the block's index, the feed has come to
// A without a gap, and ts >= every commit timestamp in the block. Then a key
// that is neither dirty nor locked has the same commit records of the types Put
// and Delete in the snapshot as when the block was built, but for what garbage
// collection took, which no read above the safe point sees; the newest of them
// is visible at ts; and it is the block's. All that is special (versions newer
// than the scan, locks and what the reader does about them, values in the
// default family) is left to the reader. A key that is called dirty and is not
// costs a point read and changes nothing: so the feed may be ahead of the
// snapshot, and keys need no versions.
//
// A column that is read later than its block, from a snapshot at an index of its
// own that may serve the block, has for a key that is clean at that moment the
// same version. For the others it has anything. Who uses it has looked at the dirty
// keys later still, at the moment at which it found the column: what was dirty
// then still is.
//
// The state of a region at an applied index is the same on every replica, so a
// block outlives changes of leaders and members. A split and a merge, told in the
// step in which they are applied (Cache.Split, Cache.Merged), give a range the same
// data at an index of another region's log: blocks go there with their dirty keys.
// Raft's snapshots make a gap in the feed, and a range that changes untold another
// version of the region: both drop the blocks, as do range deletes (through the log
// or around it, DropRange), ingested files, and a budget that is used up.
//
// Columns know their smallest and largest value: a block of which the filter
// behind the scan takes no row is left out, but for its dirty and locked keys.
//
// # Who builds
//
// The scans themselves, from their own snapshots: one that reads all rows of a
// region builds where there are no blocks, or blocks with many dirty keys, and
// fills blocks that lack one of its columns. So there is no background work, the
// apply path only notes keys (bounded: a block with too many is dropped), and a
// block's rows are decoded when somebody reads them anyway. One scan at a time
// builds in a table of a region; the others read rows there meanwhile.
//
// # Forks
//
// The pieces of a scan (Scan.Fork) go to whoever asks first, if the plan does not
// mind the order: several cores share a snapshot and what was found of locks, dirty
// keys and columns when it was opened.
//
// What runs descending, over an index, at isolation RC or in more ranges than
// ScanRangesMax reads rows.
package columnar
