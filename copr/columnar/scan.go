package columnar

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
)

// ScanOptions are the sizes of a scan's batches; zero fields as in scan.Options.
type ScanOptions struct {
	BatchRowsMax, BatchBytesMax int
	KeyPrefix                   []byte
	// Filter is the plan's filter right behind the scan, if it has one: blocks of
	// which it takes no row may be left out. Eval is what it is evaluated with.
	Filter []expr.Expr
	Eval   *expr.Ctx
}

// Stats is what a scan did. Rows and Bytes count columns' as if they were rows'.
type Stats struct {
	scan.Stats
	ColumnRows uint64 // of Rows, those from blocks
}

// how a segment is read.
type how int

const (
	byRows how = iota
	byColumns
	byBuilding // by rows that become blocks
)

// segment is a piece of a scan, [start, end) in plain keys.
type segment struct {
	how        how
	start, end []byte
	view       view // byColumns
}

// work is what a scan and its forks have left to do.
type work struct {
	get  sync.Mutex // the source's Get
	mu   sync.Mutex
	rest []segment
	busy int    // scans that may have more rows
	rows uint64 // of scans that have ended
	cols bool   // some came from blocks
}

// Scan reads a table's rows in key order, from blocks where it can. Its batches
// are read-only. Not safe for concurrent use, but its forks may run beside it.
type Scan struct {
	v       *Visit
	ctx     context.Context
	node    *plan.TableScan
	src     Source
	o       ScanOptions
	wanted  []columnID
	columns []plan.Column // to build
	bounds  []bound
	locked  []string
	index   uint64
	whole   bool // it reads all rows of the region

	work    *work
	rows    *rowSegment
	build   *builder
	overlay *overlay
	piece   piece // of a block, to be returned

	types   []sqltypes.Type
	lastKey []byte
	stats   Stats
	ended   bool
}

// piece is rows lo to hi of a block that are left to be returned.
type piece struct {
	b      *block
	lo, hi int
}

// plan cuts the ranges into segments.
func (s *Scan) plan(ranges []kv.KeyRange, views []view) {
	for _, r := range ranges {
		at := r.Start
		for _, w := range views {
			if bytes.Compare(w.upper, at) <= 0 {
				continue
			}
			if bytes.Compare(w.lower, r.End) >= 0 {
				break
			}
			if bytes.Compare(w.lower, at) > 0 {
				s.add(s.gap(), at, w.lower, view{})
				at = w.lower
			}
			end := w.upper
			if bytes.Compare(end, r.End) > 0 {
				end = r.End
			}
			all := bytes.Equal(at, w.lower) && bytes.Equal(end, w.upper)
			s.add(s.judge(&w, all), at, end, w)
			at = end
		}
		if bytes.Compare(at, r.End) < 0 {
			s.add(s.gap(), at, r.End, view{})
		}
		s.add(byRows, r.End, r.End, view{}) // ranges are not joined
	}
}

func (s *Scan) gap() how {
	if s.whole && s.v.watch != nil {
		return byBuilding
	}
	return byRows
}

// judge says how to read a block, of which the scan wants all or a part.
func (s *Scan) judge(w *view, all bool) how {
	m := s.v.c.m
	switch {
	case !w.plain:
		m.blocks.WithLabelValues("too_new").Inc()
		return byRows
	case all && s.v.watch != nil && (!w.cols || len(w.dirty) > w.dirtyFew()):
		m.blocks.WithLabelValues("rebuilt").Inc()
		return byBuilding
	case !w.cols:
		m.blocks.WithLabelValues("columns").Inc()
		return byRows
	}
	m.blocks.WithLabelValues("hit").Inc()
	return byColumns
}

