package arrowflight

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/pgerror"
)

// toStatus maps a SQL error to a gRPC status. The SQLSTATE stands in the
// message, where drivers show it.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return status.Error(codes.Canceled, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	e := pgerror.From(err)
	msg := e.Message
	if e.Detail != "" {
		msg += "; " + e.Detail
	}
	if e.Hint != "" {
		msg += "; hint: " + e.Hint
	}
	return status.Error(grpcCode(e.Code), msg+" (SQLSTATE "+e.Code+")")
}

func grpcCode(sqlstate string) codes.Code {
	switch sqlstate {
	case pgerror.FeatureNotSupported:
		return codes.Unimplemented
	case pgerror.UndefinedTable, pgerror.UndefinedObject, pgerror.InvalidSchemaName, pgerror.InvalidCatalogName:
		return codes.NotFound
	case pgerror.UniqueViolation, pgerror.DuplicateTable, pgerror.DuplicateObject:
		return codes.AlreadyExists
	case pgerror.QueryCanceled:
		return codes.Canceled
	case pgerror.InsufficientPrivilege:
		return codes.PermissionDenied
	case pgerror.StatementCompletionUnknown, pgerror.TransactionResolutionUnknown:
		return codes.Unknown
	}
	switch {
	case strings.HasPrefix(sqlstate, "28"):
		return codes.Unauthenticated
	case strings.HasPrefix(sqlstate, "40"):
		return codes.Aborted
	case strings.HasPrefix(sqlstate, "53"), strings.HasPrefix(sqlstate, "54"):
		return codes.ResourceExhausted
	case strings.HasPrefix(sqlstate, "57"), strings.HasPrefix(sqlstate, "08"):
		return codes.Unavailable
	case strings.HasPrefix(sqlstate, "22"), strings.HasPrefix(sqlstate, "42"):
		return codes.InvalidArgument
	case strings.HasPrefix(sqlstate, "23"), strings.HasPrefix(sqlstate, "25"), strings.HasPrefix(sqlstate, "55"):
		return codes.FailedPrecondition
	}
	return codes.Internal
}
