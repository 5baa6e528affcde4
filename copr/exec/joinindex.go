package exec

import (
	"math/bits"
	"sync/atomic"
)

const (
	// joinRowsMax is the most rows of a join's build side.
	joinRowsMax = 1<<31 - 2
	// directSlotsPerRow is how many entries of an array by key a row may cost:
	// as much as in a hash table.
	directSlotsPerRow = 4
	// directBitsPerRow is the same where a bit, with a share in a count, says that
	// a key is there.
	directBitsPerRow = 64
	// cachedBitsPerRow is how many there may be if all the bits of a table are
	// cachedBitsMax at most: those are in a core's cache.
	cachedBitsPerRow = 1 << 10
	cachedBitsMax    = 1 << 21
	// directSlotsMin is how many it may always have.
	directSlotsMin = 1 << 10
	// joinPartRowsMin is how many rows are worth a goroutine of their own.
	joinPartRowsMin = 1 << 15
	// joinPartsMax bounds the partitions of a hash table.
	joinPartsMax = 16
)

// joinIndex finds the rows of a join's build side by their words (joinKeys). It
// has one of three layouts:
//
//	first  an array by word (dense keys)
//	bits   a bit for each word, with the number of bits set before: a word's
//	       number among all words, as position in rows or starts
//	parts  hash tables with linear probing, the words in the slots
//
// If no word occurs twice, first has the row + 1, rows those of bits, a slot its
// row. Otherwise they say where in rows a word's rows are, one behind the other
// and ascending: first[w] to first[w+1], starts[k] to starts[k+1], or row and
// count of a slot. Once built it is only read.
type joinIndex struct {
	n      int
	exists bool // only whether a word is there counts
	unique bool
	first  []int32
	bits   []bitWord
	starts []int32
	parts  []joinPart
	pshift uint // hash >> pshift = partition
	rows   []int32
}

// bitWord is 64 bits and how many are set in those before.
type bitWord struct {
	bits   uint64
	before int
}

type joinPart struct {
	slots []joinSlot
	mask  uint64
	used  int
}

// joinSlot is free if count is 0.
type joinSlot struct {
	word       uint64
	row, count int32
}

func (x *joinIndex) bytes() int64 {
	n := int64(16*cap(x.bits) + 4*cap(x.first) + 4*cap(x.starts) + 4*cap(x.rows))
	for i := range x.parts {
		n += 16 * int64(cap(x.parts[i].slots))
	}
	return n
}

// buildJoinIndex indexes words, all of which are at most span. rowOf, if not
// nil, is the row of each; they ascend. par runs f(0) to f(n-1), perhaps at the
// same time.
func buildJoinIndex(words []uint64, span uint64, rowOf []int32, exists bool, workers int, par func(n int, f func(i int))) *joinIndex {
	n := uint64(len(words))
	x := &joinIndex{n: len(words), exists: exists}
	workers = max(1, min(workers, joinPartsMax, len(words)/joinPartRowsMin))
	switch {
	case !exists && span < max(directSlotsMin, n*directSlotsPerRow):
		x.buildDirect(words, span, rowOf, workers, par)
	case span < max(directSlotsMin, n*directBitsPerRow, min(cachedBitsMax, n*cachedBitsPerRow)):
		x.buildBits(words, span, rowOf)
	default:
		x.buildHash(words, rowOf, workers, par)
	}
	return x
}

func buildRow(rowOf []int32, i int) int32 {
	if rowOf == nil {
		return int32(i)
	}
	return rowOf[i]
}

// buildDirect makes the array by word: each worker fills a range of words.
func (x *joinIndex) buildDirect(words []uint64, span uint64, rowOf []int32, workers int, par func(int, func(int))) {
	x.first = make([]int32, span+2)
	var twice atomic.Bool
	share := span/uint64(workers) + 1
	par(workers, func(p int) {
		lo, dup := uint64(p)*share, false
		for i, w := range words {
			if w-lo < share {
				dup = dup || x.first[w] != 0
				x.first[w] = buildRow(rowOf, i) + 1
			}
		}
		if dup {
			twice.Store(true)
		}
	})
	if x.unique = !twice.Load(); x.unique {
		return
	}
	clear(x.first)
	x.rows = make([]int32, len(words))
	sums := make([]int32, workers)
	par(workers, func(p int) { // how many rows each word has
		lo := uint64(p) * share
		for _, w := range words {
			if w-lo < share {
				x.first[w]++
				sums[p]++
			}
		}
	})
	at := int32(0)
	for p := range sums {
		sums[p], at = at, at+sums[p]
	}
	x.first[span+1] = at
	par(workers, func(p int) { // where they end, then backwards to where they begin
		lo := uint64(p) * share
		at := sums[p]
		for w := lo; w < min(lo+share, span+1); w++ {
			at += x.first[w]
			x.first[w] = at
		}
		for i := len(words) - 1; i >= 0; i-- {
			if w := words[i]; w-lo < share {
				x.first[w]--
				x.rows[x.first[w]] = buildRow(rowOf, i)
			}
		}
	})
}

