package mutate

import (
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/sqlfront/catalog"
)

// arenaBytes is how much memory an Arena takes at a time.
const arenaBytes = 64 << 10

// Arena keeps many small byte slices that live as long as each other.
type Arena struct{ block []byte }

// Copy returns a copy of b in the arena.
func (a *Arena) Copy(b []byte) []byte {
	if cap(a.block)-len(a.block) < len(b) {
		a.block = make([]byte, 0, max(arenaBytes, len(b)))
	}
	start := len(a.block)
	a.block = append(a.block, b...)
	return a.block[start:len(a.block):len(a.block)]
}

// Encoder makes the keys and values of new rows whose values are mostly in their
// stored form already (rowcodec.AppendField). What it makes is what a Writer's
// Insert writes. Not safe for concurrent use.
type Encoder struct {
	*Table
	Arena   Arena
	scratch []byte
	fields  [][]byte
}

// NewEncoder makes an encoder of t's rows.
func NewEncoder(t *Table) *Encoder { return &Encoder{Table: t, fields: make([][]byte, len(t.stored))} }

// Keyed reports for each column whether it is in a key, so that Insert needs it
// as a Datum, and Stored whether it is in the row's value.
func (e *Encoder) Keyed() []bool {
	out := make([]bool, len(e.Desc.Columns))
	for _, c := range e.key {
		out[c] = true
	}
	for i := range e.indexes {
		for _, c := range e.indexes[i].desc.Columns {
			out[c.Column] = true
		}
	}
	return out
}

// Stored see Keyed.
func (e *Encoder) Stored() []bool {
	out := make([]bool, len(e.Desc.Columns))
	for _, c := range e.stored {
		out[c] = true
	}
	return out
}

// Insert calls emit for each key of a new row: first the row's own. row has the
// values of the keyed columns, fields the stored forms of the stored ones (nil is
// NULL); both are parallel to the descriptor's columns. handle is the primary
// key's, or a fresh row id's. unique keys must not exist yet. What emit gets is in
// the arena.
func (e *Encoder) Insert(row []sqltypes.Datum, fields [][]byte, handle []byte, emit func(key, value []byte, unique bool)) error {
	for i, c := range e.stored {
		e.fields[i] = fields[c]
	}
	var err error
	if e.scratch, err = e.enc.EncodeFields(e.scratch[:0], e.fields); err != nil {
		return err
	}
	if len(e.scratch) > catalog.RowValueBytesMax {
		return pgerror.New(pgerror.ProgramLimitExceeded, "row is too big: size %d, maximum size %d", len(e.scratch), catalog.RowValueBytesMax)
	}
	value := e.Arena.Copy(e.scratch)
	e.scratch = tablecodec.AppendRowKey(e.scratch[:0], e.Desc.ID, handle)
	emit(e.Arena.Copy(e.scratch), value, !e.HasRowID())
	for i := range e.indexes {
		ix := &e.indexes[i]
		if ix.desc.State == catalog.StateDeleteOnly {
			continue
		}
		key, unique, err := e.indexKey(ix, row, handle)
		if err != nil {
			return err
		}
		emit(e.Arena.Copy(key), e.Arena.Copy(handle), unique)
	}
	return nil
}

// AppendDatum appends a value's stored form, for Insert's fields.
func (e *Encoder) AppendDatum(dst []byte, column int, d sqltypes.Datum) ([]byte, error) {
	return rowcodec.AppendField(dst, e.Desc.Columns[column].Type, d)
}
