package sqlfront

import (
	"context"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// createIndex runs CREATE INDEX. On a table that exists it takes several
// transactions, so that nobody has to wait (F1's online schema change):
//
//	delete-only ─► write-only ─► entries of the rows there are ─► public
//
// each of the first two with a pause until no transaction can commit any more
// that doesn't know it. On a table that the open transaction has made it is one
// step.
func (s *session) createIndex(ctx context.Context, st *ast.CreateIndex) error {
	if err := checkIndex(st); err != nil {
		return err
	}
	build := &indexBuild{s: s, ctx: ctx}
	return build.run(func(d *ddl) (*catalog.Table, *catalog.Index, error) { return d.newIndex(st) })
}

// checkIndex refuses what indexes cannot be.
func checkIndex(st *ast.CreateIndex) error {
	switch {
	case st.Method != "" && st.Method != "btree":
		return pgerror.Unsupported("the index method " + st.Method)
	case st.Where != nil:
		return pgerror.Unsupported("a partial index").At(st.Where.Position())
	case len(st.Include) > 0:
		return pgerror.Unsupported("an index with INCLUDE")
	}
	for _, c := range st.Columns {
		if c.Expr != nil {
			return pgerror.Unsupported("an index on an expression").At(c.Position())
		}
	}
	return nil
}

// newIndex makes the index of CREATE INDEX; nil if IF NOT EXISTS says to do
// nothing. The table is a copy that has it.
func (d *ddl) newIndex(st *ast.CreateIndex) (*catalog.Table, *catalog.Index, error) {
	t, err := resolveTable(d.view(), st.Table)
	if err != nil {
		return nil, nil, err
	}
	t = t.Clone()
	if st.Name != "" && d.change.Snapshot().NameTaken(t.Schema, st.Name) {
		if st.IfNotExists {
			d.s.notice("NOTICE", pgerror.DuplicateTable, "relation \"%s\" already exists, skipping", st.Name)
			return nil, nil, nil
		}
		return nil, nil, pgerror.New(pgerror.DuplicateTable, "relation \"%s\" already exists", st.Name)
	}
	ix := &catalog.Index{Name: st.Name, Unique: st.Unique}
	for _, c := range st.Columns {
		i := t.ColumnIndex(c.Name)
		if i < 0 {
			return nil, nil, pgerror.New(pgerror.UndefinedColumn, "column \"%s\" does not exist", c.Name).At(c.Position())
		}
		col := catalog.IndexColumn{Column: i, Desc: c.Desc, NullsFirst: c.Desc}
		if c.NullsFirst != nil && *c.NullsFirst != c.Desc {
			return nil, nil, pgerror.Unsupported("an index with NULLS FIRST or NULLS LAST other than the default").At(c.Position())
		}
		ix.Columns = append(ix.Columns, col)
	}
	return t, ix, d.finishIndex(t, ix)
}

// finishIndex checks, names and numbers a new index and appends it to t.
func (d *ddl) finishIndex(t *catalog.Table, ix *catalog.Index) error {
	if len(ix.Columns) > catalog.IndexColumnsMax {
		return pgerror.New(pgerror.TooManyColumns, "cannot use more than %d columns in an index", catalog.IndexColumnsMax)
	}
	if err := d.nameIndex(t, ix); err != nil {
		return err
	}
	var err error
	if ix.OID, err = d.change.NewID(); err != nil {
		return err
	}
	return addIndex(t, ix)
}

// indexBuild adds an index to a table.
type indexBuild struct {
	s       *session
	ctx     context.Context
	tableID int64
	indexID int64
}

// run makes the index with fn and fills it.
func (b *indexBuild) run(fn func(d *ddl) (*catalog.Table, *catalog.Index, error)) error {
	done := false
	err := b.s.changeSchema(b.ctx, func(d *ddl) error {
		t, ix, err := fn(d)
		if err != nil || ix == nil {
			done = true
			return err
		}
		if own := d.change.Base().TableByID(t.ID) == nil; own {
			done = true
			return d.fillOwnIndex(t, ix)
		}
		if !b.s.online() {
			return pgerror.New(pgerror.ActiveSQLTransaction, "CREATE INDEX cannot run inside a transaction block on a table that existed before it").
				WithHint("Run it by itself; it does not lock the table.")
		}
		b.tableID, b.indexID = t.ID, ix.ID
		ix.State = catalog.StateDeleteOnly
		return d.change.PutTable(t)
	})
	if err != nil || done {
		return err
	}
	if err := b.fill(); err != nil {
		b.abandon()
		return err
	}
	return nil
}

// fill takes the index from delete-only to public.
func (b *indexBuild) fill() error {
	if err := waitStep(b.ctx); err != nil {
		return err
	}
	if err := b.setState(catalog.StateWriteOnly); err != nil {
		return err
	}
	if err := waitStep(b.ctx); err != nil {
		return err
	}
	if err := b.backfill(); err != nil {
		return err
	}
	return b.setState(catalog.StatePublic)
}

// find returns a copy of the table and its index.
func (b *indexBuild) find(snap *catalog.Snapshot) (*catalog.Table, *catalog.Index, error) {
	if t := snap.TableByID(b.tableID); t != nil {
		t = t.Clone()
		for _, ix := range t.Indexes {
			if ix.ID == b.indexID {
				return t, ix, nil
			}
		}
	}
	return nil, nil, pgerror.New(pgerror.UndefinedTable, "the table or index was dropped while the index was being created")
}

func (b *indexBuild) setState(state catalog.State) error {
	return b.s.changeSchema(b.ctx, func(d *ddl) error {
		t, ix, err := b.find(d.change.Snapshot())
		if err != nil {
			return err
		}
		ix.State = state
		return d.change.PutTable(t)
	})
}

// abandon takes an index away that could not be filled.
func (b *indexBuild) abandon() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), abandonTimeout)
	defer cancel()
	err := b.s.changeSchema(ctx, func(d *ddl) error {
		t, ix, err := b.find(d.change.Snapshot())
		if err != nil {
			return nil // gone already
		}
		return d.removeIndex(t, ix)
	})
	if err != nil {
		b.s.db.log.Warn("an index that could not be created is left over; drop it", "table", b.tableID, "index", b.indexID, "error", err)
	}
}