// buildBits makes the bitmap.
func (x *joinIndex) buildBits(words []uint64, span uint64, rowOf []int32) {
	x.bits = make([]bitWord, span/64+1)
	for _, w := range words {
		x.bits[w>>6].bits |= 1 << (w & 63)
	}
	n := 0
	for i := range x.bits {
		x.bits[i].before = n
		n += bits.OnesCount64(x.bits[i].bits)
	}
	if x.unique = x.exists || n == len(words); x.exists {
		return
	}
	x.rows = make([]int32, len(words))
	if x.unique {
		for i, w := range words {
			x.rows[x.number(w)] = buildRow(rowOf, i)
		}
		return
	}
	x.starts = make([]int32, n+1)
	for _, w := range words {
		x.starts[x.number(w)]++
	}
	at := int32(0)
	for k, rows := range x.starts {
		at += rows
		x.starts[k] = at
	}
	for i := len(words) - 1; i >= 0; i-- {
		k := x.number(words[i])
		x.starts[k]--
		x.rows[x.starts[k]] = buildRow(rowOf, i)
	}
}

// number is that of a word whose bit is set.
func (x *joinIndex) number(w uint64) int {
	e := &x.bits[w>>6]
	return e.before + bits.OnesCount64(e.bits&(1<<(w&63)-1))
}

// buildHash makes a hash table of each partition of the words.
func (x *joinIndex) buildHash(words []uint64, rowOf []int32, workers int, par func(int, func(int))) {
	parts := 1
	for parts < workers {
		parts *= 2
	}
	x.pshift = 64 - uint(bits.Len(uint(parts-1)))
	x.parts = make([]joinPart, parts)
	rows := make([]int32, parts)
	var twice atomic.Bool
	par(parts, func(p int) {
		t := &x.parts[p]
		t.grow(max(16, len(words)/parts))
		for i, w := range words {
			h := hashWord(w)
			if h>>x.pshift != uint64(p) {
				continue
			}
			rows[p]++
			if !t.add(w, h, buildRow(rowOf, i)) && !x.exists {
				twice.Store(true)
			}
		}
	})
	if x.unique = x.exists || !twice.Load(); x.unique {
		return
	}
	at := int32(0)
	for p := range rows {
		rows[p], at = at, at+rows[p]
	}
	x.rows = make([]int32, len(words))
	par(parts, func(p int) {
		t, at := &x.parts[p], rows[p]
		for i := range t.slots {
			if s := &t.slots[i]; s.count > 0 {
				s.row = at
				at += s.count
			}
		}
		for i, w := range words {
			h := hashWord(w)
			if h>>x.pshift != uint64(p) {
				continue
			}
			s := t.find(w, h)
			x.rows[s.row] = buildRow(rowOf, i)
			s.row++
		}
		for i := range t.slots {
			t.slots[i].row -= t.slots[i].count
		}
	})
}

// grow makes room for so many words.
func (t *joinPart) grow(words int) {
	old := t.slots
	size := 1 << bits.Len(uint(words+words/2-1))
	t.slots, t.mask = make([]joinSlot, size), uint64(size-1)
	for i := range old {
		if s := &old[i]; s.count > 0 {
			h := hashWord(s.word)
			*t.find(s.word, h) = *s
		}
	}
}

// find returns the slot of a word, or the free one where it belongs.
func (t *joinPart) find(w, h uint64) *joinSlot {
	for p := h & t.mask; ; p = (p + 1) & t.mask {
		if s := &t.slots[p]; s.count == 0 || s.word == w {
			return s
		}
	}
}

