package plan

import (
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// Plan is the chain; Nodes[0] is a *TableScan or *IndexScan, each further node
// reads the columns of the one before it, by position.
type Plan struct {
	Nodes []Node
	// TimeZone is the session's, for casts that depend on it.
	TimeZone string
	// Now and TxnNow are the start of the statement and of its transaction, for
	// functions that depend on them; zero if none does.
	Now, TxnNow time.Time
}

// Node is one step of a Plan.
type Node interface{ node() }

// Column is a stored column that a scan returns.
type Column struct {
	ID   uint32 // column id, unique in the table, never reused
	Type sqltypes.Type
	// Default is what a row written before the column existed has.
	Default sqltypes.Datum
}

// RowIDColumn is the column id of the hidden row id (int8) of a table without
// a primary key.
const RowIDColumn uint32 = 0

type (
	// TableScan reads rows in primary key order. KeyColumns are the primary
	// key's columns in order (or one RowIDColumn): they live in the key, the
	// others in the value. With Handle a last column of type bytea follows: the
	// row's encoded primary key (tablecodec handle), for DML.
	TableScan struct {
		TableID    int64
		KeyColumns []Column
		Columns    []Column // what to return, in order
		Handle     bool
		Desc       bool
	}
	// IndexScan reads index entries in key order. Columns must be among
	// IndexColumns and KeyColumns. With Handle as in TableScan.
	IndexScan struct {
		TableID, IndexID int64
		Unique           bool
		IndexColumns     []IndexColumn
		KeyColumns       []Column
		Columns          []Column
		Handle           bool
		Desc             bool
	}
	// IndexColumn is a column of an index key.
	IndexColumn struct {
		Column
		Desc bool
	}
	// Selection keeps the rows for which every condition is true.
	Selection struct{ Conds []expr.Expr }
	// Projection computes columns.
	Projection struct{ Exprs []expr.Expr }
	// Aggregation groups a region's rows and returns for each group the group
	// columns followed by the state columns of each aggregate, to be merged by
	// a final aggregation above (copr/agg).
	Aggregation struct {
		GroupBy []expr.Expr
		Aggs    []AggCall
	}
	// AggCall is one aggregate function. Arg may be empty (count(*)).
	AggCall struct {
		Name     string // "sum", "count", "avg", "min", "max", …
		Args     []expr.Expr
		Distinct bool
		Filter   expr.Expr     // nil = none
		Type     sqltypes.Type // of the final result
	}
	// TopN returns the first N rows in the order of Keys.
	TopN struct {
		Keys []SortKey
		N    uint64
	}
	// SortKey is one ORDER BY key.
	SortKey struct {
		Expr       expr.Expr
		Desc       bool
		NullsFirst bool
	}
	// Limit stops after N rows.
	Limit struct{ N uint64 }
)

func (*TableScan) node()   {}
func (*IndexScan) node()   {}
func (*Selection) node()   {}
func (*Projection) node()  {}
func (*Aggregation) node() {}
func (*TopN) node()        {}
func (*Limit) node()       {}
