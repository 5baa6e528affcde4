package exec

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// memSorter keeps batches and orders their rows. Of the keys of each row as
// much as fits goes into one word, normalised so that words order as the keys
// do:
//
//	┌ null ┬ key 1 less its minimum ┬ null ┬ key 2 … ┐
//	└──────┴────────────────────────┴──────┴─────────┘ 64 bits
//
// Words are radix-sorted; only where the word does not have all of the keys,
// rows of equal words are compared key by key.
type memSorter struct {
	types []sqltypes.Type // columns of the input, then computed keys
	ins   int             // how many are the input's
	keys  []sortColumn
	exprs *exprList // keys that are computed, in order of their columns
	rows  *store
	mem   memUser
	order []sortEntry
	refs  []rowRef
}

// sortColumn is a key: a column of the kept rows.
type sortColumn struct {
	col              int
	desc, nullsFirst bool
}

// sortEntry is a row in the order to come.
type sortEntry struct {
	word uint64
	ref  rowRef
}

// sortRowBytes is what a row costs while it is sorted: its entry, the second
// one that the radix sort wants, its word's parts.
const sortRowBytes = 40

func newMemSorter(types []sqltypes.Type, keys []plan.SortKey) (*memSorter, error) {
	s := &memSorter{types: append([]sqltypes.Type(nil), types...), ins: len(types)}
	var computed []expr.Expr
	for _, k := range keys {
		c := sortColumn{desc: k.Desc, nullsFirst: k.NullsFirst}
		if col, ok := k.Expr.(*expr.Column); ok {
			c.col = col.Index
		} else {
			c.col = len(s.types)
			computed = append(computed, k.Expr)
			s.types = append(s.types, k.Expr.Type())
		}
		s.keys = append(s.keys, c)
	}
	var err error
	s.exprs, err = compileAll(computed)
	return s, err
}

// sortedKeys are the keys over the kept columns.
func (s *memSorter) sortedKeys() []plan.SortKey {
	out := make([]plan.SortKey, len(s.keys))
	for i, k := range s.keys {
		out[i] = plan.SortKey{Expr: &expr.Column{Index: k.col, Typ: s.types[k.col]}, Desc: k.desc, NullsFirst: k.nullsFirst}
	}
	return out
}

func (s *memSorter) reset(ctx *Ctx) {
	s.rows, s.order, s.refs = newStore(s.types, ctx.Mem), nil, nil
	s.mem = memUser{acct: ctx.Mem}
}

func (s *memSorter) free() {
	if s.rows != nil {
		s.rows.free()
	}
	s.rows, s.order, s.refs = nil, nil, nil
	s.mem.free()
}

// withKeys is b with the computed keys.
func (s *memSorter) withKeys(ctx *Ctx, b *expr.Batch) (*expr.Batch, error) {
	if len(s.exprs.evals) == 0 {
		return b, nil
	}
	cols, err := s.exprs.arrays(ctx, b)
	if err != nil {
		return nil, err
	}
	cols = colvec.PlainAll(cols, s.exprs.types)
	return &expr.Batch{N: b.N, Cols: append(b.Cols[:len(b.Cols):len(b.Cols)], cols...)}, nil
}

// cost is what keeping b takes, the sorting included.
func (s *memSorter) cost(b *expr.Batch) int64 {
	return batchBytes(b) + int64(b.N)*(refBytes+sortRowBytes)
}

// addUncharged is add without a look at the limit, for rows that are paid for.
func (s *store) addUncharged(b *expr.Batch) {
	base := rowRef(len(s.vecs)) << 32
	s.vecs = append(s.vecs, colvec.OpenAll(b.Cols, s.types))
	for i := range b.N {
		s.refs = append(s.refs, base|rowRef(i))
	}
}

func (s *memSorter) len() int {
	if s.rows == nil {
		return 0
	}
	return len(s.rows.refs)
}

// sort orders the rows; equal ones stay in order of arrival.
func (s *memSorter) sort() error {
	cols := make([]*normalized, len(s.keys))
	for k := range cols {
		var err error
		if cols[k], err = s.normalize(&s.keys[k]); err != nil {
			return err
		}
	}
	s.order = make([]sortEntry, len(s.rows.refs))
	for i, ref := range s.rows.refs {
		s.order[i].ref = ref
	}
	left, whole := 64, 0
	for _, c := range cols {
		var all bool
		if left, all = c.pack(s.order, left); !all {
			break
		}
		whole++
	}
	sortWords(s.order)
	if whole < len(cols) {
		s.sortTies(cols[whole:])
	}
	return nil
}

