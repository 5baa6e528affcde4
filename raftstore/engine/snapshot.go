package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
)

// Snapshot is one state of the whole store. It holds back the reuse of disk
// space, so it should be short-lived. Safe for concurrent use, but its
// iterators are not.
//
// Those who ask for one while nothing is written share one: Pebble takes its
// mutex for each, and looks for compactions when the oldest ends, which costs
// more than a point read.
type Snapshot struct {
	s    *pebble.Snapshot
	gen  uint64       // Engine.gen before it was taken
	refs atomic.Int64 // readers, and the engine while it may be shared
}

// NewSnapshot returns the current state. It must be closed.
func (e *Engine) NewSnapshot() *Snapshot {
	gen := e.gen.Load()
	if s := e.shared.Load(); s != nil && s.gen == gen && s.retain() {
		return s
	}
	s := &Snapshot{s: e.db.NewSnapshot(), gen: gen}
	s.refs.Store(2)
	e.replaceShared(s)
	if e.gen.Load() != gen && e.shared.CompareAndSwap(s, nil) {
		e.release(s) // written meanwhile: it is of no use to others
	}
	return s
}

// changed is called behind every write, before anybody hears of it: whoever
// asks for a snapshot from here on must see it.
func (e *Engine) changed() {
	e.gen.Add(1)
	if e.shared.Load() != nil {
		e.replaceShared(nil)
	}
}

func (e *Engine) replaceShared(s *Snapshot) {
	if old := e.shared.Swap(s); old != nil {
		e.release(old)
	}
}

// release is Close where nobody can be told of an error; Pebble has none.
func (e *Engine) release(s *Snapshot) {
	if err := s.Close(); err != nil {
		e.fatal.Stop(fmt.Errorf("close snapshot: %w", err))
	}
}

// retain counts a reader in, unless the last one has left.
func (s *Snapshot) retain() bool {
	for {
		n := s.refs.Load()
		if n == 0 {
			return false
		}
		if s.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Close frees the snapshot; its iterators must be closed before.
func (s *Snapshot) Close() error {
	switch n := s.refs.Add(-1); {
	case n > 0:
		return nil
	case n < 0:
		panic("engine: snapshot closed twice")
	}
	return s.s.Close()
}

// keyBufs lends buffers for the disk keys of point reads.
var keyBufs = sync.Pool{New: func() any { b := make([]byte, 0, 128); return &b }}

// Get returns the value of key, valid until the closer is closed, or
// kv.ErrNotFound.
func (s *Snapshot) Get(cf kv.CF, key []byte) ([]byte, io.Closer, error) {
	buf := keyBufs.Get().(*[]byte)
	*buf = cfKey((*buf)[:0], cf, key)
	value, closer, err := s.s.Get(*buf)
	keyBufs.Put(buf)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			return nil, nil, kv.ErrNotFound
		}
		return nil, nil, fmt.Errorf("read key %x of family %s: %w", key, cf, err)
	}
	return value, closer, nil
}

// NewIter returns an iterator over [o.Lower, o.Upper) of a family; nil bounds
// are the family's.
//
// If both bounds lie inside the versions of one user key (Lower starts with a
// complete encoding P and Upper is at most the next encoding, for instance
// codec.PrefixNext(P)), seeks inside it use the bloom filters: this is how a
// point read finds the newest version of a key without touching tables that
// don't have the key. An iterator that reads many keys gets the same from
// Iterator.SeekPrefixGE.
func (s *Snapshot) NewIter(cf kv.CF, o kv.IterOptions) (kv.Iterator, error) {
	if !cf.Valid() {
		return nil, fmt.Errorf("iterate over unknown column family %#x", byte(cf))
	}
	// One allocation for both bounds and room for the seek key.
	buf := make([]byte, 0, 2*(len(o.Lower)+len(o.Upper))+32)
	buf = cfKey(buf, cf, o.Lower)
	lower := buf[:len(buf):len(buf)]
	buf = cfEnd(buf, cf, o.Upper)
	upper := buf[len(lower):len(buf):len(buf)]
	if bytes.Compare(lower, upper) > 0 {
		upper = lower // an empty range, not a misuse of Pebble
	}
	point := pointPrefix(lower, upper)
	// Point reads of keys that don't exist are common (inserts check for
	// duplicates), so they ask the filters of the last level, too.
	it, err := s.s.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper, UseL6Filters: point != nil})
	if err != nil {
		return nil, fmt.Errorf("iterate over family %s: %w", cf, err)
	}
	return &Iterator{it: it, cf: cf, lower: lower, point: point, seek: buf[len(buf):]}, nil
}

