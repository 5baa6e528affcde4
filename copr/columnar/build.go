package columnar

import (
	"bytes"
	"errors"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// builder makes blocks of a segment.
type builder struct {
	start   []byte // of the segment
	at, end []byte // what is left of it
	newest  *newest
	cols    []*column
	sc      *scan.Scan
}

// newestIn reads the newest versions of the keys in [start, end).
func (s *Scan) newestIn(start, end []byte) newest {
	return newest{
		snap: s.src.Snapshot(), ts: s.src.TS(), cancelled: s.ctx.Err,
		lower: codec.EncodeBytes(nil, start), upper: codec.EncodeBytes(nil, end),
	}
}

func (s *Scan) startBuild(start, end []byte) error {
	if !s.v.builds() { // there was no room for the last one
		return s.startRows(start, end)
	}
	n := s.newestIn(start, end)
	b := &builder{start: start, at: start, end: end, newest: &n, cols: s.again}
	s.build = b
	node := &plan.TableScan{TableID: s.node.TableID, KeyColumns: s.node.KeyColumns, Columns: plansOf(b.cols), Handle: true}
	var err error
	rows := s.v.c.o.BlockRowsMax
	b.sc, err = scan.New(node, b.newest, scan.Options{BatchRowsFirst: rows, BatchRowsMax: rows, BatchBytesMax: BlockBytesMax, KeyPrefix: s.o.KeyPrefix})
	if err != nil {
		return s.abandon(err)
	}
	return nil
}

func plansOf(cols []*column) []plan.Column {
	out := make([]plan.Column, len(cols))
	for i, c := range cols {
		out[i] = c.plan
	}
	return out
}

// abandon goes on by rows where building failed, if that may be for a column
// that this scan does not ask for: those are forgotten. If it is for another
// reason, rows say so.
func (s *Scan) abandon(why error) error {
	own := true
	for _, c := range s.build.cols {
		own = own && slices.Contains(s.wanted, c.id)
	}
	if own || s.ctx.Err() != nil {
		return why
	}
	s.v.forget(s.wanted)
	start, end := s.build.at, s.build.end
	if err := s.closeBuild(); err != nil {
		return err
	}
	return s.startRows(start, end)
}

// nextBlock makes, installs and serves the next block of the segment.
func (s *Scan) nextBlock() error {
	b := s.build
	b.newest.reset()
	batch, err := b.sc.Next()
	if errors.Is(err, errTooFresh) {
		start, end := b.at, b.end
		if err = s.closeBuild(); err == nil {
			err = s.startRows(start, end)
		}
		return err
	}
	if err != nil {
		return s.abandon(err)
	}
	upper := b.end
	if batch != nil && !b.newest.ended {
		upper = append(bytes.Clone(b.sc.LastKey()), 0)
	}
	if batch == nil {
		if batch, err = emptyBatch(b.sc.Types()); err != nil {
			return err
		}
	}
	start := b.at
	b.at = upper
	blk := newBlock(start, upper, s.index, b.newest.maxTS, batch.Cols[len(b.cols)])
	chunks := chunksOf(b.cols, batch.Cols)
	fresh := b.newest.fresh
	more := true
	if !s.tooFew(b, blk) {
		more = s.v.install(blk, b.cols, chunks, fresh)
	}
	if bytes.Compare(upper, b.end) >= 0 {
		err = s.closeBuild()
	} else if !more {
		end := b.end
		if err = s.closeBuild(); err == nil { // behind this block
			err = s.startRows(upper, end)
		}
	}
	if err != nil {
		return err
	}
	w := &view{block: blk, dirty: fresh, read: true}
	for i, c := range b.cols {
		w.cols = w.cols.with(c, chunks[i])
	}
	return s.serve(w, start, upper)
}

// tooFew reports whether a block is all that a region has of a table, and too
// little to be kept.
func (s *Scan) tooFew(b *builder, blk *block) bool {
	return s.first && s.whole && blk.rows < s.v.c.o.BuildRowsMin && bytes.Equal(blk.lower, b.start) && bytes.Equal(blk.upper, b.end)
}

func chunksOf(cols []*column, arrays []arrow.Array) []*chunk {
	out := make([]*chunk, len(cols))
	for i, c := range cols {
		out[i] = newChunk(arrays[i], c.plan.Type, c.dict)
	}
	return out
}

func emptyBatch(types []sqltypes.Type) (*expr.Batch, error) {
	cols := make([]arrow.Array, len(types))
	for i, b := range colvec.NewBuilders(types, 0) {
		a, err := b.Finish()
		if err != nil {
			return nil, err
		}
		cols[i] = a
	}
	return &expr.Batch{Cols: cols}, nil
}
