package exec

import (
	"bytes"

	"github.com/zeebo/xxh3"
)

// internTable numbers byte strings from 0 in order of arrival. While nobody
// inserts, any number of goroutines may search it.
type internTable struct {
	slots []slot
	mask  uint64
	n     int32
	arena []byte
	ends  []int
}

func newInternTable() *internTable { return &internTable{} }

func (t *internTable) bytes() int64 {
	if t == nil {
		return 0
	}
	return int64(cap(t.slots))*8 + int64(cap(t.arena)) + int64(cap(t.ends))*8
}

// key is string number id.
func (t *internTable) key(id int32) []byte {
	start := 0
	if id > 0 {
		start = t.ends[id-1]
	}
	return t.arena[start:t.ends[id]]
}

// find returns the number of k, -1 if it has none.
func (t *internTable) find(k []byte) int32 {
	if t.n == 0 {
		return -1
	}
	h := xxh3.Hash(k)
	for p := h & t.mask; ; p = (p + 1) & t.mask {
		s := t.slots[p]
		if s.id == 0 {
			return -1
		}
		if s.salt == uint32(h>>32) && bytes.Equal(t.key(s.id-1), k) {
			return s.id - 1
		}
	}
}

// insert returns the number of k, a new one if it has none.
func (t *internTable) insert(k []byte) int32 {
	if 2*int(t.n) >= len(t.slots) {
		t.grow()
	}
	h := xxh3.Hash(k)
	for p := h & t.mask; ; p = (p + 1) & t.mask {
		s := t.slots[p]
		if s.id == 0 {
			t.arena = append(t.arena, k...)
			t.ends = append(t.ends, len(t.arena))
			t.n++
			t.slots[p] = slot{t.n, uint32(h >> 32)}
			return t.n - 1
		}
		if s.salt == uint32(h>>32) && bytes.Equal(t.key(s.id-1), k) {
			return s.id - 1
		}
	}
}

func (t *internTable) grow() {
	size := max(slotsMin, 2*len(t.slots))
	t.slots, t.mask = make([]slot, size), uint64(size-1)
	for id := range t.n {
		h := xxh3.Hash(t.key(id))
		p := h & t.mask
		for t.slots[p].id != 0 {
			p = (p + 1) & t.mask
		}
		t.slots[p] = slot{id + 1, uint32(h >> 32)}
	}
}
