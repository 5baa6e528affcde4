package columnar

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/sqltypes"
)

// columnID says what a column's values depend on beside the rows.
type columnID struct {
	id   uint32
	typ  sqltypes.Type
	dflt string
}

func idOf(c plan.Column) columnID {
	if c.Default.IsNull() {
		return columnID{id: c.ID, typ: c.Type}
	}
	d := c.Default
	number := ""
	if n := d.Decimal(); n != nil {
		number = fmt.Sprintf("%v %v %d %s", n.Form, n.Negative, n.Exponent, n.Coeff.String())
	}
	return columnID{c.ID, c.Type, fmt.Sprintf("%d %d %q %s %v", d.Kind(), d.Int(), d.Str(), number, d.Interval())}
}

func idsOf(cols []plan.Column) []columnID {
	out := make([]columnID, len(cols))
	for i, c := range cols {
		out[i] = idOf(c)
	}
	return out
}

// block says which rows there are of the keys in [lower, upper) as of an applied
// index; their columns come and go with the slot that it is in. It is never
// changed.
type block struct {
	lower, upper []byte // plain keys
	index        uint64 // applied
	maxTS        uint64 // every row, and every delete, was committed at or below
	rows         int
	handles      handles
	bytes        int64
}

// blockOverheadBytes is about what a block costs beside its columns.
const blockOverheadBytes = 1024

func newBlock(lower, upper []byte, index, maxTS uint64, handleColumn arrow.Array) *block {
	b := &block{
		lower: bytes.Clone(lower), upper: bytes.Clone(upper), index: index, maxTS: maxTS,
		rows: handleColumn.Len(), handles: newHandles(handleColumn),
	}
	b.bytes = blockOverheadBytes + int64(len(lower)+len(upper)) + b.handles.bytes
	return b
}

// dirtyFew is with how many dirty keys the block is left as it is.
func (b *block) dirtyFew() int { return min(max(b.rows/8, 8), BlockDirtyKeysFew) }

// wornOut reports whether scans, with this one, have read as many dirty keys of the
// block as cost about as much as to make it anew: a few keys are not worth that
// for one scan, but would be read again by all that come. What the scans pay is
// at most twice what it would be if they had been known.
func (w *view) wornOut() bool {
	return len(w.dirty) > 0 && w.slot.worn.Add(int64(len(w.dirty))) > int64(max(w.rows/dirtyReadRows, dirtyReadsMin))
}

// rowsIn are the rows of the keys in [start, end) of the table with the prefix;
// an empty end is unbounded.
func (b *block) rowsIn(prefix, start, end []byte) (lo, hi int) {
	lo, hi = 0, b.rows
	if bytes.Compare(start, b.lower) > 0 {
		lo = b.handles.seek(behind(prefix, start))
	}
	if len(end) > 0 && bytes.Compare(end, b.upper) < 0 {
		hi = b.handles.seek(behind(prefix, end))
	}
	return lo, hi
}

// behind is the part of a key of the table behind the prefix.
func behind(prefix, key []byte) []byte { return key[len(prefix):] }

// columns are some columns of a block. A set is never changed: whoever adds or
// takes away makes another one.
type columns []struct {
	of *column
	*chunk
}

// get is the chunk of a column, nil if there is none.
func (cs columns) get(c *column) *chunk {
	for i := range cs {
		if cs[i].of == c {
			return cs[i].chunk
		}
	}
	return nil
}

// with is the set with a column in addition, or instead.
func (cs columns) with(c *column, ch *chunk) columns {
	out := cs.without(c)
	return append(out, struct {
		of *column
		*chunk
	}{c, ch})
}

// without is a copy of the set that lacks a column.
func (cs columns) without(c *column) columns {
	out := make(columns, 0, len(cs)+1)
	for _, e := range cs {
		if e.of != c {
			out = append(out, e)
		}
	}
	return slices.Clip(out)
}
