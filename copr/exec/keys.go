package exec

import (
	"math"
	"math/bits"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// keyPacker lays key columns out as 64-bit words, in which equal keys, and only
// they, are equal, whatever the columns' encodings. It works column by column:
//
//	bool, int2, int4, date     1, 16 or 32 bits of a word that they share
//	int8, times, floats        a word
//	numeric of a fixed scale   a word: the unscaled value, or an escape
//	byte strings               a word: up to 7 bytes and their number, or the
//	                           string's number in a table (stringKeys)
//
// NULL is no word of its own but a bit in the row's tag, as is a decimal's
// escape; most batches have no tags. Hashes depend on the values only, not on
// the numbers that a table gave to strings, so that two packers of the same
// types hash alike.
type keyPacker struct {
	types  []sqltypes.Type
	fields []keyField
	width  int           // words of a key
	strs   []*stringKeys // by field; nil for those of fixed width
	rest   int           // first column that shares the last field with all behind it

	// The rows packed last.
	words  [][]uint64
	tags   []uint64 // nil: all are 0
	hashes []uint64
	hashed [][]uint64 // by word: what to hash in its place, nil = itself
	tagBuf []uint64
	long   [][]uint64
}

// keyField is where a column is in a key.
type keyField struct {
	word  int
	shift uint
	mask  uint64
	form  keyForm
}

type keyForm uint8

const (
	intForm keyForm = iota
	boolForm
	floatForm
	decimalForm
	bytesForm
	restForm
)

// keyFieldsMax is how many fields a key has at most: their tags are two bits
// each. Columns behind it are one byte string together.
const keyFieldsMax = 32

func newKeyPacker(types []sqltypes.Type) *keyPacker {
	p := &keyPacker{types: types, rest: len(types)}
	if len(types) > keyFieldsMax {
		p.rest = keyFieldsMax - 1
	}
	p.strs = make([]*stringKeys, 0, p.rest+1)
	free, at := uint(0), 0 // bits left in the shared word, and which it is
	for _, t := range types[:p.rest] {
		form, width := formOf(t)
		f := keyField{form: form, mask: 1<<width - 1}
		switch {
		case width == 64:
			f.word = p.width
			p.width++
		default:
			if free < width {
				at, free = p.width, 64
				p.width++
			}
			f.word, f.shift = at, 64-free
			free -= width
		}
		p.fields = append(p.fields, f)
		var s *stringKeys
		if form == bytesForm {
			s = newStringKeys(t)
		} else if form == decimalForm {
			s = newStringKeys(sqltypes.Bytea)
		}
		p.strs = append(p.strs, s)
	}
	if p.rest < len(types) {
		p.fields = append(p.fields, keyField{word: p.width, mask: math.MaxUint64, form: restForm})
		p.strs = append(p.strs, newStringKeys(sqltypes.Bytea))
		p.width++
	}
	p.words, p.hashed, p.long = make([][]uint64, p.width), make([][]uint64, p.width), make([][]uint64, p.width)
	return p
}

func formOf(t sqltypes.Type) (form keyForm, width uint) {
	switch colvec.KindOf(t) {
	case colvec.Bool:
		return boolForm, 1
	case colvec.Int16:
		return intForm, 16
	case colvec.Int32, colvec.Date:
		return intForm, 32
	case colvec.Int64, colvec.Time, colvec.Timestamp:
		return intForm, 64
	case colvec.Float32, colvec.Float64:
		return floatForm, 64
	case colvec.Decimal:
		return decimalForm, 64
	}
	return bytesForm, 64
}

// Bytes is about how much memory the packer keeps.
func (p *keyPacker) Bytes() int64 {
	n := int64(0)
	for _, s := range p.strs {
		if s != nil {
			n += s.Bytes()
		}
	}
	return n
}

// pack lays out rows sel of the columns, the first n if it is nil, and hashes
// them. With insert false, strings that the packer does not know stay unknown:
// their words are those of no key.
func (p *keyPacker) pack(cols []colvec.Vec, sel []int32, n int, insert bool) error {
	if err := p.layOut(cols, sel, n, insert); err != nil {
		return err
	}
	p.hash(n)
	return nil
}

// layOut is pack without the hashes.
func (p *keyPacker) layOut(cols []colvec.Vec, sel []int32, n int, insert bool) error {
	for w := range p.words {
		p.words[w], p.hashed[w] = sized(p.words[w], n), nil
	}
	p.tags = nil
	for c, f := range p.fields {
		if err := p.field(c, f, cols, sel, n, insert); err != nil {
			return err
		}
	}
	return nil
}

// sized is s with n values, whatever they are.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, max(n, 2*cap(s)))
	}
	return s[:n]
}

func (p *keyPacker) field(c int, f keyField, cols []colvec.Vec, sel []int32, n int, insert bool) error {
	v, dst := &cols[c], p.words[f.word]
	switch f.form {
	case boolForm:
		packBools(dst, v, sel, f)
	case intForm:
		switch v.Kind {
		case colvec.Int16:
			packInts(dst, v.I16, sel, f)
		case colvec.Int32, colvec.Date:
			packInts(dst, v.I32, sel, f)
		default:
			packInts(dst, v.I64, sel, f)
		}
	case floatForm:
		packFloats(dst, v, sel)
	case decimalForm:
		return p.decimals(c, f, v, sel, n, insert)
	case restForm:
		return p.restOf(c, f, cols, sel, n, insert)
	default:
		long, err := p.strs[c].pack(dst, sized(p.long[f.word], n), v, sel, insert)
		p.long[f.word] = long
		if p.strs[c].sawLong {
			p.hashed[f.word] = long
		}
		if err != nil {
			return err
		}
	}
	p.nulls(c, f, v, sel, n)
	return nil
}

