package sqlfront

import (
	"context"
	"fmt"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
)

// Execute implements Session.
func (s *session) Execute(ctx context.Context, pr Prepared, params []sqltypes.Datum) (Result, error) {
	p, ok := pr.(*prepared)
	if !ok {
		return nil, pgerror.New(pgerror.InternalError, "the statement was prepared by something else: %T", pr)
	}
	if err := s.checkFailed(p.stmt.Stmt); err != nil {
		return nil, err
	}
	if len(params) != len(p.params) {
		return nil, pgerror.New(pgerror.ProtocolViolation, "the statement has %d parameters, but %d values were given", len(p.params), len(params))
	}
	s.db.metrics.statements.WithLabelValues(kindOf(p.stmt.Stmt)).Inc()
	ctx, cancel := s.statementContext(ctx)
	ctx, logged := s.trackCosts(ctx, p)
	var r Result
	finish := func() { // a result calls it when it is closed
		cancel()
		if rows, ok := r.(*streaming); ok {
			logged(rows.Tag(), rows.failed)
		} else if r != nil {
			logged(r.Tag(), nil)
		}
	}
	r, err := s.run(ctx, p, params, finish)
	if err != nil {
		cancel()
		logged("", err)
		s.Fail()
		return nil, at(p.stmt, kvError(ctx, err, nil))
	}
	switch r := r.(type) {
	case *streaming, *copyIn, *copyOut: // these end it
	default:
		_ = r
		finish()
	}
	return r, nil
}

// checkFailed refuses statements in a failed transaction, but for its end.
func (s *session) checkFailed(st ast.Stmt) error {
	if s.txn == nil || !s.txn.failed {
		return nil
	}
	switch st.(type) {
	case *ast.Commit, *ast.Rollback:
		return nil
	}
	return pgerror.New(pgerror.InFailedSQLTransaction, "current transaction is aborted, commands ignored until end of transaction block")
}

// kindOf is a statement's kind for metrics: few different ones.
func kindOf(st ast.Stmt) string {
	switch st.(type) {
	case *ast.Select:
		return "select"
	case *ast.Insert:
		return "insert"
	case *ast.Update:
		return "update"
	case *ast.Delete:
		return "delete"
	case *ast.Copy:
		return "copy"
	case *ast.Begin, *ast.Commit, *ast.Rollback, *ast.Savepoint:
		return "transaction"
	case *ast.CreateTable, *ast.CreateIndex, *ast.CreateSchema, *ast.AlterTable, *ast.Drop, *ast.Truncate, *ast.Comment:
		return "ddl"
	}
	return "other"
}

// run runs a statement. A streaming result takes finish over.
func (s *session) run(ctx context.Context, p *prepared, params []sqltypes.Datum, finish func()) (Result, error) {
	s.frees = freesRoom(p.body)
	switch x := p.body.(type) {
	case *ast.Select:
		if s.needsLocks(p) {
			return s.selectLocked(ctx, p, params)
		}
		return s.selectRows(ctx, p, params, finish)
	case *ast.Insert, *ast.Update, *ast.Delete:
		return s.runDML(ctx, p, params)
	case *ast.Copy:
		return s.copy(ctx, x, finish)
	case *ast.Explain:
		return s.explain(ctx, p, x, params)
	case *ast.Execute:
		return s.executeNamed(ctx, x, finish)
	case *ast.Show:
		return s.runShow(x)
	case *ast.Fetch:
		return s.fetch(ctx, x)
	}
	tag, err := s.runCommand(ctx, p, p.body)
	if err != nil {
		return nil, err
	}
	return command(tag), nil
}