// add counts one more row of a word; false if there was one.
func (t *joinPart) add(w, h uint64, row int32) bool {
	s := t.find(w, h)
	if s.count > 0 {
		s.count++
		return false
	}
	s.word, s.row, s.count = w, row, 1
	if t.used++; 4*t.used > 3*len(t.slots) {
		t.grow(2 * t.used)
	}
	return true
}

// joinHits is what a probe of some rows found: those of them that found
// something, and what.
type joinHits struct {
	probe []int32 // rows of the probe side, ascending
	row   []int32 // unique: the row; otherwise where in joinIndex.rows its rows are
	count []int32 // not unique: how many
	slow  []int32 // positions still to be looked up
}

// size makes room for n rows.
func (h *joinHits) size(n int) {
	if h.probe == nil || cap(h.probe) < n { // nil would be all rows
		h.probe, h.row, h.count, h.slow = make([]int32, n), make([]int32, n), make([]int32, n), make([]int32, n+1)
	}
	h.probe, h.row, h.count, h.slow = h.probe[:n], h.row[:n], h.count[:n], h.slow[:n+1]
}

func (h *joinHits) cut(n int) { h.probe, h.row, h.count = h.probe[:n], h.row[:n], h.count[:n] }

// find looks up words of the probe side's rows.
func (x *joinIndex) find(rows []int32, words []uint64, h *joinHits) {
	n := len(words)
	h.size(n)
	k := 0
	switch {
	case n == 0 || x.n == 0:
	case x.bits != nil:
		k = x.findBits(rows, words, h)
	case x.first != nil && x.unique:
		for i, w := range words {
			r := x.first[w] - 1
			h.probe[k], h.row[k] = rows[i], r
			k += int(1 + r>>31)
		}
	case x.first != nil:
		for i, w := range words {
			at, end := x.first[w], x.first[w+1]
			h.probe[k], h.row[k], h.count[k] = rows[i], at, end-at
			if at != end {
				k++
			}
		}
	default:
		k = x.findHash(rows, words, h)
	}
	h.cut(k)
}

// findBits tests the bits first, then goes on with those that are set.
func (x *joinIndex) findBits(rows []int32, words []uint64, h *joinHits) int {
	k := 0
	for i, w := range words {
		h.probe[k], h.slow[k] = rows[i], int32(i)
		k += int(x.bits[w>>6].bits >> (w & 63) & 1)
	}
	if x.exists {
		return k
	}
	for j, i := range h.slow[:k] {
		n := x.number(words[i])
		if x.unique {
			h.row[j] = x.rows[n]
		} else {
			h.row[j], h.count[j] = x.starts[n], x.starts[n+1]-x.starts[n]
		}
	}
	return k
}

// findHash looks at the first slot of every word, then goes on from those that
// were another word's.
func (x *joinIndex) findHash(rows []int32, words []uint64, h *joinHits) int {
	slow := 0
	for i, w := range words {
		hash := hashWord(w)
		t := &x.parts[hash>>x.pshift]
		s := &t.slots[hash&t.mask]
		h.row[i], h.count[i] = s.row, s.count
		h.slow[slow] = int32(i)
		if s.word != w && s.count != 0 {
			slow++
		}
	}
	for _, i := range h.slow[:slow] {
		w := words[i]
		hash := hashWord(w)
		t := &x.parts[hash>>x.pshift]
		s := t.find(w, hash)
		h.row[i], h.count[i] = s.row, s.count
	}
	k := 0
	for i, r := range rows {
		c := h.count[i]
		h.probe[k], h.row[k], h.count[k] = r, h.row[i], c
		if c > 0 {
			k++
		}
	}
	return k
}

// withMark appends the rows from..n of which seen (a bitmap) has the bit, or has
// not, at most max, and says where to go on.
func withMark(seen []uint32, marked bool, from, n, max int, out []int32) ([]int32, int) {
	for ; from < n && len(out) < max; from++ {
		if (seen[from>>5]&(1<<(from&31)) != 0) == marked {
			out = append(out, int32(from))
		}
	}
	return out, from
}

// mark sets the bits of rows; several goroutines may.
func mark(seen []uint32, rows []int32) {
	for _, r := range rows {
		w, bit := &seen[r>>5], uint32(1)<<(r&31)
		if atomic.LoadUint32(w)&bit == 0 {
			atomic.OrUint32(w, bit)
		}
	}
}
