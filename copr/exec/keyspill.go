package exec

import (
	"errors"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/agg"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// A hash table that has become too large takes no more keys: rows whose keys it
// has are handled as before, the others go to files, divided by the hashes of
// their keys. So all rows of a key are in one place: in memory or in one file.
// When the input ends, the files are handled one by one, in the same way.

// keyFiles are the files of rows whose keys a table does not have.
type keyFiles struct {
	files *partFiles
	sel   []int32
	hash  []uint64
	known []int32
}

// divide writes the rows of r (n in number) whose id is below 0; hashes and ids
// are parallel to them. It returns the others, with their ids moved to the front.
// Cols are r's, and maybe more.
func (f *keyFiles) divide(r Raw, types []sqltypes.Type, ids []int32, hashes []uint64) (Raw, []int32, error) {
	n := r.Len()
	if f.known == nil {
		f.known = make([]int32, 0, n) // nil would be all rows
	}
	f.known, f.sel, f.hash = f.known[:0], f.sel[:0], f.hash[:0]
	for k, id := range ids[:n] {
		row := int32(rowAt(r.Sel, k))
		if id < 0 {
			f.sel, f.hash = append(f.sel, row), append(f.hash, hashes[k])
			continue
		}
		ids[len(f.known)] = id
		f.known = append(f.known, row)
	}
	if len(f.sel) > 0 {
		b, err := Raw{r.Batch, f.sel}.Gathered(types)
		if err == nil {
			err = f.files.add(colvec.OpenAll(b.Cols, types), b.N, nil, f.hash)
		}
		if err != nil {
			return r, ids, err
		}
	}
	return Raw{r.Batch, f.known}, ids[:len(f.known)], nil
}

// indexBytes is how much a table grows when it is asked for keys that it was
// given in order: their slots and hashes are made then.
func (t *keyTable) indexBytes() int64 {
	if t == nil || !t.ordered {
		return 0
	}
	slots := int64(slotsMin)
	for slots < 2*int64(t.n) {
		slots *= 2
	}
	return 8*slots + 8*int64(t.n)
}

// keyPart is a file that is still to be handled.
type keyPart struct {
	run   *spill.Run
	depth int // how often its rows were divided
}

// spillsKeys reports whether a table of rows that were divided depth times may
// be closed for new keys.
func spillsKeys(ctx *Ctx, depth int) bool { return ctx.Spill != nil && depth < spillDepthMax }

// partQueue is the files that are still to be handled.
type partQueue []keyPart

// push takes over the files.
func (q *partQueue) push(f *partFiles) {
	for i := range spillParts {
		if run := f.take(i); run != nil {
			*q = append(*q, keyPart{run, f.depth + 1})
		}
	}
}

// pop returns the last file: those that were divided most come first.
func (q *partQueue) pop() keyPart {
	old := *q
	p := old[len(old)-1]
	*q = old[:len(old)-1]
	return p
}

func (q *partQueue) free() error {
	var errs []error
	for _, p := range *q {
		errs = append(errs, p.run.Remove())
	}
	*q = nil
	return errors.Join(errs...)
}

// aggSpill is what a hashAgg has on disk.
type aggSpill struct {
	keyFiles                 // of the groups that are not in the table; files nil = it takes all
	depth    int             // how often the rows that are read were divided
	in       *runReader      // nil = the input
	queue    partQueue       // to be read next
	full     bool            // no more groups, no more distinct arguments
	level    bool            // the rows at hand were the last ones of their file
	types    []sqltypes.Type // of the files: the input's, then computed keys
	computed []int           // which keys these are
	keys     *exprList       // over the files
	stats    SpillStats
}

// read returns the next rows, of the input or of a file.
func (h *hashAgg) read() (Raw, error) {
	if h.disk.in == nil {
		return NextRaw(h.in)
	}
	if err := h.ctx.check(); err != nil {
		return Raw{}, err
	}
	b, err := h.disk.in.next()
	return Raw{Batch: b}, err
}

// keyList is what to evaluate for the groups of the rows at hand.
func (h *hashAgg) keyList() *exprList {
	if h.disk.in != nil {
		return h.disk.keys
	}
	return h.groupBy
}

// spills reports whether the aggregation goes on on disk when memory is scarce.
func (h *hashAgg) spills() bool {
	return !h.mode.returnsStates() && spillsKeys(h.ctx, h.disk.depth)
}

// indexBytes is how much the tables grow when they take no more keys.
func (h *hashAgg) indexBytes() int64 {
	n := h.table.indexBytes()
	for _, a := range h.aggs {
		n += a.distinct.indexBytes()
	}
	return n
}

// closeGroups is for when there are too many: no new ones from here on.
func (h *hashAgg) closeGroups() error {
	d := &h.disk
	d.full = true
	for _, a := range h.aggs {
		if a.distinct == nil || a.inOrder() {
			continue
		}
		f, err := newPartFiles(h.ctx, a.distinct.pack.types, d.depth)
		if err != nil {
			return err
		}
		a.disk.files = f
	}
	if h.table == nil {
		return nil
	}
	if d.types == nil {
		if err := h.fileColumns(); err != nil {
			return err
		}
	}
	var err error
	d.files, err = newPartFiles(h.ctx, d.types, d.depth)
	return err
}

// fileColumns decides what is written: the input's columns and the keys that are
// computed of them, which may be others the next time.
func (h *hashAgg) fileColumns() error {
	d := &h.disk
	d.types = append([]sqltypes.Type(nil), h.in.Types()...)
	if h.mode.mergesStates() {
		d.keys = h.groupBy
		return nil
	}
	keys := make([]expr.Expr, len(h.groupBy.evals))
	for i, ev := range h.groupBy.evals {
		keys[i] = ev.Expr()
		if _, ok := keys[i].(*expr.Column); ok {
			continue
		}
		keys[i] = &expr.Column{Index: len(d.types), Typ: h.groupBy.types[i]}
		d.types = append(d.types, h.groupBy.types[i])
		d.computed = append(d.computed, i)
	}
	var err error
	d.keys, err = compileAll(keys)
	return err
}

// known keeps the rows whose groups are there, numbers them, and writes the
// others.
func (h *hashAgg) known(r Raw) (Raw, error) {
	cols, err := h.keyColumns(r)
	if err != nil {
		return r, err
	}
	n := r.Len()
	if h.ids, err = h.table.FindRows(colvec.OpenAllEncoded(cols[:h.by], h.groupBy.types[:h.by]), r.Sel, n, h.ids[:0]); err != nil {
		return r, err
	}
	all := r
	if len(r.Cols) < len(h.disk.types) {
		all.Batch = &expr.Batch{N: r.N, Cols: slices.Clone(r.Cols)}
		for _, i := range h.disk.computed {
			all.Cols = append(all.Cols, cols[i])
		}
	}
	all, h.ids, err = h.disk.divide(all, h.disk.types, h.ids, h.table.pack.hashes)
	return Raw{r.Batch, all.Sel}, err
}

// endLevel comes when the rows of the input, or of a file, are read.
func (h *hashAgg) endLevel() error {
	d := &h.disk
	d.level = true
	if d.in != nil {
		err := d.in.drop()
		d.in = nil
		if err != nil {
			return err
		}
	}
	if !d.full {
		return nil
	}
	if err := h.drainDistinct(); err != nil {
		return err
	}
	if d.files == nil {
		return nil
	}
	if err := d.files.finish(); err != nil {
		return err
	}
	d.stats.add(d.files.stats)
	d.queue.push(d.files)
	d.files = nil
	return nil
}

// drainDistinct takes the distinct arguments that are on disk.
func (h *hashAgg) drainDistinct() error {
	for _, a := range h.aggs {
		if a.distinct != nil {
			a.distinct = newKeyTable(a.distinct.pack.types)
		}
	}
	if err := h.charge(); err != nil {
		return err
	}
	for _, a := range h.aggs {
		if a.disk.files == nil {
			continue
		}
		if err := a.drain(h.ctx, &h.disk); err != nil {
			return err
		}
	}
	return nil
}

// nextLevel begins to read the next file.
func (h *hashAgg) nextLevel() (err error) {
	d := &h.disk
	d.full, d.level = false, false
	p := d.queue.pop()
	d.depth = p.depth
	if d.in, err = openRun(p.run); err != nil {
		return errors.Join(err, p.run.Remove())
	}
	return nil
}

func (h *hashAgg) closeDisk() error {
	d := &h.disk
	errs := []error{d.queue.free(), d.files.free()}
	if d.in != nil {
		errs = append(errs, d.in.drop())
	}
	for _, a := range h.aggs {
		errs = append(errs, a.disk.files.free())
		a.disk.files = nil
	}
	d.in, d.files = nil, nil
	return errors.Join(errs...)
}

func (h *hashAgg) spillStats() SpillStats { return h.disk.stats }

// inOrder reports whether the result tells in which order values came: distinct
// ones stay in memory then, since files would give them back in another.
func (a *aggCall) inOrder() bool {
	return a.call.Name == "string_agg" || a.call.Name == "array_agg"
}

// drain gives the accumulator the distinct arguments that are on disk. No group
// has one of them already: those that the table had were never written.
func (a *aggCall) drain(ctx *Ctx, d *aggSpill) error {
	f := a.disk.files
	a.disk.files = nil
	if err := f.finish(); err != nil {
		return errors.Join(err, f.free())
	}
	d.stats.add(f.stats)
	for i := range spillParts {
		run := f.take(i)
		if run == nil {
			continue
		}
		op := newDistinct(newRunOperator("Spilled", f.types, run, false), f.depth+1)
		err := errors.Join(a.drainPart(ctx, op, f.types), op.Close(), run.Remove())
		d.stats.add(op.Stats().Spill)
		if err != nil {
			return errors.Join(err, f.free())
		}
	}
	return nil
}

func (a *aggCall) drainPart(ctx *Ctx, op Operator, types []sqltypes.Type) error {
	if err := op.Open(ctx); err != nil {
		return err
	}
	for {
		b, err := op.Next()
		if err != nil || b == nil {
			return err
		}
		vecs := colvec.OpenAll(b.Cols, types)
		if err := a.acc.Update(agg.Rows{N: b.N, Groups: vecs[0].I32}, vecs[1:]); err != nil {
			return err
		}
	}
}

// divide writes the groups and arguments of rows that are not known.
func (a *aggCall) divide(keys []colvec.Vec, rows agg.Rows) (err error) {
	if a.ids, err = a.distinct.FindRows(keys, rows.Sel, rows.N, a.ids[:0]); err != nil {
		return err
	}
	types := a.distinct.pack.types
	b := &expr.Batch{N: keys[0].N, Cols: make([]arrow.Array, len(keys))}
	all := make([]int32, rows.N)
	for k := range all {
		all[k] = int32(rowAt(rows.Sel, k))
	}
	for c := range keys {
		bld := colvec.NewBuilder(types[c], rows.N)
		bld.AppendSelected(&keys[c], all)
		if b.Cols[c], err = bld.Finish(); err != nil {
			return err
		}
	}
	b.N = rows.N
	_, _, err = a.disk.divide(Raw{Batch: b}, types, a.ids, a.distinct.pack.hashes)
	return err
}
