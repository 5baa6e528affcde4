package exec

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// JoinTableSpec describes a join on equality, the rows of its left side apart.
type JoinTableSpec struct {
	Kind JoinKind
	// Right is read to its end, and closed, when the first probe is opened.
	Right     Operator
	LeftTypes []sqltypes.Type
	// LeftKeys over the left columns equal RightKeys over the right ones; a row
	// with a NULL among its keys joins nothing.
	LeftKeys, RightKeys []expr.Expr
	// Residual, over the left columns followed by the right ones, must all be
	// true as well.
	Residual []expr.Expr
	// NullAware makes of an AntiJoin SQL's NOT IN of one key without a residual:
	// one NULL on the right and no row is returned; a NULL on the left is
	// returned only if the right side is empty.
	NullAware bool
	// Out are the columns to return, positions in the left columns followed by
	// the right ones (a semi or anti join has those of one side only); nil = all.
	Out []int
	// Filters are made of the right side's keys; each belongs to one table.
	Filters []*JoinFilter
	// Workers is how many goroutines may index the right side, 0 = one a core.
	Workers int
}

// JoinTable is the right side of a hash join, by its keys. NewHashProbe makes
// an operator that joins rows with it; any number of probes, each in its own
// goroutine, may share a table. The first one that is opened builds it, the
// others wait; from then on it is only read, but for the marks of rows that
// found a match. Rows of the right side without a match come out of the probe
// that is the last to reach the end of its input.
//
// Whoever made the table closes it when the probes are closed.
type JoinTable struct {
	spec     JoinTableSpec
	out      []int           // spec.Out, or all columns
	outTypes []sqltypes.Type // of out
	types    []sqltypes.Type // left's, then right's
	keyTypes []sqltypes.Type // in which keys are compared
	left     *exprList       // keys
	right    *exprList       // keys
	residual *filterList     // nil = none
	resCols  []int           // columns of types that the residual reads
	keep     []int           // columns of the right side that are kept
	probes   int             // made so far
	ended    atomic.Int32    // probes that reached the end of their input
	mu       sync.Mutex      // of building
	building chan struct{}   // closed when the table is built
	err      error           // why it could not be
	mem      memUser
	depth    int        // how often its rows were divided on disk; see joinSpill
	spilled  *joinSpill // nil = they are in memory

	// What is built.
	keys    *joinKeys
	index   *joinIndex
	cols    []*joinColumn // by column of the right side, nil = not kept
	rows    int           // of the right side, without those that cannot matter
	any     bool          // the right side has rows
	nullKey bool          // a row of it has a NULL key
	seen    []uint32      // kind.keepsRight: bitmap of rows that found a match
}

// NewJoinTable describes a table; the first probe builds it.
func NewJoinTable(s JoinTableSpec) (*JoinTable, error) {
	if s.NullAware && (s.Kind != AntiJoin || len(s.LeftKeys) != 1 || len(s.Residual) > 0) {
		return nil, pgerror.New(pgerror.InternalError,
			"a null-aware hash join must be an anti join on one key without a residual")
	}
	t := &JoinTable{spec: s, types: slices.Concat(s.LeftTypes, s.Right.Types())}
	var err error
	if t.left, err = compileAll(s.LeftKeys); err != nil {
		return nil, err
	}
	if t.right, err = compileAll(s.RightKeys); err != nil {
		return nil, err
	}
	if t.keyTypes, err = commonTypes(t.left.types, t.right.types); err != nil {
		return nil, err
	}
	if len(s.Residual) > 0 {
		if t.residual, err = compileFilter(s.Residual); err != nil {
			return nil, err
		}
		t.resCols = columnsOf(s.Residual, len(t.types))
	}
	t.setOut()
	for _, f := range s.Filters {
		f.table = t
	}
	return t, nil
}

// setOut decides which columns are returned and which are kept for that.
func (t *JoinTable) setOut() {
	first, end := 0, len(t.types)
	switch left := len(t.spec.LeftTypes); {
	case t.spec.Kind.leftOnly():
		end = left
	case t.spec.Kind.rightOnly():
		first = left
	}
	if t.out = t.spec.Out; t.out == nil {
		for c := first; c < end; c++ {
			t.out = append(t.out, c)
		}
	}
	for _, c := range t.out {
		t.outTypes = append(t.outTypes, t.types[c])
	}
	for _, c := range slices.Concat(t.out, t.resCols) {
		if c -= len(t.spec.LeftTypes); c >= 0 && !slices.Contains(t.keep, c) {
			t.keep = append(t.keep, c)
		}
	}
	slices.Sort(t.keep)
}

// columnsOf returns the columns, of n, that expressions read, each once.
func columnsOf(exprs []expr.Expr, n int) []int {
	var out []int
	external := false
	for _, e := range exprs {
		expr.Walk(e, func(x expr.Expr) bool {
			if c, ok := x.(*expr.Column); ok && !slices.Contains(out, c.Index) {
				out = append(out, c.Index)
			}
			_, ok := x.(expr.External)
			external = external || ok
			return true
		})
	}
	if external { // it may read any column
		out = out[:0]
		for c := range n {
			out = append(out, c)
		}
	}
	return out
}

