package exec

import (
	"bytes"
	"encoding/binary"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/decimal128"
	"github.com/zeebo/xxh3"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// stringKeys makes words of byte strings:
//
//	up to 7 bytes  the bytes, little-endian, and above them their number + 1
//	longer         0xFF on top of the string's number in names
//
// What a dictionary's entries become is kept for as long as batches have that
// dictionary.
type stringKeys struct {
	typ     sqltypes.Type
	names   byteTable
	sawLong bool // the batch at hand has a long one
	buf     []byte

	dict      arrow.ArrayData // the dictionary that the following is of
	dictSeen  int             // names when it was begun
	dictFind  bool            // some of the words may be wordUnknown
	dictWords []uint64        // by code; 0 = not looked at yet
	dictHash  []uint64
}

const (
	wordLong    = uint64(0xFF) << 56
	wordUnknown = uint64(0xFE) << 56 // in no key
	wordShort   = 7                  // bytes that fit in a word
)

func newStringKeys(t sqltypes.Type) *stringKeys { return &stringKeys{typ: t} }

// Bytes is about how much memory the strings take.
func (s *stringKeys) Bytes() int64 {
	return s.names.Bytes() + 8*int64(cap(s.dictWords)+cap(s.dictHash))
}

// pack writes the words of the rows to words and what to hash for them to
// hashes; only if sawLong is set then do they differ.
func (s *stringKeys) pack(words, hashes []uint64, v *colvec.Vec, sel []int32, insert bool) ([]uint64, error) {
	s.sawLong = false
	if v.Dict != nil {
		return hashes, s.packDict(words, hashes, v, sel, insert)
	}
	mayBeNull := v.Nulls > 0
	for k := range words {
		i := rowAt(sel, k)
		if mayBeNull && v.IsNull(i) {
			words[k], hashes[k] = 0, 0
			continue
		}
		b, err := s.canonical(v, i)
		if err != nil {
			return hashes, err
		}
		if words[k], hashes[k], err = s.word(b, insert); err != nil {
			return hashes, err
		}
	}
	return hashes, nil
}

// canonical is bytes that are equal exactly for equal values.
func (s *stringKeys) canonical(v *colvec.Vec, i int) ([]byte, error) {
	switch {
	case v.Kind == colvec.String && s.typ.OID == sqltypes.OIDBpchar:
		return bytes.TrimRight(v.BytesAt(i), " "), nil
	case v.Kind == colvec.String || v.Kind == colvec.Binary:
		return v.BytesAt(i), nil
	}
	var err error
	s.buf, err = tablecodec.AppendVec(s.buf[:0], tablecodec.Column{Type: s.typ}, v, i)
	return s.buf, err
}

func (s *stringKeys) word(b []byte, insert bool) (word, hash uint64, err error) {
	if len(b) <= wordShort {
		w := shortWord(b)
		return w, w, nil
	}
	s.sawLong = true
	h := hashBytes(b)
	id, err := s.names.find(b, h, insert)
	switch {
	case err != nil:
		return 0, 0, err
	case id < 0:
		return wordUnknown, h, nil
	}
	return wordLong | uint64(id), h, nil
}

// number is a word for any string, short ones too.
func (s *stringKeys) number(b []byte, insert bool) (uint64, error) {
	id, err := s.names.find(b, hashBytes(b), insert)
	if id < 0 {
		return wordUnknown, err
	}
	return uint64(id), err
}

func shortWord(b []byte) uint64 {
	w := uint64(len(b)+1) << 56
	switch {
	case len(b) >= 4:
		w |= uint64(binary.LittleEndian.Uint32(b))
		for j := 4; j < len(b); j++ {
			w |= uint64(b[j]) << (8 * j)
		}
	default:
		for j := range b {
			w |= uint64(b[j]) << (8 * j)
		}
	}
	return w
}

func (s *stringKeys) packDict(words, hashes []uint64, v *colvec.Vec, sel []int32, insert bool) error {
	// What is unknown may be known once there are more names.
	if s.dict != v.DictID || s.dictFind && (insert || s.dictSeen != s.names.Len()) || !insert && !s.dictFind {
		s.dict, s.dictFind, s.dictSeen = v.DictID, !insert, s.names.Len()
		s.dictWords, s.dictHash = sized(s.dictWords, v.Dict.N), sized(s.dictHash, v.Dict.N)
		clear(s.dictWords)
	}
	s.sawLong = true
	mayBeNull := v.Nulls > 0
	for k := range words {
		i := rowAt(sel, k)
		if mayBeNull && v.IsNull(i) {
			words[k], hashes[k] = 0, 0
			continue
		}
		code := v.Codes[i]
		if s.dictWords[code] == 0 {
			b, err := s.canonical(v.Dict, int(code))
			if err != nil {
				return err
			}
			if s.dictWords[code], s.dictHash[code], err = s.word(b, insert); err != nil {
				s.dict = nil
				return err
			}
		}
		words[k], hashes[k] = s.dictWords[code], s.dictHash[code]
	}
	return nil
}

// byteTable numbers distinct byte strings from 0 in order of arrival: linear
// probing over a power of two of slots, at most half of them taken.
type byteTable struct {
	slots  []slot
	mask   uint64
	arena  []byte   // strings one after the other
	ends   []int    // by number: end in arena
	hashes []uint64 // by number
}

// Len is the number of strings.
func (t *byteTable) Len() int { return len(t.ends) }

// Bytes is about how much memory the table takes.
func (t *byteTable) Bytes() int64 {
	return int64(cap(t.slots))*8 + int64(cap(t.arena)) + int64(cap(t.ends))*8 + int64(cap(t.hashes))*8
}

func hashBytes(b []byte) uint64 { return xxh3.Hash(b) }

// find returns the number of b, whose hash is h; -1 if it has none and is not
// to be inserted.
func (t *byteTable) find(b []byte, h uint64, insert bool) (int32, error) {
	if t.slots == nil {
		if !insert {
			return -1, nil
		}
		t.resize(slotsMin)
	}
	salt := uint32(h >> 32)
	p := h & t.mask
	for ; t.slots[p].id != 0; p = (p + 1) & t.mask {
		if s := t.slots[p]; s.salt == salt && bytes.Equal(t.at(s.id-1), b) {
			return s.id - 1, nil
		}
	}
	if !insert {
		return -1, nil
	}
	if len(t.ends) >= KeysMax {
		return -1, errTooManyKeys()
	}
	return t.add(b, p, h), nil
}

// add takes the free slot p for a new string.
func (t *byteTable) add(b []byte, p, h uint64) int32 {
	id := int32(len(t.ends))
	t.arena = append(t.arena, b...)
	t.ends, t.hashes = append(t.ends, len(t.arena)), append(t.hashes, h)
	t.slots[p] = slot{id + 1, uint32(h >> 32)}
	if 2*len(t.ends) > len(t.slots) {
		t.resize(2 * len(t.slots))
	}
	return id
}

// at is string id.
func (t *byteTable) at(id int32) []byte {
	start := 0
	if id > 0 {
		start = t.ends[id-1]
	}
	return t.arena[start:t.ends[id]]
}

func (t *byteTable) resize(slots int) {
	t.slots, t.mask = make([]slot, slots), uint64(slots-1)
	for id, h := range t.hashes {
		takeSlot(t.slots, t.mask, int32(id), h)
	}
}

// takeSlot finds a place for a key that is in no slot.
func takeSlot(slots []slot, mask uint64, id int32, h uint64) {
	p := h & mask
	for slots[p].id != 0 {
		p = (p + 1) & mask
	}
	slots[p] = slot{id + 1, uint32(h >> 32)}
}

func errTooManyKeys() error {
	return pgerror.New(pgerror.ProgramLimitExceeded, "a hash table cannot have more than %d keys", KeysMax)
}

func dec128Bytes(d decimal128.Num) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 16), d.LowBits())
	return binary.LittleEndian.AppendUint64(b, uint64(d.HighBits()))
}
