package parse

import (
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

func (c *converter) createTable(x *mast.CreateStmt) *ast.CreateTable {
	switch {
	case len(items(x.InhRelations)) > 0:
		refuse("table inheritance (INHERITS)")
	case x.PartSpec != nil || x.PartBound != nil:
		refuse("table partitioning (PARTITION)")
	case x.OfTypename != nil:
		refuse("CREATE TABLE OF type")
	case x.TableSpaceName != "":
		refuse("TABLESPACE")
	case x.AccessMethod != "":
		refuse("a table access method (USING)")
	}
	for _, o := range items(x.Options) {
		// fillfactor is a hint about pages, which the store doesn't have
		if d := o.(*mast.DefElem); d.Defname != "fillfactor" {
			refuse("the storage parameter " + d.Defname)
		}
	}
	out := &ast.CreateTable{Name: c.tableName(x.Relation), IfNotExists: x.IfNotExists, Temporary: x.Relation.RelPersistence == 't'}
	for _, n := range items(x.TableElts) {
		switch e := n.(type) {
		case *mast.ColumnDef:
			out.Columns = append(out.Columns, c.columnDef(e))
		case *mast.Constraint:
			c.tableConstraint(out, e)
		case *mast.TableLikeClause:
			refuse("CREATE TABLE LIKE")
		default:
			refuse("this element of CREATE TABLE")
		}
	}
	return out
}

var serialTypes = map[string]string{
	"serial": "int4", "serial4": "int4", "bigserial": "int8", "serial8": "int8", "smallserial": "int2", "serial2": "int2",
}

func (c *converter) columnDef(x *mast.ColumnDef) ast.ColumnDef {
	out := ast.ColumnDef{Pos: c.word(x.Colname), Name: x.Colname}
	if x.TypeName != nil {
		out.Type = c.typeName(x.TypeName)
		if len(out.Type.Names) == 1 {
			if t, ok := serialTypes[out.Type.Names[0]]; ok {
				if out.Type.ArrayDims > 0 {
					panic(pgerror.New(pgerror.FeatureNotSupported, "array of serial is not implemented").At(int(out.Type.Pos)))
				}
				out.Serial, out.NotNull = true, true
				out.Type.Names = []string{"pg_catalog", t}
			}
		}
	}
	if x.Collclause != nil {
		out.Collation = names(x.Collclause.Collname)
	}
	for _, n := range items(x.Constraints) {
		if k, ok := n.(*mast.Constraint); ok {
			c.columnConstraint(&out, k)
			continue
		}
		if coll, ok := n.(*mast.CollateClause); ok {
			out.Collation = names(coll.Collname)
			continue
		}
		refuse("this column constraint")
	}
	if out.Null && out.NotNull {
		panic(pgerror.New(pgerror.SyntaxError, "conflicting NULL/NOT NULL declarations for column \"%s\"", out.Name).At(int(out.Pos)))
	}
	return out
}

func (c *converter) columnConstraint(col *ast.ColumnDef, k *mast.Constraint) {
	switch k.Contype {
	case mast.CONSTR_NULL:
		col.Null = true
	case mast.CONSTR_NOTNULL:
		col.NotNull = true
	case mast.CONSTR_DEFAULT:
		if col.Default != nil {
			panic(pgerror.New(pgerror.SyntaxError, "multiple default values specified for column \"%s\"", col.Name).At(int(col.Pos)))
		}
		c.word("default")
		col.Default, col.DefaultText = c.expr(k.RawExpr), sqlText(k.RawExpr)
	case mast.CONSTR_IDENTITY:
		if len(items(k.Options)) > 0 {
			refuse("sequence options of an identity column")
		}
		col.NotNull = true
		col.GeneratedKind = "always"
		if k.GeneratedWhen == 'd' {
			col.GeneratedKind = "by default"
		}
	case mast.CONSTR_GENERATED:
		col.GeneratedKind = "stored"
		col.Default, col.DefaultText = c.expr(k.RawExpr), sqlText(k.RawExpr)
	case mast.CONSTR_CHECK:
		col.Check = append(col.Check, c.check(k))
	case mast.CONSTR_PRIMARY:
		col.PrimaryKey, col.NotNull = true, true
		col.Constraint = k.Conname
		c.keyOptions(k)
	case mast.CONSTR_UNIQUE:
		col.Unique = true
		if k.Conname != "" {
			col.Constraint = k.Conname
		}
		c.keyOptions(k)
	case mast.CONSTR_FOREIGN:
		fk := c.foreignKey(k)
		fk.Columns = []string{col.Name}
		col.References = &fk
	case mast.CONSTR_ATTR_DEFERRABLE, mast.CONSTR_ATTR_DEFERRED:
		refuse("a DEFERRABLE constraint")
	case mast.CONSTR_ATTR_NOT_DEFERRABLE, mast.CONSTR_ATTR_IMMEDIATE:
	default:
		refuse("this column constraint")
	}
}

// keyOptions refuses what a key cannot have here.
func (c *converter) keyOptions(k *mast.Constraint) {
	switch {
	case k.Deferrable || k.Initdeferred:
		refuse("a DEFERRABLE constraint")
	case k.NullsNotDistinct:
		refuse("NULLS NOT DISTINCT")
	case len(items(k.Including)) > 0:
		refuse("INCLUDE in a constraint")
	case k.Indexname != "":
		refuse("a constraint USING INDEX")
	case k.Indexspace != "":
		refuse("TABLESPACE")
	}
}

func (c *converter) check(k *mast.Constraint) ast.Check {
	c.word("check")
	return ast.Check{Name: k.Conname, Expr: c.expr(k.RawExpr), Text: sqlText(k.RawExpr)}
}

func (c *converter) foreignKey(k *mast.Constraint) ast.ForeignKey {
	fk := ast.ForeignKey{Pos: c.word("references"), Name: k.Conname, Columns: names(k.FkAttrs), RefColumns: names(k.PkAttrs)}
	fk.RefTable = c.tableName(k.Pktable)
	return fk
}

func (c *converter) tableConstraint(t *ast.CreateTable, k *mast.Constraint) {
	switch k.Contype {
	case mast.CONSTR_PRIMARY, mast.CONSTR_UNIQUE:
		t.Constraints = append(t.Constraints, c.keyConstraint(k))
	case mast.CONSTR_CHECK:
		t.Checks = append(t.Checks, c.check(k))
	case mast.CONSTR_FOREIGN:
		t.Foreign = append(t.Foreign, c.foreignKey(k))
	case mast.CONSTR_EXCLUSION:
		refuse("an EXCLUDE constraint")
	default:
		refuse("this table constraint")
	}
}

func (c *converter) keyConstraint(k *mast.Constraint) ast.TableConstraint {
	c.keyOptions(k)
	out := ast.TableConstraint{Name: k.Conname, Primary: k.Contype == mast.CONSTR_PRIMARY, Columns: names(k.Keys)}
	if out.Primary {
		out.Pos = c.word("primary")
	} else {
		out.Pos = c.word("unique")
	}
	for _, col := range out.Columns {
		c.word(col)
	}
	return out
}

func (c *converter) createTableAs(into *mast.IntoClause, query mast.Node, ifNotExists bool) *ast.CreateTable {
	if into.SkipData {
		refuse("WITH NO DATA")
	}
	if into.AccessMethod != "" || into.TableSpaceName != "" || len(items(into.Options)) > 0 {
		refuse("a storage option of CREATE TABLE AS")
	}
	sel, ok := query.(*mast.SelectStmt)
	if !ok {
		refuse("CREATE TABLE AS EXECUTE")
	}
	out := &ast.CreateTable{IfNotExists: ifNotExists, Temporary: into.Rel.RelPersistence == 't'}
	if sel.IntoClause != nil { // SELECT INTO: the name stands inside the select
		at := c.next
		c.word("into")
		out.Name = c.tableName(into.Rel)
		c.next = at
		plain := *sel
		plain.IntoClause = nil
		sel = &plain
	} else {
		out.Name = c.tableName(into.Rel)
	}
	for _, name := range names(into.ColNames) {
		out.Columns = append(out.Columns, ast.ColumnDef{Pos: c.word(name), Name: name})
	}
	out.AsSelect = c.selectStmt(sel)
	return out
}

func (c *converter) createIndex(x *mast.IndexStmt) *ast.CreateIndex {
	switch {
	case x.TableSpace != "":
		refuse("TABLESPACE")
	case x.NullsNotDistinct:
		refuse("NULLS NOT DISTINCT")
	}
	for _, o := range items(x.Options) {
		if d := o.(*mast.DefElem); d.Defname != "fillfactor" {
			refuse("the storage parameter " + d.Defname)
		}
	}
	out := &ast.CreateIndex{Unique: x.Unique, IfNotExists: x.IfNotExists, Concurrently: x.Concurrent, Method: x.AccessMethod}
	if x.Idxname != "" {
		out.Name = x.Idxname
		out.Pos = c.word(x.Idxname)
	}
	out.Table = c.tableName(x.Relation)
	for _, n := range items(x.IndexParams) {
		e := n.(*mast.IndexElem)
		if len(items(e.Opclass)) > 0 {
			refuse("an operator class in CREATE INDEX")
		}
		if len(items(e.Collation)) > 0 {
			refuse("COLLATE in CREATE INDEX")
		}
		col := ast.IndexColumn{Pos: c.here(), Name: e.Name, Desc: e.Ordering == mast.SORTBY_DESC, NullsFirst: nullsFirst(e.NullsOrdering)}
		if e.Name != "" {
			col.Pos = c.word(e.Name)
		}
		col.Expr = c.optExpr(e.Expr)
		out.Columns = append(out.Columns, col)
	}
	for _, n := range items(x.IndexIncludingParams) {
		out.Include = append(out.Include, n.(*mast.IndexElem).Name)
	}
	out.Where = c.optExpr(x.WhereClause)
	return out
}

var dropKinds = map[mast.ObjectType]string{
	mast.OBJECT_TABLE: "TABLE", mast.OBJECT_INDEX: "INDEX", mast.OBJECT_VIEW: "VIEW", mast.OBJECT_SCHEMA: "SCHEMA", mast.OBJECT_SEQUENCE: "SEQUENCE",
}

func (c *converter) drop(x *mast.DropStmt) ast.Stmt {
	kind, ok := dropKinds[x.RemoveType]
	if !ok {
		refuse(c.command())
	}
	out := &ast.Drop{Kind: kind, IfExists: x.MissingOk, Cascade: x.Behavior == mast.DropCascade}
	for _, o := range items(x.Objects) {
		out.Names = append(out.Names, c.qualified(objectName(o)))
	}
	return out
}

func objectName(n mast.Node) []string {
	switch x := n.(type) {
	case *mast.NodeList:
		return names(x)
	case *mast.String:
		return []string{x.SVal}
	case *mast.RangeVar:
		var out []string
		for _, p := range []string{x.CatalogName, x.SchemaName, x.RelName} {
			if p != "" {
				out = append(out, p)
			}
		}
		return out
	}
	refuse("this kind of object name")
	return nil
}

func (c *converter) comment(x *mast.CommentStmt) ast.Stmt {
	kind := map[mast.ObjectType]string{
		mast.OBJECT_TABLE: "TABLE", mast.OBJECT_COLUMN: "COLUMN", mast.OBJECT_INDEX: "INDEX", mast.OBJECT_SCHEMA: "SCHEMA", mast.OBJECT_DATABASE: "DATABASE",
	}[x.Objtype]
	if kind == "" {
		refuse("COMMENT ON this kind of object")
	}
	out := &ast.Comment{Kind: kind, Name: objectName(x.Object)}
	if x.Comment != "" {
		text := x.Comment
		out.Text = &text
	}
	return out
}
