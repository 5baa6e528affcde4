package columnar

import (
	"bytes"
	"errors"
	"slices"
	"sort"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/scan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/txn/mvcc"
)

// serve returns a block's rows in [start, end), the dirty and the locked ones
// read anew.
func (s *Scan) serve(w *view, start, end []byte) error {
	chunks, _ := w.chunks(s.cols)
	lo, hi := w.rowsIn(s.v.t.prefix, start, end)
	if lo < hi && len(s.bounds) > 0 {
		skip, err := s.skips(chunks)
		if err != nil {
			return err
		}
		if skip {
			s.v.c.m.blocks.WithLabelValues("skipped").Inc()
			lo, hi = 0, 0
		}
	}
	return s.lay(piece{b: w.block, chunks: chunks, lo: lo, hi: hi, n: hi - lo, read: w.read}, s.changed(w.dirty, start, end), end)
}

// changed are the keys in [start, end) that are dirty or locked, ascending.
func (s *Scan) changed(dirty []string, start, end []byte) (keys []string) {
	for _, list := range [...][]string{dirty, s.locked} {
		for _, k := range list {
			if k >= string(start) && k < string(end) {
				keys = append(keys, k)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// lay returns rows of a block, those with the keys read anew.
func (s *Scan) lay(p piece, keys []string, end []byte) error {
	if len(keys) == 0 {
		s.piece = p
		return nil
	}
	s.v.c.m.dirtyRows.Add(float64(len(keys)))
	p.sel = p.b.clean(s.v.t.prefix, p.lo, p.hi, keys)
	p.n = len(p.sel)
	side, err := s.newSide(keys, end)
	if err != nil {
		return err
	}
	if s.o.Unordered {
		s.piece, s.side = p, side
		return nil
	}
	s.overlay = &overlay{s: s, piece: p, sel: p.sel, side: side.sc}
	return nil
}

// clean are the rows of [lo, hi) with other keys than these.
func (b *block) clean(prefix []byte, lo, hi int, keys []string) []int32 {
	sel := make([]int32, 0, hi-lo)
	at := lo
	var buf []byte
	for _, k := range keys {
		h := []byte(k[len(prefix):])
		i := min(b.handles.seek(h), hi)
		for ; at < i; at++ {
			sel = append(sel, int32(at))
		}
		if i >= lo && i < hi && bytes.Equal(b.handles.at(i, &buf), h) {
			at = i + 1
		}
	}
	for ; at < hi; at++ {
		sel = append(sel, int32(at))
	}
	return sel
}

// sideRows are the rows of a block that are read anew.
type sideRows struct {
	points points
	sc     *scan.Scan
}

func (s *Scan) newSide(keys []string, end []byte) (*sideRows, error) {
	d := &sideRows{points: points{s: s, keys: keys, end: end}}
	node := s.node
	if !s.o.Unordered { // to be merged
		n := *node
		n.Handle = true
		node = &n
	}
	var err error
	d.sc, err = scan.New(node, &d.points, scan.Options{BatchRowsFirst: len(keys), BatchBytesMax: s.o.BatchBytesMax, KeyPrefix: s.o.KeyPrefix})
	return d, err
}

// nextSide returns rows that were read anew, where the order does not count.
func (s *Scan) nextSide() (*expr.Batch, error) {
	b, err := s.side.sc.Next()
	if b == nil {
		s.side = nil
		return nil, err
	}
	s.stats.Rows += uint64(b.N)
	return b, err
}

// overlay merges rows of a block with those that are read anew.
type overlay struct {
	s     *Scan
	piece piece
	base  []colvec.Vec // the block's columns, plain
	sel   []int32      // rows of the block that are left
	side  *scan.Scan
	ahead *expr.Batch // of side
	begun bool
}

// next returns the rows up to the last one of the next batch of side, or the
// rest.
func (o *overlay) next() (*expr.Batch, error) {
	var err error
	if !o.begun {
		o.begun = true
		if o.ahead, err = o.side.Next(); err != nil {
			return nil, err
		}
		if len(o.sel) > 0 {
			cols, err := o.s.columns(o.piece.b, o.piece.chunks, 0, o.piece.b.rows, false)
			if err != nil {
				return nil, err
			}
			o.base = colvec.OpenAll(cols, o.s.Types())
		}
	}
	side := o.ahead
	n := len(o.sel)
	if side != nil {
		if o.ahead, err = o.side.Next(); err != nil {
			return nil, err
		}
	}
	var handles colvec.Vec
	sides := 0
	if side != nil {
		handles, sides = colvec.Open(side.Cols[len(side.Cols)-1], sqltypes.Bytea), side.N
	}
	if o.ahead != nil {
		n = o.before(handles.BytesAt(sides - 1))
	} else {
		o.s.overlay = nil
	}
	sel := o.sel[:n]
	o.sel = o.sel[n:]
	return o.merge(sel, side, &handles, sides)
}

// before is how many of the block's rows come before the handle.
func (o *overlay) before(h []byte) int {
	var buf []byte
	return sort.Search(len(o.sel), func(i int) bool { return bytes.Compare(o.piece.b.handles.at(int(o.sel[i]), &buf), h) >= 0 })
}

// merge puts rows sel of the block and the rows of side into key order.
func (o *overlay) merge(sel []int32, side *expr.Batch, handles *colvec.Vec, sides int) (*expr.Batch, error) {
	if len(sel)+sides == 0 {
		return nil, nil
	}
	// cuts[i] of the block's rows come before row i of side.
	cuts := make([]int, sides)
	all := o.sel
	o.sel = sel
	for i := range cuts {
		cuts[i] = o.before(handles.BytesAt(i))
	}
	o.sel = all
	types := o.s.Types()
	out := &expr.Batch{N: len(sel) + sides, Cols: make([]arrow.Array, len(types))}
	for c, t := range types {
		b := colvec.NewBuilder(t, out.N)
		var sv colvec.Vec
		if sides > 0 {
			sv = colvec.Open(side.Cols[c], t)
		}
		at := 0
		for i, cut := range cuts {
			if at < cut {
				b.AppendSelected(&o.base[c], sel[at:cut])
			}
			b.AppendFrom(&sv, i)
			at = cut
		}
		if at < len(sel) {
			b.AppendSelected(&o.base[c], sel[at:])
		}
		var err error
		if out.Cols[c], err = b.Finish(); err != nil {
			return nil, err
		}
	}
	s := o.s
	last, buf := []byte(nil), []byte(nil)
	if len(sel) > 0 {
		last = o.piece.b.handles.at(int(sel[len(sel)-1]), &buf)
	}
	if sides > 0 && bytes.Compare(handles.BytesAt(sides-1), last) > 0 {
		last = handles.BytesAt(sides - 1)
	}
	s.lastKey = append(append(s.lastKey[:0], s.v.t.prefix...), last...)
	s.count(&o.piece, len(sel))
	s.stats.Rows += uint64(sides)
	return out, nil
}

// points reads single keys, one after the other: a scan.RowSource.
type points struct {
	s    *Scan
	keys []string
	end  []byte
	key  []byte
	val  []byte
}

// Next implements scan.RowSource.
func (p *points) Next() (key, value []byte, ok bool, err error) {
	for len(p.keys) > 0 {
		if err := p.s.ctx.Err(); err != nil {
			return nil, nil, false, err
		}
		p.key = append(p.key[:0], p.keys[0]...)
		_, locked := slices.BinarySearch(p.s.locked, p.keys[0])
		p.keys = p.keys[1:]
		if locked {
			value, ok, err = p.locked()
		} else {
			value, ok, err = p.get()
		}
		if err != nil || ok {
			return p.key, value, ok, err
		}
	}
	return nil, nil, false, nil
}

// get reads a key that has no lock that matters: all locks in the ranges have been
// looked at in the same snapshot.
func (p *points) get() (value []byte, ok bool, err error) {
	s := p.s
	if s.getter == nil {
		s.getter = &mvcc.Getter{}
		s.getter.Init(s.src.Snapshot(), &mvcc.ReadOptions{TS: s.src.TS(), IgnoreLocks: true})
	}
	value, _, ok, err = s.getter.Get(p.key)
	return value, ok, err
}

// locked reads a key with a lock by a scan, which names the locks behind it, too.
func (p *points) locked() (value []byte, ok bool, err error) {
	rows, err := p.s.src.Rows(kv.KeyRange{Start: p.key, End: p.end}, false)
	if err != nil {
		return nil, false, err
	}
	key, value, ok, err := rows.Next()
	if ok = ok && err == nil && bytes.Equal(key, p.key); ok {
		p.val = append(p.val[:0], value...)
	}
	if err = errors.Join(err, rows.Close()); err != nil {
		return nil, false, err
	}
	return p.val, ok, nil
}
