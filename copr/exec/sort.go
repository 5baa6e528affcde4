package exec

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
)

// sorter keeps rows with their keys.
type sorter struct {
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

const sortRowBytes = 32

func (s *sorter) reset(ctx *Ctx, in Operator) {
	s.rows = newStore(in.Types(), ctx.Mem)
	s.arena, s.order, s.mem = nil, nil, memUser{acct: ctx.Mem}
}

func (s *sorter) free() {
	if s.rows != nil {
		s.rows.free()
	}
	s.arena, s.order = nil, nil
	s.mem.free()
}

// add keeps the rows of b whose key is below worst (nil = all).
func (s *sorter) add(ctx *Ctx, b *expr.Batch, worst []byte) error {
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
	return s.mem.set(int64(cap(s.arena)) + sortRowBytes*int64(cap(s.order)))
}

func head(k []byte) uint64 {
	if len(k) >= 8 {
		return binary.BigEndian.Uint64(k)
	}
	var b [8]byte
	copy(b[:], k)
	return binary.BigEndian.Uint64(b[:])
}

// sort orders the rows; equal ones stay in order of arrival.
func (s *sorter) sort() {
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
func (s *sorter) batch(lo, hi int) (*expr.Batch, error) {
	refs := make([]rowRef, 0, hi-lo)
	for _, r := range s.order[lo:hi] {
		refs = append(refs, s.rows.refs[r.row])
	}
	return s.rows.gather(refs)
}

type sortOp struct {
	sorter
	in     Operator
	ctx    *Ctx
	at     int
	filled bool
}

// NewSort orders all rows by keys. It keeps them in memory.
func NewSort(in Operator, keys []plan.SortKey) (Operator, error) {
	sk, err := newSortKeys(keys)
	if err != nil {
		return nil, err
	}
	return newOperator("Sort", &sortOp{sorter: sorter{keys: sk}, in: in}, in.Types(), in), nil
}

func (s *sortOp) open(ctx *Ctx) error {
	s.reset(ctx, s.in)
	s.ctx, s.at, s.filled = ctx, 0, false
	return nil
}

func (s *sortOp) close() error { s.free(); return nil }

func (s *sortOp) next() (*expr.Batch, error) {
	if !s.filled {
		for {
			b, err := s.in.Next()
			if err != nil {
				return nil, err
			}
			if b == nil {
				break
			}
			if err := s.add(s.ctx, b, nil); err != nil {
				return nil, err
			}
		}
		s.sort()
		s.filled = true
	}
	n := min(len(s.order)-s.at, BatchRowsMax)
	if n == 0 {
		return nil, nil
	}
	s.at += n
	return s.batch(s.at-n, s.at)
}
