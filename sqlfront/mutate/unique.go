package mutate

import (
	"bytes"
	"strings"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// UniqueError is the 23505 for a key that exists already, in PostgreSQL's
// words. Values of lossy types print as the key has them.
func (m *Table) UniqueError(key []byte) *pgerror.Error {
	ix, vals, ok := m.decodeUnique(key)
	if !ok {
		return pgerror.New(pgerror.UniqueViolation, "duplicate key value violates a unique constraint of table \"%s\"", m.Desc.Name)
	}
	e := pgerror.New(pgerror.UniqueViolation, "duplicate key value violates unique constraint \"%s\"", ix.Name)
	e.Schema, e.Table, e.Constraint = m.Desc.Schema, m.Desc.Name, ix.Name
	return e.WithDetail("Key (%s)=(%s) already exists.", m.columnNames(ix), formatValues(m.Desc, ix, vals))
}

// DuplicateError is the 23505 for rows that stand in the way of a new unique
// index.
func (m *Table) DuplicateError(ix *catalog.Index, key []byte) *pgerror.Error {
	e := pgerror.New(pgerror.UniqueViolation, "could not create unique index \"%s\"", ix.Name)
	e.Schema, e.Table, e.Constraint = m.Desc.Schema, m.Desc.Name, ix.Name
	if _, vals, ok := m.decodeUnique(key); ok {
		return e.WithDetail("Key (%s)=(%s) is duplicated.", m.columnNames(ix), formatValues(m.Desc, ix, vals))
	}
	return e
}

// Owns reports whether key is one of this table's.
func (m *Table) Owns(key []byte) bool {
	return bytes.HasPrefix(key, tablecodec.AppendTablePrefix(nil, m.Desc.ID))
}

func (m *Table) decodeUnique(key []byte) (*catalog.Index, []sqltypes.Datum, bool) {
	if _, handle, err := tablecodec.SplitRowKey(key); err == nil && m.Desc.PrimaryKey != nil {
		vals, _, err := tablecodec.NewDecoder(tablecodec.HandleColumns(m.keyType)).DecodeDatums(handle)
		return m.Desc.PrimaryKey, vals, err == nil
	}
	_, id, cols, err := tablecodec.SplitIndexKey(key)
	if err != nil {
		return nil, nil, false
	}
	for i := range m.indexes {
		if ix := &m.indexes[i]; ix.desc.ID == id {
			vals, _, err := tablecodec.NewDecoder(ix.cols).DecodeDatums(cols)
			return ix.desc, vals, err == nil
		}
	}
	return nil, nil, false
}

func (m *Table) columnNames(ix *catalog.Index) string {
	out := make([]string, len(ix.Columns))
	for i, c := range ix.Columns {
		out[i] = m.Desc.Columns[c.Column].Name
	}
	return strings.Join(out, ", ")
}

func formatValues(t *catalog.Table, ix *catalog.Index, vals []sqltypes.Datum) string {
	out := make([]string, len(vals))
	for i, v := range vals {
		if v.IsNull() {
			out[i] = "null"
		} else {
			out[i] = sqltypes.Format(t.Columns[ix.Columns[i].Column].Type, v)
		}
	}
	return strings.Join(out, ", ")
}

// failingValueBytesMax cuts values in "Failing row contains", as PostgreSQL does.
const failingValueBytesMax = 64

// FailingRow is the detail of a violated constraint.
func FailingRow(t *catalog.Table, row []sqltypes.Datum) string {
	out := make([]string, len(row))
	for i, v := range row {
		if v.IsNull() {
			out[i] = "null"
			continue
		}
		s := sqltypes.Format(t.Columns[i].Type, v)
		if len(s) > failingValueBytesMax {
			s = strings.ToValidUTF8(s[:failingValueBytesMax], "") + "..."
		}
		out[i] = s
	}
	return "Failing row contains (" + strings.Join(out, ", ") + ")."
}

// NotNullError is the 23502 of a column.
func NotNullError(t *catalog.Table, column int, row []sqltypes.Datum) *pgerror.Error {
	name := t.Columns[column].Name
	e := pgerror.New(pgerror.NotNullViolation, "null value in column \"%s\" of relation \"%s\" violates not-null constraint", name, t.Name)
	e.Schema, e.Table, e.Column, e.Detail = t.Schema, t.Name, name, FailingRow(t, row)
	return e
}

// CheckError is the 23514 of a CHECK constraint.
func CheckError(t *catalog.Table, name string, row []sqltypes.Datum) *pgerror.Error {
	e := pgerror.New(pgerror.CheckViolation, "new row for relation \"%s\" violates check constraint \"%s\"", t.Name, name)
	e.Schema, e.Table, e.Constraint, e.Detail = t.Schema, t.Name, name, FailingRow(t, row)
	return e
}
