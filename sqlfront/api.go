package sqlfront

import (
	"context"
	"io"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// Frontend makes sessions. Errors everywhere are *pgerror.Error.
type Frontend interface {
	// Credentials returns how the user logs in, UndefinedObject-coded errors
	// (28000) for unknown users.
	Credentials(ctx context.Context, user string) (Credentials, error)
	NewSession(ctx context.Context, o SessionOptions) (Session, error)
}

// Credentials are a user's. An empty Verifier means the user has no password.
type Credentials struct {
	User string
	// Verifier is PostgreSQL's SCRAM-SHA-256$… text.
	Verifier string
}

// SessionOptions come from the client's startup message.
type SessionOptions struct {
	User, Database string
	RemoteAddr     string
	Settings       map[string]string // application_name, client_encoding, options …
}

// TxStatus is ReadyForQuery's status.
type TxStatus byte

// The transaction states.
const (
	TxIdle   TxStatus = 'I'
	TxActive TxStatus = 'T'
	TxFailed TxStatus = 'E'
)

// Session is one client's conversation. Its methods are called from one
// goroutine at a time, except Cancel.
type Session interface {
	// Parse splits and parses a query string. Statements are cached by text.
	Parse(ctx context.Context, sql string) ([]*ast.Statement, error)
	// Prepare binds a statement. paramOIDs may be shorter than the number of
	// parameters, 0 = infer. A statement that cannot be bound now is an error.
	Prepare(ctx context.Context, stmt *ast.Statement, paramOIDs []uint32) (Prepared, error)
	// Execute runs a prepared statement with one value per parameter, in the
	// type that Prepared.Params gives. The returned Result must be closed
	// before the next call. Outside BEGIN each Execute is its own transaction,
	// committed when the Result is drained or closed without error, unless
	// BeginImplicit was called.
	Execute(ctx context.Context, p Prepared, params []sqltypes.Datum) (Result, error)
	// BeginImplicit starts the implicit transaction of a multi-statement simple
	// query or of an extended-protocol run up to Sync; EndImplicit commits it
	// (ok) or rolls it back. Both are no-ops inside an explicit transaction.
	BeginImplicit(ctx context.Context) error
	EndImplicit(ctx context.Context, ok bool) error
	// Fail marks an open explicit transaction as failed, after an error that
	// the protocol layer raised itself.
	Fail()
	TxStatus() TxStatus
	// Setting returns a session setting's value as SHOW prints it.
	Setting(name string) (string, bool)
	// Reported returns the settings that ParameterStatus must tell, if one may have
	// changed since the last call; else false.
	Reported() (map[string]string, bool)
	// RegName is how a value of a reg type (regclass, regtype …) prints; false
	// where it names nothing and prints as a number. It may be called while a
	// Result is open.
	RegName(t sqltypes.Type, oid uint32) (string, bool)
	// Notices returns and clears the warnings and notices raised so far.
	Notices() []*pgerror.Error
	// Cancel interrupts the running statement, from any goroutine; 57014.
	Cancel()
	Close() error
}

// Column describes a result column.
type Column struct {
	Name string
	Type sqltypes.Type
	// TableOID and Attr locate the table column it comes from, 0 if none.
	TableOID uint32
	Attr     int16
}

// Prepared is a bound statement.
type Prepared interface {
	Statement() *ast.Statement
	Params() []sqltypes.Type
	// Columns is nil for a statement that returns no rows.
	Columns() []Column
}

// ResultKind tells the protocol layer what a Result is.
type ResultKind int

// The kinds of results.
const (
	// ResultRows has columns and batches.
	ResultRows ResultKind = iota
	// ResultDone is a command without rows.
	ResultDone
	// ResultCopyIn wants CopyFrom to be called with the client's data.
	ResultCopyIn
	// ResultCopyOut wants CopyTo to be called.
	ResultCopyOut
	// ResultEmpty is an empty query string.
	ResultEmpty
)

// CopyFormat is what CopyInResponse and CopyOutResponse announce.
type CopyFormat struct {
	Binary  bool
	Columns int
}

// Result is a running statement.
type Result interface {
	Kind() ResultKind
	Columns() []Column
	// Next returns the next batch, columns laid out as sqltypes says, or io.EOF.
	// The record is valid as long as the caller wants.
	Next(ctx context.Context) (arrow.Record, error)
	CopyFormat() CopyFormat
	// CopyFrom loads the data of r; all or nothing.
	CopyFrom(ctx context.Context, r io.Reader) error
	// CopyTo writes the data, one Write per row or block of rows.
	CopyTo(ctx context.Context, w io.Writer) error
	// Tag is the command tag ("SELECT 3"), valid after io.EOF or CopyFrom/CopyTo.
	Tag() string
	Close() error
}