// removeIndex takes an index off a table (a copy) and queues its entries.
func (d *ddl) removeIndex(t *catalog.Table, ix *catalog.Index) error {
	kept := t.Indexes[:0:0]
	for _, other := range t.Indexes {
		if other.ID != ix.ID {
			kept = append(kept, other)
		}
	}
	t.Indexes = kept
	if err := d.change.PutTable(t); err != nil {
		return err
	}
	return d.dropRange("index "+t.Schema+"."+ix.Name, tablecodec.IndexRange(t.ID, ix.ID))
}

// dropIndexes runs DROP INDEX: first the index is only maintained, not read;
// when no statement can read it any more it is taken away.
func (s *session) dropIndexes(ctx context.Context, st *ast.Drop) error {
	for _, n := range st.Names {
		var found *indexBuild
		err := s.changeSchema(ctx, func(d *ddl) error {
			t, ix, err := d.findIndex(n, st.IfExists)
			if err != nil || ix == nil {
				return err
			}
			if d.change.Base().TableByID(t.ID) == nil {
				return d.removeIndex(t, ix)
			}
			if !s.online() {
				return pgerror.New(pgerror.ActiveSQLTransaction, "DROP INDEX cannot run inside a transaction block on a table that existed before it").
					WithHint("Run it by itself; it does not lock the table.")
			}
			found = &indexBuild{s: s, ctx: ctx, tableID: t.ID, indexID: ix.ID}
			if ix.State == catalog.StatePublic {
				ix.State = catalog.StateWriteOnly
			}
			return d.change.PutTable(t)
		})
		if err != nil {
			return err
		}
		if found == nil {
			continue
		}
		if err := waitStep(ctx); err != nil {
			return err
		}
		err = s.changeSchema(ctx, func(d *ddl) error {
			t, ix, err := found.find(d.change.Snapshot())
			if err != nil {
				return nil // somebody else has dropped it, too
			}
			return d.removeIndex(t, ix)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// findIndex finds an index by name; the table is a copy.
func (d *ddl) findIndex(n ast.TableName, ifExists bool) (*catalog.Table, *catalog.Index, error) {
	schemas := []string{n.Schema}
	if n.Schema == "" {
		schemas = d.view().Path()
	}
	for _, sc := range schemas {
		t := d.change.Snapshot().IndexTable(sc, n.Name)
		if t == nil {
			continue
		}
		t = t.Clone()
		for _, ix := range t.AllIndexes() {
			if ix.Name != n.Name {
				continue
			}
			if ix.Constraint {
				return nil, nil, pgerror.New(pgerror.DependentObjectsStillExist, "cannot drop index %s because constraint %s on table %s requires it", ix.Name, ix.Name, t.Name).
					WithHint("You can drop constraint %s on table %s instead.", ix.Name, t.Name)
			}
			return t, ix, nil
		}
	}
	if _, err := resolveTable(d.view(), n); err == nil {
		return nil, nil, pgerror.New(pgerror.WrongObjectType, "\"%s\" is not an index", n.Name).WithHint("Use DROP TABLE to remove a table.")
	}
	if ifExists {
		d.s.notice("NOTICE", pgerror.SuccessfulCompletion, "index \"%s\" does not exist, skipping", n.Name)
		return nil, nil, nil
	}
	return nil, nil, pgerror.New(pgerror.UndefinedObject, "index \"%s\" does not exist", n.Name)
}