func (t *JoinTable) name() string { return "Hash" + t.spec.Kind.String() + " Join" }

// existsOnly reports whether it only counts whether there is a match.
func (t *JoinTable) existsOnly() bool { return t.spec.Kind.leftOnly() && t.residual == nil }

// open builds the table, or waits until another goroutine has.
func (t *JoinTable) open(ctx *Ctx) error {
	ctx.worker.wait()
	ctx = ctx.alone()
	t.mu.Lock()
	done := t.building
	mine := done == nil
	if mine {
		done = make(chan struct{})
		t.building = done
	}
	t.mu.Unlock()
	if mine {
		defer close(done)
		t.err = pgerror.New(pgerror.InternalError, "building the table of a hash join did not end")
		t.err = t.build(ctx)
		return t.err
	}
	ctx.worker.wait()
	select {
	case <-done:
		if t.err != nil {
			return t.err
		}
		return ctx.worker.work()
	case <-ctx.Done():
		return ctx.check()
	}
}

// Close frees the table; it can be built anew. All probes must be closed.
func (t *JoinTable) Close() error { return t.close() }

func (t *JoinTable) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.building, t.err = nil, nil
	t.ended.Store(0)
	t.drop()
	err := t.spilled.free()
	t.spilled = nil
	return errors.Join(err, t.spec.Right.Close())
}

func (t *JoinTable) drop() {
	t.keys, t.index, t.cols, t.seen = nil, nil, nil, nil
	t.rows, t.any, t.nullKey = 0, false, false
	t.forget()
	t.mem.free()
}

func (t *JoinTable) build(ctx *Ctx) (err error) {
	t.mem = memUser{acct: ctx.Mem}
	in := t.spec.Right
	defer func() {
		if err != nil {
			t.drop()
		}
		err = errors.Join(err, in.Close())
	}()
	if err := in.Open(ctx); err != nil {
		return err
	}
	b := &joinBuilder{t: t, ctx: ctx, side: keySide{exprs: t.right, types: t.keyTypes}}
	t.keys = newJoinKeys(t.keyTypes)
	b.codes = make([][]int64, len(t.keyTypes))
	for {
		r, err := NextRaw(in)
		if err != nil {
			return err
		}
		if r.Batch == nil {
			break
		}
		if err := b.add(r); err != nil {
			return err
		}
		if b.tooLarge() {
			return b.spill(in)
		}
	}
	return b.finish()
}

// joinBuilder collects the right side of a join.
type joinBuilder struct {
	t     *JoinTable
	ctx   *Ctx
	side  keySide
	codes [][]int64 // by key column, of the rows that have no NULL key
	rowOf []int32   // their rows, nil = the same numbers
	parts []Raw     // the rows to keep, if columns are
	rows  int
	held  int64 // bytes charged for parts
	sel   []int32
	buf   []byte
}

// add takes rows of the right side.
func (b *joinBuilder) add(r Raw) error {
	t := b.t
	t.any = true
	vecs, err := b.side.eval(b.ctx, r)
	if err != nil {
		return err
	}
	n := r.Len()
	keyed, sel := withoutNulls(vecs, r.N, r.Sel, b.sel)
	b.sel = sel
	some := n
	if keyed != nil {
		some = len(keyed)
	}
	t.nullKey = t.nullKey || some < n
	if !t.spec.Kind.keepsRight() { // who has no key is nobody's match
		r.Sel, n = keyed, some
	} else if some < n || b.rowOf != nil {
		b.number(r, keyed, n)
	}
	if n == 0 {
		return nil
	}
	if b.rows+n > joinRowsMax {
		return errJoinRows()
	}
	for c := range vecs {
		if b.codes[c], err = t.keys.cols[c].appendCodes(b.codes[c], &vecs[c], keyed, &b.buf); err != nil {
			return err
		}
	}
	b.rows += n
	if len(t.keep) > 0 || t.spillable(b.ctx) { // to keep them, or to write them if need be
		r.Sel = slices.Clone(r.Sel)
		b.parts = append(b.parts, r)
		b.held += partBytes(r, t.keep)
		if len(t.keep) == 0 {
			b.held += partBytes(r, columnsUpTo(len(r.Cols)))
		}
	}
	need := b.held + int64(8*len(b.codes)*cap(b.codes[0])) + t.keys.bytes()
	if t.spillable(b.ctx) {
		return t.mem.setAnyway(need)
	}
	return t.mem.set(need)
}

// number notes the rows of those that have keys.
func (b *joinBuilder) number(r Raw, keyed []int32, n int) {
	if b.rowOf == nil {
		b.rowOf = make([]int32, b.rows, b.rows+n)
		for i := range b.rowOf {
			b.rowOf[i] = int32(i)
		}
	}
	k := 0
	eachRow(r.N, r.Sel, func(i int) {
		if keyed == nil || k < len(keyed) && keyed[k] == int32(i) {
			b.rowOf = append(b.rowOf, int32(b.rows)+int32(b.at(r, i)))
			k++
		}
	})
}

