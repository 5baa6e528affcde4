package expr

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/zeebo/xxh3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	// KeyFilterBytesMax is the most bytes of a KeyFilter's bits or blocks.
	KeyFilterBytesMax = 1 << 20
	// KeyFilterKeysMax is the most keys of a Bloom filter: with more, one of the
	// greatest size lets too much pass.
	KeyFilterKeysMax = 1 << 20
	// KeyFilterListMax is up to how many keys it is a list: a block of rows can
	// then be left out by its least and greatest value.
	KeyFilterListMax = 512
	// bloomBytesMin is the least size of a Bloom filter; with few keys in it, next
	// to nothing passes that should not.
	bloomBytesMin = 512
	// bloomBitsPerKey makes about one key in a hundred pass that should not.
	bloomBitsPerKey = 12
	// keyFilterTrialRows is after how many rows a filter of which more than
	// keyFilterUseless in 8 rows pass is not asked any more.
	keyFilterTrialRows = 1 << 15
	keyFilterUseless   = 7
)

// KeyFilter is true for the values of a column that may be among the keys of
// the other side of a join, and false for NULL and for most others. It stands
// for nothing in SQL: the join above compares again, so that it may let pass
// what it likes.
//
// Values are compared by code: that of integers, dates, times and timestamps is
// the value, that of numerics of a fixed scale the unscaled value, that of
// strings a hash.
type KeyFilter struct {
	X *Column
	// Lo and Hi are the least and the greatest code; strings have none.
	Lo, Hi int64
	// Keys are all codes, ascending, if they are few numbers.
	Keys []int64
	// Bits, otherwise, has bit code-Lo for each key, and one more that is not set.
	Bits []byte
	// Bloom, if there are neither Keys nor Bits, are blocks of 64 bits, a power of two of them;
	// KeyHash says which bits of which block a code sets.
	Bloom []byte
	// Dropped counts rows that did not pass; may be nil. It does not travel.
	Dropped *atomic.Int64
}

// Type is bool.
func (f *KeyFilter) Type() sqltypes.Type { return sqltypes.Bool }

func (f *KeyFilter) String() string {
	kind := "Bloom filter"
	switch {
	case len(f.Keys) > 0:
		return fmt.Sprintf("(%s IN list of %d keys)", f.X.String(), len(f.Keys))
	case len(f.Bits) > 0:
		kind = "bitmap"
	}
	return fmt.Sprintf("(%s IN %s of %d bytes)", f.X.String(), kind, len(f.Bits)+len(f.Bloom))
}

// KeyFiltered reports whether a KeyFilter can be made for columns of type t,
// and whether its values are numbers.
func KeyFiltered(t sqltypes.Type) (ok, numbers bool) {
	k := colvec.KindOf(t)
	switch {
	case k.IsInt() || k == colvec.Decimal:
		return true, true
	case k == colvec.String || k == colvec.Binary:
		return t.OID == sqltypes.OIDText || t.OID == sqltypes.OIDVarchar || t.OID == sqltypes.OIDBytea, false
	}
	return false, false
}

// Check reports whether the filter is one that can be evaluated.
func (f *KeyFilter) Check() error {
	if f.X == nil {
		return fmt.Errorf("a key filter names no column")
	}
	ok, numbers := KeyFiltered(f.X.Typ)
	n := uint64(len(f.Bits))
	switch {
	case !ok:
		return fmt.Errorf("a key filter on a column of type %s", f.X.Typ.Name())
	case len(f.Bits) > KeyFilterBytesMax || len(f.Bloom) > KeyFilterBytesMax:
		return fmt.Errorf("a key filter of %d bytes", len(f.Bits)+len(f.Bloom))
	case numbers && f.Lo > f.Hi:
		return fmt.Errorf("a key filter of an empty range")
	case len(f.Keys) > 0 && (!numbers || n > 0 || len(f.Bloom) > 0 || len(f.Keys) > KeyFilterListMax || !ascending(f.Keys) ||
		f.Lo != f.Keys[0] || f.Hi != f.Keys[len(f.Keys)-1]):
		return fmt.Errorf("a key filter with a list of %d keys", len(f.Keys))
	case len(f.Keys) > 0:
	case n > 0 && (!numbers || len(f.Bloom) > 0 || uint64(f.Hi)-uint64(f.Lo) >= n*8-1):
		return fmt.Errorf("a key filter of %d bytes for keys from %d to %d", n, f.Lo, f.Hi)
	case n == 0 && (len(f.Bloom) < 8 || len(f.Bloom)&(len(f.Bloom)-1) != 0):
		return fmt.Errorf("a key filter with a Bloom filter of %d bytes", len(f.Bloom))
	case n > 0 && f.Bits[(uint64(f.Hi)-uint64(f.Lo)+1)>>3]&(1<<((uint64(f.Hi)-uint64(f.Lo)+1)&7)) != 0:
		return fmt.Errorf("a key filter has a bit for no key")
	}
	return nil
}

