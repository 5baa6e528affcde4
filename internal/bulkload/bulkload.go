// Package bulkload is what a bulk load's two sides have in common: the SQL layer,
// which has rows as keys and values in large sorted runs, and the stores, which
// take them as files instead of writes (tikv/importer).
//
//	Begin(start_ts, commit_ts) ─► Job
//	  sorted run ─► Writer ─► Table   (a file, and its span of keys)
//	  overlapping Tables ─► Merge ─► Tables that don't overlap
//	  Tables of one region ─► Ingest, on all of its replicas
//
// Keys are complete transactional keys (with the keyspace), not yet encoded. All
// keys of a job are written as if one transaction had committed them, so that a
// reader below commit_ts doesn't see them; nothing is checked against what is
// there. The caller has to see to it that nobody else reads or writes the range
// meanwhile.
package bulkload

import (
	"context"
	"errors"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// ErrDiskFull is in the errors of a Job when a store has no room for its tables.
var ErrDiskFull = errors.New("no room for the files of a bulk load")

// Loader makes files that stores ingest.
type Loader interface {
	// Reaches reports whether the loader can hand files to the store.
	Reaches(storeID uint64) bool
	// Begin starts a load. The job must be closed.
	Begin(startTS, commitTS uint64) (Job, error)
}

// Job is one load. Its methods may be called concurrently; a Writer's may not.
type Job interface {
	// NewTable starts a table.
	NewTable() (Writer, error)
	// Merge makes tables of the keys of in that lie in [lower, upper) (nil:
	// unbounded), each of about tableBytes of keys and values. A key that occurs
	// twice is a *DuplicateError.
	Merge(ctx context.Context, in []Table, lower, upper []byte, tableBytes int64) ([]Table, error)
	// Drop removes tables.
	Drop(tables []Table)
	// Ingest adds tables, which lie in the region, to it. A *kv.RegionError means
	// that nothing was done: look the region up and try again. After any other
	// error trying again is harmless, too: to ingest a table twice is to ingest it
	// once.
	Ingest(ctx context.Context, region *metapb.Region, tables []Table) error
	// Close removes what the job still has.
	Close()
}

// Writer writes one table.
type Writer interface {
	// Add appends a key, greater than the last one. The slices stay the caller's.
	Add(key, value []byte) error
	Finish() (Table, error)
	// Abort ends a writer that is not wanted; after Finish it does nothing.
	Abort()
}

// Table is a finished table.
type Table struct {
	ID          uint64 // in its job
	First, Last []byte // keys
	Keys        int64
	Bytes       int64 // of keys and values
}

// DuplicateError says that a key occurs twice.
type DuplicateError struct{ Key []byte }

func (e *DuplicateError) Error() string { return fmt.Sprintf("key %x occurs twice", e.Key) }