// add appends a segment; neighbours that are read alike become one.
func (s *Scan) add(h how, start, end []byte, w view) {
	w0 := s.work
	if n := len(w0.rest); n > 0 && h != byColumns && w0.rest[n-1].how == h && bytes.Equal(w0.rest[n-1].end, start) {
		w0.rest[n-1].end = end
		return
	}
	if bytes.Compare(start, end) < 0 {
		w0.rest = append(w0.rest, segment{h, start, end, w})
	}
}

// Fork returns another scan of the same rows: each row comes from one of them,
// in no order, whoever asks first. Forks share the snapshot and what was checked
// at its begin; each is used by one goroutine at a time, and all are closed before
// the source and the visit are. Whoever needs the order of keys (Plan.Unordered)
// does not fork.
func (s *Scan) Fork() *Scan {
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	s.work.busy++
	return &Scan{
		v: s.v, ctx: s.ctx, node: s.node, src: s.src, o: s.o, wanted: s.wanted, columns: s.columns, bounds: s.bounds,
		locked: s.locked, index: s.index, whole: s.whole, work: s.work, types: s.Types(),
	}
}

// Pieces is about how many pieces (blocks, or runs of rows) are left, for as
// many forks at most.
func (s *Scan) Pieces() int {
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	return len(s.work.rest)
}

// take takes the next piece of work.
func (s *Scan) take() (g segment, ok bool) {
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	if len(s.work.rest) == 0 {
		return segment{}, false
	}
	g, s.work.rest = s.work.rest[0], s.work.rest[1:]
	return g, true
}

// Types are the types of the batches' columns.
func (s *Scan) Types() []sqltypes.Type {
	if s.types == nil {
		for _, c := range s.node.Columns {
			s.types = append(s.types, c.Type)
		}
		if s.node.Handle {
			s.types = append(s.types, sqltypes.Bytea)
		}
	}
	return s.types
}

// LastKey is the key of the last row of the batches so far; valid until the
// next call of Next.
func (s *Scan) LastKey() []byte { return s.lastKey }

// Stats is what was read so far.
func (s *Scan) Stats() scan.Stats { return s.stats.Stats }

// ColumnRows is how many rows came from blocks so far.
func (s *Scan) ColumnRows() uint64 { return s.stats.ColumnRows }

// Close frees what the scan holds. It must be called before the source and the
// visit are closed.
func (s *Scan) Close() error {
	s.piece, s.ended = piece{}, true
	err := errors.Join(s.closeRows(), s.closeBuild())
	s.overlay = nil
	return err
}

func (s *Scan) closeRows() (err error) {
	if s.rows != nil {
		err = s.rows.close()
		s.rows = nil
	}
	return err
}

func (s *Scan) closeBuild() (err error) {
	if s.build != nil {
		err = s.build.newest.close()
		s.build = nil
	}
	return err
}

// Next returns the next batch, nil at the end.
func (s *Scan) Next() (*expr.Batch, error) {
	for !s.ended {
		b, err := s.step()
		if err != nil {
			return nil, err
		}
		if b != nil && b.N > 0 {
			s.stats.Batches++
			return b, nil
		}
	}
	return nil, nil
}

// step goes on a little; a nil batch is not the end.
func (s *Scan) step() (*expr.Batch, error) {
	switch {
	case s.overlay != nil:
		return s.overlay.next()
	case s.piece.b != nil:
		return s.slice(), nil
	case s.rows != nil:
		return s.nextRows()
	case s.build != nil:
		return nil, s.nextBlock()
	}
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	g, ok := s.take()
	if !ok {
		s.end()
		return nil, nil
	}
	switch g.how {
	case byColumns:
		return nil, s.serve(g.view.block, g.start, g.end, g.view.dirty)
	case byBuilding:
		return nil, s.startBuild(g.start, g.end)
	}
	return nil, s.startRows(g.start, g.end)
}