// sortTies orders the rows of equal words by the keys that are not all in them.
func (s *memSorter) sortTies(cols []*normalized) {
	less := func(a, b sortEntry) int {
		for _, c := range cols {
			if r := c.compare(a.ref, b.ref); r != 0 {
				return r
			}
		}
		return cmp.Compare(a.ref, b.ref)
	}
	for lo := 0; lo < len(s.order); {
		hi := lo + 1
		for hi < len(s.order) && s.order[hi].word == s.order[lo].word {
			hi++
		}
		if hi-lo > 1 {
			slices.SortFunc(s.order[lo:hi], less)
		}
		lo = hi
	}
}

// batch gathers rows lo to hi of the order, computed keys included.
func (s *memSorter) batch(lo, hi int) (*expr.Batch, error) {
	s.refs = s.refs[:0]
	for _, e := range s.order[lo:hi] {
		s.refs = append(s.refs, e.ref)
	}
	return s.rows.gather(s.refs)
}

// normalized is a key of all rows: numbers or byte strings that order as it
// does, but for its direction.
type normalized struct {
	key   sortColumn
	vecs  []colvec.Vec // by batch: who is NULL, and the bytes
	nums  [][]uint64   // by batch; nil = bytes
	nulls bool
	// Of numbers: the least and the greatest. Of byte strings: how many bytes all
	// have in common, and the length of the longest.
	lo, hi         uint64
	common, length int
}

