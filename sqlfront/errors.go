package sqlfront

import (
	"context"
	"errors"
	"strings"
	"syscall"

	tikverr "github.com/tikv/client-go/v2/error"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/kvclient"
	"github.com/copradb/copra/sqlfront/mutate"
)

// errSchemaChanged says that a table was altered between a transaction's write
// to it and its commit. The transaction was not committed.
type errSchemaChanged struct{ table string }

func (e *errSchemaChanged) Error() string {
	return "the definition of table \"" + e.table + "\" changed during the transaction"
}

// Conflicts that were noticed here: reasons to run a statement again.
var (
	errLockedNewer = errors.New("a row was changed while the statement waited for its lock, which it now has")
	errRowBusy     = errors.New("another statement of this node is writing the same row")
)

// isConflict reports whether err says that the transaction met another one's
// write: nothing was committed, and on a new snapshot it may succeed.
func isConflict(err error) bool {
	var inLatch *tikverr.ErrWriteConflictInLatch
	var retryable *tikverr.ErrRetryable
	var schema *errSchemaChanged
	return tikverr.IsErrWriteConflict(err) || errors.Is(err, errLockedNewer) || errors.Is(err, errRowBusy) || errors.As(err, &inLatch) || errors.As(err, &retryable) || errors.As(err, &schema) || lostLock(err)
}

// lockLostText is in what a store answers to a prewrite that finds its row's lock
// gone and the row changed: the transaction's heartbeats did not come through for
// longer than its locks live. client-go hands it on as text.
const lockLostText = "pessimistic lock not found"

func lostLock(err error) bool {
	return err != nil && strings.Contains(err.Error(), lockLostText) && !errors.Is(err, tikverr.ErrResultUndetermined)
}

// metLock reports whether an optimistic transaction met a lock of another one.
func metLock(err error) bool {
	var c *tikverr.ErrWriteConflict
	return errors.As(err, &c) && c.WriteConflict != nil && c.ConflictCommitTs == 0
}

// kvError words an error of the transactional client. tables are those the
// transaction wrote, to name a violated constraint.
func kvError(ctx context.Context, err error, tables []*mutate.Table) error {
	if err == nil {
		return nil
	}
	var e *pgerror.Error
	if errors.As(err, &e) {
		if c := cancelError(ctx); c != nil && e.Code == pgerror.QueryCanceled {
			return c // whoever noticed it may not know why it was cancelled
		}
		return e
	}
	if errors.Is(err, tikverr.ErrResultUndetermined) {
		return undeterminedError(err) // it may be committed, whatever else has happened since
	}
	if e := cancelError(ctx); e != nil {
		return e
	}
	var exist *tikverr.ErrKeyExist
	if errors.As(err, &exist) {
		return existError(exist, tables)
	}
	if e := conflictError(err); e != nil {
		return e
	}
	if e := limitError(err); e != nil {
		return e
	}
	return unavailableError(err)
}

// cancelError is the error of a statement whose context has ended.
func cancelError(ctx context.Context) *pgerror.Error {
	if ctx.Err() == nil {
		return nil
	}
	var e *pgerror.Error
	if errors.As(context.Cause(ctx), &e) {
		return e
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return pgerror.Wrap(ctx.Err(), pgerror.QueryCanceled, "canceling statement due to statement timeout")
	}
	return pgerror.Wrap(ctx.Err(), pgerror.QueryCanceled, "canceling statement due to user request")
}

func existError(exist *tikverr.ErrKeyExist, tables []*mutate.Table) *pgerror.Error {
	for _, t := range tables {
		if t.Owns(exist.Key) {
			return t.UniqueError(exist.Key)
		}
	}
	return pgerror.Wrap(exist, pgerror.UniqueViolation, "duplicate key value violates a unique constraint")
}

func conflictError(err error) *pgerror.Error {
	var deadlock *tikverr.ErrDeadlock
	var schema *errSchemaChanged
	switch {
	case errors.As(err, &deadlock):
		return pgerror.Wrap(err, pgerror.DeadlockDetected, "deadlock detected").WithHint("Run the transaction again.")
	case errors.As(err, &schema):
		return pgerror.Wrap(err, pgerror.SerializationFailure, "could not serialize access: %s", schema.Error()).WithHint("Run the transaction again.")
	case isConflict(err):
		return pgerror.Wrap(err, pgerror.SerializationFailure, "could not serialize access due to concurrent update").WithHint("Run the transaction again.")
	case errors.Is(err, tikverr.ErrLockAcquireFailAndNoWaitSet):
		return pgerror.Wrap(err, pgerror.LockNotAvailable, "could not obtain lock on row")
	case errors.Is(err, tikverr.ErrLockWaitTimeout):
		return pgerror.Wrap(err, pgerror.LockNotAvailable, "canceling statement due to lock timeout")
	}
	return nil
}

