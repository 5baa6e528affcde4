package scan

import (
	"bytes"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/rowcodec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// Sizes of batches, where Options has none.
const (
	BatchRowsFirst = 64
	BatchRowsMax   = 8192
	BatchBytesMax  = 1 << 20
)

// RowSource yields rows in the order of the scan. Key and value are valid
// until the next call.
type RowSource interface {
	Next() (key, value []byte, ok bool, err error)
}

// Options of a scan; zero fields take the constants.
type Options struct {
	BatchRowsFirst, BatchRowsMax, BatchBytesMax int
	// KeyPrefix is what keys have in front of the SQL key (a keyspace's prefix).
	KeyPrefix []byte
}

func (o *Options) fill() {
	if o.BatchRowsMax <= 0 || o.BatchRowsMax > BatchRowsMax {
		o.BatchRowsMax = BatchRowsMax
	}
	if o.BatchRowsFirst <= 0 {
		o.BatchRowsFirst = BatchRowsFirst
	}
	o.BatchRowsFirst = min(o.BatchRowsFirst, o.BatchRowsMax)
	if o.BatchBytesMax <= 0 {
		o.BatchBytesMax = BatchBytesMax
	}
}

// Stats is what a scan has read.
type Stats struct{ Rows, Bytes, Batches uint64 }

// Scan is a running scan. Not safe for concurrent use.
type Scan struct {
	src      RowSource
	o        Options
	types    []sqltypes.Type
	prefix   []byte // of every key
	builders []*colvec.Builder
	keys     *tablecodec.Decoder // index columns, or key columns of a table
	keyOut   []*colvec.Builder   // by key column, nil = not wanted
	handles  *tablecodec.Decoder // of an index: the key columns
	handOut  []*colvec.Builder
	rows     *rowcodec.Decoder // nil = the value is not needed
	rowOut   []*colvec.Builder
	lossy    []lossyKey
	handle   *colvec.Builder // of the last column, nil = not wanted
	index    bool
	needKey  bool
	size     int // rows of the next batch
	lastKey  []byte
	stats    Stats
	ended    bool
}

// lossyKey is a key column that rows store in the value, too
// (tablecodec.Lossy): the key serves only where the value lacks it.
type lossyKey struct {
	wanted, key int
	out         *colvec.Builder
}

// New starts a scan of node, a *plan.TableScan or *plan.IndexScan.
func New(node plan.Node, src RowSource, o Options) (*Scan, error) {
	o.fill()
	s := &Scan{src: src, o: o, size: o.BatchRowsFirst}
	switch n := node.(type) {
	case *plan.TableScan:
		s.table(n)
	case *plan.IndexScan:
		s.indexScan(n)
	default:
		return nil, pgerror.New(pgerror.InternalError, "a plan starts with a %T instead of a scan", node)
	}
	return s, nil
}

// NeedsValue reports whether a scan of node looks at values, or at keys only.
func NeedsValue(node plan.Node) bool {
	switch n := node.(type) {
	case *plan.TableScan:
		for _, c := range n.Columns {
			if i := find(n.KeyColumns, c.ID); i < 0 || tablecodec.Lossy(c.Type) {
				return true
			}
		}
		return false
	case *plan.IndexScan:
		return n.Unique
	}
	return true
}

func find(cols []plan.Column, id uint32) int {
	for i, c := range cols {
		if c.ID == id {
			return i
		}
	}
	return -1
}

func (s *Scan) setTypes(cols []plan.Column, handle bool) {
	s.types = make([]sqltypes.Type, 0, len(cols)+1)
	for _, c := range cols {
		s.types = append(s.types, c.Type)
	}
	if handle {
		s.types = append(s.types, sqltypes.Bytea)
	}
	s.builders = colvec.NewBuilders(s.types, s.size)
	if handle {
		s.handle = s.builders[len(cols)]
	}
}

func keyTypes(cols []plan.Column) []sqltypes.Type {
	out := make([]sqltypes.Type, len(cols))
	for i, c := range cols {
		out[i] = c.Type
	}
	return out
}

func (s *Scan) table(n *plan.TableScan) {
	s.prefix = tablecodec.AppendRecordPrefix(bytes.Clone(s.o.KeyPrefix), n.TableID)
	s.setTypes(n.Columns, n.Handle)
	s.keys = tablecodec.NewDecoder(tablecodec.HandleColumns(keyTypes(n.KeyColumns)))
	s.keyOut = make([]*colvec.Builder, len(n.KeyColumns))
	wanted := make([]rowcodec.Wanted, 0, len(n.Columns))
	s.rowOut = make([]*colvec.Builder, 0, len(n.Columns))
	for i, c := range n.Columns {
		k := find(n.KeyColumns, c.ID)
		if k >= 0 && !tablecodec.Lossy(c.Type) {
			s.keyOut[k], s.needKey = s.builders[i], true
			continue
		}
		if k >= 0 {
			s.lossy = append(s.lossy, lossyKey{wanted: len(wanted), key: k, out: s.builders[i]})
		}
		wanted = append(wanted, rowcodec.Wanted{ID: c.ID, Type: c.Type, Default: c.Default})
		s.rowOut = append(s.rowOut, s.builders[i])
	}
	if len(wanted) > 0 {
		s.rows = rowcodec.NewDecoder(wanted)
	}
}

func (s *Scan) indexScan(n *plan.IndexScan) {
	s.index = true
	s.prefix = tablecodec.AppendIndexPrefix(bytes.Clone(s.o.KeyPrefix), n.TableID, n.IndexID)
	s.setTypes(n.Columns, n.Handle)
	cols := make([]tablecodec.Column, len(n.IndexColumns))
	for i, c := range n.IndexColumns {
		cols[i] = tablecodec.IndexColumn(c.Type, c.Desc)
	}
	s.keys, s.keyOut = tablecodec.NewDecoder(cols), make([]*colvec.Builder, len(cols))
	s.handles = tablecodec.NewDecoder(tablecodec.HandleColumns(keyTypes(n.KeyColumns)))
	s.handOut = make([]*colvec.Builder, len(n.KeyColumns))
	s.needKey = true
columns:
	for i, c := range n.Columns {
		for k, ic := range n.IndexColumns {
			if ic.ID == c.ID && s.keyOut[k] == nil {
				s.keyOut[k] = s.builders[i]
				continue columns
			}
		}
		if k := find(n.KeyColumns, c.ID); k >= 0 {
			s.handOut[k] = s.builders[i]
		}
	}
}

// Types are the types of the batches' columns.
func (s *Scan) Types() []sqltypes.Type { return s.types }

// LastKey is the key of the last row of the batches so far, with its prefix;
// valid until the next call of Next.
func (s *Scan) LastKey() []byte { return s.lastKey }

// Stats is what was read so far.
func (s *Scan) Stats() Stats { return s.stats }

// Close does nothing; the source is the caller's.
func (s *Scan) Close() error { return nil }

// Next returns the next batch, nil at the end.
func (s *Scan) Next() (*expr.Batch, error) {
	if s.ended {
		return nil, nil
	}
	n, size := 0, 0
	for n < s.size && size < s.o.BatchBytesMax {
		key, value, ok, err := s.src.Next()
		if err != nil {
			return nil, err
		}
		if !ok {
			s.ended = true
			break
		}
		if n == 0 && s.stats.Batches > 0 {
			for _, b := range s.builders {
				b.Reserve(s.size)
			}
		}
		if err := s.row(key, value); err != nil {
			return nil, err
		}
		s.lastKey = append(s.lastKey[:0], key...)
		n++
		size += len(key) + len(value)
	}
	s.stats.Rows += uint64(n)
	s.stats.Bytes += uint64(size)
	if n == 0 {
		return nil, nil
	}
	s.stats.Batches++
	s.size = min(2*s.size, s.o.BatchRowsMax)
	cols, err := colvec.FinishAll(s.builders)
	return &expr.Batch{N: n, Cols: cols}, err
}

// row appends one row to the builders.
func (s *Scan) row(key, value []byte) error {
	if !bytes.HasPrefix(key, s.prefix) {
		return pgerror.New(pgerror.InvalidParameterValue, "key %x is outside the table or index that the plan reads", key)
	}
	tail := key[len(s.prefix):]
	if s.index {
		return s.entry(key, tail, value)
	}
	if s.handle != nil {
		s.handle.AppendBytes(tail)
	}
	if s.rows != nil {
		if err := s.rows.Open(value); err != nil {
			return pgerror.Wrap(err, pgerror.DataCorrupted, "the row with key %x: %v", key, err)
		}
		for _, l := range s.lossy {
			s.rowOut[l.wanted], s.keyOut[l.key] = l.out, nil
			if !s.rows.Has(l.wanted) {
				s.rowOut[l.wanted], s.keyOut[l.key] = nil, l.out
			}
		}
		if err := s.rows.Append(s.rowOut); err != nil {
			return pgerror.Wrap(err, pgerror.DataCorrupted, "the row with key %x: %v", key, err)
		}
	}
	if s.needKey || len(s.lossy) > 0 {
		if _, err := s.keys.Decode(tail, s.keyOut); err != nil {
			return pgerror.Wrap(err, pgerror.DataCorrupted, "the row key %x is malformed: %v", key, err)
		}
	}
	return nil
}

// entry appends one index entry: its columns, and those of its handle.
func (s *Scan) entry(key, tail, value []byte) error {
	handle, err := s.keys.Decode(tail, s.keyOut)
	if err != nil {
		return pgerror.Wrap(err, pgerror.DataCorrupted, "the index key %x is malformed: %v", key, err)
	}
	if len(handle) == 0 {
		handle = value
	}
	if s.handle != nil {
		s.handle.AppendBytes(handle)
	}
	if _, err := s.handles.Decode(handle, s.handOut); err != nil {
		return pgerror.Wrap(err, pgerror.DataCorrupted, "the handle of index key %x is malformed: %v", key, err)
	}
	return nil
}
