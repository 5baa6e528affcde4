package sqlfront

import (
	"context"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/mutate"
)

func alterTag(st *ast.AlterTable) string {
	if len(st.Commands) == 1 && st.Commands[0].Kind == "RENAME INDEX" {
		return "ALTER INDEX"
	}
	return "ALTER TABLE"
}

// alterTable runs ALTER TABLE. Commands that take several transactions (unique
// constraints, SET NOT NULL) must be alone in their statement.
func (s *session) alterTable(ctx context.Context, st *ast.AlterTable) error {
	if len(st.Commands) == 1 {
		switch c := st.Commands[0]; c.Kind {
		case "RENAME INDEX":
			return s.changeSchema(ctx, func(d *ddl) error { return d.renameIndex(st, c.NewName) })
		case "ADD CONSTRAINT":
			return s.addConstraint(ctx, st, c)
		case "SET NOT NULL":
			return s.setNotNull(ctx, st, c)
		case "DROP CONSTRAINT":
			return s.dropConstraint(ctx, st, c)
		}
	}
	return s.changeSchema(ctx, func(d *ddl) error {
		t, err := d.alterTarget(st)
		if t == nil || err != nil {
			return err
		}
		for _, c := range st.Commands {
			if err := d.alter(t, c); err != nil {
				return err
			}
		}
		return d.change.PutTable(t)
	})
}

// alterTarget is a copy of the table; nil if IF EXISTS says to do nothing.
func (d *ddl) alterTarget(st *ast.AlterTable) (*catalog.Table, error) {
	t, err := resolveTable(d.view(), st.Name)
	if err != nil {
		if st.IfExists && pgerror.Code(err) == pgerror.UndefinedTable {
			d.s.notice("NOTICE", pgerror.SuccessfulCompletion, "relation \"%s\" does not exist, skipping", st.Name.Name)
			return nil, nil
		}
		return nil, err
	}
	return t.Clone(), nil
}

func (d *ddl) alter(t *catalog.Table, c ast.AlterCommand) error {
	switch c.Kind {
	case "ADD COLUMN":
		return d.alterAddColumn(t, c)
	case "DROP COLUMN":
		return d.alterDropColumn(t, c)
	case "RENAME TO":
		return d.renameTable(t, c.NewName)
	case "RENAME COLUMN":
		return renameColumn(t, c)
	case "SET DEFAULT", "DROP DEFAULT":
		return d.alterDefault(t, c)
	case "DROP NOT NULL":
		return dropNotNull(t, c)
	case "OWNER TO":
		if c.NewName != RootUser && c.NewName != "current_user" {
			return pgerror.New(pgerror.UndefinedObject, "role \"%s\" does not exist", c.NewName)
		}
		return nil
	}
	if len(c.Kind) > 0 && (c.Kind == "ADD CONSTRAINT" || c.Kind == "SET NOT NULL" || c.Kind == "DROP CONSTRAINT") {
		return pgerror.Unsupported("ALTER TABLE … " + c.Kind + " together with other commands").At(c.Position())
	}
	return pgerror.Unsupported("ALTER TABLE … " + c.Kind).At(c.Position())
}

