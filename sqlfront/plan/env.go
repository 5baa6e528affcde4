package plan

import (
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// ExecEnv is what building and running a Physical needs from the session. One
// ExecEnv belongs to one execution.
type ExecEnv struct {
	// Eval has the statement's parameters, times and session. Operators must be
	// opened with an exec.Ctx whose Eval is this one.
	Eval    *expr.Ctx
	Storage Storage
	// Mem is charged for what subqueries keep; nil = no limit.
	Mem *exec.MemAccount
	// Workers is how many goroutines may run a pipeline; 0 or 1 = only the
	// statement's own. Storage is used by several at a time then.
	Workers int
	// JoinFilters lets joins filter the scans of their other side.
	JoinFilters bool
	// Closed is called when the Running is closed; may be nil.
	Closed func()
	// workerRowsMin replaces parallelRowsMin and parallelGroupsMin; 0 = it does
	// not.
	workerRowsMin float64
	// Spill is where subqueries and WITH items keep rows when memory is scarce;
	// nil = nowhere. The Running closes it.
	Spill *spill.Space
}

// Storage is where rows come from; the session implements it. It decides
// whether a scan goes to the coprocessors or, when the transaction has written
// to the table, runs the same plan over its own rows.
type Storage interface {
	// Scan makes an operator that returns the rows of req.Plan over the ranges.
	// If its Stats tell more than rows and time, it implements ScanStatser.
	Scan(req *ScanRequest) (exec.Operator, error)
	// Rows reads rows by handle (tablecodec's), in the order of the handles;
	// those that don't exist are left out. The batch has one column for each
	// of req.Columns, then the handle if req.Handle.
	Rows(ctx *exec.Ctx, req *RowsRequest) (*expr.Batch, error)
	// UniqueGet reads entries of a unique index by key, none of whose columns
	// is NULL: the handle for each key, nil where there is no entry.
	UniqueGet(ctx *exec.Ctx, table *catalog.Table, index *catalog.Index, keys [][]byte) ([][]byte, error)
}

// ScanRequest is a pushed-down plan over key ranges of one table.
type ScanRequest struct {
	Table  *catalog.Table
	Plan   *coprplan.Plan
	Ranges []kv.KeyRange // ascending, not overlapping; none = no rows
	// Types are the plan's output columns.
	Types []sqltypes.Type
	// KeepOrder asks for the rows in key order (reversed if Desc); otherwise
	// regions may answer in any order.
	KeepOrder, Desc bool
	// Filters are conditions that the statement's joins have on the rows, known
	// when the scan is opened: see Filtered.
	Filters []*ScanFilter
	// LimitHint is how many rows the reader will want at most, 0 = all.
	LimitHint uint64
}

// RowsRequest reads rows by handle.
type RowsRequest struct {
	Table   *catalog.Table
	Handles [][]byte
	Key     []coprplan.Column // as TableScan.KeyColumns
	Columns []coprplan.Column // as TableScan.Columns
	Handle  bool
}

// ScanStats is what EXPLAIN ANALYZE shows of a pushed-down scan.
type ScanStats struct {
	Regions      int
	Requests     int
	RowsScanned  int64 // read by the coprocessors
	BytesScanned int64
	BytesSent    int64 // over the wire
	// ColumnRegions and ColumnRows are those of Regions and RowsScanned that were
	// read from the columnar cache, regions in part at least.
	ColumnRegions int
	// CachedRegions are those whose answer was kept from an earlier statement.
	CachedRegions int
	ColumnRows    int64
}

// ScanStatser is implemented by operators that Storage.Scan returns.
type ScanStatser interface{ ScanStats() ScanStats }

// Plan is the scan that decodes the rows of a request.
func (r *RowsRequest) Plan() *coprplan.Plan {
	return &coprplan.Plan{Nodes: []coprplan.Node{&coprplan.TableScan{
		TableID: r.Table.ID, KeyColumns: r.Key, Columns: r.Columns, Handle: r.Handle}}}
}
