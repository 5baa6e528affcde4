package sqlfront

import (
	"context"
	"fmt"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

// createTable runs CREATE TABLE. created is false when IF NOT EXISTS found one.
func (s *session) createTable(ctx context.Context, st *ast.CreateTable) error {
	return s.changeSchema(ctx, func(d *ddl) error {
		t, err := d.newTable(st)
		if t == nil || err != nil {
			return err
		}
		return d.change.PutTable(t)
	})
}

// newTable makes the descriptor; nil if IF NOT EXISTS says to do nothing.
func (d *ddl) newTable(st *ast.CreateTable) (*catalog.Table, error) {
	if st.Temporary {
		return nil, pgerror.Unsupported("CREATE TEMPORARY TABLE")
	}
	if len(st.Foreign) > 0 {
		return nil, pgerror.Unsupported("FOREIGN KEY").At(st.Foreign[0].Position())
	}
	schema, err := d.creationSchema(st.Name)
	if err != nil {
		return nil, err
	}
	if d.change.Snapshot().NameTaken(schema, st.Name.Name) {
		if st.IfNotExists {
			d.s.notice("NOTICE", pgerror.DuplicateTable, "relation \"%s\" already exists, skipping", st.Name.Name)
			return nil, nil
		}
		return nil, pgerror.New(pgerror.DuplicateTable, "relation \"%s\" already exists", st.Name.Name)
	}
	id, err := d.change.NewID()
	if err != nil {
		return nil, err
	}
	t := &catalog.Table{ID: id, Schema: schema, Name: st.Name.Name, NextColumnID: 1, NextIndexID: 1}
	for i := range st.Columns {
		if err := d.addColumn(t, &st.Columns[i]); err != nil {
			return nil, err
		}
	}
	if err := d.addKeys(t, st); err != nil {
		return nil, err
	}
	return t, d.addChecks(t, st)
}

// addColumn appends a column; its keys and checks come after all columns.
func (d *ddl) addColumn(t *catalog.Table, def *ast.ColumnDef) error {
	if len(t.Columns) >= catalog.TableColumnsMax {
		return pgerror.New(pgerror.TooManyColumns, "tables can have at most %d columns", catalog.TableColumnsMax)
	}
	if t.ColumnIndex(def.Name) >= 0 {
		return pgerror.New(pgerror.DuplicateColumn, "column \"%s\" specified more than once", def.Name)
	}
	if def.References != nil {
		return pgerror.Unsupported("FOREIGN KEY").At(def.References.Position())
	}
	if def.GeneratedKind == "stored" {
		return pgerror.Unsupported("a generated column (GENERATED ALWAYS AS … STORED)").At(def.Position())
	}
	if err := checkCollation(def); err != nil {
		return err
	}
	typ, err := columnType(def)
	if err != nil {
		return err
	}
	c := catalog.Column{ID: t.NextColumnID, Name: def.Name, Type: typ, NotNull: def.NotNull}
	t.NextColumnID++
	if err := d.setDefault(&c, def); err != nil {
		return err
	}
	t.Columns = append(t.Columns, c)
	return nil
}

func checkCollation(def *ast.ColumnDef) error {
	if len(def.Collation) == 0 {
		return nil
	}
	switch name := def.Collation[len(def.Collation)-1]; name {
	case "C", "POSIX", "default", "ucs_basic":
		return nil
	default:
		return pgerror.Unsupported("the collation \"" + name + "\"").At(def.Position())
	}
}

// columnType resolves a column's type; it must be one that rows can store.
func columnType(def *ast.ColumnDef) (sqltypes.Type, error) {
	typ, err := sqltypes.ByName(def.Type.Names, def.Type.Mods, def.Type.ArrayDims)
	if err != nil {
		return typ, positioned(err, def.Type.Position())
	}
	if typ.IsArray() {
		return typ, pgerror.Unsupported("a column of an array type").At(def.Type.Position())
	}
	switch {
	case typ.OID == sqltypes.OIDUnknown || typ.OID == sqltypes.OIDRecord || typ.OID == sqltypes.OIDVoid:
		return typ, pgerror.New(pgerror.InvalidTableDefinition, "column \"%s\" has pseudo-type %s", def.Name, typ.Name()).At(def.Type.Position())
	case typ.IsReg():
		return typ, pgerror.Unsupported("a column of type " + typ.Name()).At(def.Type.Position())
	}
	return typ, nil
}

// setDefault sets a column's default or the sequence behind it.
func (d *ddl) setDefault(c *catalog.Column, def *ast.ColumnDef) error {
	if def.Serial || def.GeneratedKind != "" {
		if def.Default != nil {
			if def.Serial {
				return pgerror.New(pgerror.SyntaxError, "multiple default values specified for column \"%s\"", c.Name).At(def.Position())
			}
			return pgerror.New(pgerror.SyntaxError, "both default and identity specified for column \"%s\"", c.Name).At(def.Position())
		}
		if !c.Type.IsInteger() {
			return pgerror.New(pgerror.InvalidParameterValue, "identity column type must be smallint, integer, or bigint")
		}
		c.Identity = map[string]string{"": "s", "always": "a", "by default": "d"}[def.GeneratedKind]
		var err error
		c.SequenceID, err = d.change.NewID()
		return err
	}
	if def.Default == nil {
		return nil
	}
	if _, null := def.Default.(*ast.NullLit); null {
		return nil
	}
	if err := d.bindDefault(c, def.Default); err != nil {
		return err
	}
	c.DefaultExpr = def.DefaultText
	return nil
}

// addKeys adds the primary key and unique constraints, in PostgreSQL's order:
// the primary key first.
func (d *ddl) addKeys(t *catalog.Table, st *ast.CreateTable) error {
	var keys []ast.TableConstraint
	for _, c := range st.Columns {
		if c.PrimaryKey {
			k := ast.TableConstraint{Pos: c.Pos, Primary: true, Columns: []string{c.Name}}
			if !c.Unique {
				k.Name = c.Constraint
			}
			keys = append(keys, k)
		}
		if c.Unique {
			keys = append(keys, ast.TableConstraint{Pos: c.Pos, Name: c.Constraint, Columns: []string{c.Name}})
		}
	}
	keys = append(keys, st.Constraints...)
	for _, primary := range []bool{true, false} {
		for _, k := range keys {
			if k.Primary != primary {
				continue
			}
			if err := d.addKey(t, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *ddl) addKey(t *catalog.Table, k ast.TableConstraint) error {
	ix := &catalog.Index{Unique: true, Primary: k.Primary, Constraint: true, Name: k.Name}
	seen := map[string]bool{}
	for _, name := range k.Columns {
		i := t.ColumnIndex(name)
		if i < 0 {
			return pgerror.New(pgerror.UndefinedColumn, "column \"%s\" named in key does not exist", name).At(k.Position())
		}
		if seen[name] {
			what := "unique"
			if k.Primary {
				what = "primary key"
			}
			return pgerror.New(pgerror.DuplicateColumn, "column \"%s\" appears twice in %s constraint", name, what).At(k.Position())
		}
		seen[name] = true
		ix.Columns = append(ix.Columns, catalog.IndexColumn{Column: i})
	}
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
	if !k.Primary {
		return addIndex(t, ix)
	}
	if t.PrimaryKey != nil {
		return pgerror.New(pgerror.InvalidTableDefinition, "multiple primary keys for table \"%s\" are not allowed", t.Name).At(k.Position())
	}
	t.PrimaryKey = ix
	for _, c := range ix.Columns {
		t.Columns[c.Column].NotNull = true
	}
	return nil
}

// addIndex gives an index its id and appends it.
func addIndex(t *catalog.Table, ix *catalog.Index) error {
	if len(t.Indexes) >= catalog.TableIndexesMax {
		return pgerror.New(pgerror.ProgramLimitExceeded, "a table cannot have more than %d indexes", catalog.TableIndexesMax)
	}
	ix.ID = t.NextIndexID
	t.NextIndexID++
	t.Indexes = append(t.Indexes, ix)
	return nil
}

// nameIndex checks an index's name, or chooses one as PostgreSQL does.
func (d *ddl) nameIndex(t *catalog.Table, ix *catalog.Index) error {
	snap := d.change.Snapshot()
	taken := func(name string) bool {
		if snap.NameTaken(t.Schema, name) || name == t.Name {
			return true
		}
		for _, other := range t.AllIndexes() {
			if other != nil && other.Name == name {
				return true
			}
		}
		return false
	}
	if ix.Name != "" {
		if taken(ix.Name) {
			return pgerror.New(pgerror.DuplicateTable, "relation \"%s\" already exists", ix.Name)
		}
		return nil
	}
	middle, suffix := "", "idx"
	if ix.Primary {
		suffix = "pkey"
	} else {
		var cols []string
		for _, c := range ix.Columns {
			cols = append(cols, t.Columns[c.Column].Name)
		}
		middle = strings.Join(cols, "_")
		if ix.Constraint {
			suffix = "key"
		}
	}
	for n := 0; ; n++ {
		end := suffix
		if n > 0 {
			end = fmt.Sprintf("%s%d", suffix, n)
		}
		if ix.Name = objectName(t.Name, middle, end); !taken(ix.Name) {
			return nil
		}
	}
}

// objectName joins the parts of a chosen name, cutting the longer of the first
// two until it fits, as PostgreSQL's makeObjectName does.
func objectName(first, second, suffix string) string {
	room := catalog.NameBytesMax - len(suffix) - 1
	if second != "" {
		room--
	}
	for len(first)+len(second) > room {
		if len(first) > len(second) {
			first = strings.ToValidUTF8(first[:len(first)-1], "")
		} else {
			second = strings.ToValidUTF8(second[:len(second)-1], "")
		}
	}
	if second != "" {
		return first + "_" + second + "_" + suffix
	}
	return first + "_" + suffix
}

// addChecks adds CHECK constraints, the columns' first.
func (d *ddl) addChecks(t *catalog.Table, st *ast.CreateTable) error {
	add := func(c ast.Check, column string) error {
		if c.Name == "" {
			c.Name = checkName(t, column)
		} else if t.HasCheck(c.Name) {
			return pgerror.New(pgerror.DuplicateObject, "constraint \"%s\" for relation \"%s\" already exists", c.Name, t.Name)
		}
		t.Checks = append(t.Checks, catalog.Check{Name: c.Name, Expr: c.Text})
		return d.bindCheck(t, c.Expr)
	}
	for _, col := range st.Columns {
		for _, c := range col.Check {
			if err := add(c, col.Name); err != nil {
				return err
			}
		}
	}
	for _, c := range st.Checks {
		if err := add(c, ""); err != nil {
			return err
		}
	}
	return nil
}

func checkName(t *catalog.Table, column string) string {
	for n := 0; ; n++ {
		suffix := "check"
		if n > 0 {
			suffix = fmt.Sprintf("check%d", n)
		}
		if name := objectName(t.Name, column, suffix); !t.HasCheck(name) {
			return name
		}
	}
}

// drop runs DROP TABLE, INDEX, SCHEMA and the like.
func (s *session) drop(ctx context.Context, st *ast.Drop) error {
	switch st.Kind {
	case "INDEX":
		return s.dropIndexes(ctx, st)
	case "SCHEMA":
		return s.changeSchema(ctx, func(d *ddl) error { return d.dropSchemas(st) })
	case "TABLE":
		return s.changeSchema(ctx, func(d *ddl) error { return d.dropTables(st) })
	}
	// There are none of the others.
	for _, n := range st.Names {
		kind := strings.ToLower(st.Kind)
		if !st.IfExists {
			return pgerror.New(pgerror.UndefinedTable, "%s \"%s\" does not exist", kind, n.Name)
		}
		s.notice("NOTICE", pgerror.SuccessfulCompletion, "%s \"%s\" does not exist, skipping", kind, n.Name)
	}
	return nil
}

func (d *ddl) dropTables(st *ast.Drop) error {
	for _, n := range st.Names {
		t, err := resolveTable(d.view(), n)
		if err != nil {
			code := pgerror.Code(err)
			if st.IfExists && (code == pgerror.UndefinedTable || code == pgerror.InvalidSchemaName) {
				d.s.notice("NOTICE", pgerror.SuccessfulCompletion, "table \"%s\" does not exist, skipping", n.Name)
				continue
			}
			if code == pgerror.UndefinedTable {
				if v := d.view(); v.IndexTable(n.Schema, n.Name) != nil {
					return pgerror.New(pgerror.WrongObjectType, "\"%s\" is not a table", n.Name).WithHint("Use DROP INDEX to remove an index.")
				}
				return pgerror.New(pgerror.UndefinedTable, "table \"%s\" does not exist", n.Name)
			}
			return err
		}
		if err := d.dropTable(t); err != nil {
			return err
		}
	}
	return nil
}

func (d *ddl) dropTable(t *catalog.Table) error {
	r := tablecodec.TableRange(t.ID)
	return d.change.DropTable(t, catalog.DropRange{Start: r.Start, End: r.End, What: "table " + t.Schema + "." + t.Name})
}

// truncate gives tables new, empty key ranges.
func (s *session) truncate(ctx context.Context, st *ast.Truncate) error {
	return s.changeSchema(ctx, func(d *ddl) error {
		for _, n := range st.Tables {
			t, err := resolveTable(d.view(), n)
			if err != nil {
				return err
			}
			if err := d.truncateTable(t, st.RestartIdentity); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *ddl) truncateTable(t *catalog.Table, restart bool) error {
	fresh := t.Clone()
	var err error
	if fresh.ID, err = d.change.NewID(); err != nil {
		return err
	}
	old := t.Clone()
	for i := range old.Columns {
		switch {
		case old.Columns[i].SequenceID == 0:
		case restart:
			if fresh.Columns[i].SequenceID, err = d.change.NewID(); err != nil {
				return err
			}
		default: // the sequence goes on
			old.Columns[i].SequenceID = 0
		}
	}
	if err := d.dropTable(old); err != nil {
		return err
	}
	return d.change.PutTable(fresh)
}