func columnOf(t *catalog.Table, name string, pos int) (int, error) {
	if i := t.ColumnIndex(name); i >= 0 {
		return i, nil
	}
	return 0, pgerror.New(pgerror.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", name, t.Name).At(pos)
}

// alterAddColumn adds a column whose value in the rows there are is its default,
// without touching them.
func (d *ddl) alterAddColumn(t *catalog.Table, c ast.AlterCommand) error {
	def := *c.Column
	if t.ColumnIndex(def.Name) >= 0 {
		if c.IfExists {
			d.s.notice("NOTICE", pgerror.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists, skipping", def.Name, t.Name)
			return nil
		}
		return pgerror.New(pgerror.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists", def.Name, t.Name)
	}
	switch {
	case def.PrimaryKey || def.Unique:
		return pgerror.Unsupported("ADD COLUMN with PRIMARY KEY or UNIQUE").At(def.Position())
	case len(def.Check) > 0:
		return pgerror.Unsupported("ADD COLUMN with CHECK").At(def.Position())
	case def.Serial || def.GeneratedKind != "":
		return pgerror.Unsupported("ADD COLUMN of a serial or identity column").At(def.Position())
	}
	if err := d.addColumn(t, &def); err != nil {
		return err
	}
	col := &t.Columns[len(t.Columns)-1]
	if def.Default != nil && col.DefaultExpr != "" {
		var err error
		if col.Missing, err = d.constantDefault(col, def.Default); err != nil {
			return err
		}
	}
	if col.NotNull && col.Missing.IsNull() {
		return d.needEmpty(t, col.Name)
	}
	return nil
}

// needEmpty fails if the table has rows: they would have NULL in the column.
func (d *ddl) needEmpty(t *catalog.Table, column string) error {
	if !d.s.online() && d.change.Base().TableByID(t.ID) != nil {
		return pgerror.Unsupported("ADD COLUMN NOT NULL without a default inside a transaction block").
			WithHint("Give the column a default.")
	}
	r := tablecodec.RecordRange(t.ID)
	it, err := d.kv.Iter(r.Start, r.End)
	if err != nil {
		return err
	}
	defer it.Close()
	if it.Valid() {
		e := pgerror.New(pgerror.NotNullViolation, "column \"%s\" of relation \"%s\" contains null values", column, t.Name)
		e.Schema, e.Table, e.Column = t.Schema, t.Name, column
		return e
	}
	return nil
}

// alterDropColumn takes a column away with the indexes over it. Rows keep its
// value until they are written again; its id is never reused.
func (d *ddl) alterDropColumn(t *catalog.Table, c ast.AlterCommand) error {
	i := t.ColumnIndex(c.Name)
	if i < 0 && c.IfExists {
		d.s.notice("NOTICE", pgerror.SuccessfulCompletion, "column \"%s\" of relation \"%s\" does not exist, skipping", c.Name, t.Name)
		return nil
	}
	i, err := columnOf(t, c.Name, c.Position())
	if err != nil {
		return err
	}
	if t.PrimaryKey != nil && indexHas(t.PrimaryKey, i) {
		return pgerror.Unsupported("DROP COLUMN of a primary key column").At(c.Position())
	}
	if len(t.Columns) == 1 {
		return pgerror.Unsupported("a table without columns")
	}
	var kept []*catalog.Index
	for _, ix := range t.Indexes {
		if !indexHas(ix, i) {
			kept = append(kept, ix)
			continue
		}
		if err := d.dropRange("index "+t.Schema+"."+ix.Name, tablecodec.IndexRange(t.ID, ix.ID)); err != nil {
			return err
		}
	}
	t.Indexes = kept
	t.Columns = append(t.Columns[:i:i], t.Columns[i+1:]...)
	for _, ix := range t.AllIndexes() {
		for k := range ix.Columns {
			if ix.Columns[k].Column > i {
				ix.Columns[k].Column--
			}
		}
	}
	return d.keepChecks(t)
}

func indexHas(ix *catalog.Index, column int) bool {
	for _, c := range ix.Columns {
		if c.Column == column {
			return true
		}
	}
	return false
}

// keepChecks drops the CHECKs that mention a column that is gone.
func (d *ddl) keepChecks(t *catalog.Table) error {
	var kept []catalog.Check
	for _, c := range t.Checks {
		e, err := parseStored(c.Expr)
		if err != nil {
			return err
		}
		err = d.bindCheck(t, e)
		switch {
		case err == nil:
			kept = append(kept, c)
		case pgerror.Code(err) != pgerror.UndefinedColumn:
			return err
		}
	}
	t.Checks = kept
	return nil
}

func (d *ddl) renameTable(t *catalog.Table, name string) error {
	if d.change.Snapshot().NameTaken(t.Schema, name) {
		return pgerror.New(pgerror.DuplicateTable, "relation \"%s\" already exists", name)
	}
	t.Name = name
	return nil
}

func renameColumn(t *catalog.Table, c ast.AlterCommand) error {
	i := t.ColumnIndex(c.Name)
	if i < 0 {
		return pgerror.New(pgerror.UndefinedColumn, "column \"%s\" does not exist", c.Name)
	}
	if t.ColumnIndex(c.NewName) >= 0 {
		return pgerror.New(pgerror.DuplicateColumn, "column \"%s\" of relation \"%s\" already exists", c.NewName, t.Name)
	}
	if len(t.Checks) > 0 {
		return pgerror.Unsupported("RENAME COLUMN in a table with CHECK constraints")
	}
	t.Columns[i].Name = c.NewName
	return nil
}

func (d *ddl) alterDefault(t *catalog.Table, c ast.AlterCommand) error {
	i, err := columnOf(t, c.Name, c.Position())
	if err != nil {
		return err
	}
	col := &t.Columns[i]
	if col.Identity == "a" || col.Identity == "d" {
		return pgerror.New(pgerror.SyntaxError, "column \"%s\" of relation \"%s\" is an identity column", col.Name, t.Name)
	}
	col.DefaultExpr, col.Identity = "", ""
	if c.Kind == "DROP DEFAULT" {
		return nil
	}
	if err := d.bindDefault(col, c.Column.Default); err != nil {
		return err
	}
	col.DefaultExpr = c.Column.DefaultText
	return nil
}

func dropNotNull(t *catalog.Table, c ast.AlterCommand) error {
	i, err := columnOf(t, c.Name, c.Position())
	if err != nil {
		return err
	}
	for _, ix := range t.AllIndexes() {
		if ix.Primary && indexHas(ix, i) {
			return pgerror.New(pgerror.InvalidTableDefinition, "column \"%s\" is in a primary key", c.Name)
		}
	}
	t.Columns[i].NotNull = false
	return nil
}

func (d *ddl) renameIndex(st *ast.AlterTable, name string) error {
	schemas := []string{st.Name.Schema}
	if st.Name.Schema == "" {
		schemas = d.view().Path()
	}
	snap := d.change.Snapshot()
	for _, sc := range schemas {
		t := snap.IndexTable(sc, st.Name.Name)
		if t == nil {
			continue
		}
		if snap.NameTaken(sc, name) {
			return pgerror.New(pgerror.DuplicateTable, "relation \"%s\" already exists", name)
		}
		t = t.Clone()
		for _, ix := range t.AllIndexes() {
			if ix.Name == st.Name.Name {
				ix.Name = name
			}
		}
		return d.change.PutTable(t)
	}
	if st.IfExists {
		d.s.notice("NOTICE", pgerror.SuccessfulCompletion, "relation \"%s\" does not exist, skipping", st.Name.Name)
		return nil
	}
	return pgerror.New(pgerror.UndefinedTable, "relation \"%s\" does not exist", st.Name.Name)
}

// addConstraint adds a UNIQUE or PRIMARY KEY constraint as an index. The primary
// key of a table that has rows under row ids stays such an index: the rows keep
// their keys.
func (s *session) addConstraint(ctx context.Context, st *ast.AlterTable, c ast.AlterCommand) error {
	if c.Constraint.Primary {
		if err := s.setAllNotNull(ctx, st, c); err != nil {
			return err
		}
	}
	build := &indexBuild{s: s, ctx: ctx}
	return build.run(func(d *ddl) (*catalog.Table, *catalog.Index, error) {
		t, err := d.alterTarget(st)
		if t == nil || err != nil {
			return nil, nil, err
		}
		if c.Constraint.Primary && t.HasPrimaryKey() {
			return nil, nil, pgerror.New(pgerror.InvalidTableDefinition, "multiple primary keys for table \"%s\" are not allowed", t.Name)
		}
		ix := &catalog.Index{Name: c.Constraint.Name, Unique: true, Primary: c.Constraint.Primary, Constraint: true}
		for _, name := range c.Constraint.Columns {
			i := t.ColumnIndex(name)
			if i < 0 {
				return nil, nil, pgerror.New(pgerror.UndefinedColumn, "column \"%s\" named in key does not exist", name).At(c.Position())
			}
			ix.Columns = append(ix.Columns, catalog.IndexColumn{Column: i})
		}
		return t, ix, d.finishIndex(t, ix)
	})
}

func (s *session) setAllNotNull(ctx context.Context, st *ast.AlterTable, c ast.AlterCommand) error {
	for _, name := range c.Constraint.Columns {
		if err := s.setNotNull(ctx, st, ast.AlterCommand{Pos: c.Pos, Kind: "SET NOT NULL", Name: name}); err != nil {
			return err
		}
	}
	return nil
}

// setNotNull first makes writers keep to it, then looks at the rows that are
// there; if one is NULL it is taken back.
func (s *session) setNotNull(ctx context.Context, st *ast.AlterTable, c ast.AlterCommand) error {
	var tableID int64
	var own bool
	set := func(value bool) error {
		return s.changeSchema(ctx, func(d *ddl) error {
			t, err := d.alterTarget(st)
			if t == nil || err != nil {
				return err
			}
			i, err := columnOf(t, c.Name, c.Position())
			if err != nil || t.Columns[i].NotNull == value {
				return err
			}
			own = d.change.Base().TableByID(t.ID) == nil
			if !own && !s.online() {
				return pgerror.New(pgerror.ActiveSQLTransaction, "SET NOT NULL cannot run inside a transaction block on a table that existed before it")
			}
			tableID = t.ID
			t.Columns[i].NotNull = value
			if own {
				if err := d.checkOwnNotNull(t, i); err != nil {
					return err
				}
			}
			return d.change.PutTable(t)
		})
	}
	if err := set(true); err != nil || tableID == 0 || own {
		return err
	}
	err := s.checkNotNull(ctx, tableID, c.Name)
	if err != nil {
		ctx = context.WithoutCancel(ctx)
		if undo := set(false); undo != nil {
			s.db.log.Warn("a NOT NULL that does not hold could not be taken back", "table", tableID, "column", c.Name, "error", undo)
		}
	}
	return err
}

// checkNotNull looks for NULLs in a column, when all writers know it must have
// none.
func (s *session) checkNotNull(ctx context.Context, tableID int64, column string) error {
	if err := waitStep(ctx); err != nil {
		return err
	}
	snap, err := s.db.catalog.Latest(ctx)
	if err != nil {
		return kvError(ctx, err, nil)
	}
	t := snap.TableByID(tableID)
	if t == nil {
		return nil
	}
	ts, err := s.db.timestamp(ctx)
	if err != nil {
		return err
	}
	holdStatement(ctx, ts)
	at := s.db.kv.GetSnapshot(ts)
	return findNull(ctx, func(start, end []byte) (iterator, error) { return at.Iter(start, end) }, t, t.ColumnIndex(column))
}

func (d *ddl) checkOwnNotNull(t *catalog.Table, column int) error {
	return findNull(d.ctx, func(start, end []byte) (iterator, error) { return d.kv.Iter(start, end) }, t, column)
}

// dropConstraint drops a CHECK, UNIQUE or late PRIMARY KEY constraint.
func (s *session) dropConstraint(ctx context.Context, st *ast.AlterTable, c ast.AlterCommand) error {
	var index string
	schema := ""
	err := s.changeSchema(ctx, func(d *ddl) error {
		t, err := d.alterTarget(st)
		if t == nil || err != nil {
			return err
		}
		for i, ch := range t.Checks {
			if ch.Name == c.Name {
				t.Checks = append(t.Checks[:i:i], t.Checks[i+1:]...)
				return d.change.PutTable(t)
			}
		}
		if t.PrimaryKey != nil && t.PrimaryKey.Name == c.Name {
			return pgerror.Unsupported("dropping the primary key that rows are kept under")
		}
		for _, ix := range t.Indexes {
			if ix.Name == c.Name && ix.Constraint {
				ix.Constraint = false // the index goes the way of DROP INDEX
				index, schema = ix.Name, t.Schema
				return d.change.PutTable(t)
			}
		}
		if c.IfExists {
			s.notice("NOTICE", pgerror.SuccessfulCompletion, "constraint \"%s\" of relation \"%s\" does not exist, skipping", c.Name, t.Name)
			return nil
		}
		return pgerror.New(pgerror.UndefinedObject, "constraint \"%s\" of relation \"%s\" does not exist", c.Name, t.Name)
	})
	if err != nil || index == "" {
		return err
	}
	return s.dropIndexes(ctx, &ast.Drop{Kind: "INDEX", Names: []ast.TableName{{Schema: schema, Name: index}}})
}

// iterate opens an iterator over a snapshot or a transaction.
type iterate func(start, end []byte) (iterator, error)

// findNull fails if a row has NULL in a column.
func findNull(ctx context.Context, open iterate, t *catalog.Table, column int) error {
	r := tablecodec.RecordRange(t.ID)
	for start := r.Start; start != nil; {
		it, err := open(start, r.End)
		if err != nil {
			return kvError(ctx, err, nil)
		}
		rows, next, err := readRows(ctx, t, it, backfillRows)
		it.Close()
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.row[column].IsNull() {
				e := pgerror.New(pgerror.NotNullViolation, "column \"%s\" of relation \"%s\" contains null values", t.Columns[column].Name, t.Name)
				e.Schema, e.Table, e.Column = t.Schema, t.Name, t.Columns[column].Name
				return e.WithDetail("%s", mutate.FailingRow(t, row.row))
			}
		}
		start = next
	}
	return nil
}