// pointPrefix returns the prefix that all keys of [lower, upper) share with
// their versions, or nil if there can be several.
func pointPrefix(lower, upper []byte) []byte {
	if !versioned(lower[0]) {
		return nil
	}
	n := codec.EncodedPrefixLen(lower[1:])
	if n < 0 {
		return nil
	}
	prefix := lower[:1+n]
	if bytes.HasPrefix(upper, prefix) {
		return prefix
	}
	// The marker that ends a complete encoding is not 0xFF, so upper is the
	// next prefix exactly if it equals prefix with its last byte plus one.
	last := len(prefix) - 1
	if len(upper) == len(prefix) && bytes.Equal(upper[:last], prefix[:last]) && upper[last] == prefix[last]+1 {
		return prefix
	}
	return nil
}

// Iterator is the kv.Iterator of this package.
type Iterator struct {
	it    *pebble.Iterator
	cf    kv.CF
	lower []byte
	point []byte // not nil: every key in the bounds has this prefix
	seek  []byte
	// inPrefix says that the last seek was limited to one prefix, where Pebble
	// cannot move backwards.
	inPrefix bool
	tracker  *tracker.Tracker
}

var _ kv.Iterator = (*Iterator)(nil)

// First moves to the first key of the bounds.
func (i *Iterator) First() bool {
	if i.point != nil {
		i.inPrefix = true
		return i.it.SeekPrefixGE(i.lower)
	}
	return i.it.First()
}

// Last moves to the last key of the bounds.
func (i *Iterator) Last() bool {
	i.inPrefix = false
	return i.it.Last()
}

// SeekGE moves to the first key at or after key.
func (i *Iterator) SeekGE(key []byte) bool {
	i.seek = cfKey(i.seek[:0], i.cf, key)
	if i.point != nil {
		if bytes.Compare(i.seek, i.lower) <= 0 {
			return i.First()
		}
		if bytes.HasPrefix(i.seek, i.point) {
			i.inPrefix = true
			return i.it.SeekPrefixGE(i.seek)
		}
	}
	i.inPrefix = false
	return i.it.SeekGE(i.seek)
}

// SeekPrefixGE moves to the first key at or after key that has the same user
// key (for families without versions: that is key itself). It uses the bloom
// filters. Next stays within the user key.
func (i *Iterator) SeekPrefixGE(key []byte) bool {
	i.seek = cfKey(i.seek[:0], i.cf, key)
	i.inPrefix = true
	return i.it.SeekPrefixGE(i.seek)
}

// SeekLT moves to the last key before key.
func (i *Iterator) SeekLT(key []byte) bool {
	i.seek = cfKey(i.seek[:0], i.cf, key)
	i.inPrefix = false
	return i.it.SeekLT(i.seek)
}

// Next moves forward.
func (i *Iterator) Next() bool { return i.it.Next() }

// Prev moves backward.
func (i *Iterator) Prev() bool {
	if !i.inPrefix {
		return i.it.Prev()
	}
	i.inPrefix = false
	if !i.it.Valid() {
		return i.it.Last()
	}
	i.seek = append(i.seek[:0], i.it.Key()...)
	return i.it.SeekLT(i.seek)
}

// Valid reports whether the iterator is at a key.
func (i *Iterator) Valid() bool { return i.it.Valid() }

// Key is the current key without the family; valid until the next move.
func (i *Iterator) Key() []byte { return i.it.Key()[1:] }

// Value is the current value; valid until the next move.
func (i *Iterator) Value() ([]byte, error) { return i.it.ValueAndErr() }

// Error is the error that ended the iteration, or nil.
func (i *Iterator) Error() error { return i.it.Error() }

// Close frees the iterator.
func (i *Iterator) Close() error {
	if i.tracker != nil {
		i.report()
	}
	return i.it.Close()
}