// normalize looks at all values of a key.
func (s *memSorter) normalize(k *sortColumn) (*normalized, error) {
	n := &normalized{key: *k, vecs: make([]colvec.Vec, len(s.rows.vecs))}
	t := s.types[k.col]
	for b := range n.vecs {
		n.vecs[b] = s.rows.vecs[b][k.col]
		n.nulls = n.nulls || n.vecs[b].Nulls > 0
	}
	if !n.numbers(t) {
		if err := n.strings(t); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// numbers makes numbers of the values; false if they are none of 64 bits.
func (n *normalized) numbers(t sqltypes.Type) bool {
	decimal := colvec.KindOf(t) == colvec.Decimal
	if !intKeyed(t) && !decimal {
		return false
	}
	n.lo, n.hi = 1<<64-1, 0
	n.nums = make([][]uint64, len(n.vecs))
	for b := range n.vecs {
		v := &n.vecs[b]
		out := make([]uint64, v.N)
		for i := range out {
			if v.IsNull(i) {
				continue
			}
			key := int64(0)
			if decimal {
				var ok bool
				if key, ok = colvec.ToDec64(v.Dec[i]); !ok {
					n.nums = nil
					return false
				}
			} else {
				key = sortableInt(v, i)
			}
			out[i] = uint64(key) ^ 1<<63
			n.lo, n.hi = min(n.lo, out[i]), max(n.hi, out[i])
		}
		n.nums[b] = out
	}
	return true
}

// sortableInt is a value as a number that orders as it does.
func sortableInt(v *colvec.Vec, i int) int64 {
	if v.Kind != colvec.Float32 && v.Kind != colvec.Float64 {
		return intKey(v, i)
	}
	var buf [8]byte
	return int64(binary.BigEndian.Uint64(codec.EncodeFloat64(buf[:0], v.FloatAt(i))) ^ 1<<63)
}

// strings makes byte strings of the values where they are not ordered as such,
// and finds how long they are and what they begin with.
func (n *normalized) strings(t sqltypes.Type) error {
	kind := colvec.KindOf(t)
	plain := kind == colvec.Binary || kind == colvec.String && t.OID != sqltypes.OIDBpchar
	var first []byte
	n.common = -1
	for b := range n.vecs {
		v := &n.vecs[b]
		if !plain {
			enc, err := encoded(v, t)
			if err != nil {
				return err
			}
			n.vecs[b] = enc
		}
		for i := range v.N {
			if v.IsNull(i) {
				continue
			}
			k := v.BytesAt(i)
			n.length = max(n.length, len(k))
			if n.common < 0 {
				first, n.common = k, len(k)
			}
			n.common = commonPrefix(first[:n.common], k)
		}
	}
	n.common = max(n.common, 0)
	return nil
}

func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// encoded are a column's values as bytes that order as they do.
func encoded(v *colvec.Vec, t sqltypes.Type) (colvec.Vec, error) {
	b := colvec.NewBuilder(sqltypes.Bytea, v.N)
	var key []byte
	for i := range v.N {
		if v.IsNull(i) {
			b.AppendNull()
			continue
		}
		var err error
		if key, err = tablecodec.AppendVec(key[:0], tablecodec.Column{Type: t}, v, i); err != nil {
			return colvec.Vec{}, err
		}
		b.AppendBytes(key)
	}
	a, err := b.Finish()
	if err != nil {
		return colvec.Vec{}, err
	}
	return colvec.Open(a, sqltypes.Bytea), nil
}

// pack appends the key to the words, of which left bits are free: all of it, or
// as much as there is room for.
func (n *normalized) pack(order []sortEntry, left int) (rest int, all bool) {
	nullBits := 0
	if n.nulls {
		nullBits = 1
	}
	need := bits.Len64(n.hi - n.lo)
	var value func(ref rowRef) uint64
	switch tail := n.length - n.common; {
	case n.nums != nil && n.hi < n.lo: // all NULL
		need, value = 0, func(rowRef) uint64 { return 0 }
	case n.nums != nil:
		value = func(ref rowRef) uint64 { return n.nums[ref>>32][uint32(ref)] - n.lo }
	case tail <= 7: // the bytes, then how many there are: "a" is before "a\0"
		size := bits.Len(uint(tail))
		need = 8*tail + size
		value = func(ref rowRef) uint64 {
			k := n.vecs[ref>>32].BytesAt(int(uint32(ref)))[n.common:]
			return head(k)>>(64-8*tail)<<size | uint64(len(k))
		}
	default:
		need = 65 // the first eight bytes, and what is behind them
		value = func(ref rowRef) uint64 { return head(n.vecs[ref>>32].BytesAt(int(uint32(ref)))[n.common:]) }
	}
	switch {
	case nullBits+need == 0: // all the same
		return left, true
	case left <= nullBits:
		return left, false
	}
	width := min(need, left-nullBits)
	drop := min(need, 64) - width
	mask := uint64(1)<<width - 1 // 1<<64 is 0
	for i := range order {
		e := &order[i]
		v := &n.vecs[e.ref>>32]
		var w uint64
		switch {
		case n.nulls && v.IsNull(int(uint32(e.ref))):
			if !n.key.nullsFirst {
				w = 1 << width
			}
		default:
			w = value(e.ref) >> drop
			if n.key.desc {
				w = ^w & mask
			}
			if n.nulls && n.key.nullsFirst {
				w |= 1 << width
			}
		}
		e.word = e.word<<(nullBits+width) | w
	}
	return left - nullBits - width, width == need
}

// head is the first eight bytes as a number.
func head(k []byte) uint64 {
	if len(k) >= 8 {
		return binary.BigEndian.Uint64(k)
	}
	var b [8]byte
	copy(b[:], k)
	return binary.BigEndian.Uint64(b[:])
}

// compare orders two rows by this key.
func (n *normalized) compare(a, b rowRef) int {
	va, vb := &n.vecs[a>>32], &n.vecs[b>>32]
	i, j := int(uint32(a)), int(uint32(b))
	if n.nulls {
		na, nb := va.IsNull(i), vb.IsNull(j)
		switch {
		case na && nb:
			return 0
		case na != nb:
			if na == n.key.nullsFirst {
				return -1
			}
			return 1
		}
	}
	r := 0
	if n.nums != nil {
		r = cmp.Compare(n.nums[a>>32][i], n.nums[b>>32][j])
	} else {
		r = bytes.Compare(va.BytesAt(i), vb.BytesAt(j))
	}
	if n.key.desc {
		return -r
	}
	return r
}

// radixRowsMin is from how many rows on a radix sort is faster.
const radixRowsMin = 256

// sortWords orders entries by their words; equal ones keep their order.
func sortWords(order []sortEntry) {
	if len(order) < radixRowsMin {
		slices.SortStableFunc(order, func(a, b sortEntry) int { return cmp.Compare(a.word, b.word) })
		return
	}
	var counts [8][256]int32
	for _, e := range order {
		for d := range counts {
			counts[d][byte(e.word>>(8*d))]++
		}
	}
	from, to := order, []sortEntry(nil)
	for d := range counts {
		c := &counts[d]
		if c[byte(from[0].word>>(8*d))] == int32(len(order)) {
			continue // the same in all
		}
		if to == nil {
			to = make([]sortEntry, len(order))
		}
		at := int32(0)
		for i, n := range c {
			c[i] = at
			at += n
		}
		for _, e := range from {
			digit := byte(e.word >> (8 * d))
			to[c[digit]] = e
			c[digit]++
		}
		from, to = to, from
	}
	if &from[0] != &order[0] {
		copy(order, from)
	}
}
