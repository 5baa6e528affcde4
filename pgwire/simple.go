package pgwire

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront"
	"github.com/copradb/copra/sqlfront/ast"
)

// simpleQuery runs a Query message: one or several statements in one implicit
// transaction, results as text.
func (c *conn) simpleQuery(ctx context.Context, session sqlfront.Session, sql string) error {
	started := time.Now()
	defer func() { c.server.metrics.duration.Observe(time.Since(started).Seconds()) }()
	c.closeUnnamed()
	if err := c.runSimple(ctx, session, sql); err != nil {
		session.Fail()
		if err := c.sendError(session, err); err != nil {
			return err
		}
	}
	return c.ready(session)
}

func (c *conn) runSimple(ctx context.Context, session sqlfront.Session, sql string) error {
	if err := c.endImplicit(ctx, session, true); err != nil {
		return err
	}
	statements, err := session.Parse(ctx, sql)
	if err != nil {
		return err
	}
	if len(statements) == 0 {
		c.backend.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	if len(statements) == 1 {
		return c.runSimpleStatement(ctx, session, statements[0])
	}
	if err := session.BeginImplicit(ctx); err != nil {
		return err
	}
	for _, stmt := range statements {
		if err := c.runSimpleStatement(ctx, session, stmt); err != nil {
			_ = session.EndImplicit(ctx, false) // the statement's own error is the one to tell
			return err
		}
	}
	return session.EndImplicit(ctx, true)
}

func (c *conn) runSimpleStatement(ctx context.Context, session sqlfront.Session, stmt *ast.Statement) (err error) {
	c.server.metrics.statements.WithLabelValues("simple").Inc()
	p, err := session.Prepare(ctx, stmt, nil)
	if err != nil {
		return err
	}
	if n := len(p.Params()); n > 0 {
		return pgerror.New(pgerror.UndefinedParameter, "there is no parameter $1").
			WithHint("Parameters need the extended query protocol (a prepared statement).")
	}
	result, err := session.Execute(ctx, p, nil)
	if err != nil {
		return err
	}
	closed := false
	closeResult := func() error {
		if closed {
			return nil
		}
		closed = true
		return result.Close()
	}
	defer func() {
		if cerr := closeResult(); err == nil {
			err = cerr
		}
	}()
	switch result.Kind() {
	case sqlfront.ResultRows:
		cols := result.Columns()
		c.backend.Send(rowDescription(cols, nil))
		if _, _, err := c.sendRows(ctx, &rowCursor{result: result}, cols, nil, 0); err != nil {
			return err
		}
	case sqlfront.ResultCopyIn:
		if err := c.copyIn(ctx, result); err != nil {
			return err
		}
	case sqlfront.ResultCopyOut:
		if err := c.copyOut(ctx, result); err != nil {
			return err
		}
	case sqlfront.ResultEmpty:
		c.backend.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	tag := result.Tag()
	// Commit first: CommandComplete promises that the statement took effect.
	if err := closeResult(); err != nil {
		return err
	}
	c.complete(session, tag)
	return nil
}