// runCommand runs a statement that gives no rows and returns its tag.
func (s *session) runCommand(ctx context.Context, p *prepared, st ast.Stmt) (string, error) {
	switch x := st.(type) {
	case *ast.Begin:
		tag := "BEGIN"
		if len(p.stmt.Text) > 0 && (p.stmt.Text[0] == 's' || p.stmt.Text[0] == 'S') {
			tag = "START TRANSACTION"
		}
		return tag, s.begin(x)
	case *ast.Commit:
		return s.commitStatement(ctx, x)
	case *ast.Rollback:
		return s.rollbackStatement(x)
	case *ast.Savepoint:
		tag := "SAVEPOINT"
		if x.Release {
			tag = "RELEASE"
		}
		return tag, s.savepoint(x)
	case *ast.Set:
		return s.set(x)
	case *ast.Prepare:
		return "PREPARE", s.prepareNamed(ctx, x)
	case *ast.Deallocate:
		return s.deallocate(x)
	case *ast.Discard:
		return s.discard(x)
	case *ast.DeclareCursor:
		return "DECLARE CURSOR", s.declareCursor(ctx, p.stmt, x)
	case *ast.CloseCursor:
		return s.closeCursor(x)
	case *ast.Unlisten:
		return "UNLISTEN", nil
	case *ast.LockTable:
		return "LOCK TABLE", s.lockTable(ctx, x)
	case *ast.Vacuum:
		return "VACUUM", s.vacuum(ctx, x)
	case *ast.Analyze:
		return "ANALYZE", s.analyze(ctx, x.Tables)
	}
	return s.runDDL(ctx, st)
}

func (s *session) runDDL(ctx context.Context, st ast.Stmt) (string, error) {
	switch x := st.(type) {
	case *ast.CreateTable:
		if x.AsSelect != nil {
			return s.createTableAs(ctx, x)
		}
		return "CREATE TABLE", s.createTable(ctx, x)
	case *ast.CreateIndex:
		return "CREATE INDEX", s.createIndex(ctx, x)
	case *ast.CreateSchema:
		return "CREATE SCHEMA", s.createSchema(ctx, x)
	case *ast.AlterTable:
		return alterTag(x), s.alterTable(ctx, x)
	case *ast.Drop:
		return "DROP " + x.Kind, s.drop(ctx, x)
	case *ast.Truncate:
		return "TRUNCATE TABLE", s.truncate(ctx, x)
	case *ast.Comment:
		return "COMMENT", s.comment(ctx, x)
	}
	return "", pgerror.Unsupported(fmt.Sprintf("the statement %T", st))
}

func (s *session) commitStatement(ctx context.Context, st *ast.Commit) (string, error) {
	if s.txn == nil || !s.txn.explicit {
		s.notice("WARNING", pgerror.NoActiveSQLTransaction, "there is no transaction in progress")
		if s.txn != nil { // of several statements: what came before is committed
			return "COMMIT", s.restart(ctx)
		}
		return "COMMIT", nil
	}
	old := s.txn
	if old.failed {
		s.rollback()
		return "ROLLBACK", s.chain(old, st.Chain)
	}
	if err := s.commit(ctx); err != nil {
		return "", err
	}
	return "COMMIT", s.chain(old, st.Chain)
}

// restart commits an implicit transaction and starts the next.
func (s *session) restart(ctx context.Context) error {
	if err := s.commit(ctx); err != nil {
		return err
	}
	return s.BeginImplicit(ctx)
}

// chain begins a transaction with the modes of the one that ended.
func (s *session) chain(old *txn, yes bool) error {
	if !yes {
		return nil
	}
	if err := s.begin(&ast.Begin{}); err != nil {
		return err
	}
	s.txn.repeatable, s.txn.readOnly = old.repeatable, old.readOnly
	return nil
}

func (s *session) rollbackStatement(st *ast.Rollback) (string, error) {
	if st.To != "" {
		return "ROLLBACK", s.rollbackTo(st.To)
	}
	if s.txn == nil || !s.txn.explicit {
		s.notice("WARNING", pgerror.NoActiveSQLTransaction, "there is no transaction in progress")
		if s.txn == nil {
			return "ROLLBACK", nil
		}
		s.rollback()
		return "ROLLBACK", s.BeginImplicit(context.Background())
	}
	old := s.txn
	s.rollback()
	return "ROLLBACK", s.chain(old, st.Chain)
}
