package exec

import (
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
)

// joinOutputBytesMax bounds the byte strings of a batch that a join returns, or
// that its residual reads: one long value may be in every pair. A batch has one
// pair at least.
const joinOutputBytesMax = 16 << 20

// joinPairs are pairs of rows that are still to be returned.
type joinPairs struct {
	cur  Raw
	l, r []int32
}

// longest is the length of a column's longest value, found when first asked for.
type longest struct {
	once sync.Once
	n    int64
}

// longestValue is the length of the longest byte string; 0 where values are not
// copied for each row.
func (c *joinColumn) longestValue() int64 {
	c.long.once.Do(func() {
		for i := 1; i < len(c.off); i++ {
			c.long.n = max(c.long.n, c.off[i]-c.off[i-1])
		}
	})
	return c.long.n
}

// offsetsOf are the offsets of plain byte strings; nil for other columns.
func offsetsOf(a arrow.Array) []int32 {
	switch x := a.(type) {
	case *array.String:
		return x.ValueOffsets()
	case *array.Binary:
		return x.ValueOffsets()
	}
	return nil
}

// fits is how many of the pairs, from the first one on, make columns cols of no
// more than joinOutputBytesMax.
func (p *hashProbe) fits(cur Raw, cols []int, l, r []int32) int {
	n, left := len(l), len(p.t.spec.LeftTypes)
	bound := int64(0)
	for _, c := range cols {
		switch {
		case c >= left:
			bound += p.t.cols[c-left].longestValue()
		case cur.Batch != nil:
			off := offsetsOf(cur.Cols[c])
			most := int32(0)
			for i := 1; i < len(off); i++ {
				most = max(most, off[i]-off[i-1])
			}
			bound += int64(most)
		}
	}
	if bound*int64(n) <= joinOutputBytesMax {
		return n
	}
	sizes := make([]int64, n)
	for _, c := range cols {
		if c >= left {
			addSizes(sizes, p.t.cols[c-left].off, r)
		} else if cur.Batch != nil {
			addSizes(sizes, offsetsOf(cur.Cols[c]), l)
		}
	}
	sum := int64(0)
	for k, size := range sizes {
		if sum += size; sum > joinOutputBytesMax {
			return max(k, 1)
		}
	}
	return n
}

func addSizes[T int32 | int64](sizes []int64, off []T, rows []int32) {
	if off == nil {
		return
	}
	for k, i := range rows {
		if i >= 0 {
			sizes[k] += int64(off[i+1] - off[i])
		}
	}
}

// combine makes the rows of pairs; if they are too large for one batch, the
// first of them.
func (p *hashProbe) combine(cur Raw, l, r []int32) (Raw, error) {
	if n := p.fits(cur, p.t.out, l, r); n < len(l) {
		p.more = joinPairs{cur, slices.Clone(l[n:]), slices.Clone(r[n:])}
		l, r = l[:n], r[:n]
	}
	return p.make(cur, l, r)
}

// scatters reports whether so many rows of the right side fit one batch.
func (p *hashProbe) scatters(rows int) bool {
	bound, left := int64(0), len(p.t.spec.LeftTypes)
	for _, c := range p.t.out {
		if c >= left {
			bound += p.t.cols[c-left].longestValue()
		}
	}
	return bound*int64(rows) <= joinOutputBytesMax
}

// nextMore makes more of the pairs that were too large for one batch.
func (p *hashProbe) nextMore() (Raw, error) {
	m := p.more
	n := p.fits(m.cur, p.t.out, m.l, m.r)
	p.more.l, p.more.r = m.l[n:], m.r[n:]
	return p.make(m.cur, m.l[:n], m.r[:n])
}

// test keeps the pairs that pass the residual, of as many as fit at a time. It
// makes only the columns that the residual reads.
func (p *hashProbe) test() error {
	if p.t.residual == nil {
		return nil
	}
	kept := 0
	for lo := 0; lo < len(p.l); {
		hi := lo + p.fits(p.cur, p.t.resCols, p.l[lo:], p.r[lo:])
		sel, err := p.testPairs(p.l[lo:hi], p.r[lo:hi])
		if err != nil {
			return err
		}
		for _, i := range sel {
			p.l[kept], p.r[kept] = p.l[lo+int(i)], p.r[lo+int(i)]
			kept++
		}
		lo = hi
	}
	p.l, p.r = p.l[:kept], p.r[:kept]
	return nil
}
