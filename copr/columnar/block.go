package columnar

import (
	"bytes"
	"fmt"
	"sort"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
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

// block has the rows of the keys in [lower, upper) as of an applied index. It is
// never changed.
type block struct {
	lower, upper []byte // plain keys
	index        uint64 // applied
	maxTS        uint64 // every row, and every delete, was committed at or below
	rows         int
	handles      colvec.Vec // the keys behind the table's prefix
	handleCol    arrow.Array
	cols         map[columnID]arrow.Array
	zones        map[columnID]zone // of columns that have them
	bytes        int64
}

// blockOverheadBytes is about what a block costs beside its columns.
const blockOverheadBytes = 1024

// newBlock takes the columns of a scan of cols with the handle behind them.
func newBlock(lower, upper []byte, index, maxTS uint64, cols []plan.Column, arrays []arrow.Array) *block {
	b := &block{
		lower: bytes.Clone(lower), upper: bytes.Clone(upper), index: index, maxTS: maxTS,
		handleCol: arrays[len(cols)], cols: make(map[columnID]arrow.Array, len(cols)), zones: map[columnID]zone{},
		bytes: blockOverheadBytes + int64(len(lower)+len(upper)),
	}
	b.handles = colvec.Open(b.handleCol, sqltypes.Bytea)
	b.rows = b.handles.N
	for i, c := range cols {
		b.cols[idOf(c)] = arrays[i]
		if zoned(c.Type) {
			b.zones[idOf(c)] = zoneOf(arrays[i], c.Type)
		}
	}
	for _, a := range arrays {
		b.bytes += colvec.ArrayBytes(a)
	}
	return b
}

func (b *block) has(cols []columnID) bool {
	for _, c := range cols {
		if _, ok := b.cols[c]; !ok {
			return false
		}
	}
	return true
}

// dirtyFew is with how many dirty keys the block is left as it is.
func (b *block) dirtyFew() int { return min(max(b.rows/8, 8), BlockDirtyKeysFew) }

// seek is the first row whose handle is not below h.
func (b *block) seek(h []byte) int {
	return sort.Search(b.rows, func(i int) bool { return bytes.Compare(b.handles.BytesAt(i), h) >= 0 })
}

// rowsIn are the rows of the keys in [start, end) of the table with the prefix;
// an empty end is unbounded.
func (b *block) rowsIn(prefix, start, end []byte) (lo, hi int) {
	lo, hi = 0, b.rows
	if bytes.Compare(start, b.lower) > 0 {
		lo = b.seek(behind(prefix, start))
	}
	if len(end) > 0 && bytes.Compare(end, b.upper) < 0 {
		hi = b.seek(behind(prefix, end))
	}
	return lo, hi
}

// behind is the part of a key of the table behind the prefix.
func behind(prefix, key []byte) []byte { return key[len(prefix):] }
