package kv

import (
	"context"
	"errors"
	"io"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
)

// CF is a column family. Its value is the prefix byte of its keys in the data
// engine, so the order of the constants is the order on disk.
type CF byte

// The column families, named as in TiKV.
const (
	CFDefault CF = 'd'
	CFLock    CF = 'l'
	CFRaw     CF = 'r'
	CFWrite   CF = 'w'
)

// CFs lists every family, in disk order.
var CFs = [...]CF{CFDefault, CFLock, CFRaw, CFWrite}

// String returns TiKV's name of the family.
func (cf CF) String() string {
	switch cf {
	case CFDefault:
		return "default"
	case CFLock:
		return "lock"
	case CFRaw:
		return "raw"
	case CFWrite:
		return "write"
	}
	return "unknown"
}

// Valid reports whether cf is one of the families above.
func (cf CF) Valid() bool {
	return cf == CFDefault || cf == CFLock || cf == CFRaw || cf == CFWrite
}

// ErrNotFound is returned by Snapshot.Get for a key that does not exist.
var ErrNotFound = errors.New("kv: key not found")

// IterOptions bounds an iterator to [Lower, Upper) within one family. A nil
// bound means the region's own bound. Bounds outside the region are clamped.
type IterOptions struct {
	Lower, Upper []byte
	// KeyOnly promises that Value is not called.
	KeyOnly bool
}

// Iterator walks one column family of a snapshot. It starts unpositioned.
// Key is without the family prefix. Not safe for concurrent use.
type Iterator interface {
	First() bool
	Last() bool
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Valid() bool
	Key() []byte
	Value() ([]byte, error)
	Error() error
	Close() error
}

// Reader reads one consistent state of the data. Implementations check that a
// key lies inside the region and return a *RegionError (KeyNotInRegion) if not.
type Reader interface {
	// Get returns the value of key, or ErrNotFound. The value is valid until
	// the closer is closed; the closer is nil when err is not nil.
	Get(cf CF, key []byte) (value []byte, closer io.Closer, err error)
	// NewIter returns an iterator over the family. The caller closes it before
	// it closes the snapshot.
	NewIter(cf CF, o IterOptions) (Iterator, error)
}

// Snapshot is one consistent state of one region, read under a valid lease or
// after a read index. It must be closed.
type Snapshot interface {
	Reader
	// Region is the region as of the snapshot. Read-only.
	Region() *metapb.Region
	// Term is the Raft term in which the snapshot was taken on the leader
	// (0 on a follower).
	Term() uint64
	// AppliedIndex is the Raft index the snapshot includes: it changes exactly
	// when the region's data may have changed.
	AppliedIndex() uint64
	// MaxTSSynced reports whether, in this term, the store's max_ts was
	// synchronised with PD; without it no async commit and no 1PC (hazard 18).
	MaxTSSynced() bool
	Close() error
}

// SnapshotOptions says what the snapshot will be read for.
type SnapshotOptions struct {
	// ReadTS is the timestamp of the reads, or 0. A follower read sends it to
	// the leader with the read index, which checks its in-memory locks against
	// it over Ranges (hazard 20).
	ReadTS uint64
	// Ranges are the encoded key ranges that will be read.
	Ranges []KeyRange
}

// KeyRange is [Start, End); an empty End is unbounded.
type KeyRange struct{ Start, End []byte }

// Engine is a store of replicated regions. Both methods check the context's
// region id, peer, epoch and term against the local peer and return a
// *RegionError where they do not fit.
type Engine interface {
	// Snapshot gives a linearizable view of the region.
	Snapshot(ctx context.Context, rc *kvrpcpb.Context, o SnapshotOptions) (Snapshot, error)
	// Write replicates the batch and returns when it is applied on the leader.
	// The batch must not be changed until then. A *RegionError other than
	// UndeterminedResult says that the batch was not and will not be applied;
	// any other error, ctx's included, that the outcome is unknown.
	Write(ctx context.Context, rc *kvrpcpb.Context, b *Batch) error
}

// RegionError carries an errorpb.Error through Go code; services put it into
// the response's region_error.
type RegionError struct{ Err *errorpb.Error }

func (e *RegionError) Error() string {
	if e.Err.Message != "" {
		return e.Err.Message
	}
	return e.Err.String()
}

// AsRegionError returns the errorpb.Error inside err, or nil.
func AsRegionError(err error) *errorpb.Error {
	if err == nil {
		return nil // before re, which errors.As moves to the heap
	}
	var re *RegionError
	if errors.As(err, &re) {
		return re.Err
	}
	return nil
}
