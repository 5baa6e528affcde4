package sqlfront

import (
	"context"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// ddl is a schema change being made: in the transaction that is open, or in one
// of its own. What it changes takes effect when that transaction commits.
type ddl struct {
	*writing
	change *catalog.Change
}

// view is the catalog with the changes so far, as the session sees it.
func (d *ddl) view() *catalog.View { return d.change.Snapshot().View(d.s.env()) }

// changeSchema runs fn under the lock on the schema version.
func (s *session) changeSchema(ctx context.Context, fn func(d *ddl) error) error {
	if s.txn != nil {
		return s.write(ctx, func(w *writing) error { return w.inChange(fn) })
	}
	if s.settings.Bool("default_transaction_read_only") {
		return readOnlyError()
	}
	return s.changeAlone(ctx, fn)
}

// changeAlone runs fn as a schema change in a transaction of its own.
func (s *session) changeAlone(ctx context.Context, fn func(d *ddl) error) error {
	for try := 0; ; try++ {
		t := s.newTxn(false)
		err := s.changeOnce(ctx, t, fn)
		if err == nil || !isConflict(err) || try == statementTriesMax {
			return kvError(ctx, err, t.tables())
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (s *session) changeOnce(ctx context.Context, t *txn, fn func(d *ddl) error) error {
	defer t.rollbackOpen()
	if err := s.writeFirst(ctx, t, func(w *writing) error { return w.inChange(fn) }); err != nil {
		return err
	}
	if e := cancelError(ctx); e != nil {
		return e
	}
	return t.commit(ctx)
}

// inChange begins the transaction's change, if it has none, and runs fn. If fn
// fails the change is as it was.
func (w *writing) inChange(fn func(d *ddl) error) error {
	if w.change != nil {
		state := w.change.Save()
		if err := fn(&ddl{w, w.change}); err != nil {
			w.change.Restore(state)
			return err
		}
		return nil
	}
	w.endFairLocking(w.ctx, true) // the change goes by the version as of the lock
	ts, err := w.s.db.timestamp(w.ctx)
	if err != nil {
		return err
	}
	lock, done := w.lockContext(w.ctx, ts, lockWaits)
	defer done()
	c, err := w.s.db.catalog.Begin(w.ctx, w.kv, lock)
	if err != nil {
		return err
	}
	if err := w.unchangedSince(c.Base(), false); err != nil {
		return err
	}
	if err := fn(&ddl{w, c}); err != nil {
		return err
	}
	w.change = c
	return nil
}

// online reports whether the statement may take several transactions: it is
// alone, not part of one.
func (s *session) online() bool { return s.txn == nil }

// waitStep waits until no transaction can commit that knows only the schema
// before the last step.
func waitStep(ctx context.Context) error {
	timer := time.NewTimer(onlineStepWait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return cancelError(ctx)
	case <-timer.C:
		return nil
	}
}

// creationSchema is where an object is created.
func (d *ddl) creationSchema(n ast.TableName) (string, error) {
	if n.Catalog != "" && n.Catalog != catalog.Database {
		return "", pgerror.New(pgerror.FeatureNotSupported, "cross-database references are not implemented: \"%s.%s.%s\"", n.Catalog, n.Schema, n.Name).At(n.Position())
	}
	switch n.Schema {
	case "":
		return d.view().CreationSchema()
	case catalog.SchemaCatalog, catalog.SchemaInfo:
		return "", pgerror.New(pgerror.InsufficientPrivilege, "permission denied to create \"%s.%s\"", n.Schema, n.Name).
			WithDetail("System catalog modifications are currently disallowed.")
	}
	if d.view().Schema(n.Schema) == nil {
		return "", pgerror.New(pgerror.InvalidSchemaName, "schema \"%s\" does not exist", n.Schema).At(n.Position())
	}
	return n.Schema, nil
}

// resolveTable finds a table that a statement names, one that can be changed.
func resolveTable(v *catalog.View, n ast.TableName) (*catalog.Table, error) {
	if n.Catalog != "" && n.Catalog != catalog.Database {
		return nil, pgerror.New(pgerror.FeatureNotSupported, "cross-database references are not implemented: \"%s.%s.%s\"", n.Catalog, n.Schema, n.Name).At(n.Position())
	}
	if n.Schema != "" && v.Schema(n.Schema) == nil {
		return nil, pgerror.New(pgerror.InvalidSchemaName, "schema \"%s\" does not exist", n.Schema).At(n.Position())
	}
	r, err := v.Resolve(n.Schema, n.Name)
	if err != nil {
		return nil, positioned(err, n.Position())
	}
	if r.Table == nil {
		return nil, pgerror.New(pgerror.InsufficientPrivilege, "permission denied: \"%s\" is a system catalog", n.Name).At(n.Position())
	}
	return r.Table, nil
}

// positioned gives an error a position if it has none.
func positioned(err error, pos int) error {
	e := *pgerror.From(err)
	if e.Position == 0 {
		e.Position = pos
	}
	return &e
}

// dropRange queues the data of a table or index for deletion.
func (d *ddl) dropRange(what string, r kv.KeyRange) error {
	return d.change.AddDropRange(catalog.DropRange{Start: r.Start, End: r.End, What: what})
}
