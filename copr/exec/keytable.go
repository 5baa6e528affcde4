package exec

import (
	"bytes"
	"math/bits"

	"github.com/zeebo/xxh3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// KeysMax is the most distinct keys of one hash table.
const KeysMax = 1 << 30

// keyTable numbers the distinct keys it is given, from 0 in order of arrival:
// linear probing over a power of two of slots, at most half of them taken. One
// integer-like column is hashed as it is; other keys are laid out as bytes
// (appendEqualKey), short ones compared as one word.
//
//	slots  [ id+1 | salt ]   salt = upper half of the hash, so that a probe
//	                         seldom touches the keys themselves
type keyTable struct {
	types  []sqltypes.Type
	isInt  bool
	slots  []slot
	mask   uint64
	n      int32
	ints   []int64  // isInt: key by id
	nullID int32    // isInt: id of the NULL key, -1 = none
	arena  []byte   // otherwise: keys one after the other
	ends   []int    // end of key id in arena
	hashes []uint64 // by id, to grow
	buf    []byte
	rowEnd []int
}

type slot struct {
	id   int32 // + 1; 0 = free
	salt uint32
}

const slotsMin = 64

func newKeyTable(types []sqltypes.Type) *keyTable {
	t := &keyTable{types: types, nullID: -1, isInt: len(types) == 1 && intKeyed(types[0])}
	t.resize(slotsMin)
	return t
}

// Len is the number of keys.
func (t *keyTable) Len() int { return int(t.n) }

// Bytes is about how much memory the table takes.
func (t *keyTable) Bytes() int64 {
	return int64(cap(t.slots))*8 + int64(cap(t.ints))*8 + int64(cap(t.arena)) + int64(cap(t.ends))*8 + int64(cap(t.hashes))*8
}

func (t *keyTable) resize(slots int) {
	t.slots, t.mask = make([]slot, slots), uint64(slots-1)
	for id := int32(0); id < t.n; id++ {
		if id == t.nullID {
			continue
		}
		h := t.hashes[id]
		p := h & t.mask
		for t.slots[p].id != 0 {
			p = (p + 1) & t.mask
		}
		t.slots[p] = slot{id + 1, uint32(h >> 32)}
	}
}

// hashInt mixes a 64-bit key: a multiplication by the golden ratio, folded.
func hashInt(k int64) uint64 {
	hi, lo := bits.Mul64(uint64(k)^0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93)
	return hi ^ lo
}

// Insert appends to ids the number of the key of each of n rows; new keys get
// the next numbers.
func (t *keyTable) Insert(cols []colvec.Vec, n int, ids []int32) ([]int32, error) {
	return t.each(cols, n, ids, true)
}

// Find appends to ids the number of each row's key, -1 for a key that is not
// there.
func (t *keyTable) Find(cols []colvec.Vec, n int, ids []int32) ([]int32, error) {
	return t.each(cols, n, ids, false)
}

func (t *keyTable) each(cols []colvec.Vec, n int, ids []int32, insert bool) ([]int32, error) {
	if insert && int(t.n)+n > KeysMax {
		return ids, pgerror.New(pgerror.ProgramLimitExceeded, "a hash table cannot have more than %d keys", KeysMax)
	}
	if n == 0 {
		return ids, nil
	}
	if t.isInt {
		v := &cols[0]
		for i := range n {
			if v.IsNull(i) {
				ids = append(ids, t.null(insert))
			} else {
				ids = append(ids, t.int(intKey(v, i), insert))
			}
		}
		return ids, nil
	}
	if err := t.layOut(cols, n); err != nil {
		return ids, err
	}
	start := 0
	for _, end := range t.rowEnd {
		ids = append(ids, t.bytes(t.buf[start:end], insert))
		start = end
	}
	return ids, nil
}

// layOut writes the key bytes of the rows into buf.
func (t *keyTable) layOut(cols []colvec.Vec, n int) error {
	t.buf, t.rowEnd = t.buf[:0], t.rowEnd[:0]
	var err error
	for i := range n {
		for c := range cols {
			if t.buf, err = appendEqualKey(t.buf, t.types[c], &cols[c], i); err != nil {
				return err
			}
		}
		t.rowEnd = append(t.rowEnd, len(t.buf))
	}
	return nil
}

func (t *keyTable) null(insert bool) int32 {
	if t.nullID < 0 && insert {
		t.nullID = t.n
		t.ints, t.hashes = append(t.ints, 0), append(t.hashes, 0)
		t.n++
	}
	return t.nullID
}

func (t *keyTable) int(k int64, insert bool) int32 {
	h := hashInt(k)
	salt := uint32(h >> 32)
	for p := h & t.mask; ; p = (p + 1) & t.mask {
		s := t.slots[p]
		switch {
		case s.id == 0 && !insert:
			return -1
		case s.id == 0:
			t.ints = append(t.ints, k)
			return t.add(p, h)
		case s.salt == salt && t.ints[s.id-1] == k:
			return s.id - 1
		}
	}
}

func (t *keyTable) bytes(k []byte, insert bool) int32 {
	h := xxh3.Hash(k)
	salt := uint32(h >> 32)
	for p := h & t.mask; ; p = (p + 1) & t.mask {
		s := t.slots[p]
		switch {
		case s.id == 0 && !insert:
			return -1
		case s.id == 0:
			t.arena = append(t.arena, k...)
			t.ends = append(t.ends, len(t.arena))
			return t.add(p, h)
		case s.salt == salt && bytes.Equal(t.key(s.id-1), k):
			return s.id - 1
		}
	}
}

// key is the bytes of key id.
func (t *keyTable) key(id int32) []byte {
	start := 0
	if id > 0 {
		start = t.ends[id-1]
	}
	return t.arena[start:t.ends[id]]
}

// add takes the free slot p for a new key.
func (t *keyTable) add(p, h uint64) int32 {
	id := t.n
	t.n++
	t.hashes = append(t.hashes, h)
	t.slots[p] = slot{id + 1, uint32(h >> 32)}
	if 2*int(t.n) > len(t.slots) {
		t.resize(2 * len(t.slots))
	}
	return id
}
