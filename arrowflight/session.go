package arrowflight

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
)

const defaultUser = "root"

// transaction is a session between BeginTransaction and EndTransaction.
type transaction struct {
	mu      sync.Mutex // one request at a time
	session sqlfront.Session
	used    time.Time
	done    bool
}

func newHandle() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// openSession makes a session for the caller. Users who have a password are
// refused until this endpoint checks passwords itself.
func (s *Server) openSession(ctx context.Context) (sqlfront.Session, error) {
	user := defaultUser
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		if v := md.Get("username"); len(v) > 0 && v[0] != "" {
			user = v[0]
		}
		for _, v := range md.Get("authorization") {
			if strings.HasPrefix(v, "Basic ") {
				name, err := basicUser(v)
				if err != nil {
					return nil, err
				}
				user = name
			}
		}
	}
	creds, err := s.o.Frontend.Credentials(ctx, user)
	if err != nil {
		return nil, err
	}
	if creds.Verifier != "" {
		return nil, pgerror.New(pgerror.InvalidAuthorization, "role %q has a password, and password authentication over Flight SQL is not supported by copra", user).
			WithHint("Use the Postgres protocol for this role.")
	}
	remote := ""
	if p, ok := peer.FromContext(ctx); ok {
		remote = p.Addr.String()
	}
	return s.o.Frontend.NewSession(ctx, sqlfront.SessionOptions{
		User: user, Database: s.o.Database, RemoteAddr: remote,
		Settings: map[string]string{"application_name": "flightsql"},
	})
}

// acquire returns the session that a request runs on: that of its transaction,
// or a new one. release must be called when the request is over.
func (s *Server) acquire(ctx context.Context, txID []byte) (session sqlfront.Session, release func(), err error) {
	if len(txID) == 0 {
		session, err := s.openSession(ctx)
		if err != nil {
			return nil, nil, err
		}
		return session, func() { s.closeSession(session) }, nil
	}
	s.mu.Lock()
	tx := s.transactions[string(txID)]
	if tx != nil {
		tx.used = time.Now()
	}
	s.mu.Unlock()
	if tx == nil {
		return nil, nil, errNoTransaction(txID)
	}
	tx.mu.Lock()
	if tx.done {
		tx.mu.Unlock()
		return nil, nil, errNoTransaction(txID)
	}
	return tx.session, tx.mu.Unlock, nil
}

func errNoTransaction(id []byte) error {
	return status.Errorf(codes.NotFound, "transaction %q does not exist (ended, or idle for more than %s)", id, handleIdleMax)
}

// BeginTransaction implements flightsql.Server.
func (s *Server) BeginTransaction(ctx context.Context, _ flightsql.ActionBeginTransactionRequest) ([]byte, error) {
	s.requests.WithLabelValues("begin").Inc()
	s.mu.Lock()
	full := len(s.transactions) >= transactionsCountMax
	s.mu.Unlock()
	if full {
		return nil, status.Errorf(codes.ResourceExhausted, "too many open transactions (limit %d)", transactionsCountMax)
	}
	session, err := s.openSession(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	if _, err := run(ctx, session, "BEGIN"); err != nil {
		s.closeSession(session)
		return nil, toStatus(err)
	}
	id := newHandle()
	s.mu.Lock()
	s.transactions[id] = &transaction{session: session, used: time.Now()}
	s.mu.Unlock()
	return []byte(id), nil
}

// EndTransaction implements flightsql.Server.
func (s *Server) EndTransaction(ctx context.Context, req flightsql.ActionEndTransactionRequest) error {
	s.requests.WithLabelValues("end").Inc()
	var sql string
	switch req.GetAction() {
	case flightsql.EndTransactionCommit:
		sql = "COMMIT"
	case flightsql.EndTransactionRollback:
		sql = "ROLLBACK"
	default:
		return status.Errorf(codes.InvalidArgument, "unknown way to end a transaction: %v", req.GetAction())
	}
	id := string(req.GetTransactionId())
	s.mu.Lock()
	tx := s.transactions[id]
	delete(s.transactions, id)
	s.mu.Unlock()
	if tx == nil {
		return errNoTransaction([]byte(id))
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.done = true
	defer s.closeSession(tx.session)
	failed := tx.session.TxStatus() == sqlfront.TxFailed
	if _, err := run(ctx, tx.session, sql); err != nil {
		return toStatus(err)
	}
	if failed && sql == "COMMIT" {
		return status.Error(codes.Aborted, "the transaction had failed and was rolled back (SQLSTATE "+pgerror.InFailedSQLTransaction+")")
	}
	return nil
}

// run executes one statement to its end, without parameters.
func run(ctx context.Context, session sqlfront.Session, sql string) (tag string, err error) {
	p, err := prepareOne(ctx, session, sql)
	if err != nil {
		return "", err
	}
	return runPrepared(ctx, session, p, nil)
}

func prepareOne(ctx context.Context, session sqlfront.Session, sql string) (sqlfront.Prepared, error) {
	statements, err := session.Parse(ctx, sql)
	if err != nil {
		return nil, err
	}
	if len(statements) != 1 {
		return nil, pgerror.New(pgerror.SyntaxError, "one statement is wanted here, got %d", len(statements))
	}
	return session.Prepare(ctx, statements[0], nil)
}

// runPrepared executes a statement and reads its rows, if any, to the end.
func runPrepared(ctx context.Context, session sqlfront.Session, p sqlfront.Prepared, params []sqltypes.Datum) (tag string, err error) {
	result, err := session.Execute(ctx, p, params)
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := result.Close(); err == nil {
			err = cerr
		}
	}()
	switch result.Kind() {
	case sqlfront.ResultCopyIn, sqlfront.ResultCopyOut:
		return "", pgerror.Unsupported("COPY over Flight SQL").WithHint("Use bulk ingestion (DoPut with StatementIngest).")
	case sqlfront.ResultRows:
		if err := drain(ctx, result); err != nil {
			return "", err
		}
	}
	return result.Tag(), nil
}
