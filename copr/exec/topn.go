package exec

import (
	"bytes"
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
)

type topN struct {
	topRows
	in        Operator
	n, offset uint64
	ctx       *Ctx
	at, end   int
	filled    bool
	sortKeys  []plan.SortKey
	rest      *limitedSort // nil as long as the rows fit
	done      sortReport
}

// NewTopN passes on n rows after the first offset in the order of keys. Of a
// batch, it gathers only rows that are among the first so far, and it keeps about
// twice n + offset rows at a time; where memory is too scarce for
// that, it becomes a sort (see NewSort) with a limit.
func NewTopN(in Operator, keys []plan.SortKey, n, offset uint64) (Operator, error) {
	sk, err := newSortKeys(keys)
	if err != nil {
		return nil, err
	}
	t := &topN{topRows: topRows{keys: sk}, in: in, n: n, offset: offset, sortKeys: keys}
	return newOperator("Top-N", t, in.Types(), in), nil
}

func (t *topN) open(ctx *Ctx) error {
	t.reset(ctx, t.in)
	t.ctx, t.at, t.filled, t.done = ctx, 0, false, sortReport{}
	return nil
}

func (t *topN) close() error {
	t.free()
	if t.rest == nil {
		return nil
	}
	t.done = t.rest.rows.report
	err := t.rest.rows.free()
	t.rest = nil
	return err
}

func (t *topN) spillStats() SpillStats { return t.done.spill }

// details are what PostgreSQL says of a sort with a limit.
func (t *topN) details() []string {
	if t.done.finished {
		return t.done.lines()
	}
	return nil
}

func (t *topN) next() (*expr.Batch, error) {
	if !t.filled {
		if err := t.fill(); err != nil {
			return nil, err
		}
		t.filled = true
	}
	if t.rest != nil {
		return t.rest.next()
	}
	n := min(t.end-t.at, BatchRowsMax)
	if n <= 0 {
		return nil, nil
	}
	t.at += n
	return t.batch(t.at-n, t.at)
}

func (t *topN) fill() error {
	keep := t.n + t.offset
	if keep < t.n {
		keep = NoLimit
	}
	t.keep = int(min(keep, topKeepMax))
	for keep > 0 && t.n > 0 {
		r, err := NextRaw(t.in)
		if err != nil {
			return err
		}
		if r.Batch == nil {
			break
		}
		if err := t.take(r); err != nil {
			return err
		}
	}
	if t.rest != nil {
		return t.rest.rows.finish()
	}
	t.sort()
	t.end = int(min(keep, uint64(len(t.order))))
	t.at = int(min(t.offset, uint64(t.end)))
	return nil
}

// topKeepMax is more rows than there will ever be.
const topKeepMax = 1 << 40

// take keeps the rows of r that may be among the first.
func (t *topN) take(r Raw) error {
	if t.rest == nil && t.ctx.Spill != nil && t.full(batchBytes(r.Batch)) {
		if err := t.becomeSort(min(t.keep, len(t.order))); err != nil {
			return err
		}
	}
	if t.rest != nil {
		b, err := r.plain(t.in.Types())
		if err != nil {
			return err
		}
		return t.rest.rows.add(b)
	}
	if err := t.add(t.ctx, r); err != nil {
		return err
	}
	if rows := len(t.rows.refs); rows/2 > t.keep && rows-t.keep > BatchRowsMax {
		return t.shrink()
	}
	return nil
}

// shrink drops the rows that are not among the first, which are known by keys
// only, from memory.
func (t *topN) shrink() error {
	t.tighten()
	old := t.topRows
	defer old.free()
	t.reset(t.ctx, t.in)
	for lo := 0; lo < len(old.order); lo += BatchRowsMax {
		b, err := old.batch(lo, min(lo+BatchRowsMax, len(old.order)))
		if err != nil {
			return err
		}
		if err := t.add(t.ctx, Raw{Batch: b}); err != nil {
			return err
		}
	}
	return nil
}

// full reports whether more rows had better go to disk.
func (t *topN) full(more int64) bool {
	all := memUser{acct: t.mem.acct, held: t.mem.held + t.rows.mem.held}
	return all.full(more)
}

// becomeSort hands the first keep rows on to a sort that can spill.
func (t *topN) becomeSort(keep int) error {
	rows, err := newExtSorter(t.in.Types(), t.sortKeys)
	if err != nil {
		return err
	}
	t.rest = &limitedSort{rows: rows, skip: t.offset, left: t.n}
	rows.reset(t.ctx)
	t.sort()
	t.order = t.order[:keep]
	for lo := 0; lo < keep; lo += BatchRowsMax {
		b, err := t.batch(lo, min(lo+BatchRowsMax, keep))
		if err != nil {
			return err
		}
		if err := rows.add(b); err != nil {
			return err
		}
	}
	t.free()
	return nil
}

// limitedSort passes on left rows of a sort behind the first skip.
type limitedSort struct {
	rows       *extSorter
	skip, left uint64
}

func (l *limitedSort) next() (*expr.Batch, error) {
	for l.left > 0 {
		b, err := l.rows.next()
		if err != nil || b == nil {
			return nil, err
		}
		n := uint64(b.N)
		if l.skip >= n {
			l.skip -= n
			continue
		}
		lo, hi := l.skip, min(n, l.skip+l.left)
		l.skip, l.left = 0, l.left-(hi-lo)
		return sliceBatch(b, int(lo), int(hi)), nil
	}
	return nil, nil
}