func ascending(keys []int64) bool {
	for i := 1; i < len(keys); i++ {
		if keys[i-1] >= keys[i] {
			return false
		}
	}
	return true
}

// NewKeyFilter makes a filter of column x for numbers; nil for none or too many.
func NewKeyFilter(x *Column, codes []int64) *KeyFilter {
	if len(codes) == 0 {
		return nil
	}
	if len(codes) <= 8*KeyFilterListMax {
		keys := slices.Clone(codes)
		slices.Sort(keys)
		if keys = slices.Compact(keys); len(keys) <= KeyFilterListMax {
			return &KeyFilter{X: x, Lo: keys[0], Hi: keys[len(keys)-1], Keys: keys}
		}
	}
	return newKeyFilter(x, codes)
}

// newKeyFilter makes one that can be evaluated, without a list.
func newKeyFilter(x *Column, codes []int64) *KeyFilter {
	f := &KeyFilter{X: x, Lo: slices.Min(codes), Hi: slices.Max(codes)}
	span := uint64(f.Hi) - uint64(f.Lo)
	if bloom := uint64(bloomBytes(len(codes))); span < 8*KeyFilterBytesMax-8 && span/8 <= 2*bloom {
		f.Bits = make([]byte, span/8+2)
		for _, c := range codes {
			d := uint64(c) - uint64(f.Lo)
			f.Bits[d>>3] |= 1 << (d & 7)
		}
		return f
	}
	if len(codes) > KeyFilterKeysMax {
		return nil
	}
	f.Bloom = make([]byte, bloomBytes(len(codes)))
	for _, c := range codes {
		f.set(mixCode(uint64(c)))
	}
	return f
}

// NewStringKeyFilter is NewKeyFilter for n strings.
func NewStringKeyFilter(x *Column, n int, at func(i int) []byte) *KeyFilter {
	if n == 0 || n > KeyFilterKeysMax {
		return nil
	}
	f := &KeyFilter{X: x, Bloom: make([]byte, bloomBytes(n))}
	for i := range n {
		f.set(mixCode(xxh3.Hash(at(i))))
	}
	return f
}

// bloomBytes is the size of a Bloom filter for n keys.
func bloomBytes(n int) int {
	want := n * bloomBitsPerKey / 8
	return min(KeyFilterBytesMax, max(bloomBytesMin, 1<<bits.Len(uint(max(want, 1)-1))))
}

// mixCode mixes a code: a multiplication by an odd constant, folded.
func mixCode(c uint64) uint64 {
	hi, lo := bits.Mul64(c^0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93)
	return hi ^ lo
}

// bloomMask are the bits that a hash sets in its block: four, from its lower
// half; the block is chosen by its upper half.
func bloomMask(h uint64) uint64 {
	return 1<<(h&63) | 1<<(h>>6&63) | 1<<(h>>12&63) | 1<<(h>>18&63)
}

func (f *KeyFilter) set(h uint64) {
	at := h >> 32 & uint64(len(f.Bloom)/8-1) * 8
	b := f.Bloom[at : at+8]
	binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)|bloomMask(h))
}

// has tests a hash.
func (f *KeyFilter) has(h uint64) bool {
	at := h >> 32 & uint64(len(f.Bloom)/8-1) * 8
	mask := bloomMask(h)
	return binary.LittleEndian.Uint64(f.Bloom[at:])&mask == mask
}

// MayPass reports whether a code from lo to hi may be among the keys.
func (f *KeyFilter) MayPass(lo, hi int64) bool {
	lo, hi = max(lo, f.Lo), min(hi, f.Hi)
	if lo > hi {
		return false
	}
	if len(f.Keys) > 0 {
		i, _ := slices.BinarySearch(f.Keys, lo)
		return i < len(f.Keys) && f.Keys[i] <= hi
	}
	if len(f.Bits) == 0 {
		return true
	}
	from, to := uint64(lo)-uint64(f.Lo), uint64(hi)-uint64(f.Lo)
	for ; from&7 != 0 && from <= to; from++ {
		if f.Bits[from>>3]&(1<<(from&7)) != 0 {
			return true
		}
	}
	for ; from+8 <= to+1 && from <= to; from += 8 {
		if f.Bits[from>>3] != 0 {
			return true
		}
	}
	for ; from <= to; from++ {
		if f.Bits[from>>3]&(1<<(from&7)) != 0 {
			return true
		}
	}
	return false
}

// keyFilterNode evaluates a KeyFilter, and gives up on it when nearly every row
// passes.
type keyFilterNode struct {
	f              *KeyFilter
	tested, passed *atomic.Int64
}

func newKeyFilterNode(f *KeyFilter) (node, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	if len(f.Keys) > 0 {
		list := newKeyFilter(f.X, f.Keys)
		list.Dropped = f.Dropped
		f = list
	}
	return keyFilterNode{f, new(atomic.Int64), new(atomic.Int64)}, nil
}

func (x keyFilterNode) off() bool {
	n := x.tested.Load()
	return n >= keyFilterTrialRows && x.passed.Load() > n/8*keyFilterUseless
}

