package columnar

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/mvcc"
)

// region follows one region of the store.
type region struct {
	c  *Cache
	id uint64

	mu      sync.Mutex
	version uint64 // of the region that scans saw; 0: none yet
	// known says that every change behind the applied index first, up to fed, has
	// been noted.
	known      bool
	first, fed uint64
	moved      chan struct{} // closed when fed moves; nil when nobody waits
	tables     []*table
	dead       bool // not in the cache any longer
	keyBuf     []byte
}

// table is what a region has of one table.
type table struct {
	prefix           []byte // of row keys
	encStart, encEnd []byte
	keys             string // signature of the key columns
	slots            []*slot
	watch            *watch // of the scan that may build
	scans            int    // that read all rows here
	columns          map[columnID]columnUse
	used             time.Time
}

// columnUse is a column that scans want.
type columnUse struct {
	column plan.Column
	at     time.Time // last
}

// slot is a block at its place, with what changed since it was built.
type slot struct {
	*block
	dirty map[string]struct{}
	list  []string // the keys of dirty, in order of arrival; only ever appended to
}

// watch collects what changes from before a scan's snapshot on.
type watch struct {
	keys   []watched
	failed bool
}

type watched struct {
	key   string
	index uint64
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

func (r *region) advanced(from, to uint64, writes iter.Seq2[uint64, []byte]) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known && from > r.fed {
		r.reset("gap")
		r.known = false
	}
	if !r.known {
		r.known, r.first, r.fed = true, from, from
	}
	if r.listens() {
		for index, data := range writes {
			if err := r.write(index, data); err != nil {
				return fmt.Errorf("columnar: region %d, entry %d: %w", r.id, index, err)
			}
		}
	}
	r.fed = max(r.fed, to)
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
	return nil
}

func (r *region) listens() bool {
	for _, t := range r.tables {
		if t.watch != nil || len(t.slots) > 0 {
			return true
		}
	}
	return false
}

func (r *region) write(index uint64, data []byte) error {
	if _, ok := kv.SafePoint(data); ok {
		return nil // garbage: no read at or above the safe point has seen it
	}
	for b := kv.ReadBatch(data); ; {
		op, cf, key, value, ok, err := b.Next()
		if err != nil || !ok {
			return err
		}
		if cf == kv.CFRaw {
			continue
		}
		if op != kv.OpPut && op != kv.OpDelete {
			r.reset("range")
			return nil
		}
		if cf != kv.CFWrite {
			continue // values come before their commit records, locks are read
		}
		r.record(index, op, key, value)
	}
}

// record notes a change of a commit record. What it cannot make out it leaves to
// who reads it.
func (r *region) record(index uint64, op kv.Op, key, value []byte) {
	if op == kv.OpPut {
		if w, err := mvcc.ParseWrite(value); err == nil && w.Type != mvcc.WritePut && w.Type != mvcc.WriteDelete {
			return
		}
	}
	var err error
	if r.keyBuf, _, err = codec.DecodeBytes(r.keyBuf[:0], key); err != nil {
		r.reset("malformed")
		return
	}
	for _, t := range r.tables {
		if bytes.HasPrefix(r.keyBuf, t.prefix) {
			t.note(r.c, r.keyBuf, index)
			return
		}
	}
}

// note marks a key dirty.
func (t *table) note(c *Cache, key []byte, index uint64) {
	if w := t.watch; w != nil && !w.failed {
		if len(w.keys) >= WatchKeysMax {
			w.failed, w.keys = true, nil
		} else {
			w.keys = append(w.keys, watched{string(key), index})
		}
	}
	i := t.find(key)
	if i < 0 {
		return
	}
	s := t.slots[i]
	if _, ok := s.dirty[string(key)]; ok {
		return
	}
	if len(s.list) >= BlockDirtyKeysMax {
		c.bytes.Add(-s.size())
		t.slots = slices.Delete(t.slots, i, i+1)
		c.m.dropped.WithLabelValues("dirty").Inc()
		return
	}
	s.add(string(key))
	c.bytes.Add(dirtyKeyBytes + int64(len(key)))
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

// size is the memory of the slot as charged.
func (s *slot) size() int64 {
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

// clear drops the blocks; reads that have them go on.
func (t *table) clear(c *Cache) {
	for _, s := range t.slots {
		c.bytes.Add(-s.size())
	}
	t.slots = nil
}

// reset drops all blocks and stops who builds. The caller has the lock.
func (r *region) reset(why string) {
	for _, t := range r.tables {
		if len(t.slots) > 0 {
			r.c.m.dropped.WithLabelValues(why).Inc()
		}
		t.clear(r.c)
		if t.watch != nil {
			t.watch.failed, t.watch.keys = true, nil
		}
	}
}

// visit begins a scan; false: the region has just left the cache.
func (r *region) visit(prefix []byte, sig string) (*Visit, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.dead {
		return nil, false
	}
	i := slices.IndexFunc(r.tables, func(t *table) bool { return bytes.Equal(t.prefix, prefix) })
	if i < 0 {
		if len(r.tables) >= RegionTablesMax {
			if i = slices.IndexFunc(r.tables, func(t *table) bool { return len(t.slots) == 0 && t.watch == nil }); i < 0 {
				return nil, true
			}
			r.tables = slices.Delete(r.tables, i, i+1)
		}
		t := &table{prefix: prefix, keys: sig, columns: map[columnID]columnUse{}}
		t.encStart, t.encEnd = encodedPrefix(prefix)
		r.tables, i = append(r.tables, t), len(r.tables)
	}
	t := r.tables[i]
	if t.keys != sig { // another way to read the keys: it can only be a newer one
		if t.watch != nil {
			return nil, true
		}
		t.clear(r.c)
		t.keys = sig
	}
	v := &Visit{c: r.c, r: r, t: t, keys: sig, version: r.version}
	if t.scans >= r.c.o.BuildScansMin && t.watch == nil {
		v.watch = &watch{}
		t.watch = v.watch
	}
	return v, true
}

// waitFed waits until everything up to index has been noted.
func (r *region) waitFed(ctx context.Context, index uint64) bool {
	var timeout <-chan time.Time
	for {
		r.mu.Lock()
		if !r.known { // nothing has changed since before the snapshot was taken
			r.known, r.first, r.fed = true, index, index
		}
		if r.fed >= index {
			r.mu.Unlock()
			return true
		}
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		moved := r.moved
		r.mu.Unlock()
		if timeout == nil {
			timer := time.NewTimer(FeedWaitMax)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		case <-timeout:
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.known && r.fed < index {
				r.reset("behind") // the data was replaced, and nothing has been written since
				r.known = false
			}
			return false
		}
	}
}
