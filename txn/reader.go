package txn

import (
	"context"
	"errors"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn/mvcc"
)

// ReaderOptions says what a Reader will read.
type ReaderOptions struct {
	TS uint64 // read timestamp; MaxUint64 reads the newest committed versions
	// Ranges are the plain user keys that will be read; an empty End is
	// unbounded. They bound what is checked against locks in memory: reading
	// elsewhere is an error of the caller. None means the whole region.
	Ranges []kv.KeyRange
}

// Reader reads one region at one timestamp. It must be closed, after its
// Scanners. Not safe for concurrent use.
type Reader struct {
	snap kv.Snapshot
	o    mvcc.ReadOptions
	get  mvcc.Getter
	enc  []byte
}

// ScanOptions bounds a scan of a Reader; Start and End are plain user keys, an
// empty End is unbounded, and both are clamped to the region.
type ScanOptions struct {
	Start, End []byte
	Desc       bool // from End downwards
	KeyOnly    bool // values are not loaded
	// LocksMax > 1 lets a *LockedError carry up to that many locks of the range
	// (LockedError.More), to be resolved together.
	LocksMax int
}

// Scanner walks the rows of a range. See mvcc.Scanner for what Next promises.
type Scanner = mvcc.Scanner

// OpenReader starts a read: it raises max_ts to the read timestamp, looks for
// locks on their way into the log, and takes the region's snapshot, in that
// order (package memlock says why). Isolation level (SI, RC or RCCheckTS),
// resolved and committed locks, replica and stale read are taken from rc. Errors
// that belong into a response are *LockedError, *NewerError (RCCheckTS only) and
// *kv.RegionError.
func (s *Store) OpenReader(ctx context.Context, rc *kvrpcpb.Context, o ReaderOptions) (*Reader, error) {
	r := &Reader{}
	if err := s.openReader(ctx, rc, o, r); err != nil {
		return nil, err
	}
	return r, nil
}

func (s *Store) openReader(ctx context.Context, rc *kvrpcpb.Context, o ReaderOptions, r *Reader) error {
	if err := s.readOptions(rc, o.TS, &r.o); err != nil {
		return err
	}
	so := kv.SnapshotOptions{ReadTS: o.TS}
	if s.mem.Len() > 0 || rc.GetReplicaRead() {
		so.Ranges = encodeRanges(o.Ranges)
		if err := s.checkMemory(so.Ranges, &r.o, rc); err != nil {
			return err
		}
	}
	if err := s.takeSnapshot(ctx, rc, so, r); err != nil {
		return err
	}
	key := r.snap.Region().GetStartKey()
	if len(o.Ranges) > 0 && len(o.Ranges[0].Start) > 0 {
		key = o.Ranges[0].Start
	}
	if err := s.checkSafePoint(key, o.TS); err != nil {
		return errors.Join(err, r.Close())
	}
	return nil
}

// openPoint is openReader for a single key.
func (s *Store) openPoint(ctx context.Context, rc *kvrpcpb.Context, ts uint64, key []byte, r *Reader) error {
	if err := s.readOptions(rc, ts, &r.o); err != nil {
		return err
	}
	so := kv.SnapshotOptions{ReadTS: ts}
	r.enc = codec.EncodeBytes(r.enc[:0], key)
	if rc.GetReplicaRead() {
		so.Ranges = []kv.KeyRange{pointRange(r.enc)}
	}
	if !r.o.IgnoreLocks && !rc.GetStaleRead() {
		strict := strictOptions(&r.o)
		if l := s.mem.CheckKey(r.enc, strict.Conflicts); l != nil {
			return strict.Error(r.enc, l)
		}
	}
	if err := s.takeSnapshot(ctx, rc, so, r); err != nil {
		return err
	}
	err := keyNotInRegion(r.snap, key, r.enc)
	if err == nil {
		err = s.checkSafePoint(key, ts)
	}
	if err != nil {
		return errors.Join(err, r.Close())
	}
	return nil
}

// readOptions raises max_ts and turns the request's context into ReadOptions.
func (s *Store) readOptions(rc *kvrpcpb.Context, ts uint64, o *mvcc.ReadOptions) error {
	switch rc.GetIsolationLevel() {
	case kvrpcpb.IsolationLevel_SI, kvrpcpb.IsolationLevel_RC, kvrpcpb.IsolationLevel_RCCheckTS:
	default:
		return unimplemented("isolation level %s; there are SI, RC and RCCheckTS", rc.GetIsolationLevel())
	}
	*o = mvcc.ReadOptions{
		TS: ts, IgnoreLocks: rc.GetIsolationLevel() == kvrpcpb.IsolationLevel_RC,
		CheckTS:     rc.GetIsolationLevel() == kvrpcpb.IsolationLevel_RCCheckTS,
		ReplicaRead: rc.GetReplicaRead(), Bypass: rc.GetResolvedLocks(), Access: rc.GetCommittedLocks(),
		Status: s.statusOf,
	}
	if rc.GetStaleRead() {
		return nil // at or below the safe ts: nothing can be committed there any more
	}
	return s.raiseMaxTS(ts)
}

