package pgwire

import (
	"errors"
	"sort"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront"
)

// fatal tells the client why the connection ends, as far as it still listens.
func (c *conn) fatal(err error) {
	e := *pgerror.From(err)
	e.Severity = "FATAL"
	c.log.Info("pgwire: connection ends", "sqlstate", e.Code, "message", e.Message)
	c.server.metrics.errors.WithLabelValues(e.Code).Inc()
	c.backend.Send(errorResponse(&e))
	_ = c.backend.Flush()
}

// sendError sends an ERROR. It returns an error only when the connection must
// end: the error itself, if it is fatal.
func (c *conn) sendError(session sqlfront.Session, err error) error {
	if errors.Is(err, errGone) {
		return err
	}
	e := pgerror.From(err)
	if e.Severity == "FATAL" {
		return e
	}
	if e.Code == pgerror.InternalError {
		c.log.Error("pgwire: internal error", "err", err, "cause", errors.Unwrap(e))
	}
	c.sendNotices(session)
	c.server.metrics.errors.WithLabelValues(e.Code).Inc()
	c.backend.Send(errorResponse(e))
	return nil
}

func errorResponse(e *pgerror.Error) *pgproto3.ErrorResponse {
	severity := e.Severity
	if severity == "" {
		severity = "ERROR"
	}
	return &pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: e.Code, Message: e.Message,
		Detail: e.Detail, Hint: e.Hint, Position: int32(e.Position), Where: e.Where,
		SchemaName: e.Schema, TableName: e.Table, ColumnName: e.Column,
		DataTypeName: e.DataType, ConstraintName: e.Constraint,
	}
}

// sendNotices forwards the session's warnings.
func (c *conn) sendNotices(session sqlfront.Session) {
	if session == nil {
		return
	}
	for _, n := range session.Notices() {
		e := *n
		if e.Severity == "" {
			e.Severity = "NOTICE"
		}
		if e.Code == "" {
			e.Code = pgerror.SuccessfulCompletion
		}
		notice := pgproto3.NoticeResponse(*errorResponse(&e))
		c.backend.Send(&notice)
	}
}

// sendReported sends ParameterStatus for settings that changed, and keeps the
// text formats of this connection in step with them.
func (c *conn) sendReported(session sqlfront.Session, always bool) {
	values, changed := session.Reported()
	if !changed && !always {
		return
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		c.backend.Send(&pgproto3.ParameterStatus{Name: name, Value: values[name]})
	}
	c.text = textOptions(session)
}

// ready ends a cycle with ReadyForQuery and flushes.
func (c *conn) ready(session sqlfront.Session) error {
	c.sendReported(session, false)
	c.backend.Send(&pgproto3.ReadyForQuery{TxStatus: byte(session.TxStatus())})
	return c.flush()
}

func (c *conn) flush() error {
	c.pending = 0
	if err := c.backend.Flush(); err != nil {
		return errGone
	}
	return nil
}

// complete sends CommandComplete, after the statement's notices.
func (c *conn) complete(session sqlfront.Session, tag string) {
	c.sendNotices(session)
	c.sendReported(session, false)
	c.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte(tag)})
}
