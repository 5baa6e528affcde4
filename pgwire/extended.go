package pgwire

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
	"github.com/copradb/copra/sqlfront/ast"
)

// statement is a prepared statement; prepared is nil for an empty query.
type statement struct {
	prepared sqlfront.Prepared
	session  sqlfront.Session
}

// portal is a bound statement, perhaps half read.
type portal struct {
	name     string
	stmt     *statement
	params   []sqltypes.Datum
	formats  []int16
	cursor   *rowCursor
	sent     uint64
	finished bool
	tag      string
}

// heldExecute waits for the next message, which tells whether it is alone.
type heldExecute struct {
	portal string
	limit  uint32
}

// extended reports an error of an extended-protocol message and skips to Sync.
func (c *conn) extended(session sqlfront.Session, err error) error {
	if err == nil {
		return nil
	}
	c.skipToSync = true
	session.Fail()
	return c.sendError(session, err)
}

func (c *conn) parse(ctx context.Context, session sqlfront.Session, m *pgproto3.Parse) error {
	if _, exists := c.statements[m.Name]; exists && m.Name != "" {
		return pgerror.New(pgerror.DuplicatePreparedStatement, "prepared statement %q already exists", m.Name)
	}
	if len(c.statements) >= statementsPerConnMax && m.Name != "" {
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "too many prepared statements on this connection (limit %d)", statementsPerConnMax).
			WithHint("Close statements that are no longer needed.")
	}
	delete(c.statements, "")
	parsed, err := session.Parse(ctx, m.Query)
	if err != nil {
		return err
	}
	if len(parsed) > 1 {
		return pgerror.New(pgerror.SyntaxError, "cannot insert multiple commands into a prepared statement")
	}
	st := &statement{session: session}
	if len(parsed) == 1 {
		if st.prepared, err = session.Prepare(ctx, parsed[0], m.ParameterOIDs); err != nil {
			return err
		}
	}
	c.statements[m.Name] = st
	c.backend.Send(&pgproto3.ParseComplete{})
	return nil
}

func (c *conn) bind(session sqlfront.Session, m *pgproto3.Bind) error {
	st, ok := c.statements[m.PreparedStatement]
	if !ok {
		if m.PreparedStatement == "" {
			return pgerror.New(pgerror.InvalidSQLStatementName, "unnamed prepared statement does not exist")
		}
		return pgerror.New(pgerror.InvalidSQLStatementName, "prepared statement %q does not exist", m.PreparedStatement)
	}
	if old, exists := c.portals[m.DestinationPortal]; exists {
		if m.DestinationPortal != "" {
			return pgerror.New(pgerror.DuplicateCursor, "cursor %q already exists", m.DestinationPortal)
		}
		c.dropPortal(old)
	}
	if len(c.portals) >= portalsPerConnMax {
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "too many open portals on this connection (limit %d)", portalsPerConnMax)
	}
	p := &portal{name: m.DestinationPortal, stmt: st}
	var (
		types []sqltypes.Type
		cols  []sqlfront.Column
	)
	if st.prepared != nil {
		types, cols = st.prepared.Params(), st.prepared.Columns()
	}
	if len(m.Parameters) != len(types) {
		return pgerror.New(pgerror.ProtocolViolation, "bind message supplies %d parameters, but prepared statement %q requires %d", len(m.Parameters), m.PreparedStatement, len(types))
	}
	if n := len(m.ParameterFormatCodes); n > 1 && n != len(types) {
		return pgerror.New(pgerror.ProtocolViolation, "bind message has %d parameter formats but %d parameters", n, len(types))
	}
	if n := len(m.ResultFormatCodes); n > 1 && n != len(cols) {
		return pgerror.New(pgerror.ProtocolViolation, "bind message has %d result formats but query has %d columns", n, len(cols))
	}
	p.params = make([]sqltypes.Datum, len(types))
	for i, raw := range m.Parameters {
		d, err := decodeParam(types[i], raw, formatOf(m.ParameterFormatCodes, i), c.text.TimeZone)
		if err != nil {
			e := *pgerror.From(err)
			if e.Where == "" {
				e.Where = "parameter $" + itoa(i+1)
			}
			return &e
		}
		p.params[i] = d
	}
	for _, f := range m.ResultFormatCodes {
		if f != formatText && f != formatBinary {
			return pgerror.New(pgerror.InvalidParameterValue, "unsupported format code: %d", f)
		}
	}
	p.formats = append(p.formats, m.ResultFormatCodes...)
	c.portals[m.DestinationPortal] = p
	c.backend.Send(&pgproto3.BindComplete{})
	return nil
}

