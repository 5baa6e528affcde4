package sqlfront

import (
	"context"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/plan"
)

// prepared implements Prepared. What has a plan keeps it until the schema or a
// setting changes.
type prepared struct {
	stmt    *ast.Statement
	body    ast.Stmt // stmt's own, or what EXPLAIN and the like are about
	params  []sqltypes.Type
	columns []Column
	arrow   *arrow.Schema // of columns, once arrowSchema was called

	plan     *plan.Physical // of a SELECT
	dml      *dmlPlan       // of INSERT, UPDATE, DELETE
	planTime time.Duration  // to make it, until it is executed
	// schema and settings are the versions that it was bound with.
	schema, settings int64
}

// schemaUncommitted is the version of a schema that a transaction is changing:
// the number it would get may go to another's.
const schemaUncommitted = -1

// Statement implements Prepared.
func (p *prepared) Statement() *ast.Statement { return p.stmt }

// Params implements Prepared.
func (p *prepared) Params() []sqltypes.Type { return p.params }

// Columns implements Prepared.
func (p *prepared) Columns() []Column { return p.columns }

// arrowSchema is the Arrow schema of the columns. Executions share it.
func (p *prepared) arrowSchema() *arrow.Schema {
	if p.arrow == nil {
		p.arrow = schemaOf(p.columns)
	}
	return p.arrow
}

// Prepare implements Session.
func (s *session) Prepare(ctx context.Context, stmt *ast.Statement, paramOIDs []uint32) (Prepared, error) {
	if err := s.checkFailed(stmt.Stmt); err != nil {
		return nil, err
	}
	types := make([]sqltypes.Type, max(len(paramOIDs), stmt.Params))
	for i, oid := range paramOIDs {
		if oid != 0 && oid != sqltypes.OIDUnknown {
			if types[i] = sqltypes.TypeOf(oid); !types[i].Known() {
				return nil, pgerror.New(pgerror.UndefinedObject, "type with OID %d does not exist", oid)
			}
		}
	}
	began := time.Now()
	p, err := s.prepare(ctx, stmt, types)
	if err != nil {
		return nil, at(stmt, kvError(ctx, err, nil))
	}
	p.planTime = time.Since(began)
	return p, nil
}

func (s *session) prepare(ctx context.Context, stmt *ast.Statement, types []sqltypes.Type) (*prepared, error) {
	if !planned(stmt.Stmt) {
		return s.describe(ctx, stmt, types)
	}
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	return s.bind(stmt, stmt.Stmt, snap, types)
}

// bindSnapshot is the catalog to prepare a statement with.
func (s *session) bindSnapshot(ctx context.Context) (*catalog.Snapshot, error) {
	if s.changingSchema() {
		return s.txn.change.Snapshot(), nil
	}
	snap, err := s.db.catalog.Latest(ctx)
	return snap, kvError(ctx, err, nil)
}

// planned reports whether a statement goes through the planner.
func planned(st ast.Stmt) bool {
	switch st.(type) {
	case *ast.Select, *ast.Insert, *ast.Update, *ast.Delete:
		return true
	}
	return false
}

// bind binds and optimizes one of the planned statements.
func (s *session) bind(stmt *ast.Statement, body ast.Stmt, snap *catalog.Snapshot, types []sqltypes.Type) (*prepared, error) {
	p := &prepared{stmt: stmt, body: body, schema: snap.Version(), settings: s.settings.Version()}
	if s.changingSchema() {
		p.schema = schemaUncommitted
	}
	bc := s.bindContext(snap, types)
	if sel, ok := body.(*ast.Select); ok {
		bound, err := plan.Bind(bc, sel)
		if err != nil {
			return nil, err
		}
		p.columns, p.params = columnsOf(bound.Columns), bound.Params
		p.plan, err = plan.Optimize(bound, bc.Catalog)
		return p, err
	}
	var returning *plan.RowExprs
	var err error
	if p.dml, p.params, returning, err = bindDML(bc, body); err != nil {
		return nil, err
	}
	if returning != nil {
		p.columns = columnsOf(returning.Columns)
	}
	return p, nil
}

// describe prepares a statement that isn't planned now: its columns are known
// from what it is.
func (s *session) describe(ctx context.Context, stmt *ast.Statement, types []sqltypes.Type) (*prepared, error) {
	p := &prepared{stmt: stmt, body: stmt.Stmt}
	text := func(names ...string) {
		for _, n := range names {
			p.columns = append(p.columns, Column{Name: n, Type: sqltypes.Text})
		}
	}
	switch x := stmt.Stmt.(type) {
	case *ast.Show:
		if x.Name == "all" {
			text("name", "setting", "description")
			break
		}
		name, _, err := s.show(x.Name)
		if err != nil {
			return nil, err
		}
		text(name)
	case *ast.Explain:
		text("QUERY PLAN")
		if !planned(x.Stmt) {
			break
		}
		snap, err := s.bindSnapshot(ctx)
		if err != nil {
			return nil, err
		}
		inner, err := s.bind(stmt, x.Stmt, snap, types)
		if err != nil {
			return nil, err
		}
		p.params = inner.params
	case *ast.Execute:
		named, err := s.namedStatement(x.Name)
		if err != nil {
			return nil, err
		}
		p.columns = named.columns
	case *ast.Fetch:
		c, err := s.findCursor(x.Name)
		if err != nil {
			return nil, err
		}
		if !x.Move {
			p.columns = c.columns
		}
	}
	return p, nil
}
