package mvcc

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"github.com/copradb/copra/internal/codec"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// TxnStatus is what is known of another transaction without asking its primary.
type TxnStatus struct {
	CommitTS    uint64 // not 0: committed
	MinCommitTS uint64 // not 0: will not commit below
	RolledBack  bool
}

// ReadOptions says at which timestamp is read and how locks are treated.
type ReadOptions struct {
	TS          uint64
	IgnoreLocks bool // read committed: newest committed version, locks don't matter
	// CheckTS is the RC-check-ts level: a committed or prewritten version newer
	// than TS is a *NewerError.
	CheckTS     bool
	ReplicaRead bool // on a follower
	// NeedCommitTS forbids to read a value from a lock: its commit timestamp is
	// not known there.
	NeedCommitTS bool
	// Bypass are transactions whose locks don't matter to this read (rolled
	// back, or committed after TS); Access are committed at or before TS: their
	// locks are read as if committed.
	Bypass, Access []uint64
	// Status looks up what was broadcast about a large transaction; nil: nothing.
	Status func(startTS uint64) (TxnStatus, bool)
}

// verdict is what a read does with a lock it meets.
type verdict byte

const (
	lockIgnored verdict = iota
	lockRead            // read the lock's value as committed
	lockConflict
	lockNewer // with CheckTS: a version that may be newer
)

// Conflicts reports whether a read of the encoded key has to stop at the lock.
func (o *ReadOptions) Conflicts(enc []byte, l *Lock) bool {
	return o.judge(enc, l) >= lockConflict
}

func (o *ReadOptions) judge(enc []byte, l *Lock) verdict {
	if o.IgnoreLocks || l.Type == LockLock || l.Pessimistic() || l.Shared() {
		return lockIgnored
	}
	if o.CheckTS {
		if slices.Contains(o.Bypass, l.StartTS) {
			return lockIgnored
		}
		return lockNewer
	}
	if l.StartTS > o.TS || l.MinCommitTS > o.TS {
		return lockIgnored
	}
	if slices.Contains(o.Bypass, l.StartTS) {
		return lockIgnored
	}
	// A read of the newest version may pass a primary's lock: it is not
	// committed until its commit record is written, and if this read is first,
	// it comes first. Not so for async commit and 1PC, which may be committed
	// already, nor on a follower, which may be behind (hazard 20).
	if o.TS == math.MaxUint64 && !o.ReplicaRead && !l.UseAsyncCommit && !l.UseOnePC && isEncodingOf(enc, l.Primary) {
		return lockIgnored
	}
	if slices.Contains(o.Access, l.StartTS) {
		return o.fromLock()
	}
	if l.Generation > 0 && o.Status != nil {
		if st, ok := o.Status(l.StartTS); ok {
			if v := st.judge(o.TS); v != lockRead {
				return v
			}
			return o.fromLock()
		}
	}
	return lockConflict
}

func (o *ReadOptions) fromLock() verdict {
	if o.NeedCommitTS {
		return lockConflict
	}
	return lockRead
}

// newerRecord is the error of a CheckTS read that finds the record (commitTS, w)
// above its timestamp; nil if the record changes no data that a read at TS has
// not seen. It may say "not known" (ok is false): then older records decide.
func (o *ReadOptions) newerRecord(enc []byte, commitTS uint64, w *Write) (err *NewerError, ok bool) {
	c := LastChangeHint(commitTS, w)
	if c.TS <= o.TS {
		return nil, c.Known()
	}
	e := &NewerError{TS: o.TS, CommitTS: c.TS}
	if c.TS == commitTS {
		e.StartTS = w.StartTS
	}
	return newerError(enc, e), true
}

func (st TxnStatus) judge(ts uint64) verdict {
	switch {
	case st.RolledBack, st.CommitTS > ts, st.MinCommitTS > ts:
		return lockIgnored
	case st.CommitTS != 0:
		return lockRead
	}
	return lockConflict
}

// isEncodingOf reports enc == EncodeBytes(key) without building the encoding.
func isEncodingOf(enc, key []byte) bool {
	if len(enc) != codec.EncodedBytesLen(len(key)) {
		return false
	}
	var group [9]byte
	for len(key) >= 8 {
		if !bytes.Equal(enc[:8], key[:8]) || enc[8] != 0xFF {
			return false
		}
		enc, key = enc[9:], key[8:]
	}
	return bytes.Equal(enc, codec.EncodeBytes(group[:0], key))
}

// IsEncodingOf reports whether enc is the encoding of the plain key: the test
// "is this key the primary".
func IsEncodingOf(enc, key []byte) bool { return isEncodingOf(enc, key) }

// LockedError says that a read met locks it cannot pass.
type LockedError struct {
	Info *kvrpcpb.LockInfo
	// More are further conflicting locks of the range, when the scan was asked
	// to collect them.
	More []*kvrpcpb.LockInfo
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("key %x is locked by transaction %d (primary %x)", e.Info.Key, e.Info.LockVersion, e.Info.PrimaryLock)
}

func lockedError(enc []byte, l *Lock) (*LockedError, error) {
	key, _, err := codec.DecodeBytes(nil, enc)
	if err != nil {
		return nil, fmt.Errorf("%w: lock key %x", ErrCorrupt, enc)
	}
	return &LockedError{Info: l.Info(key)}, nil
}

// NewerError says that a read at the RC-check-ts level met a version, or a lock
// that may become one, that is newer than its timestamp.
type NewerError struct {
	Key         []byte // plain
	Primary     []byte // of a lock
	TS, StartTS uint64 // of the read; of the other transaction, 0 if not known
	CommitTS    uint64 // 0 for a lock
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("key %x has a version of transaction %d (commit timestamp %d) newer than the read at %d; read again at a new timestamp",
		e.Key, e.StartTS, e.CommitTS, e.TS)
}

// Conflict is the error as clients see it.
func (e *NewerError) Conflict() *kvrpcpb.WriteConflict {
	return &kvrpcpb.WriteConflict{
		StartTs: e.TS, ConflictTs: e.StartTS, ConflictCommitTs: e.CommitTS,
		Key: e.Key, Primary: e.Primary, Reason: kvrpcpb.WriteConflict_RcCheckTs,
	}
}

func newerError(enc []byte, e *NewerError) *NewerError {
	e.Key, _, _ = codec.DecodeBytes(nil, enc)
	return e
}

// Error is the error of a lock that Conflicts said is in the way: a *NewerError
// with CheckTS, else a *LockedError.
func (o *ReadOptions) Error(enc []byte, l *Lock) error {
	if o.CheckTS {
		return newerError(enc, &NewerError{TS: o.TS, StartTS: l.StartTS, Primary: slices.Clone(l.Primary)})
	}
	locked, err := lockedError(enc, l)
	if err != nil {
		return err
	}
	return locked
}
