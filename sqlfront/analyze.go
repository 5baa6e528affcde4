package sqlfront

import (
	"context"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// analyze runs ANALYZE: it counts each table's rows and the distinct values of
// its columns, looks closer at a sample of rows, and puts that into the catalog.
func (s *session) analyze(ctx context.Context, names []ast.TableName) error {
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return err
	}
	var tables []*catalog.Table
	if len(names) == 0 {
		tables = snap.Tables()
	}
	for _, n := range names {
		t, err := resolveTable(snap.View(s.env()), n)
		if err != nil {
			return err
		}
		tables = append(tables, t)
	}
	for _, t := range tables {
		if err := s.analyzeTable(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) analyzeTable(ctx context.Context, t *catalog.Table) error {
	st, err := s.scanStats(ctx, t)
	if err != nil {
		return err
	}
	return s.changeSchema(ctx, func(d *ddl) error {
		if d.change.Snapshot().TableByID(t.ID) == nil {
			return nil // dropped in between
		}
		return d.change.PutStats(t.ID, st)
	})
}

// scanStats reads the whole table.
func (s *session) scanStats(ctx context.Context, t *catalog.Table) (st catalog.Stats, err error) {
	sel := &ast.Select{
		From:    []ast.FromItem{&ast.TableRef{Name: ast.TableName{Schema: t.Schema, Name: t.Name}}},
		Targets: []ast.Target{{Expr: &ast.ColumnRef{Star: true}}},
	}
	r, err := s.beginRead(ctx, false)
	if err != nil {
		return st, err
	}
	p, err := s.bind(nil, sel, r.snap, nil)
	if err != nil {
		return st, err
	}
	run, err := s.open(ctx, p.plan, s.newStorage(s.txn, r.ts, s.memory()), s.evalContext(ctx, r.snap, nil))
	if err != nil {
		return st, err
	}
	defer func() {
		if cerr := run.op.Close(); err == nil {
			err = cerr
		}
	}()
	counts, sample := make([]distinct, len(t.Columns)), newRowSample(t)
	types := make([]sqltypes.Type, len(t.Columns))
	for c := range types {
		types[c] = t.Columns[c].Type
	}
	for {
		b, err := run.op.Next()
		if err != nil {
			return st, kvError(ctx, err, nil)
		}
		if b == nil {
			break
		}
		if err := sample.add(b.Cols, st.Rows, b.N); err != nil {
			return st, err
		}
		st.Rows += int64(b.N)
		countDistinct(counts, types, b.Cols, b.N)
	}
	st.Distinct = make(map[uint32]int64, len(counts))
	for c := range counts {
		st.Distinct[t.Columns[c].ID] = min(counts[c].count(), st.Rows)
	}
	st.Columns = sample.stats()
	return st, nil
}

// vacuum runs VACUUM: old versions of rows are the stores' garbage collection's
// business.
func (s *session) vacuum(ctx context.Context, st *ast.Vacuum) error {
	if s.txn != nil && s.txn.explicit {
		return pgerror.New(pgerror.ActiveSQLTransaction, "VACUUM cannot run inside a transaction block")
	}
	snap, err := s.bindSnapshot(ctx)
	if err != nil {
		return err
	}
	for _, n := range st.Tables {
		if _, err := resolveTable(snap.View(s.env()), n); err != nil {
			return err
		}
	}
	return nil
}
