package columnar

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/txn/mvcc"
)

// ScanOptions are the sizes of a scan's batches; zero fields as in scan.Options.
type ScanOptions struct {
	BatchRowsMax, BatchBytesMax int
	KeyPrefix                   []byte
	// Filter is the plan's filter right behind the scan, if it has one: blocks of
	// which it takes no row may be left out. Eval is what it is evaluated with.
	Filter []expr.Expr
	Eval   *expr.Ctx
	// Unordered says that rows may come in any order (Plan.Unordered): changed
	// rows then come in batches of their own, and blocks in one piece.
	Unordered bool
	// Transient says that nobody looks at the columns of a Raw behind the call
	// for the next one, but for those that Keep is told of: their memory is used
	// again. Dictionaries and byte strings stay.
	Transient bool
}

// Stats is what a scan did. Rows and Bytes count columns' as if they were rows'.
type Stats struct {
	scan.Stats
	ColumnRows uint64 // of Rows, those from blocks of earlier scans
}

// how a segment is read.
type how int

const (
	byRows how = iota
	byColumns
	byFilling  // from a block, when the columns that it lacks have been read
	byBuilding // by rows that become blocks
)

// segment is a piece of a scan, [start, end) in plain keys.
type segment struct {
	how        how
	start, end []byte
	view       view // byColumns and byFilling
}

// work is what a scan and its forks have left to do.
type work struct {
	mu   sync.Mutex
	rest []segment
	busy int    // scans that may have more rows
	rows uint64 // of scans that have ended
	cols bool   // some came from blocks
}

// Scan reads a table's rows in key order (unless it is Unordered or has forks),
// from blocks where it can. Its batches are read-only. Not safe for concurrent
// use, but its forks may run beside it.
type Scan struct {
	v      *Visit
	ctx    context.Context
	node   *plan.TableScan
	src    Source
	o      ScanOptions
	wanted []columnID
	cols   []*column // the wanted ones
	again  []*column // to build a block anew with: cols and others
	bounds []bound
	locked []string
	index  uint64
	whole  bool // it reads all rows of the region
	first  bool // there were no blocks
	work   *work

	rows    *rowSegment
	build   *builder
	getter  *mvcc.Getter // of dirty keys
	overlay *overlay
	piece   piece // of a block, to be returned
	side    *sideRows
	bufs    [][]byte // of columns, if they are transient
	sel     []int32

	types   []sqltypes.Type
	lastKey []byte
	stats   Stats
	ended   bool

	clean   bool
	cleanTS uint64
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
	_, complete := w.chunks(s.cols)
	switch {
	case !w.plain:
		m.blocks.WithLabelValues("too_new").Inc()
		return byRows
	case all && s.v.watch != nil && (len(w.dirty) > w.dirtyFew() || w.wornOut()):
		m.blocks.WithLabelValues("rebuilt").Inc()
		return byBuilding
	case complete:
		m.blocks.WithLabelValues("hit").Inc()
		return byColumns
	case all && s.whole:
		return byFilling
	}
	m.blocks.WithLabelValues("columns").Inc()
	return byRows
}

// add appends a segment; neighbours that are read by rows alike become one.
func (s *Scan) add(h how, start, end []byte, w view) {
	rest := s.work.rest
	alone := h == byColumns || h == byFilling
	if n := len(rest); n > 0 && !alone && rest[n-1].how == h && bytes.Equal(rest[n-1].end, start) {
		rest[n-1].end = end
		return
	}
	if bytes.Compare(start, end) < 0 {
		s.work.rest = append(rest, segment{h, start, end, w})
	}
}

