package columnar

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

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
	key, ts, err := codec.DecodeTS(key)
	if err == nil {
		r.keyBuf, _, err = codec.DecodeBytes(r.keyBuf[:0], key)
	}
	if err != nil {
		r.reset("malformed")
		return
	}
	for _, t := range r.tables {
		if bytes.HasPrefix(r.keyBuf, t.prefix) {
			t.note(r.c, r.keyBuf, index, ts)
			return
		}
	}
}

// reset drops all blocks and stops who builds. The caller has the lock.
func (r *region) reset(why string) {
	for _, t := range r.tables {
		if len(t.slots) > 0 {
			r.c.m.dropped.WithLabelValues(why).Inc()
		}
		t.clear(r.c)
		t.generation = generations.Add(1)
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
		r.tables, i = append(r.tables, newTable(prefix, sig)), len(r.tables)
	}
	t := r.tables[i]
	if t.keys != sig { // another way to read the keys: it can only be a newer one
		if t.watch != nil {
			return nil, true
		}
		t.clear(r.c)
		t.keys = sig
	}
	v := &Visit{c: r.c, r: r, t: t, keys: sig, version: r.version, generation: t.generation}
	if !t.small && t.watch == nil {
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
