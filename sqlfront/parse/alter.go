package parse

import (
	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/sqlfront/ast"
)

func (c *converter) alterTable(x *mast.AlterTableStmt) ast.Stmt {
	if x.Objtype != mast.OBJECT_TABLE {
		refuse(c.command())
	}
	out := &ast.AlterTable{Name: c.tableName(x.Relation), IfExists: x.MissingOk}
	for _, n := range items(x.Cmds) {
		out.Commands = append(out.Commands, c.alterCommand(n.(*mast.AlterTableCmd)))
	}
	return out
}

func (c *converter) alterCommand(k *mast.AlterTableCmd) ast.AlterCommand {
	out := ast.AlterCommand{Pos: c.word(k.Name), Name: k.Name, IfExists: k.MissingOk}
	switch k.Subtype {
	case mast.AT_AddColumn:
		out.Kind = "ADD COLUMN"
		col := c.columnDef(k.Def.(*mast.ColumnDef))
		out.Column, out.Name, out.Pos = &col, col.Name, col.Pos
	case mast.AT_DropColumn:
		out.Kind = "DROP COLUMN"
	case mast.AT_AlterColumnType:
		out.Kind = "ALTER COLUMN TYPE"
		def := k.Def.(*mast.ColumnDef)
		if !isNil(def.RawDefault) {
			refuse("ALTER COLUMN TYPE … USING")
		}
		out.Column = &ast.ColumnDef{Pos: out.Pos, Name: k.Name, Type: c.typeName(def.TypeName)}
	case mast.AT_SetNotNull:
		out.Kind = "SET NOT NULL"
	case mast.AT_DropNotNull:
		out.Kind = "DROP NOT NULL"
	case mast.AT_ColumnDefault:
		out.Kind = "DROP DEFAULT"
		if !isNil(k.Def) {
			out.Kind = "SET DEFAULT"
			out.Column = &ast.ColumnDef{Pos: out.Pos, Name: k.Name, Default: c.expr(k.Def), DefaultText: sqlText(k.Def)}
		}
	case mast.AT_AddConstraint:
		c.addConstraint(&out, k.Def.(*mast.Constraint))
	case mast.AT_DropConstraint:
		out.Kind = "DROP CONSTRAINT"
	case mast.AT_ChangeOwner:
		out.Kind = "OWNER TO"
		if k.Newowner != nil {
			out.NewName = k.Newowner.Rolename
		}
	default:
		refuse("this form of ALTER TABLE")
	}
	return out
}

func (c *converter) addConstraint(out *ast.AlterCommand, k *mast.Constraint) {
	out.Kind = "ADD CONSTRAINT"
	switch k.Contype {
	case mast.CONSTR_PRIMARY, mast.CONSTR_UNIQUE:
		key := c.keyConstraint(k)
		out.Constraint, out.Name, out.Pos = &key, key.Name, key.Pos
	case mast.CONSTR_CHECK:
		refuse("ALTER TABLE … ADD CHECK")
	case mast.CONSTR_FOREIGN:
		refuse("ALTER TABLE … ADD FOREIGN KEY")
	default:
		refuse("ALTER TABLE … ADD of this constraint")
	}
}

func (c *converter) rename(x *mast.RenameStmt) ast.Stmt {
	if x.Relation == nil {
		refuse(c.command())
	}
	out := &ast.AlterTable{IfExists: x.MissingOk}
	cmd := ast.AlterCommand{NewName: x.Newname}
	switch {
	case x.RenameType == mast.OBJECT_TABLE:
		cmd.Kind = "RENAME TO"
	case x.RenameType == mast.OBJECT_INDEX:
		cmd.Kind = "RENAME INDEX"
	case x.RenameType == mast.OBJECT_COLUMN && x.RelationType == mast.OBJECT_TABLE:
		cmd.Kind, cmd.Name = "RENAME COLUMN", x.Subname
	case x.RenameType == mast.OBJECT_TABCONSTRAINT:
		cmd.Kind, cmd.Name = "RENAME CONSTRAINT", x.Subname
	default:
		refuse(c.command())
	}
	out.Name = c.tableName(x.Relation)
	cmd.Pos = c.word(cmd.Name)
	out.Commands = []ast.AlterCommand{cmd}
	return out
}
