package sqlfront

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	pkgerrors "github.com/pkg/errors"
	tikverr "github.com/tikv/client-go/v2/error"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/pgerror"
)

// TestHazard23_UnknownOutcomeIsNotAConflict: an undetermined commit has a code of
// its own and is never run again; what is run again was certainly not committed.
func TestHazard23_UnknownOutcomeIsNotAConflict(t *testing.T) {
	for _, tc := range []struct {
		err   error
		code  string
		again bool
	}{
		{tikverr.ErrResultUndetermined, pgerror.StatementCompletionUnknown, false},
		{pkgerrors.WithStack(tikverr.ErrResultUndetermined), pgerror.StatementCompletionUnknown, false},
		{&tikverr.ErrWriteConflict{WriteConflict: &kvrpcpb.WriteConflict{}}, pgerror.SerializationFailure, true},
		{pkgerrors.WithStack(&tikverr.ErrRetryable{Retryable: "x"}), pgerror.SerializationFailure, true},
		{&errSchemaChanged{"t"}, pgerror.SerializationFailure, true},
		{pkgerrors.New("tikv aborts txn: pessimistic lock not found: transaction 1, key 61: the key was changed since"), pgerror.SerializationFailure, true},
		{fmt.Errorf("pessimistic lock not found: %w", tikverr.ErrResultUndetermined), pgerror.StatementCompletionUnknown, false},
		{&tikverr.ErrDeadlock{Deadlock: &kvrpcpb.Deadlock{}}, pgerror.DeadlockDetected, false},
		{tikverr.ErrLockWaitTimeout, pgerror.LockNotAvailable, false},
		{fmt.Errorf("load: %w", bulkload.ErrDiskFull), pgerror.DiskFull, false},
		{tikverr.ErrLockAcquireFailAndNoWaitSet, pgerror.LockNotAvailable, false},
		{pkgerrors.WithStack(tikverr.ErrRegionUnavailable), pgerror.CannotConnectNow, false},
		{tikverr.NewErrPDServerTimeout("x"), pgerror.CannotConnectNow, false},
		{pkgerrors.WithStack(status.Error(codes.Unavailable, "no store")), pgerror.CannotConnectNow, false},
		{fmt.Errorf("get: %w", context.DeadlineExceeded), pgerror.CannotConnectNow, false},
		{&tikverr.ErrTxnTooLarge{}, pgerror.ProgramLimitExceeded, false},
		{&tikverr.ErrTxnAbortedByGC{}, "72000", false},
		{&tikverr.ErrKeyExist{AlreadyExist: &kvrpcpb.AlreadyExist{Key: []byte("x")}}, pgerror.UniqueViolation, false},
		{fmt.Errorf("wrapped: %w", pgerror.New(pgerror.DivisionByZero, "x")), pgerror.DivisionByZero, false},
		{errors.New("anything else"), pgerror.InternalError, false},
	} {
		if got := pgerror.Code(kvError(context.Background(), tc.err, nil)); got != tc.code {
			t.Errorf("%v has code %s, want %s", tc.err, got, tc.code)
		}
		if isConflict(tc.err) != tc.again {
			t.Errorf("%v is run again: %v", tc.err, !tc.again)
		}
	}
	if got := outcome(tikverr.ErrResultUndetermined); got != "unknown" {
		t.Errorf("counted as %q", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got := pgerror.Code(kvError(ctx, errors.New("connection closed"), nil)); got != pgerror.QueryCanceled {
		t.Errorf("a cancelled statement's error has code %s", got)
	}
}