// at is the number of row i among the selected ones.
func (b *joinBuilder) at(r Raw, i int) int {
	if r.Sel == nil {
		return i
	}
	k, _ := slices.BinarySearch(r.Sel, int32(i))
	return k
}

func columnsUpTo(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// partBytes is about the memory of the columns cols of the rows of r.
func partBytes(r Raw, cols []int) int64 {
	n := int64(4 * len(r.Sel))
	for _, c := range cols {
		n += colvec.ArrayBytes(r.Cols[c])
	}
	return n * int64(r.Len()) / int64(r.N)
}

// workers is how many goroutines may build a table of so many rows.
func (b *joinBuilder) workers() int {
	n := b.t.spec.Workers
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	return max(1, min(n, b.rows/joinPartRowsMin))
}

// par runs f(0) to f(n-1), as many at a time as there may be workers.
func (b *joinBuilder) par(n int, f func(i int)) { parallel(n, b.workers(), f) }

// parallel runs f(0) to f(n-1) by several goroutines. A panic of one of them goes
// on in the caller's, where the statement's guard is.
func parallel(n, workers int, f func(i int)) {
	if workers = min(n, workers); workers <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var next atomic.Int32
	var broken atomic.Pointer[any]
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					if _, limit := p.(*pgerror.Error); !limit {
						p = fmt.Sprintf("%v\n\nin a worker:\n%s", p, debug.Stack())
					}
					broken.CompareAndSwap(nil, &p)
				}
			}()
			for i := int(next.Add(1)) - 1; i < n && broken.Load() == nil; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
	if p := broken.Load(); p != nil {
		panic(*p)
	}
}

// finish makes the index and the columns.
func (b *joinBuilder) finish() error {
	t := b.t
	words, err := b.words()
	if err != nil {
		return err
	}
	t.index = buildJoinIndex(words, t.keys.span, b.rowOf, t.existsOnly(), b.workers(), b.par)
	filters := b.filters()
	b.codes = nil
	if err := t.mem.set(b.held + t.index.bytes() + t.keys.bytes() + filters); err != nil {
		return err
	}
	if err := b.ctx.check(); err != nil {
		return err
	}
	t.rows = b.rows
	if err := b.columns(); err != nil {
		return err
	}
	if t.spec.Kind.keepsRight() {
		t.seen = make([]uint32, (t.rows+31)/32)
	}
	n := t.index.bytes() + t.keys.bytes() + 4*int64(len(t.seen)) + filters
	for _, c := range t.cols {
		if c != nil {
			n += c.bytes()
		}
	}
	return t.mem.set(n)
}

// words turns the codes into words.
func (b *joinBuilder) words() ([]uint64, error) {
	k, n := b.t.keys, len(b.codes[0])
	lo, hi := make([]int64, len(b.codes)), make([]int64, len(b.codes))
	b.par(len(b.codes), func(c int) {
		if n > 0 {
			lo[c], hi[c] = minMax(b.codes[c])
		}
	})
	k.setRanges(lo, hi, n)
	words := make([]uint64, n)
	if k.tuples != nil {
		return words, k.internWords(b.codes, n, words)
	}
	chunks := (n + joinPartRowsMin - 1) / joinPartRowsMin
	b.par(chunks, func(i int) {
		k.words(b.codes, i*joinPartRowsMin, min(n, (i+1)*joinPartRowsMin), words)
	})
	return words, nil
}

func minMax(s []int64) (lo, hi int64) {
	lo, hi = s[0], s[0]
	for _, x := range s {
		lo, hi = min(lo, x), max(hi, x)
	}
	return lo, hi
}

// columns puts the parts of the columns together.
func (b *joinBuilder) columns() error {
	t := b.t
	t.cols = make([]*joinColumn, len(t.spec.Right.Types()))
	if len(t.keep) == 0 {
		return nil
	}
	sels, ends := make([][]int32, len(b.parts)), make([]int, len(b.parts)+1)
	for p, r := range b.parts {
		sels[p], ends[p+1] = r.Sel, ends[p]+r.Len()
	}
	errs := make([]error, len(t.keep))
	b.par(len(t.keep), func(i int) {
		c := t.keep[i]
		typ := t.spec.Right.Types()[c]
		vecs := make([]colvec.Vec, len(b.parts))
		for p, r := range b.parts {
			vecs[p] = colvec.OpenEncoded(r.Cols[c], typ)
		}
		col := newJoinColumn(typ, vecs, sels, b.rows)
		if col.kind.IsBytes() {
			errs[i] = col.fillBytes(vecs, sels, ends)
		} else {
			for p := range vecs {
				col.fill(&vecs[p], sels[p], ends[p])
			}
		}
		t.cols[c] = col
	})
	b.parts = nil
	return errors.Join(errs...)
}
