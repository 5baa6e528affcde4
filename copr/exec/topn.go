package exec

import (
	"bytes"
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
)

type topN struct {
	topRows
	in        Operator
	n, offset uint64
	ctx       *Ctx
	worst     []byte // key that a row must be below to matter; nil = unknown yet
	at, end   int
	filled    bool
	sortKeys  []plan.SortKey
	rest      *limitedSort // nil as long as the rows fit
	done      sortReport
}

// NewTopN passes on n rows after the first offset in the order of keys. It
// keeps about twice n + offset rows at a time; where memory is too scarce for
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
	t.ctx, t.worst, t.at, t.filled, t.done = ctx, nil, 0, false, sortReport{}
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
	for keep > 0 && t.n > 0 {
		b, err := t.in.Next()
		if err != nil {
			return err
		}
		if b == nil {
			break
		}
		if t.rest == nil && t.ctx.Spill != nil && t.full(batchBytes(b)) {
			if err := t.becomeSort(int(min(keep, uint64(len(t.order))))); err != nil {
				return err
			}
		}
		if t.rest != nil {
			if err := t.rest.rows.add(b); err != nil {
				return err
			}
			continue
		}
		if err := t.add(t.ctx, b, t.worst); err != nil {
			return err
		}
		if rows := uint64(len(t.order)); rows/2 > keep && rows-keep > BatchRowsMax {
			if err := t.shrink(int(keep)); err != nil {
				return err
			}
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

// shrink drops all but the first keep rows. A later row with the key of the
// worst kept one would come behind it.
func (t *topN) shrink(keep int) error {
	t.sort()
	t.order = t.order[:keep]
	last := t.order[keep-1]
	t.worst = slices.Clone(t.arena[last.start:last.end])
	old := t.topRows
	defer old.free()
	t.reset(t.ctx, t.in)
	for lo := 0; lo < keep; lo += BatchRowsMax {
		b, err := old.batch(lo, min(lo+BatchRowsMax, keep))
		if err != nil {
			return err
		}
		if err := t.add(t.ctx, b, nil); err != nil {
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
	rows  *store
	arena []byte
	order []sortRow
	mem   memUser
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
}

func (s *topRows) free() {
	if s.rows != nil {
		s.rows.free()
	}
	s.arena, s.order = nil, nil
	s.mem.free()
}

// add keeps the rows of b whose key is below worst (nil = all).
func (s *topRows) add(ctx *Ctx, b *expr.Batch, worst []byte) error {
	mark := len(s.arena)
	arena, ends, err := s.keys.append(ctx, b, s.arena, make([]int, 0, b.N))
	if err != nil {
		return err
	}
	sel := make([]int32, 0, b.N)
	start := mark
	kept := len(s.rows.refs)
	for i, end := range ends {
		if k := arena[start:end]; worst == nil || bytes.Compare(k, worst) < 0 {
			s.order = append(s.order, sortRow{head: head(k), start: start, end: end, row: int32(kept + len(sel))})
			sel = append(sel, int32(i))
		}
		start = end
	}
	if len(sel) == 0 {
		s.arena = arena[:mark]
		return nil
	}
	s.arena = arena
	if b, err = takeBatch(b, s.rows.types, sel); err != nil {
		return err
	}
	if err := s.rows.add(b, nil); err != nil {
		return err
	}
	return s.mem.set(int64(cap(s.arena)) + topRowBytes*int64(cap(s.order)))
}

// sort orders the rows; equal ones stay in order of arrival.
func (s *topRows) sort() {
	slices.SortFunc(s.order, func(a, b sortRow) int {
		switch {
		case a.head < b.head:
			return -1
		case a.head > b.head:
			return 1
		}
		if c := bytes.Compare(s.arena[a.start:a.end], s.arena[b.start:b.end]); c != 0 {
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