// nulls gives rows that are NULL in a column their tag, and no other bits.
func (p *keyPacker) nulls(c int, f keyField, v *colvec.Vec, sel []int32, n int) {
	if v.Nulls == 0 {
		return
	}
	dst := p.words[f.word]
	for k := range n {
		if v.IsNull(rowAt(sel, k)) {
			dst[k] &^= f.mask << f.shift
			if h := p.hashed[f.word]; h != nil {
				h[k] = 0
			}
			p.tag(k, n, 1<<(2*c))
		}
	}
}

func (p *keyPacker) tag(k, n int, bit uint64) {
	if p.tags == nil {
		p.tagBuf = sized(p.tagBuf, n)
		clear(p.tagBuf)
		p.tags = p.tagBuf
	}
	p.tags[k] |= bit
}

// rowAt is the position of the k-th of the rows sel, nil = all.
func rowAt(sel []int32, k int) int {
	if sel == nil {
		return k
	}
	return int(sel[k])
}

func packInts[T int16 | int32 | int64](dst []uint64, src []T, sel []int32, f keyField) {
	mask, shift := f.mask, f.shift&63
	switch {
	case shift == 0 && sel == nil:
		src = src[:len(dst)]
		for k := range dst {
			dst[k] = uint64(src[k]) & mask
		}
	case shift == 0:
		for k, i := range sel[:len(dst)] {
			dst[k] = uint64(src[i]) & mask
		}
	case sel == nil:
		src = src[:len(dst)]
		for k := range dst {
			dst[k] |= uint64(src[k]) & mask << shift
		}
	default:
		for k, i := range sel[:len(dst)] {
			dst[k] |= uint64(src[i]) & mask << shift
		}
	}
}

func packBools(dst []uint64, v *colvec.Vec, sel []int32, f keyField) {
	for k := range dst {
		b := uint64(0)
		if v.BoolAt(rowAt(sel, k)) {
			b = 1
		}
		if f.shift == 0 {
			dst[k] = b
		} else {
			dst[k] |= b << (f.shift & 63)
		}
	}
}

func packFloats(dst []uint64, v *colvec.Vec, sel []int32) {
	for k := range dst {
		dst[k] = floatWord(v.FloatAt(rowAt(sel, k)))
	}
}

// floatWord is equal for equal floats; so are NaNs, and the two zeros.
func floatWord(x float64) uint64 {
	switch {
	case x == 0:
		return 0
	case x != x:
		return math.Float64bits(math.NaN())
	}
	return math.Float64bits(x)
}

func (p *keyPacker) decimals(c int, f keyField, v *colvec.Vec, sel []int32, n int, insert bool) error {
	dst := p.words[f.word]
	if v.Encoded {
		packInts(dst, v.D64, sel, f)
		p.nulls(c, f, v, sel, n)
		return nil
	}
	for k := range n {
		i := rowAt(sel, k)
		if v.IsNull(i) {
			dst[k] = 0
			continue
		}
		d, ok := colvec.ToDec64(v.Dec[i])
		if ok {
			dst[k] = uint64(d)
			continue
		}
		// Equal to none that fits: the tag says so. The hash is of its low half.
		id, err := p.strs[c].number(dec128Bytes(v.Dec[i]), insert)
		if err != nil {
			return err
		}
		dst[k] = id
		p.tag(k, n, 2<<(2*c))
		if p.hashed[f.word] == nil {
			p.long[f.word] = sized(p.long[f.word], n)
			copy(p.long[f.word][:k], dst)
			p.hashed[f.word] = p.long[f.word]
		}
		p.hashed[f.word][k] = v.Dec[i].LowBits()
	}
	if h := p.hashed[f.word]; h != nil {
		for k := range n {
			if p.tags[k]>>(2*c)&2 == 0 {
				h[k] = dst[k]
			}
		}
	}
	p.nulls(c, f, v, sel, n)
	return nil
}

// restOf packs the columns behind the last field of their own.
func (p *keyPacker) restOf(c int, f keyField, cols []colvec.Vec, sel []int32, n int, insert bool) error {
	dst := p.words[f.word]
	long := sized(p.long[f.word], n)
	p.long[f.word], p.hashed[f.word] = long, long
	var buf []byte
	var err error
	for k := range n {
		buf = buf[:0]
		for i := p.rest; i < len(p.types); i++ {
			if buf, err = appendEqualKey(buf, p.types[i], &cols[i], rowAt(sel, k)); err != nil {
				return err
			}
		}
		if dst[k], err = p.strs[c].number(buf, insert); err != nil {
			return err
		}
		long[k] = hashBytes(buf)
	}
	return nil
}

// hash computes the rows' hashes: high and low bits serve alike.
func (p *keyPacker) hash(n int) {
	p.hashes = sized(p.hashes, n)
	h := p.hashes
	if p.width == 0 {
		clear(h)
	}
	for w, src := range p.words {
		if p.hashed[w] != nil {
			src = p.hashed[w]
		}
		src = src[:len(h)]
		if w == 0 {
			for k := range h {
				h[k] = hashWord(src[k])
			}
			continue
		}
		for k := range h {
			h[k] = hashWord(h[k] + hashStep ^ src[k])
		}
	}
	if p.tags != nil {
		for k, tag := range p.tags[:n] {
			if tag != 0 {
				h[k] = hashWord(h[k] + hashStep ^ tag)
			}
		}
	}
}

const (
	hashStep = 0xA0761D6478BD642F
	hashXor  = 0x9E3779B97F4A7C15
	hashMul  = 0xD6E8FEB86659FD93
)

// hashWord mixes a 64-bit word: a multiplication by an odd constant, folded.
func hashWord(k uint64) uint64 {
	hi, lo := bits.Mul64(k^hashXor, hashMul)
	return hi ^ lo
}
