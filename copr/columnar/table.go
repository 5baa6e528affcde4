package columnar

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/copr/plan"
)

// table is what a region has of one table.
type table struct {
	prefix           []byte // of row keys
	encStart, encEnd []byte
	keys             string // signature of the key columns
	slots            []*slot
	watch            *watch // of the scan that may build
	small            bool   // the last scan of all rows found few
	columns          map[columnID]*column
	used             time.Time
	generation       uint64
}

func newTable(prefix []byte, keys string) *table {
	t := &table{prefix: prefix, keys: keys, columns: map[columnID]*column{}, generation: generations.Add(1)}
	t.encStart, t.encEnd = encodedPrefix(prefix)
	return t
}

// column is a column of a table in a region that scans want.
type column struct {
	id        columnID
	plan      plan.Column
	dict      *dictionary // nil: its type has none
	used      time.Time
	asked     int   // by how many scans
	bytes     int64 // of its chunks, and of the dictionary, as charged
	dictBytes int64 // of bytes, the dictionary's
}

// slot is a block at its place, with its columns, and with what changed since it
// was built. A scan takes dirty and cols at one moment: a column may have been
// read later than the block and lacks the values of rows that were dirty then.
type slot struct {
	*block
	cols  columns
	dirty map[string]struct{}
	list  []string // the keys of dirty, in order of arrival; only ever appended to
	// dirtyTS is not below any change of a dirty key; math.MaxUint64 where some are
	// not known.
	dirtyTS uint64
	// worn is how many dirty keys scans have read.
	worn atomic.Int64
}

// watch collects what changes from before a scan's snapshot on.
type watch struct {
	keys   []watched
	failed bool
}

type watched struct {
	key       string
	index, ts uint64
}

// dirtyKeyBytes is about what a dirty key costs beside its bytes.
const dirtyKeyBytes = 80

func keySignature(cols []plan.Column) string {
	s := ""
	for _, c := range cols {
		s += fmt.Sprintf("%d:%v,", c.ID, c.Type)
	}
	return s
}

// want is the column of a scan, made if it is new.
func (t *table) want(id columnID, p plan.Column, now time.Time) *column {
	c := t.columns[id]
	if c == nil {
		c = &column{id: id, plan: p}
		if dictEncodable(p.Type) {
			c.dict = newDictionary(p.Type)
		}
		t.columns[id] = c
	}
	c.used = now
	c.asked++
	return c
}

// worth reports whether a chunk of the column is kept: long strings are from the
// second scan on that asks for them, since statistics of a table read all of it
// once.
func (col *column) worth(ch *chunk) bool {
	return col.asked > 1 || ch.plain == nil || ch.bytes <= int64(LongStringBytes)*int64(ch.n)
}

// note marks a key dirty, for a change committed at ts.
func (t *table) note(c *Cache, key []byte, index, ts uint64) {
	if w := t.watch; w != nil && !w.failed {
		if len(w.keys) >= WatchKeysMax {
			w.failed, w.keys = true, nil
		} else {
			w.keys = append(w.keys, watched{string(key), index, ts})
		}
	}
	i := t.find(key)
	if i < 0 {
		return
	}
	s := t.slots[i]
	s.dirtyTS = max(s.dirtyTS, ts)
	if _, ok := s.dirty[string(key)]; ok {
		return
	}
	if len(s.list) >= BlockDirtyKeysMax {
		t.remove(c, s)
		t.slots = slices.Delete(t.slots, i, i+1)
		c.m.dropped.WithLabelValues("dirty").Inc()
		return
	}
	s.add(string(key))
	c.charge(dirtyKeyBytes + int64(len(key)))
}

func (s *slot) add(key string) {
	if s.dirty == nil {
		s.dirty = map[string]struct{}{}
	}
	if _, ok := s.dirty[key]; !ok {
		s.dirty[key] = struct{}{}
		s.list = append(s.list, key)
	}
}

// own is the memory of the slot beside its columns, as charged.
func (s *slot) own() int64 {
	n := s.block.bytes
	for _, k := range s.list {
		n += dirtyKeyBytes + int64(len(k))
	}
	return n
}

// find is the slot whose bounds hold the key, or -1.
func (t *table) find(key []byte) int {
	i := sort.Search(len(t.slots), func(i int) bool { return bytes.Compare(t.slots[i].lower, key) > 0 }) - 1
	if i < 0 || bytes.Compare(key, t.slots[i].upper) >= 0 {
		return -1
	}
	return i
}

// remove charges no longer for a slot that leaves the table; reads that have its
// block go on.
func (t *table) remove(c *Cache, s *slot) {
	c.charge(-s.own())
	for _, e := range s.cols {
		e.of.charge(c, -e.chunk.bytes)
	}
	s.cols = nil
}

func (col *column) charge(c *Cache, n int64) {
	col.bytes += n
	c.charge(n)
}

// put adds a column to a slot of the table.
func (t *table) put(c *Cache, s *slot, col *column, ch *chunk) {
	if !col.worth(ch) {
		return
	}
	switch t.columns[col.id] {
	case nil:
		t.columns[col.id] = col // it was dropped meanwhile
	case col:
	default:
		return
	}
	if old := s.cols.get(col); old != nil {
		col.charge(c, -old.bytes)
	}
	s.cols = s.cols.with(col, ch)
	col.charge(c, ch.bytes)
	if col.dict != nil {
		n := col.dict.bytes()
		col.charge(c, n-col.dictBytes)
		col.dictBytes = n
	}
}

// evict drops a column from all slots, and from the table.
func (t *table) evict(c *Cache, col *column) {
	for _, s := range t.slots {
		if s.cols.get(col) != nil {
			s.cols = s.cols.without(col)
		}
	}
	t.forget(c, col)
}

// forget takes a column off the table.
func (t *table) forget(c *Cache, col *column) {
	col.charge(c, -col.bytes)
	col.dictBytes = 0
	delete(t.columns, col.id)
}

// clear drops the blocks.
func (t *table) clear(c *Cache) {
	for _, s := range t.slots {
		t.remove(c, s)
	}
	t.slots = nil
	for _, col := range t.columns {
		t.forget(c, col)
	}
}
