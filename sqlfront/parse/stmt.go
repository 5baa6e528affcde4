package parse

import (
	"strings"

	mast "github.com/multigres/multigres/go/common/parser/ast"

	"github.com/copradb/copra/sqlfront/ast"
)

// stmt converts a statement.
func (c *converter) stmt(n mast.Node) ast.Stmt {
	switch x := n.(type) {
	case *mast.RawStmt:
		return c.stmt(x.Stmt)
	case *mast.SelectStmt:
		if x.IntoClause != nil {
			return c.createTableAs(x.IntoClause, x, false)
		}
		return c.selectStmt(x)
	case *mast.InsertStmt:
		return c.insert(x)
	case *mast.UpdateStmt:
		return c.update(x)
	case *mast.DeleteStmt:
		return c.delete(x)
	case *mast.CreateStmt:
		return c.createTable(x)
	case *mast.CreateTableAsStmt:
		if x.ObjType != mast.OBJECT_TABLE {
			refuse(c.command())
		}
		return c.createTableAs(x.Into, x.Query, x.IfNotExists)
	case *mast.IndexStmt:
		return c.createIndex(x)
	case *mast.DropStmt:
		return c.drop(x)
	case *mast.AlterTableStmt:
		return c.alterTable(x)
	case *mast.RenameStmt:
		return c.rename(x)
	case *mast.CommentStmt:
		return c.comment(x)
	case *mast.CreateSchemaStmt:
		if len(items(x.SchemaElts)) > 0 || x.Authrole != nil {
			refuse("CREATE SCHEMA with elements or AUTHORIZATION")
		}
		return &ast.CreateSchema{Name: x.Schemaname, IfNotExists: x.IfNotExists}
	}
	return c.utility(n)
}

// twoWords are first words of object kinds that have two.
var twoWords = map[string]bool{
	"materialized": true, "foreign": true, "event": true, "text": true, "access": true, "default": true, "operator": true,
}

// notKinds are words between CREATE and the kind of object.
var notKinds = map[string]bool{
	"or": true, "replace": true, "temp": true, "temporary": true, "unlogged": true, "recursive": true, "trusted": true,
	"procedural": true, "constraint": true, "global": true, "local": true, "unique": true,
}

// command names the statement by its own first words, as a command tag does.
func (c *converter) command() string {
	word := func(i int) string {
		if i < len(c.toks) {
			return c.toks[i].str
		}
		return ""
	}
	first := word(0)
	switch first {
	case "create", "alter", "drop":
		i := 1
		for notKinds[word(i)] {
			i++
		}
		if twoWords[word(i)] {
			return strings.ToUpper(first + " " + word(i) + " " + word(i+1))
		}
		return strings.ToUpper(first + " " + word(i))
	case "security":
		return "SECURITY LABEL"
	case "import":
		return "IMPORT FOREIGN SCHEMA"
	case "prepare", "commit", "rollback":
		if word(1) == "transaction" || word(1) == "prepared" {
			return strings.ToUpper(first + " " + word(1))
		}
	}
	return strings.ToUpper(first)
}