// Fork returns another scan of the same rows: each row comes from one of them,
// in no order, whoever asks first. Forks share the snapshot and what was checked
// at its begin; each is used by one goroutine at a time, and all are closed before
// the source and the visit are. Fork may be called while the scan is used by
// others. Whoever needs the order of keys (Plan.Unordered)
// does not fork.
func (s *Scan) Fork() *Scan {
	s.work.mu.Lock()
	defer s.work.mu.Unlock()
	s.work.busy++
	return &Scan{
		v: s.v, ctx: s.ctx, node: s.node, src: s.src, o: s.o, wanted: s.wanted, cols: s.cols, again: s.again, bounds: s.bounds,
		locked: s.locked, index: s.index, whole: s.whole, first: s.first, work: s.work, types: s.types,
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
func (s *Scan) Types() []sqltypes.Type { return s.types }

func typesOf(n *plan.TableScan) []sqltypes.Type {
	out := make([]sqltypes.Type, 0, len(n.Columns)+1)
	for _, c := range n.Columns {
		out = append(out, c.Type)
	}
	if n.Handle {
		out = append(out, sqltypes.Bytea)
	}
	return out
}

// LastKey is the key of the last row of the batches so far, if they come in
// order; valid until the next call of Next.
func (s *Scan) LastKey() []byte { return s.lastKey }

// Stats is what was read so far.
func (s *Scan) Stats() scan.Stats { return s.stats.Stats }

// ColumnRows is how many rows came from blocks so far.
func (s *Scan) ColumnRows() uint64 { return s.stats.ColumnRows }

// Close frees what the scan holds. It must be called before the source and the
// visit are closed.
func (s *Scan) Close() error {
	s.piece, s.side, s.overlay, s.ended = piece{}, nil, nil, true
	err := errors.Join(s.closeRows(), s.closeBuild())
	if s.getter != nil {
		err = errors.Join(err, s.getter.Close())
		s.getter = nil
	}
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

// Next returns the next batch, nil at the end. Its columns are plain.
func (s *Scan) Next() (*expr.Batch, error) {
	r, err := s.NextRaw()
	if err != nil || r.Batch == nil {
		return nil, err
	}
	b, err := r.Gathered(s.Types())
	if err != nil {
		return nil, err
	}
	return exec.PlainBatch(b, s.Types()), nil
}

// spoil is called with memory that nobody looks at any longer, before it is used
// again; tests set it.
var spoil func([]byte)

// NextRaw implements exec.RawSource.
func (s *Scan) NextRaw() (exec.Raw, error) {
	if spoil != nil {
		for _, b := range s.bufs {
			spoil(b)
		}
	}
	for !s.ended {
		r, err := s.step()
		if err != nil {
			return exec.Raw{}, err
		}
		if r.Batch != nil && r.Len() > 0 {
			s.stats.Batches++
			return r, nil
		}
	}
	return exec.Raw{}, nil
}

// step goes on a little; no batch is not the end.
func (s *Scan) step() (exec.Raw, error) {
	switch {
	case s.overlay != nil:
		b, err := s.overlay.next()
		return exec.Raw{Batch: b}, err
	case s.piece.n > 0:
		return s.slice()
	case s.side != nil:
		b, err := s.nextSide()
		return exec.Raw{Batch: b}, err
	case s.rows != nil:
		b, err := s.nextRows()
		return exec.Raw{Batch: b}, err
	case s.build != nil:
		return exec.Raw{}, s.nextBlock()
	}
	if err := s.ctx.Err(); err != nil {
		return exec.Raw{}, err
	}
	g, ok := s.take()
	if !ok {
		s.end()
		return exec.Raw{}, nil
	}
	return exec.Raw{}, s.begin(&g)
}

// begin begins a segment.
func (s *Scan) begin(g *segment) error {
	switch g.how {
	case byColumns:
		return s.serve(&g.view, g.start, g.end)
	case byFilling:
		return s.fill(g)
	case byBuilding:
		return s.startBuild(g.start, g.end)
	}
	return s.startRows(g.start, g.end)
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
	if s.whole && s.first {
		s.v.counted(rows)
	}
}

// piece is rows of a block that are left to be returned: those of [lo, hi), or
// of them the ones in sel, if it is not nil.
type piece struct {
	b      *block
	chunks []*chunk // of the wanted columns
	lo, hi int
	sel    []int32
	n      int  // how many
	read   bool // by this scan, from rows
}

// wide is about how many bytes a row of the piece has in Arrow's layout.
func (p *piece) wide() int64 {
	if p.b.rows == 0 {
		return 0
	}
	n := p.b.handles.bytes
	for _, c := range p.chunks {
		n += c.wide
	}
	return n / int64(p.b.rows)
}

// slice returns the next rows of the piece.
func (s *Scan) slice() (exec.Raw, error) {
	p := &s.piece
	lo, hi := p.lo, p.hi
	if !s.o.Unordered {
		if s.o.BatchRowsMax > 0 {
			hi = min(hi, lo+s.o.BatchRowsMax)
		}
		limit := int64(s.o.BatchBytesMax)
		if limit <= 0 {
			limit = scan.BatchBytesMax
		}
		hi = min(hi, lo+max(1, int(limit/max(p.wide(), 1))))
	}
	p.lo = hi
	out := exec.Raw{Batch: &expr.Batch{N: hi - lo}}
	n, last := hi-lo, hi-1
	if p.sel != nil {
		s.sel = s.sel[:0]
		if s.sel == nil {
			s.sel = make([]int32, 0, len(p.sel)) // nil would be all
		}
		for len(p.sel) > 0 && int(p.sel[0]) < hi {
			last = int(p.sel[0])
			s.sel = append(s.sel, int32(last-lo))
			p.sel = p.sel[1:]
		}
		out.Sel, n = s.sel, len(s.sel)
	}
	p.n -= n
	if n == 0 {
		return exec.Raw{}, nil
	}
	var err error
	if out.Cols, err = s.columns(p.b, p.chunks, lo, hi, s.o.Transient); err != nil {
		return exec.Raw{}, err
	}
	s.setLast(p.b, last)
	s.count(p, n)
	if p.n == 0 {
		*p = piece{}
	}
	return out, nil
}

func (s *Scan) setLast(b *block, row int) {
	if s.o.Unordered {
		return
	}
	s.lastKey = append(s.lastKey[:0], s.v.t.prefix...)
	var buf []byte
	s.lastKey = append(s.lastKey, b.handles.at(row, &buf)...)
}

// columns are the columns that the scan returns, of rows [lo, hi) of a block.
func (s *Scan) columns(b *block, chunks []*chunk, lo, hi int, transient bool) ([]arrow.Array, error) {
	out := make([]arrow.Array, 0, len(chunks)+1)
	if transient && s.bufs == nil {
		s.bufs = make([][]byte, len(chunks))
	}
	for i, c := range chunks {
		var buf *[]byte
		if transient {
			buf = &s.bufs[i]
		}
		out = append(out, c.array(lo, hi, buf))
	}
	if s.node.Handle {
		h, err := b.handles.column(lo, hi)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

// count counts rows of a piece.
func (s *Scan) count(p *piece, n int) {
	s.stats.Rows += uint64(n)
	s.stats.Bytes += uint64(p.wide()) * uint64(n)
	if !p.read {
		s.stats.ColumnRows += uint64(n)
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
