package exec

import (
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
)

type topN struct {
	sorter
	in        Operator
	n, offset uint64
	ctx       *Ctx
	worst     []byte // key that a row must be below to matter; nil = unknown yet
	at, end   int
	filled    bool
}

// NewTopN passes on n rows after the first offset in the order of keys. It
// keeps about twice n + offset rows at a time.
func NewTopN(in Operator, keys []plan.SortKey, n, offset uint64) (Operator, error) {
	sk, err := newSortKeys(keys)
	if err != nil {
		return nil, err
	}
	t := &topN{sorter: sorter{keys: sk}, in: in, n: n, offset: offset}
	return newOperator("Top-N", t, in.Types(), in), nil
}

func (t *topN) open(ctx *Ctx) error {
	t.reset(ctx, t.in)
	t.ctx, t.worst, t.at, t.filled = ctx, nil, 0, false
	return nil
}

func (t *topN) close() error { t.free(); return nil }

func (t *topN) next() (*expr.Batch, error) {
	if !t.filled {
		if err := t.fill(); err != nil {
			return nil, err
		}
		t.filled = true
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
		if err := t.add(t.ctx, b, t.worst); err != nil {
			return err
		}
		if rows := uint64(len(t.order)); rows/2 > keep && rows-keep > BatchRowsMax {
			if err := t.shrink(int(keep)); err != nil {
				return err
			}
		}
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
	old := t.sorter
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