// strictOptions are those for locks that are not applied yet. Their
// transactions may be committed, but what they wrote is not in a snapshot: so
// Access does not let a read pass.
func strictOptions(o *mvcc.ReadOptions) mvcc.ReadOptions {
	return mvcc.ReadOptions{TS: o.TS, CheckTS: o.CheckTS, ReplicaRead: o.ReplicaRead, Bypass: o.Bypass}
}

// checkMemory looks for conflicting locks that are not applied yet.
func (s *Store) checkMemory(ranges []kv.KeyRange, o *mvcc.ReadOptions, rc *kvrpcpb.Context) error {
	if o.IgnoreLocks || rc.GetStaleRead() {
		return nil
	}
	strict := strictOptions(o)
	for _, r := range ranges {
		if key, l := s.mem.CheckRange(r.Start, r.End, strict.Conflicts); l != nil {
			return strict.Error(key, l)
		}
	}
	return nil
}

// lockedByLeader is how an engine's Snapshot reports, on a follower, a lock
// that the leader found with CheckMemoryLocks.
type lockedByLeader interface {
	error
	LockInfo() *kvrpcpb.LockInfo
}

func (s *Store) takeSnapshot(ctx context.Context, rc *kvrpcpb.Context, so kv.SnapshotOptions, r *Reader) error {
	t := tracker.From(ctx)
	was := t.Enter(tracker.Snapshot)
	snap, err := s.engine.Snapshot(ctx, rc, so)
	t.Enter(was)
	if err != nil {
		var locked lockedByLeader
		if errors.As(err, &locked) {
			return &LockedError{Info: locked.LockInfo()}
		}
		return err
	}
	r.snap = snap
	r.get.Init(snap, &r.o)
	return nil
}

// pointRange is the range of one encoded key.
func pointRange(enc []byte) kv.KeyRange {
	end := make([]byte, len(enc)+1)
	copy(end, enc)
	return kv.KeyRange{Start: enc, End: end}
}

func encodeRanges(ranges []kv.KeyRange) []kv.KeyRange {
	if len(ranges) == 0 {
		return []kv.KeyRange{{}} // not said: everything
	}
	out := make([]kv.KeyRange, len(ranges))
	for i, r := range ranges {
		out[i].Start, out[i].End = encodeBounds(r.Start, r.End)
	}
	return out
}

// encodeBounds encodes plain bounds; an empty one stays nil (unbounded).
func encodeBounds(start, end []byte) (lower, upper []byte) {
	if len(start) > 0 {
		lower = codec.EncodeBytes(nil, start)
	}
	if len(end) > 0 {
		upper = codec.EncodeBytes(nil, end)
	}
	return lower, upper
}

// Snapshot is the snapshot that is read: for the region and the applied index.
// It stays owned by the Reader.
func (r *Reader) Snapshot() kv.Snapshot { return r.snap }

// TS is the read timestamp.
func (r *Reader) TS() uint64 { return r.o.TS }

// Get returns the value of the plain key and the timestamp it was committed at.
// ok is false when there is none. The value is valid until the next Get or Close.
func (r *Reader) Get(key []byte) (value []byte, commitTS uint64, ok bool, err error) {
	if r.o.IgnoreLocks { // else reading the lock checks the region
		r.enc = codec.EncodeBytes(r.enc[:0], key)
		if err := keyNotInRegion(r.snap, key, r.enc); err != nil {
			return nil, 0, false, err
		}
	}
	return r.get.Get(key)
}

// NewScanner returns a scanner; the caller closes it.
func (r *Reader) NewScanner(o ScanOptions) (*Scanner, error) {
	sc := &Scanner{}
	so := mvcc.ScanOptions{Desc: o.Desc, KeyOnly: o.KeyOnly, LocksMax: o.LocksMax}
	so.Lower, so.Upper = encodeBounds(o.Start, o.End)
	if err := sc.Init(r.snap, &r.o, so); err != nil {
		return nil, err
	}
	return sc, nil
}

// Close frees the snapshot.
func (r *Reader) Close() error {
	if r.snap == nil {
		return nil
	}
	err := errors.Join(r.get.Close(), r.snap.Close())
	r.snap, r.o = nil, mvcc.ReadOptions{}
	return err
}
