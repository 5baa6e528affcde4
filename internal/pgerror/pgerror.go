package pgerror

import (
	"errors"
	"fmt"
)

// Error is an ErrorResponse or NoticeResponse in the making. Position counts
// characters of the statement from 1; 0 is unknown.
type Error struct {
	Severity   string // "ERROR" when empty; "FATAL" ends the session
	Code       string // SQLSTATE, one of the Code constants
	Message    string
	Detail     string
	Hint       string
	Position   int
	Where      string // context, e.g. "COPY lineitem, line 3, column l_tax"
	Schema     string
	Table      string
	Column     string
	DataType   string
	Constraint string
	Cause      error
}

func (e *Error) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New makes an error with a formatted message.
func New(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error with a cause, which is kept out of the message.
func Wrap(cause error, code, format string, args ...any) *Error {
	e := New(code, format, args...)
	e.Cause = cause
	return e
}

// Unsupported refuses a feature by its name, with 0A000.
func Unsupported(feature string) *Error {
	return New(FeatureNotSupported, "%s is not supported by copra", feature)
}

// At sets the position (1-based, in characters) and returns e.
func (e *Error) At(position int) *Error { e.Position = position; return e }

// WithDetail sets the detail and returns e.
func (e *Error) WithDetail(format string, args ...any) *Error {
	e.Detail = fmt.Sprintf(format, args...)
	return e
}

// WithHint sets the hint and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// From returns the *Error inside err, or err as an internal error (XX000).
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Wrap(err, InternalError, "%s", err.Error())
}

// Code returns the SQLSTATE of err; XX000 when it has none.
func Code(err error) string { return From(err).Code }
