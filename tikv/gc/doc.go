// Package gc drops from a store what nobody can read any more: the collector.
//
//	PD's GC safe points ──poll──► SafePoints ──► reads below are refused
//	                                  │
//	       every region led here:     ▼
//	  skip ◄── nothing yet   scan of the write family (no lease, no wake-up)
//	                                  │ keys with garbage
//	                                  ▼
//	              txn.Collect: one entry of the Raft log, some hundred keys
//
// The scan reads what is applied here, without asking anybody; it finds
// candidates, which txn.Collect judges again under latches. So a region that
// sleeps wakes only if there is something to drop in it, one region at a time.
//
// A region is skipped while the safe point has not come to the first timestamp
// at which something in it becomes garbage, which each visit finds out. What a
// store knows about that is in memory: a region's new leader scans it once.
//
// All of it is bounded: Limits say how many bytes a second are scanned and how
// many go into the Raft log. Deletes are only marks in the data engine; the
// sweeper compacts the tables that consist of such marks to a large part.
//
// It does not move safe points (pd/gcworker does), and it does not look at raw
// data.
package gc
