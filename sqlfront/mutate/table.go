package mutate

import (
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Table encodes rows of one table version. A row is a slice parallel to the
// descriptor's columns. It keeps scratch memory: not safe for concurrent use.
type Table struct {
	Desc    *catalog.Table
	key     []int // columns of the primary key, nil = row id
	keyType []sqltypes.Type
	stored  []int // columns in the row's value
	enc     *rowcodec.Encoder
	indexes []index
	vals    []sqltypes.Datum
}

type index struct {
	desc *catalog.Index
	cols []tablecodec.Column
}

// New prepares a table.
func New(t *catalog.Table) *Table {
	m := &Table{Desc: t}
	inKey := map[int]bool{}
	if t.PrimaryKey != nil {
		for _, c := range t.PrimaryKey.Columns {
			typ := t.Columns[c.Column].Type
			m.key = append(m.key, c.Column)
			m.keyType = append(m.keyType, typ)
			inKey[c.Column] = !tablecodec.Lossy(typ)
		}
	}
	var stored []rowcodec.Column
	for i, c := range t.Columns {
		if !inKey[i] {
			m.stored = append(m.stored, i)
			stored = append(stored, rowcodec.Column{ID: c.ID, Type: c.Type})
		}
	}
	m.enc = rowcodec.NewEncoder(stored)
	for _, ix := range t.Indexes {
		if ix.State != catalog.StateDropped {
			m.indexes = append(m.indexes, index{desc: ix, cols: IndexColumns(t, ix)})
		}
	}
	return m
}

// IndexColumns are an index's key columns.
func IndexColumns(t *catalog.Table, ix *catalog.Index) []tablecodec.Column {
	out := make([]tablecodec.Column, len(ix.Columns))
	for i, c := range ix.Columns {
		out[i] = tablecodec.IndexColumn(t.Columns[c.Column].Type, c.Desc)
	}
	return out
}

// HasRowID reports whether rows are keyed by a hidden row id.
func (m *Table) HasRowID() bool { return m.key == nil }

// Handle appends the handle that the row's primary key gives.
func (m *Table) Handle(dst []byte, row []sqltypes.Datum) ([]byte, error) {
	m.vals = m.vals[:0]
	for _, c := range m.key {
		m.vals = append(m.vals, row[c])
	}
	return tablecodec.AppendHandle(dst, m.keyType, m.vals)
}

// RowKey returns the key of the row with this handle.
func (m *Table) RowKey(handle []byte) []byte {
	key := make([]byte, 0, tablecodec.RecordPrefixLen+len(handle))
	return tablecodec.AppendRowKey(key, m.Desc.ID, handle)
}

// value encodes the columns that are not in the key.
func (m *Table) value(row []sqltypes.Datum) ([]byte, error) {
	m.vals = m.vals[:0]
	for _, c := range m.stored {
		m.vals = append(m.vals, row[c])
	}
	v, err := m.enc.Encode(nil, m.vals)
	if err == nil && len(v) > catalog.RowValueBytesMax {
		err = pgerror.New(pgerror.ProgramLimitExceeded, "row is too big: size %d, maximum size %d", len(v), catalog.RowValueBytesMax)
	}
	return v, err
}

// indexKey encodes a row's key in an index. unique tells that no other row may
// have it.
func (m *Table) indexKey(ix *index, row []sqltypes.Datum, handle []byte) (key []byte, unique bool, err error) {
	m.vals = m.vals[:0]
	for _, c := range ix.desc.Columns {
		m.vals = append(m.vals, row[c.Column])
	}
	key, withHandle, err := tablecodec.AppendIndexKey(nil, m.Desc.ID, ix.desc.ID, ix.desc.Unique, ix.cols, m.vals, handle)
	if err == nil && len(key) > catalog.IndexKeyBytesMax {
		err = pgerror.New(pgerror.ProgramLimitExceeded, "index row size %d exceeds maximum %d for index \"%s\"", len(key), catalog.IndexKeyBytesMax, ix.desc.Name)
	}
	return key, !withHandle, err
}

// UniqueKey returns the key that a row has in a unique constraint: in the
// primary key the row key, else the index key. ok is false where
// a NULL makes the row unique by itself.
func (m *Table) UniqueKey(ix *catalog.Index, row []sqltypes.Datum) (key []byte, ok bool, err error) {
	if ix.ID == 0 {
		handle, err := m.Handle(nil, row)
		return m.RowKey(handle), err == nil, err
	}
	for i := range m.indexes {
		if m.indexes[i].desc.ID == ix.ID {
			return m.indexKey(&m.indexes[i], row, nil)
		}
	}
	return nil, false, pgerror.New(pgerror.UndefinedObject, "index \"%s\" is not maintained", ix.Name)
}

// IndexEntry returns the entry of a row in one index, for backfilling it.
func (m *Table) IndexEntry(id int64, row []sqltypes.Datum, handle []byte) (key, value []byte, unique bool, err error) {
	for i := range m.indexes {
		if m.indexes[i].desc.ID == id {
			key, unique, err = m.indexKey(&m.indexes[i], row, handle)
			return key, handle, unique, err
		}
	}
	return nil, nil, false, pgerror.New(pgerror.UndefinedObject, "index %d of table \"%s\" is not maintained", id, m.Desc.Name)
}