func decodeParam(t sqltypes.Type, raw []byte, format int16, zone *time.Location) (sqltypes.Datum, error) {
	switch {
	case raw == nil:
		return sqltypes.Null, nil
	case format == formatText:
		return sqltypes.ParseTextOpt(t, string(raw), &sqltypes.ParseOptions{TimeZone: zone, Now: time.Now()})
	case format == formatBinary:
		return sqltypes.ParseBinary(t, raw)
	}
	return sqltypes.Null, pgerror.New(pgerror.InvalidParameterValue, "unsupported format code: %d", format)
}

func (c *conn) describe(m *pgproto3.Describe) error {
	switch m.ObjectType {
	case 'S':
		st, ok := c.statements[m.Name]
		if !ok {
			return pgerror.New(pgerror.InvalidSQLStatementName, "prepared statement %q does not exist", m.Name)
		}
		oids := []uint32{}
		if st.prepared != nil {
			for _, t := range st.prepared.Params() {
				oids = append(oids, t.OID)
			}
		}
		c.backend.Send(&pgproto3.ParameterDescription{ParameterOIDs: oids})
		c.sendRowDescription(st, nil)
		return nil
	case 'P':
		p, ok := c.portals[m.Name]
		if !ok {
			return pgerror.New(pgerror.InvalidCursorName, "portal %q does not exist", m.Name)
		}
		c.sendRowDescription(p.stmt, p.formats)
		return nil
	}
	return pgerror.New(pgerror.ProtocolViolation, "invalid DESCRIBE message subtype %d", m.ObjectType)
}

func (c *conn) sendRowDescription(st *statement, formats []int16) {
	if st.prepared == nil || st.prepared.Columns() == nil {
		c.backend.Send(&pgproto3.NoData{})
		return
	}
	c.backend.Send(rowDescription(st.prepared.Columns(), formats))
}

func (c *conn) hold(m *pgproto3.Execute) error {
	if _, ok := c.portals[m.Portal]; !ok {
		return pgerror.New(pgerror.InvalidCursorName, "portal %q does not exist", m.Portal)
	}
	c.held = &heldExecute{portal: m.Portal, limit: m.MaxRows}
	return nil
}

// runHeld runs the Execute that waited for next. Alone before its Sync and
// reading to the end, it is an autocommit statement.
func (c *conn) runHeld(ctx context.Context, session sqlfront.Session, next pgproto3.FrontendMessage) error {
	h := c.held
	c.held = nil
	_, alone := next.(*pgproto3.Sync)
	return c.extended(session, c.execute(ctx, session, h, alone))
}

