package sqlfront

import (
	"context"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
)

func (s *session) createSchema(ctx context.Context, st *ast.CreateSchema) error {
	return s.changeSchema(ctx, func(d *ddl) error {
		if d.view().Schema(st.Name) != nil {
			if st.IfNotExists {
				s.notice("NOTICE", pgerror.DuplicateSchema, "schema \"%s\" already exists, skipping", st.Name)
				return nil
			}
			return pgerror.New(pgerror.DuplicateSchema, "schema \"%s\" already exists", st.Name)
		}
		if strings.HasPrefix(st.Name, "pg_") {
			return pgerror.New(pgerror.ReservedName, "unacceptable schema name \"%s\"", st.Name).
				WithDetail("The prefix \"pg_\" is reserved for system schemas.")
		}
		id, err := d.change.NewID()
		if err != nil {
			return err
		}
		return d.change.PutSchema(&catalog.Schema{ID: id, Name: st.Name})
	})
}

func (d *ddl) dropSchemas(st *ast.Drop) error {
	for _, n := range st.Names {
		sc := d.view().Schema(n.Name)
		switch {
		case sc == nil && st.IfExists:
			d.s.notice("NOTICE", pgerror.SuccessfulCompletion, "schema \"%s\" does not exist, skipping", n.Name)
			continue
		case sc == nil:
			return pgerror.New(pgerror.InvalidSchemaName, "schema \"%s\" does not exist", n.Name)
		case sc.ID < catalog.FirstUserObjectID:
			return pgerror.New(pgerror.DependentObjectsStillExist, "cannot drop schema %s because it is required by the database system", n.Name)
		}
		var inside []*catalog.Table
		for _, t := range d.change.Snapshot().Tables() {
			if t.Schema == n.Name {
				inside = append(inside, t)
			}
		}
		if len(inside) > 0 && !st.Cascade {
			return pgerror.New(pgerror.DependentObjectsStillExist, "cannot drop schema %s because other objects depend on it", n.Name).
				WithDetail("table %s.%s depends on schema %s", n.Name, inside[0].Name, n.Name).
				WithHint("Use DROP ... CASCADE to drop the dependent objects too.")
		}
		for _, t := range inside {
			if err := d.dropTable(t); err != nil {
				return err
			}
		}
		if err := d.change.DropSchema(sc); err != nil {
			return err
		}
	}
	return nil
}

// comment runs COMMENT ON TABLE, COLUMN, SCHEMA and so on.
func (s *session) comment(ctx context.Context, st *ast.Comment) error {
	text := ""
	if st.Text != nil {
		text = *st.Text
	}
	return s.changeSchema(ctx, func(d *ddl) error {
		switch st.Kind {
		case "SCHEMA":
			sc := d.view().Schema(st.Name[0])
			if sc == nil {
				return pgerror.New(pgerror.InvalidSchemaName, "schema \"%s\" does not exist", st.Name[0])
			}
			changed := *sc
			changed.Comment = text
			return d.change.PutSchema(&changed)
		case "TABLE":
			t, err := resolveTable(d.view(), nameOf(st.Name))
			if err != nil {
				return err
			}
			t = t.Clone()
			t.Comment = text
			return d.change.PutTable(t)
		case "COLUMN":
			return d.commentColumn(st.Name, text)
		}
		return pgerror.Unsupported("COMMENT ON " + st.Kind)
	})
}

func (d *ddl) commentColumn(name []string, text string) error {
	last := len(name) - 1
	if last < 1 {
		return pgerror.New(pgerror.SyntaxError, "column name must be qualified")
	}
	t, err := resolveTable(d.view(), nameOf(name[:last]))
	if err != nil {
		return err
	}
	i := t.ColumnIndex(name[last])
	if i < 0 {
		return pgerror.New(pgerror.UndefinedColumn, "column \"%s\" of relation \"%s\" does not exist", name[last], t.Name)
	}
	t = t.Clone()
	t.Columns[i].Comment = text
	return d.change.PutTable(t)
}

// nameOf makes a table name of its parts.
func nameOf(parts []string) ast.TableName {
	n := ast.TableName{Name: parts[len(parts)-1]}
	if len(parts) > 1 {
		n.Schema = parts[len(parts)-2]
	}
	if len(parts) > 2 {
		n.Catalog = parts[len(parts)-3]
	}
	return n
}
