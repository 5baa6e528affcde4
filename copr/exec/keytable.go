package exec

import (
	"slices"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// KeysMax is the most distinct keys of one hash table.
const KeysMax = 1 << 30

// keyTable numbers the distinct keys it is given, from 0 in order of arrival.
// Keys are words (keyPacker); the slots are probed linearly, at most half of
// them are taken:
//
//	slots  [ id+1 | salt ]   salt = upper half of the hash, so that a probe
//	                         seldom touches the keys themselves
//
// A batch is looked up in loops that each do one thing for all rows (pack and
// hash, look into the slots, compare the words), so that the cache misses of
// different rows overlap; what is left over (new keys, collisions) is handled
// row by row. In front of that are two shortcuts: equal neighbours are looked
// up once, and keys of few possible values go through an array (directKeys).
// As long as keys of one word only ascend, as in the order of a scan, a key is
// new if it is above the last one, and the slots are not even made.
type keyTable struct {
	pack    *keyPacker
	slots   []slot
	mask    uint64
	n       int32
	keys    [][]uint64 // by word: of key id
	tags    []uint64   // by id; nil: all are 0
	hashes  []uint64   // by id, to grow and to partition
	fresh   []int32    // rows of the last Insert (0 .. n-1) that began a new key
	probed  int        // how many of its rows were looked up
	ordered bool       // keys ascended so far; slots and hashes are not made yet

	direct    directKeys
	runs      runFinder
	left, row []int32
	leftIDs   []int32
}

type slot struct {
	id   int32 // + 1; 0 = free
	salt uint32
}

const slotsMin = 64

func newKeyTable(types []sqltypes.Type) *keyTable {
	t := &keyTable{pack: newKeyPacker(types)}
	t.keys = make([][]uint64, t.pack.width)
	t.ordered = t.pack.width == 1
	if !t.ordered {
		t.resize(slotsMin)
	}
	return t
}

// Len is the number of keys.
func (t *keyTable) Len() int { return int(t.n) }

// Bytes is about how much memory the table takes.
func (t *keyTable) Bytes() int64 {
	words := cap(t.hashes)
	for _, k := range t.keys {
		words += cap(k)
	}
	return int64(cap(t.slots))*8 + int64(words)*8 + int64(cap(t.tags))*8 + t.pack.Bytes() + t.direct.Bytes()
}

func (t *keyTable) resize(slots int) {
	t.slots, t.mask = make([]slot, slots), uint64(slots-1)
	for id, h := range t.hashes {
		takeSlot(t.slots, t.mask, int32(id), h)
	}
}

// Insert appends to ids the number of the key of each of n rows; new keys get
// the next numbers. Columns may be encoded.
func (t *keyTable) Insert(cols []colvec.Vec, n int, ids []int32) ([]int32, error) {
	return t.InsertRows(cols, nil, n, ids)
}

// InsertRows is Insert for the rows sel (nil = all), n in number.
func (t *keyTable) InsertRows(cols []colvec.Vec, sel []int32, n int, ids []int32) ([]int32, error) {
	t.fresh, t.probed = t.fresh[:0], 0
	if n == 0 {
		return ids, nil
	}
	if int(t.n)+n > KeysMax {
		return ids, errTooManyKeys()
	}
	at := len(ids)
	ids = slices.Grow(ids, n)[:at+n]
	out := ids[at:]
	if !t.direct.look(cols, sel, n, out) {
		return ids, t.insert(cols, sel, n, out)
	}
	t.left, t.row = t.left[:0], t.row[:0]
	for k, id := range out {
		if id < 0 {
			t.left, t.row = append(t.left, int32(k)), append(t.row, int32(rowAt(sel, k)))
		}
	}
	if len(t.left) == 0 {
		return ids, nil
	}
	t.leftIDs = sized(t.leftIDs, len(t.left))
	if err := t.insert(cols, t.row, len(t.row), t.leftIDs); err != nil {
		return ids, err
	}
	for k, id := range t.leftIDs {
		out[t.left[k]] = id
		t.direct.learn(int(t.left[k]), id)
	}
	for i, k := range t.fresh {
		t.fresh[i] = t.left[k]
	}
	return ids, nil
}

// Find appends to ids the number of each row's key, -1 for a key that is not
// there.
func (t *keyTable) Find(cols []colvec.Vec, n int, ids []int32) ([]int32, error) {
	return t.FindRows(cols, nil, n, ids)
}

// FindRows is Find for the rows sel (nil = all), n in number.
func (t *keyTable) FindRows(cols []colvec.Vec, sel []int32, n int, ids []int32) ([]int32, error) {
	if n == 0 {
		return ids, nil
	}
	t.unorder()
	if err := t.pack.pack(cols, sel, n, false); err != nil {
		return ids, err
	}
	at := len(ids)
	ids = slices.Grow(ids, n)[:at+n]
	out := ids[at:]
	t.guess(out)
	for k, id := range out {
		if id < 0 || !t.is(id, k) {
			out[k] = t.one(k, false)
		}
	}
	return ids, nil
}

// insert numbers rows into out.
func (t *keyTable) insert(cols []colvec.Vec, sel []int32, n int, out []int32) error {
	if err := t.pack.layOut(cols, sel, n, true); err != nil {
		return err
	}
	heads := t.runs.find(t.pack, n)
	t.probed = n
	if heads == nil {
		t.number(out)
		return nil
	}
	t.probed = len(heads)
	t.number(t.runs.ids[:len(heads)])
	for i, k := range t.fresh {
		t.fresh[i] = heads[k]
	}
	t.runs.spread(out)
	return nil
}

// insertRuns gives the rows new numbers without a search, one to each run of
// equal keys: whether a key was there before is not known.
func (t *keyTable) insertRuns(cols []colvec.Vec, sel []int32, n, first int, out []int32) error {
	t.fresh = t.fresh[:0]
	if err := t.pack.layOut(cols, sel, n, true); err != nil {
		return err
	}
	heads := t.runs.find(t.pack, n)
	if heads == nil {
		for k := range out {
			out[k] = int32(first + k)
			t.fresh = append(t.fresh, int32(k))
		}
		return nil
	}
	for r := range heads {
		t.runs.ids[r] = int32(first + r)
	}
	t.fresh = append(t.fresh, heads...)
	t.runs.spread(out)
	return nil
}

// number finds the numbers of the rows that are laid out.
func (t *keyTable) number(out []int32) {
	if t.ordered {
		if t.ascend(out) {
			return
		}
		t.unorder()
	}
	t.pack.hash(len(out))
	t.probe(out)
}

// ascend numbers the rows if none of their keys is below the one before it.
func (t *keyTable) ascend(out []int32) bool {
	if t.pack.tags != nil || t.pack.hashed[0] != nil {
		return false
	}
	words, keys := t.pack.words[0][:len(out)], t.keys[0]
	last := uint64(0)
	if t.n > 0 {
		last = keys[t.n-1]
	}
	prev := last
	for _, w := range words {
		if w < prev {
			return false
		}
		prev = w
	}
	id := t.n - 1
	for k, w := range words {
		if w > last || id < 0 {
			id++
			keys, last = append(keys, w), w
			t.fresh = append(t.fresh, int32(k))
		}
		out[k] = id
	}
	t.keys[0], t.n = keys, id+1
	return true
}

// unorder makes the slots of keys that ascended.
func (t *keyTable) unorder() {
	if !t.ordered {
		return
	}
	t.ordered = false
	t.hashes = make([]uint64, t.n)
	for id, w := range t.keys[0] {
		t.hashes[id] = hashWord(w)
	}
	slots := slotsMin
	for slots < 2*int(t.n) {
		slots *= 2
	}
	t.resize(slots)
}

// probe numbers the packed rows.
func (t *keyTable) probe(out []int32) {
	t.guess(out)
	t.compare(out)
	for k, id := range out {
		if id < 0 {
			out[k] = t.one(k, true)
		}
	}
}

// guess gives each row the first key whose salt fits, -1 without one where it
// looked.
func (t *keyTable) guess(out []int32) {
	slots, mask := t.slots, t.mask
	hashes := t.pack.hashes[:len(out)]
	for k, h := range hashes {
		s := slots[h&mask]
		id := s.id - 1
		if s.salt != uint32(h>>32) {
			id = -1
		}
		out[k] = id
	}
}

// compare takes back guesses that were wrong.
func (t *keyTable) compare(out []int32) {
	for w, keys := range t.keys {
		words := t.pack.words[w][:len(out)]
		for k, id := range out {
			if id >= 0 && keys[id] != words[k] {
				out[k] = -1
			}
		}
	}
	if t.tags == nil && t.pack.tags == nil {
		return
	}
	for k, id := range out {
		if id >= 0 && !t.sameTag(id, k) {
			out[k] = -1
		}
	}
}

func (t *keyTable) sameTag(id int32, k int) bool {
	var a, b uint64
	if t.tags != nil {
		a = t.tags[id]
	}
	if t.pack.tags != nil {
		b = t.pack.tags[k]
	}
	return a == b
}

// is reports whether row k has key id.
func (t *keyTable) is(id int32, k int) bool {
	for w, keys := range t.keys {
		if keys[id] != t.pack.words[w][k] {
			return false
		}
	}
	return t.sameTag(id, k)
}

// one finds the number of row k alone.
func (t *keyTable) one(k int, insert bool) int32 {
	h := t.pack.hashes[k]
	salt := uint32(h >> 32)
	p := h & t.mask
	for ; t.slots[p].id != 0; p = (p + 1) & t.mask {
		if s := t.slots[p]; s.salt == salt && t.is(s.id-1, k) {
			return s.id - 1
		}
	}
	if !insert {
		return -1
	}
	return t.add(k, p, h)
}

// add takes the free slot p for row k's key.
func (t *keyTable) add(k int, p, h uint64) int32 {
	id := t.n
	t.n++
	t.fresh = append(t.fresh, int32(k))
	t.hashes = append(t.hashes, h)
	for w := range t.keys {
		t.keys[w] = append(t.keys[w], t.pack.words[w][k])
	}
	if t.pack.tags != nil && t.tags == nil {
		t.tags = make([]uint64, id, cap(t.hashes))
	}
	if t.tags != nil {
		tag := uint64(0)
		if t.pack.tags != nil {
			tag = t.pack.tags[k]
		}
		t.tags = append(t.tags, tag)
	}
	t.slots[p] = slot{id + 1, uint32(h >> 32)}
	if 2*int(t.n) > len(t.slots) {
		t.resize(2 * len(t.slots))
	}
	return id
}

// partition lists the keys by the upper bits of their hashes: those of
// partition p are ids[ends[p-1]:ends[p]], in order of arrival. The partition of
// a key is the same in all tables of the same types.
func (t *keyTable) partition(bits int) (ids, ends []int32) {
	t.unorder()
	shift := uint(64 - bits)
	ends = make([]int32, 1<<bits)
	for _, h := range t.hashes {
		ends[h>>shift]++
	}
	sum := int32(0)
	for p, n := range ends {
		ends[p] = sum
		sum += n
	}
	ids = make([]int32, sum)
	for id, h := range t.hashes {
		p := h >> shift
		ids[ends[p]] = int32(id)
		ends[p]++
	}
	return ids, ends
}

// runFinder finds rows whose key is that of the row before: in the order of a
// scan they are together.
type runFinder struct {
	heads []int32
	ids   []int32
	new   []bool
	rest  int // batches not to look at: the last one had no runs
}

const (
	runPause  = 16 // batches
	runSample = 64 // rows to look at first
)

// find returns the first row of each run and packs the rows together to these;
// nil if that would not save much.
func (r *runFinder) find(p *keyPacker, n int) []int32 {
	if r.rest > 0 {
		r.rest--
		return nil
	}
	if n < 2*runSample {
		return nil
	}
	if r.count(p, runSample) > runSample*3/4 || r.count(p, n) > n/2 {
		r.rest = runPause
		return nil
	}
	r.heads = r.heads[:0]
	for k, isNew := range r.new[:n] {
		if isNew {
			r.heads = append(r.heads, int32(k))
		}
	}
	for _, words := range p.words {
		compact(words, r.heads)
	}
	for w, words := range p.hashed {
		if words != nil {
			compact(p.hashed[w], r.heads)
		}
	}
	if p.tags != nil {
		compact(p.tags, r.heads)
	}
	r.ids = sized(r.ids, len(r.heads))
	return r.heads
}

// spread gives all rows of each run the number of its first.
func (r *runFinder) spread(out []int32) {
	for i, lo := range r.heads {
		hi := len(out)
		if i+1 < len(r.heads) {
			hi = int(r.heads[i+1])
		}
		run, id := out[lo:hi], r.ids[i]
		for k := range run {
			run[k] = id
		}
	}
}

func compact(words []uint64, heads []int32) {
	for k, h := range heads {
		words[k] = words[h]
	}
}

// count marks where the first n rows begin a run, and counts the runs.
func (r *runFinder) count(p *keyPacker, n int) int {
	r.new = sized(r.new, n)
	isNew := r.new[:n]
	clear(isNew)
	isNew[0] = true
	mark := func(words []uint64) {
		last := words[0]
		for k, w := range words[:len(isNew)] {
			if w != last {
				isNew[k] = true
			}
			last = w
		}
	}
	for _, words := range p.words {
		mark(words)
	}
	if p.tags != nil {
		mark(p.tags)
	}
	count := 0
	for _, b := range isNew {
		if b {
			count++
		}
	}
	return count
}