// end is the end of a scan that went well: of all forks, when it is the last.
func (s *Scan) end() {
	s.ended = true
	w := s.work
	w.mu.Lock()
	w.busy--
	w.rows += s.stats.Rows
	w.cols = w.cols || s.stats.ColumnRows > 0
	rows, cols, last := w.rows, w.cols, w.busy == 0
	w.mu.Unlock()
	if !last {
		return
	}
	how := "rows"
	if cols {
		how = "columns"
	}
	s.v.c.m.scans.WithLabelValues(how).Inc()
	if s.whole {
		s.v.counted(rows)
	}
}

// slice returns the next rows of the piece, without copying.
func (s *Scan) slice() *expr.Batch {
	p := &s.piece
	hi := p.hi
	if s.o.BatchRowsMax > 0 {
		hi = min(hi, p.lo+s.o.BatchRowsMax)
	}
	limit := int64(s.o.BatchBytesMax)
	if limit <= 0 {
		limit = scan.BatchBytesMax
	}
	if p.b.bytes > limit { // by the mean size of a row
		hi = min(hi, p.lo+max(1, int(limit*int64(p.b.rows)/p.b.bytes)))
	}
	out := &expr.Batch{N: hi - p.lo, Cols: s.cols(p.b)}
	if p.lo > 0 || hi < p.b.rows {
		for i, c := range out.Cols {
			out.Cols[i] = array.NewSlice(c, int64(p.lo), int64(hi))
		}
	}
	s.lastKey = append(append(s.lastKey[:0], s.v.t.prefix...), p.b.handles.BytesAt(hi-1)...)
	s.count(p.b, hi-p.lo)
	if p.lo = hi; p.lo == p.hi {
		*p = piece{}
	}
	return out
}

// cols are the columns of a block that the scan returns.
func (s *Scan) cols(b *block) []arrow.Array {
	out := make([]arrow.Array, 0, len(s.wanted)+1)
	for _, id := range s.wanted {
		out = append(out, b.cols[id])
	}
	if s.node.Handle {
		out = append(out, b.handleCol)
	}
	return out
}

// count counts rows of a block.
func (s *Scan) count(b *block, n int) {
	s.stats.Rows += uint64(n)
	s.stats.ColumnRows += uint64(n)
	if b.rows > 0 {
		s.stats.Bytes += uint64(b.bytes) * uint64(n) / uint64(b.rows)
	}
}

// rowSegment is a segment that is read as rows.
type rowSegment struct {
	src  Source
	r    kv.KeyRange
	key  bool // keys only
	cur  Rows
	sc   *scan.Scan
	last scan.Stats
	ctx  context.Context
	n    int
}

func (s *Scan) startRows(start, end []byte) error {
	g := &rowSegment{src: s.src, r: kv.KeyRange{Start: start, End: end}, key: !scan.NeedsValue(s.node), ctx: s.ctx}
	var err error
	g.sc, err = scan.New(s.node, g, scan.Options{BatchRowsMax: s.o.BatchRowsMax, BatchBytesMax: s.o.BatchBytesMax, KeyPrefix: s.o.KeyPrefix})
	s.rows = g
	return err
}

func (s *Scan) nextRows() (*expr.Batch, error) {
	g := s.rows
	b, err := g.sc.Next()
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, s.closeRows()
	}
	st := g.sc.Stats()
	s.stats.Rows += st.Rows - g.last.Rows
	s.stats.Bytes += st.Bytes - g.last.Bytes
	g.last = st
	s.lastKey = append(s.lastKey[:0], g.sc.LastKey()...)
	return b, nil
}

// Next implements scan.RowSource.
func (g *rowSegment) Next() (key, value []byte, ok bool, err error) {
	if g.n++; g.n%cancelCheckRows == 0 {
		if err := g.ctx.Err(); err != nil {
			return nil, nil, false, err
		}
	}
	if g.cur == nil {
		if g.cur, err = g.src.Rows(g.r, g.key); err != nil {
			return nil, nil, false, err
		}
	}
	return g.cur.Next()
}

func (g *rowSegment) close() error {
	if g.cur == nil {
		return nil
	}
	return g.cur.Close()
}
