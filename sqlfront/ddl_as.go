package sqlfront

import (
	"context"
	"fmt"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/ast"
	"github.com/copradb/copra/sqlfront/catalog"
	"github.com/copradb/copra/sqlfront/plan"
)

// createTableAs runs CREATE TABLE AS and SELECT INTO: the table and its rows
// come in one transaction.
func (s *session) createTableAs(ctx context.Context, st *ast.CreateTable) (string, error) {
	var rows int64
	var skipped bool
	err := s.changeSchema(ctx, func(d *ddl) error {
		bc := s.bindContext(d.change.Snapshot(), nil)
		bound, err := plan.Bind(bc, st.AsSelect)
		if err != nil {
			return err
		}
		if len(bound.Params) > 0 {
			return pgerror.New(pgerror.UndefinedParameter, "there is no parameter $1")
		}
		columns := bound.Columns
		p, err := plan.Optimize(bound, bc.Catalog)
		if err != nil {
			return err
		}
		t, err := d.tableFor(st, columns)
		if t == nil || err != nil {
			skipped = true
			return err
		}
		e, err := d.newExecution(t, nil, nil)
		if err != nil {
			return err
		}
		batches, err := e.source(p)
		if err != nil {
			return err
		}
		if err := d.change.PutTable(t); err != nil {
			return err
		}
		e.begin()
		for _, b := range batches {
			if err := e.insertRows(e.rows(b, 0)); err != nil {
				return err
			}
			rows += int64(b.N)
		}
		return e.end()
	})
	if skipped {
		return "CREATE TABLE AS", err
	}
	return fmt.Sprintf("SELECT %d", rows), err
}

// tableFor makes the descriptor of a table of a query's columns.
func (d *ddl) tableFor(st *ast.CreateTable, columns []plan.Column) (*catalog.Table, error) {
	if len(st.Columns) > len(columns) {
		return nil, pgerror.New(pgerror.SyntaxError, "too many column names were specified")
	}
	plain := *st
	plain.Columns, plain.AsSelect = nil, nil
	t, err := d.newTable(&plain)
	if t == nil || err != nil {
		return nil, err
	}
	for i, c := range columns {
		name := c.Name
		if i < len(st.Columns) {
			name = st.Columns[i].Name
		}
		if t.ColumnIndex(name) >= 0 {
			return nil, pgerror.New(pgerror.DuplicateColumn, "column \"%s\" specified more than once", name)
		}
		typ := c.Type
		switch {
		case typ.OID == sqltypes.OIDUnknown:
			typ = sqltypes.Text
		case typ.IsArray() || typ.IsReg() || typ.OID == sqltypes.OIDVoid || typ.OID == sqltypes.OIDRecord:
			return nil, pgerror.Unsupported("a column of type " + typ.Name())
		}
		t.Columns = append(t.Columns, catalog.Column{ID: t.NextColumnID, Name: name, Type: typ})
		t.NextColumnID++
	}
	return t, nil
}
