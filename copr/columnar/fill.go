package columnar

import (
	"bytes"
	"errors"
	"math"
	"slices"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/colvec"
)

// fill reads the columns that a block lacks, from the rows of the block that the
// scan's snapshot shows, and serves it. A row that is clean is as it was when the
// block was built; of a dirty one, or one that is gone, nobody looks at the
// value.
func (s *Scan) fill(g *segment) error {
	w := &g.view
	chunks, _ := w.chunks(s.cols)
	if len(s.bounds) > 0 {
		skip, err := s.skips(chunks)
		if err != nil {
			return err
		}
		if skip {
			s.v.c.m.blocks.WithLabelValues("skipped").Inc()
			return s.lay(piece{b: w.block}, s.changed(w.dirty, g.start, g.end), g.end)
		}
	}
	var missing []*column
	for i, c := range s.cols {
		if chunks[i] == nil && !slices.Contains(missing, c) {
			missing = append(missing, c)
		}
	}
	if !s.v.c.o.Budget.makeRoom(int64(len(missing)) * int64(w.rows)) {
		s.v.c.m.blocks.WithLabelValues("columns").Inc()
		return s.startRows(g.start, g.end)
	}
	read, err := s.readColumns(w, missing)
	if err != nil {
		return err
	}
	if read == nil {
		s.v.c.m.blocks.WithLabelValues("columns").Inc()
		return s.startRows(g.start, g.end)
	}
	s.v.c.m.blocks.WithLabelValues("filled").Inc()
	s.v.add(w, missing, read)
	w.read = true
	for i, c := range missing {
		w.cols = w.cols.with(c, read[i])
	}
	return s.serve(w, g.start, g.end)
}

// readColumns reads columns of the rows of a block. It returns nil when the
// snapshot does not have them.
func (s *Scan) readColumns(w *view, cols []*column) (out []*chunk, err error) {
	src := &alignedRows{newest: s.newestIn(w.lower, w.upper), b: w.block, skip: len(s.v.t.prefix)}
	defer func() { err = errors.Join(err, src.newest.close()) }()
	node := &plan.TableScan{TableID: s.node.TableID, KeyColumns: s.node.KeyColumns, Columns: plansOf(cols)}
	rows := s.v.c.o.BlockRowsMax
	sc, err := scan.New(node, src, scan.Options{BatchRowsFirst: rows, BatchRowsMax: rows, BatchBytesMax: math.MaxInt, KeyPrefix: s.o.KeyPrefix})
	if err != nil {
		return nil, err
	}
	batch, err := sc.Next()
	if errors.Is(err, errTooFresh) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if batch == nil {
		if batch, err = emptyBatch(sc.Types()); err != nil {
			return nil, err
		}
	}
	src.rest()
	if len(src.gone) > 0 && !src.allIn(w.dirty, s.v.t.prefix) {
		return nil, nil // the range was deleted around the log: the cache hears of it soon
	}
	for i := range cols {
		a := batch.Cols[i]
		if len(src.gone) > 0 {
			if a, err = colvec.Take(a, cols[i].plan.Type, src.spread(batch.N)); err != nil {
				return nil, err
			}
		}
		out = append(out, newChunk(a, cols[i].plan.Type, cols[i].dict))
	}
	return out, nil
}

// alignedRows yields the rows of a block's keys only: a scan.RowSource. Rows of
// the block that there are no longer are named in gone.
type alignedRows struct {
	newest newest
	b      *block
	skip   int // length of the table's prefix
	at     int // next row of the block
	gone   []int32
	buf    []byte
}

// Next implements scan.RowSource.
func (a *alignedRows) Next() (key, value []byte, ok bool, err error) {
	for a.at < a.b.rows {
		key, value, ok, err = a.newest.Next()
		if err != nil || !ok {
			return nil, nil, false, err
		}
		for a.at < a.b.rows {
			c := bytes.Compare(a.b.handles.at(a.at, &a.buf), key[a.skip:])
			if c > 0 {
				break // a row that is new
			}
			a.at++
			if c == 0 {
				return key, value, true, nil
			}
			a.gone = append(a.gone, int32(a.at-1))
		}
	}
	return nil, nil, false, nil
}

// rest notes that no row follows.
func (a *alignedRows) rest() {
	for ; a.at < a.b.rows; a.at++ {
		a.gone = append(a.gone, int32(a.at))
	}
}

// allIn reports whether all rows that are gone are dirty.
func (a *alignedRows) allIn(dirty []string, prefix []byte) bool {
	set := make(map[string]struct{}, len(dirty))
	for _, k := range dirty {
		set[k[len(prefix):]] = struct{}{}
	}
	for _, i := range a.gone {
		if _, ok := set[string(a.b.handles.at(int(i), &a.buf))]; !ok {
			return false
		}
	}
	return true
}

// spread says where the block's rows are among the n that were read, -1 for
// those that are gone.
func (a *alignedRows) spread(n int) []int32 {
	out := make([]int32, 0, n+len(a.gone))
	gone, from := a.gone, int32(0)
	for i := range a.b.rows {
		if len(gone) > 0 && gone[0] == int32(i) {
			out, gone = append(out, -1), gone[1:]
			continue
		}
		out, from = append(out, from), from+1
	}
	return out
}
