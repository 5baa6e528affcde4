package txn

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// Errors that make a request fail as a whole; gRPC services turn them into
// InvalidArgument, Unimplemented, Unavailable and Unknown.
var (
	ErrInvalidArgument = errors.New("txn: invalid argument")
	ErrUnimplemented   = errors.New("txn: not supported")
	ErrClosed          = errors.New("txn: the store is closed")
	// ErrUndetermined: the request may have committed the transaction, or may
	// do so yet. It is no region error, because client-go (up to its #2063) takes
	// the region error UndeterminedResult for the answer of its caller, and rolls
	// back what it may have committed; a call without an answer it repeats, and
	// never rolls back (hazard 23).
	ErrUndetermined = errors.New("txn: the outcome is not known")
)

// noAnswer is ErrUndetermined for a region error that says so, else nil.
func noAnswer(re *errorpb.Error) error {
	if re.GetUndeterminedResult() == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUndetermined, re.GetMessage())
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalidArgument, fmt.Sprintf(format, args...))
}

// LockedError says that a read met a lock it cannot pass.
type LockedError = mvcc.LockedError

// NewerError says that a read at the RC-check-ts level met a newer version.
type NewerError = mvcc.NewerError

func newerPB(e *NewerError) *kvrpcpb.KeyError {
	return &kvrpcpb.KeyError{Conflict: e.Conflict(), Retryable: e.Error()}
}

// keyError is a kvrpcpb.KeyError on its way to the response.
type keyError struct {
	pb *kvrpcpb.KeyError
	// lostLock marks "pessimistic lock not found": the request may still be the
	// late copy of one that was committed.
	lostLock bool
}

func (e *keyError) Error() string { return e.pb.String() }

func errLocked(info *kvrpcpb.LockInfo) error {
	return &keyError{pb: &kvrpcpb.KeyError{Locked: info}}
}

func errAbort(format string, args ...any) error {
	return &keyError{pb: &kvrpcpb.KeyError{Abort: fmt.Sprintf(format, args...)}}
}

func errLockLost(startTS uint64, key []byte, why string) error {
	return &keyError{lostLock: true, pb: &kvrpcpb.KeyError{
		Abort: fmt.Sprintf("pessimistic lock not found: transaction %d, key %x: %s; run the transaction again", startTS, key, why),
	}}
}

func errAlreadyExist(key []byte) error {
	return &keyError{pb: &kvrpcpb.KeyError{AlreadyExist: &kvrpcpb.AlreadyExist{Key: slices.Clone(key)}}}
}

func errConflict(startTS uint64, w mvcc.Write, commitTS uint64, key, primary []byte, why kvrpcpb.WriteConflict_Reason) error {
	c := &kvrpcpb.WriteConflict{
		StartTs: startTS, ConflictTs: w.StartTS, ConflictCommitTs: commitTS,
		Key: slices.Clone(key), Primary: slices.Clone(primary), Reason: why,
	}
	// Old clients look at Retryable only.
	return &keyError{pb: &kvrpcpb.KeyError{Conflict: c, Retryable: fmt.Sprintf(
		"write conflict (%s): transaction %d on key %x against transaction %d committed at %d",
		why, startTS, key, w.StartTS, commitTS)}}
}

func errPrewritten(startTS uint64, key []byte) error {
	return errAbort("pessimistic lock of transaction %d on key %x, which it has prewritten", startTS, key)
}

func errCommitted(startTS, commitTS uint64, key []byte) error {
	return errAbort("transaction %d is committed at %d on key %x; it cannot be rolled back or lock the key", startTS, commitTS, key)
}

func errTxnNotFound(startTS uint64, key []byte) error {
	return &keyError{pb: &kvrpcpb.KeyError{TxnNotFound: &kvrpcpb.TxnNotFound{StartTs: startTS, PrimaryKey: slices.Clone(key)}}}
}

func errLockNotFound(startTS, commitTS uint64, key []byte) error {
	return &keyError{pb: &kvrpcpb.KeyError{
		TxnLockNotFound: &kvrpcpb.TxnLockNotFound{Key: slices.Clone(key)},
		Retryable:       fmt.Sprintf("lock of transaction %d on key %x not found (commit at %d)", startTS, key, commitTS),
	}}
}

func errPrimaryMismatch(info *kvrpcpb.LockInfo) error {
	return &keyError{pb: &kvrpcpb.KeyError{PrimaryMismatch: &kvrpcpb.PrimaryMismatch{LockInfo: info}}}
}

// split sorts an error into the three places of a response.
func split(err error) (*errorpb.Error, *kvrpcpb.KeyError, error) {
	if err == nil {
		return nil, nil, nil
	}
	var ke *keyError
	if errors.As(err, &ke) {
		return nil, ke.pb, nil
	}
	var old *SafePointError
	if errors.As(err, &old) {
		return nil, &kvrpcpb.KeyError{Abort: old.Error()}, nil
	}
	var locked *LockedError
	if errors.As(err, &locked) {
		return nil, &kvrpcpb.KeyError{Locked: locked.Info}, nil
	}
	var newer *NewerError
	if errors.As(err, &newer) {
		return nil, newerPB(newer), nil
	}
	if re := kv.AsRegionError(err); re != nil {
		return re, nil, nil
	}
	return nil, nil, err
}

// splitMany is split for responses with a list of key errors.
func splitMany(err error) (*errorpb.Error, []*kvrpcpb.KeyError, error) {
	re, ke, err := split(err)
	if ke == nil {
		return re, nil, err
	}
	return re, []*kvrpcpb.KeyError{ke}, err
}

func busy(reason string) error {
	return &kv.RegionError{Err: &errorpb.Error{
		Message:      "server is busy: " + reason,
		ServerIsBusy: &errorpb.ServerIsBusy{Reason: reason},
	}}
}

func undetermined(err error) error {
	msg := fmt.Sprintf("the outcome of the write is not known: %v; ask for the transaction's status", err)
	return &kv.RegionError{Err: &errorpb.Error{
		Message:            msg,
		UndeterminedResult: &errorpb.UndeterminedResult{Message: msg},
	}}
}

func notLeader(regionID uint64) error {
	return &kv.RegionError{Err: &errorpb.Error{
		Message:   fmt.Sprintf("region %d: this store is not the leader any more", regionID),
		NotLeader: &errorpb.NotLeader{RegionId: regionID},
	}}
}

func unimplemented(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnimplemented, fmt.Sprintf(format, args...))
}