// topRows keeps rows with their keys.
type topRows struct {
	keys  *sortKeys
	keep  int // rows that matter
	rows  *store
	arena []byte
	order []sortRow
	mem   memUser
	worst []byte // key that a row must be below to matter; nil = not known yet
	bound topBound

	sel, pick []int32
	batchKeys []byte
	ends      []int
	best      []sortRow
}

// sortRow is a row in the order to come: the start of its key as a number, so
// that most comparisons need not look at the arena.
type sortRow struct {
	head       uint64
	start, end int
	row        int32
}

const topRowBytes = 32

func (s *topRows) reset(ctx *Ctx, in Operator) {
	s.rows = newStore(in.Types(), ctx.Mem)
	s.arena, s.order, s.mem = nil, nil, memUser{acct: ctx.Mem}
	s.worst, s.bound = nil, topBound{}
}

func (s *topRows) free() {
	if s.rows != nil {
		s.rows.free()
	}
	s.arena, s.order, s.worst, s.batchKeys = nil, nil, nil, nil
	s.mem.free()
}

// add keeps the rows of r that are among the first keep so far.
func (s *topRows) add(ctx *Ctx, r Raw) error {
	r, err := s.within(ctx, r)
	if err != nil || r.Len() == 0 {
		return err
	}
	if err := s.choose(ctx, r); err != nil || len(s.best) == 0 {
		return err
	}
	kept := len(s.rows.refs)
	s.pick = s.pick[:0]
	for j, row := range s.best {
		start := len(s.arena)
		s.arena = append(s.arena, s.batchKeys[row.start:row.end]...)
		s.order = append(s.order, sortRow{head: row.head, start: start, end: len(s.arena), row: int32(kept + j)})
		s.pick = append(s.pick, row.row)
	}
	b, err := takeBatch(r.Batch, s.rows.types, s.pick)
	if err != nil {
		return err
	}
	if err := s.rows.add(b, nil); err != nil {
		return err
	}
	if n := len(s.order); n >= s.keep && (s.worst == nil || n-s.keep > max(s.keep/2, topSlackRows)) {
		s.tighten()
	}
	return s.mem.set(int64(cap(s.arena)) + topRowBytes*int64(cap(s.order)))
}

// topSlackRows is how many rows more than needed may come until the bound is
// made tighter.
const topSlackRows = 64

// within is the rows of r that the bound lets pass.
func (s *topRows) within(ctx *Ctx, r Raw) (Raw, error) {
	if !s.bound.set {
		return r, nil
	}
	a, err := s.keys.exprs.evals[0].EvalEncoded(ctx.Eval, r.Batch, r.Sel)
	if err != nil {
		return r, err
	}
	v := colvec.OpenEncoded(a, s.keys.exprs.types[0])
	if s.sel == nil {
		s.sel = make([]int32, 0, r.N) // nil would be all rows
	}
	sel, ok := s.bound.within(r, &v, s.sel[:0])
	if !ok {
		return r, nil
	}
	s.sel = sel
	return Raw{r.Batch, sel}, nil
}

// choose finds the best rows of r: below worst, and not more than keep. Their
// keys are in batchKeys.
func (s *topRows) choose(ctx *Ctx, r Raw) error {
	var err error
	if s.batchKeys, s.ends, err = s.keys.appendRaw(ctx, r, s.batchKeys[:0], s.ends[:0]); err != nil {
		return err
	}
	s.best = s.best[:0]
	start := 0
	for k, end := range s.ends {
		if key := s.batchKeys[start:end]; s.worst == nil || bytes.Compare(key, s.worst) < 0 {
			s.best = append(s.best, sortRow{head: head(key), start: start, end: end, row: int32(rowAt(r.Sel, k))})
		}
		start = end
	}
	if len(s.best) > s.keep {
		sortRows(s.best, s.batchKeys)
		s.best = s.best[:s.keep]
		slices.SortFunc(s.best, func(a, b sortRow) int { return int(a.row) - int(b.row) })
	}
	return nil
}

// tighten drops rows that are not among the first from the order. A later row
// with the key of the worst kept one would come behind it.
func (s *topRows) tighten() {
	s.sort()
	if len(s.order) < s.keep {
		return
	}
	s.order = s.order[:s.keep]
	last := s.order[s.keep-1]
	s.worst = append(s.worst[:0], s.arena[last.start:last.end]...)
	if len(s.keys.keys) == 0 { // all rows are equal
		return
	}
	s.bound.from(s.worst, s.keys.keys, s.keys.exprs.types[0])
}

// sort orders the rows; equal ones stay in order of arrival.
func (s *topRows) sort() { sortRows(s.order, s.arena) }

func sortRows(rows []sortRow, arena []byte) {
	slices.SortFunc(rows, func(a, b sortRow) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		}
		if c := bytes.Compare(arena[a.start:a.end], arena[b.start:b.end]); c != 0 {
			return c
		}
		return int(a.row) - int(b.row)
	})
}

// batch gathers rows lo to hi of the order.
func (s *topRows) batch(lo, hi int) (*expr.Batch, error) {
	refs := make([]rowRef, 0, hi-lo)
	for _, r := range s.order[lo:hi] {
		refs = append(refs, s.rows.refs[r.row])
	}
	return s.rows.gather(refs)
}
