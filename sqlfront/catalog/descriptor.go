package catalog

import (
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/internal/sqltypes"
)

// Limits of a table, as in PostgreSQL unless noted.
const (
	NameBytesMax      = 63
	TableColumnsMax   = 1600
	IndexColumnsMax   = 32
	TableIndexesMax   = 64 // ours
	RowValueBytesMax  = 6 << 20
	IndexKeyBytesMax  = 4 << 10
	FirstUserObjectID = 16384
)

// State is the life of a table or an index while a DDL runs (F1's states).
type State uint8

// The states. Writers maintain an index from DeleteOnly on as its name says;
// readers use it only when Public.
const (
	StatePublic State = iota
	StateDeleteOnly
	StateWriteOnly
	StateDropped
)

// Schema is a namespace.
type Schema struct {
	ID      int64
	Name    string
	Comment string
}

// Table is a table's descriptor. Its ID is also its OID in pg_class and the id
// in its row keys.
type Table struct {
	ID      int64
	Schema  string
	Name    string
	Columns []Column
	// PrimaryKey holds the primary key; nil for a table without one, whose rows
	// are keyed by a hidden row id.
	PrimaryKey *Index
	Indexes    []*Index // secondary, in order of creation
	Checks     []Check
	// NextColumnID is the id the next added column gets.
	NextColumnID uint32
	NextIndexID  int64
	State        State
	Comment      string
	// FencedUntil, if not 0, says that a bulk load of sqlfront's puts its content
	// into the table: nobody may write it, or commit what he wrote. From that
	// timestamp on a writer may end the fence, as any change of the table does.
	FencedUntil uint64 `json:",omitempty"`
	// Version is the schema version that last changed this descriptor.
	Version int64
}

// Column is a column's descriptor. ID starts at 1 and is never reused.
type Column struct {
	ID      uint32
	Name    string
	Type    sqltypes.Type
	NotNull bool
	// DefaultExpr is SQL text, "" for none. Identity marks a serial/identity
	// column, whose default is the next value of the sequence SequenceID.
	DefaultExpr string
	Identity    string // "", "a" (always), "d" (by default), "s" (serial)
	SequenceID  int64
	// Missing is the value of rows written before the column was added.
	Missing sqltypes.Datum `json:"-"`
	Comment string
}

// Index is an index, or the primary key (whose ID is 0).
type Index struct {
	ID      int64
	OID     int64 // in pg_class
	Name    string
	Unique  bool
	Primary bool
	// Constraint is true when a PRIMARY KEY or UNIQUE constraint made it.
	Constraint bool
	Columns    []IndexColumn
	State      State
}

// IndexColumn is a column of an index by position in Table.Columns.
type IndexColumn struct {
	Column     int
	Desc       bool
	NullsFirst bool
}

// Check is a CHECK constraint as SQL text.
type Check struct{ Name, Expr string }

// ColumnIndex returns the position of the column with this name, or -1.
func (t *Table) ColumnIndex(name string) int {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// VirtualTable is a system table computed on demand.
type VirtualTable struct {
	OID     int64
	Schema  string
	Name    string
	Columns []Column
	// Rows returns all rows, each with len(Columns) values.
	Rows func() ([][]sqltypes.Datum, error)
}

// Relation is what a name in FROM resolves to; exactly one field is set.
type Relation struct {
	Table   *Table
	Virtual *VirtualTable
}

// Reader is the catalog as of one schema version; what the binder sees.
type Reader interface {
	// Resolve finds a relation; an empty schema walks the search path
	// (pg_catalog first, then the session's). A missing relation is
	// pgerror.UndefinedTable, in a missing schema, too.
	Resolve(schema, name string) (Relation, error)
	// TableByID returns a table by id/OID, or nil.
	TableByID(id int64) *Table
	// Version is the schema version.
	Version() int64
	// TableStats returns what is known about the table's size (rows estimated,
	// 0 = unknown).
	TableStats(id int64) Stats
}

// Stats are rough statistics for the planner.
type Stats struct {
	Rows     int64
	Distinct map[uint32]int64        // by column id, 0/absent = unknown
	Columns  map[uint32]*ColumnStats `json:",omitempty"` // by column id
}

// ColumnStats is what ANALYZE saw of a column's values in a sample of rows.
// Values are keys (tablecodec.IndexColumn of the column's type, ascending).
type ColumnStats struct {
	NullFrac float64
	Common   []CommonValue // the most frequent ones, in descending order of Frac
	Values   [][]byte      // of the other values, as many quantiles

	decoded atomic.Pointer[decoded]
}

// decoded are a column's values as of a type.
type decoded struct {
	typ sqltypes.Type
	col arrow.Array
	ok  bool
}

// Decoded is what decode makes of the values if the column has type t, made only
// once: planners compute conditions over it for every statement.
func (s *ColumnStats) Decoded(t sqltypes.Type, decode func() (arrow.Array, bool)) (arrow.Array, bool) {
	d := s.decoded.Load()
	if d == nil || d.typ != t {
		d = &decoded{typ: t}
		d.col, d.ok = decode()
		s.decoded.Store(d)
	}
	return d.col, d.ok
}

// CommonValue is a value that a fraction of all rows have.
type CommonValue struct {
	Key  []byte
	Frac float64
}
