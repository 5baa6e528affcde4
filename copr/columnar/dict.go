package columnar

import (
	"hash/maphash"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// Limits of a dictionary.
const (
	// DictValuesMax and DictBytesMax are how many values it may have, and how long
	// they may be together.
	DictValuesMax = 1 << 16
	DictBytesMax  = 1 << 20
	// DictValuesSmall are those that need no reason; with more, each must have been
	// met DictRepeatMin times on average.
	DictValuesSmall = 1024
	DictRepeatMin   = 8
)

// dictionary is the values of a column of byte strings in one region, shared by
// its blocks. It only grows: a code stays what it is. Safe for concurrent use.
type dictionary struct {
	typ arrow.DataType

	mu    sync.Mutex
	seed  maphash.Seed
	slots []int32 // hash table of codes + 1, a power of two long
	off   []int32
	data  []byte
	met   int64 // values looked up
	ended bool  // it has too many values: nothing more is encoded
	arr   arrow.Array
}

// dictEncodable are types whose equal values are equal byte strings.
func dictEncodable(t sqltypes.Type) bool {
	k := colvec.KindOf(t)
	return (k == colvec.String || k == colvec.Binary) && (t.OID != sqltypes.OIDBpchar || t.Precision > 0)
}

func newDictionary(t sqltypes.Type) *dictionary {
	return &dictionary{typ: t.Arrow(), seed: maphash.MakeSeed(), slots: make([]int32, 64), off: []int32{0}}
}

// encode gives the codes of a column's values; ok is false when the dictionary
// would get too large, from when on it takes no more.
func (d *dictionary) encode(v *colvec.Vec) (codes []uint16, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return nil, false
	}
	codes = make([]uint16, v.N)
	last, lastCode := []byte(nil), int32(-1)
	for i := range v.N {
		if v.IsNull(i) {
			continue
		}
		b := v.BytesAt(i)
		if lastCode < 0 || string(b) != string(last) {
			if lastCode = d.code(b); lastCode < 0 {
				d.ended = true
				return nil, false
			}
			last = b
		}
		d.met++
		codes[i] = uint16(lastCode)
	}
	return codes, true
}

// code finds or adds a value; -1: there is no room.
func (d *dictionary) code(b []byte) int32 {
	mask := uint64(len(d.slots) - 1)
	at := maphash.Bytes(d.seed, b) & mask
	for ; d.slots[at] != 0; at = (at + 1) & mask {
		c := d.slots[at] - 1
		if string(d.data[d.off[c]:d.off[c+1]]) == string(b) {
			return c
		}
	}
	n := len(d.off) - 1
	if n >= DictValuesMax || len(d.data)+len(b) > DictBytesMax || n >= DictValuesSmall && int64(n)*DictRepeatMin > d.met {
		return -1
	}
	d.data = append(d.data, b...)
	d.off = append(d.off, int32(len(d.data)))
	d.slots[at] = int32(n + 1)
	if 2*(n+1) > len(d.slots) {
		d.grow()
	}
	return int32(n)
}

func (d *dictionary) grow() {
	d.slots = make([]int32, 2*len(d.slots))
	mask := uint64(len(d.slots) - 1)
	for c := range len(d.off) - 1 {
		at := maphash.Bytes(d.seed, d.data[d.off[c]:d.off[c+1]]) & mask
		for d.slots[at] != 0 {
			at = (at + 1) & mask
		}
		d.slots[at] = int32(c + 1)
	}
}

// array has all values so far, under their codes; it stays the same one until
// there are more. What it shows of off and data is never written again.
func (d *dictionary) array() arrow.Array {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.off) - 1
	if d.arr == nil || d.arr.Len() != n {
		off := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(d.off[: n+1 : n+1]))
		data := memory.NewBufferBytes(d.data[:len(d.data):len(d.data)])
		d.arr = array.MakeFromData(array.NewData(d.typ, n, []*memory.Buffer{nil, off, data}, nil, 0, 0))
	}
	return d.arr
}

// bytes is about its memory.
func (d *dictionary) bytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(4*cap(d.slots) + 4*cap(d.off) + cap(d.data))
}