func (c *conn) execute(ctx context.Context, session sqlfront.Session, h *heldExecute, alone bool) error {
	started := time.Now()
	defer func() { c.server.metrics.duration.Observe(time.Since(started).Seconds()) }()
	c.server.metrics.statements.WithLabelValues("extended").Inc()
	p := c.portals[h.portal]
	if p == nil {
		return pgerror.New(pgerror.InvalidCursorName, "portal %q does not exist", h.portal)
	}
	if p.stmt.prepared == nil {
		c.backend.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	if p.finished {
		if p.stmt.prepared.Columns() == nil {
			return pgerror.New(pgerror.ObjectNotInPrerequisiteState, "portal %q cannot be run", h.portal)
		}
		c.complete(session, "SELECT 0")
		return nil
	}
	if c.running != nil && c.running != p {
		if err := c.buffer(ctx, c.running); err != nil {
			return err
		}
	}
	if p.cursor == nil {
		return c.startPortal(ctx, session, p, h.limit, alone)
	}
	return c.continuePortal(ctx, session, p, h.limit)
}

// startPortal runs a portal for the first time.
func (c *conn) startPortal(ctx context.Context, session sqlfront.Session, p *portal, limit uint32, alone bool) error {
	if !c.implicit && (!alone || limit > 0) && !controlsTransaction(p.stmt.prepared.Statement()) {
		if err := session.BeginImplicit(ctx); err != nil {
			return err
		}
		c.implicit = true
	}
	result, err := session.Execute(ctx, p.stmt.prepared, p.params)
	if err != nil {
		return err
	}
	p.cursor = &rowCursor{result: result}
	c.running = p
	switch result.Kind() {
	case sqlfront.ResultCopyIn:
		err = c.copyIn(ctx, result)
	case sqlfront.ResultCopyOut:
		err = c.copyOut(ctx, result)
	case sqlfront.ResultRows:
		return c.continuePortal(ctx, session, p, limit)
	case sqlfront.ResultEmpty:
		if err := c.finish(p); err != nil {
			return err
		}
		c.backend.Send(&pgproto3.EmptyQueryResponse{})
		return nil
	}
	if err != nil {
		_ = c.finish(p) // the COPY's own error is the one to tell
		return err
	}
	return c.completePortal(session, p)
}

// controlsTransaction tells statements that must not run inside an implicit
// transaction of ours: they begin or end one themselves.
func controlsTransaction(st *ast.Statement) bool {
	switch st.Stmt.(type) {
	case *ast.Begin, *ast.Commit, *ast.Rollback, *ast.Savepoint:
		return true
	}
	return false
}

func (c *conn) continuePortal(ctx context.Context, session sqlfront.Session, p *portal, limit uint32) error {
	cols := p.stmt.prepared.Columns()
	if cols == nil {
		cols = p.cursor.result.Columns()
	}
	sent, more, err := c.sendRows(ctx, p.cursor, cols, p.formats, limit)
	p.sent += sent
	if err != nil {
		_ = c.finish(p) // the statement's own error is the one to tell
		return err
	}
	if more {
		c.backend.Send(&pgproto3.PortalSuspended{})
		return nil
	}
	return c.completePortal(session, p)
}

// completePortal commits (in autocommit) before it says that all is done.
func (c *conn) completePortal(session sqlfront.Session, p *portal) error {
	tag := p.tag
	if tag == "" {
		tag = p.cursor.result.Tag()
	}
	if err := c.finish(p); err != nil {
		return err
	}
	c.complete(session, tag)
	return nil
}

// finish closes a portal's Result.
func (c *conn) finish(p *portal) error {
	if c.running == p {
		c.running = nil
	}
	if p.cursor == nil || p.finished {
		return nil
	}
	p.finished = true
	return p.cursor.result.Close()
}

func (c *conn) closeObject(m *pgproto3.Close) error {
	switch m.ObjectType {
	case 'S':
		delete(c.statements, m.Name)
	case 'P':
		if p, ok := c.portals[m.Name]; ok {
			c.dropPortal(p)
		}
	default:
		return pgerror.New(pgerror.ProtocolViolation, "invalid CLOSE message subtype %d", m.ObjectType)
	}
	c.backend.Send(&pgproto3.CloseComplete{})
	return nil
}

func (c *conn) dropPortal(p *portal) {
	if err := c.finish(p); err != nil {
		c.log.Debug("pgwire: dropped portal closed with an error", "portal", p.name, "err", err)
	}
	delete(c.portals, p.name)
}

// closeUnnamed drops the unnamed statement and portal, as a Query does.
func (c *conn) closeUnnamed() {
	if p, ok := c.portals[""]; ok {
		c.dropPortal(p)
	}
	delete(c.statements, "")
}

// closePortals drops every portal but keep.
func (c *conn) closePortals(keep *portal) {
	for _, p := range c.portals {
		if p != keep {
			c.dropPortal(p)
		}
	}
}

// sync ends an extended-protocol run: the implicit transaction commits, or is
// rolled back after an error.
func (c *conn) sync(ctx context.Context, session sqlfront.Session) error {
	failed := c.skipToSync
	c.skipToSync = false
	if session.TxStatus() == sqlfront.TxIdle || c.implicit {
		c.closePortals(nil)
	}
	if err := c.endImplicit(ctx, session, !failed); err != nil {
		if err := c.sendError(session, err); err != nil {
			return err
		}
	}
	return c.ready(session)
}

func (c *conn) endImplicit(ctx context.Context, session sqlfront.Session, ok bool) error {
	if !c.implicit {
		return nil
	}
	c.implicit = false
	return session.EndImplicit(ctx, ok)
}