func undeterminedError(err error) *pgerror.Error {
	return pgerror.Wrap(err, pgerror.StatementCompletionUnknown, "it is unknown whether the transaction was committed").
		WithDetail("The store that decides did not answer: %s", err.Error()).
		WithHint("Look whether its effects are there before running it again.")
}

// tooOldText is in what a store answers to a request below its GC safe point,
// which client-go hands on as text.
const tooOldText = "GC life time is shorter than transaction duration"

func limitError(err error) *pgerror.Error {
	var (
		txn   *tikverr.ErrTxnTooLarge
		entry *tikverr.ErrEntryTooLarge
		key   *tikverr.ErrKeyTooLarge
		gc    *tikverr.ErrTxnAbortedByGC
		early *tikverr.ErrGCTooEarly
	)
	switch {
	case errors.As(err, &txn):
		return pgerror.Wrap(err, pgerror.ProgramLimitExceeded, "the transaction is larger than %d bytes", TransactionBytesMax).
			WithHint("Load data with COPY, or change fewer rows in a transaction.")
	case errors.As(err, &entry), errors.As(err, &key):
		return pgerror.Wrap(err, pgerror.ProgramLimitExceeded, "row is too big: %s", err.Error())
	case errors.As(err, &gc), errors.As(err, &early), strings.Contains(err.Error(), tooOldText):
		return pgerror.Wrap(err, pgerror.SnapshotTooOld, "snapshot too old").WithDetail("%s", err.Error()).
			WithHint("The transaction has been open for longer than old versions of rows are kept.")
	}
	return nil
}

func unavailableError(err error) *pgerror.Error {
	var pd *tikverr.ErrPDServerTimeout
	switch {
	case errors.As(err, &pd):
		return pgerror.Wrap(err, pgerror.CannotConnectNow, "the placement driver does not answer").WithDetail("%s", err.Error()).
			WithHint("See with \"copra ctl member\" whether a majority of the placement drivers is up.")
	case errors.Is(err, tikverr.ErrRegionUnavailable), errors.Is(err, tikverr.ErrTiKVServerTimeout), errors.Is(err, tikverr.ErrTiKVServerBusy),
		errors.Is(err, tikverr.ErrResolveLockTimeout), errors.Is(err, tikverr.ErrTiKVStaleCommand), errors.Is(err, tikverr.ErrTiKVMaxTimestampNotSynced),
		errors.Is(err, tikverr.ErrRegionDataNotReady), errors.Is(err, tikverr.ErrRegionNotInitialized):
		return pgerror.Wrap(err, pgerror.CannotConnectNow, "a region of the table is not available").WithDetail("%s", err.Error()).
			WithHint("See with \"copra ctl store\" which stores are down, then run the statement again.")
	case diskFull(err):
		return pgerror.Wrap(err, pgerror.DiskFull, "a store has no disk space left").WithDetail("%s", diskFullDetail(err)).
			WithHint("DELETE, TRUNCATE and DROP are let through and free room; see with \"copra ctl store\" which disks are full, and enlarge them or add stores.")
	case unanswered(err):
		return pgerror.Wrap(err, pgerror.CannotConnectNow, "the cluster did not answer in time").WithDetail("%s", err.Error()).
			WithHint("See with \"copra ctl store\" and \"copra ctl member\" what is down, then run the statement again.")
	}
	return pgerror.From(err)
}

func diskFull(err error) bool {
	_, refused := kvclient.DiskFull(err)
	return refused || errors.Is(err, tikverr.ErrTiKVDiskFull) || errors.Is(err, bulkload.ErrDiskFull) || errors.Is(err, syscall.ENOSPC)
}

func diskFullDetail(err error) string {
	if reason, ok := kvclient.DiskFull(err); ok {
		return reason
	}
	return err.Error()
}

// unanswered tells the errors of requests that no one answered, which client-go
// passes on from gRPC as they are.
func unanswered(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err) // of what it wraps, too
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}