func (x keyFilterNode) filter(_ *Ctx, b *Batch, sel, out []int32) ([]int32, error) {
	if x.off() {
		return appendRows(b.N, sel, out), nil
	}
	n := b.N
	if sel != nil {
		n = len(sel)
	}
	start := len(out)
	out = slices.Grow(out, n)[:start+n]
	v := colvec.OpenEncoded(b.Cols[x.f.X.Index], x.f.X.Typ)
	k := x.f.pass(&v, sel, out[start:])
	out = out[:start+k]
	if v.Nulls > 0 {
		kept := out[:start]
		for _, i := range out[start:] {
			if !v.IsNull(int(i)) {
				kept = append(kept, i)
			}
		}
		out = kept
	}
	x.tested.Add(int64(n))
	x.passed.Add(int64(len(out) - start))
	if x.f.Dropped != nil {
		x.f.Dropped.Add(int64(n - (len(out) - start)))
	}
	return out, nil
}

// pass writes the rows that pass, NULLs perhaps among them.
func (f *KeyFilter) pass(v *colvec.Vec, sel, out []int32) int {
	switch {
	case v.Dict != nil:
		return f.passDict(v, sel, out)
	case v.D64 != nil:
		return passNumbers(f, v.D64, sel, out)
	case v.I64 != nil:
		return passNumbers(f, v.I64, sel, out)
	case v.I32 != nil:
		return passNumbers(f, v.I32, sel, out)
	case v.I16 != nil:
		return passNumbers(f, v.I16, sel, out)
	}
	k := 0
	rowsOf(v.N, sel, func(i int) {
		out[k] = int32(i)
		switch {
		case v.IsNull(i):
		case v.Kind == colvec.Decimal:
			if c, ok := colvec.ToDec64(v.Dec[i]); ok && c >= f.Lo && c <= f.Hi && f.hasCode(c) {
				k++
			}
		case f.has(mixCode(xxh3.Hash(v.BytesAt(i)))):
			k++
		}
	})
	return k
}

// hasCode tests a code within the range.
func (f *KeyFilter) hasCode(c int64) bool {
	if len(f.Bits) == 0 {
		return f.has(mixCode(uint64(c)))
	}
	d := uint64(c) - uint64(f.Lo)
	return f.Bits[d>>3]&(1<<(d&7)) != 0
}

// passDict tests each value of a dictionary that occurs once.
func (f *KeyFilter) passDict(v *colvec.Vec, sel, out []int32) int {
	known := make([]uint8, v.Dict.N) // 0 = not tested, 1 = no, 2 = yes
	k := 0
	rowsOf(v.N, sel, func(i int) {
		out[k] = int32(i)
		if v.IsNull(i) {
			return
		}
		c := v.Codes[i]
		if known[c] == 0 {
			known[c] = 1
			if f.has(mixCode(xxh3.Hash(v.Dict.BytesAt(int(c))))) {
				known[c] = 2
			}
		}
		if known[c] == 2 {
			k++
		}
	})
	return k
}

func passNumbers[T int16 | int32 | int64](f *KeyFilter, src []T, sel, out []int32) int {
	if len(f.Bits) > 0 {
		return passBits(f, src, sel, out)
	}
	lo, span := uint64(f.Lo), uint64(f.Hi)-uint64(f.Lo)
	k := 0
	if sel == nil {
		for i, c := range src {
			out[k] = int32(i)
			if uint64(int64(c))-lo <= span && f.has(mixCode(uint64(int64(c)))) {
				k++
			}
		}
		return k
	}
	for _, i := range sel {
		c := src[i]
		out[k] = i
		if uint64(int64(c))-lo <= span && f.has(mixCode(uint64(int64(c)))) {
			k++
		}
	}
	return k
}

// passBits has no branch on the data: what is out of range has the bit behind
// the last one, which is not set.
func passBits[T int16 | int32 | int64](f *KeyFilter, src []T, sel, out []int32) int {
	lo, none, set := uint64(f.Lo), uint64(f.Hi)-uint64(f.Lo)+1, f.Bits
	k := 0
	if sel == nil {
		for i, c := range src {
			d := min(uint64(int64(c))-lo, none)
			out[k] = int32(i)
			k += int(set[d>>3] >> (d & 7) & 1)
		}
		return k
	}
	for _, i := range sel {
		d := min(uint64(int64(src[i]))-lo, none)
		out[k] = i
		k += int(set[d>>3] >> (d & 7) & 1)
	}
	return k
}

func (x keyFilterNode) eval(ctx *Ctx, b *Batch, sel []int32) (vec, error) {
	rows, err := x.filter(ctx, b, sel, nil)
	if err != nil {
		return vec{}, err
	}
	set := newBits(b.N)
	for _, i := range rows {
		bitutil.SetBit(set, int(i))
	}
	return vec{arr: boolArray(b.N, nil, set)}, nil
}

// NoKeys is a condition on x that no row meets: the other side of a join is
// empty.
func NoKeys(x *Column) Expr { return &In{X: x} }
