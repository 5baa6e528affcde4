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
	ReplicaRead bool // on a follower
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
)

// Conflicts reports whether a read of the encoded key has to stop at the lock.
func (o *ReadOptions) Conflicts(enc []byte, l *Lock) bool {
	return o.judge(enc, l) == lockConflict
}

func (o *ReadOptions) judge(enc []byte, l *Lock) verdict {
	if o.IgnoreLocks || l.StartTS > o.TS || l.Type == LockLock || l.Pessimistic() || l.MinCommitTS > o.TS {
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
		return lockRead
	}
	if l.Generation > 0 && o.Status != nil {
		if st, ok := o.Status(l.StartTS); ok {
			return st.judge(o.TS)
		}
	}
	return lockConflict
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
