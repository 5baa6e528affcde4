package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// ApproxSize estimates the bytes on disk of [start, end) in all families. What
// is still in memtables isn't counted.
func (e *Engine) ApproxSize(start, end []byte) (uint64, error) {
	var total uint64
	for _, cf := range kv.CFs {
		n, err := e.db.EstimateDiskUsage(cfKey(nil, cf, start), cfEnd(nil, cf, end))
		if err != nil {
			return 0, fmt.Errorf("estimate size of [%x, %x): %w", start, end, err)
		}
		total += n
	}
	return total, nil
}

// splitRestFraction: a last piece smaller than splitBytes/splitRestFraction is
// not worth a region of its own.
const splitRestFraction = 4

// SplitKeys walks [start, end) of all families and returns boundaries that cut
// it into pieces of about splitBytes of keys and values (at most maxKeys
// boundaries), and the bytes of the whole range. Every boundary is a valid
// memcomparable encoding strictly inside the range: of the user key at a
// transactional key, EncodeBytes(raw key) at a raw one that is no encoding itself. Raw keys that share
// their first eight bytes cannot be told apart by such a boundary and stay
// together.
//
// It reads the whole range, so it belongs on a background worker.
func (e *Engine) SplitKeys(start, end []byte, splitBytes uint64, maxKeys int) (keys [][]byte, total uint64, err error) {
	snap := e.db.NewSnapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	m, err := newMergedKeys(snap, start, end)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	sp := splitter{start: start, end: end, splitBytes: max(splitBytes, 1), maxKeys: maxKeys}
	for m.next() {
		sp.add(m.cf, m.key, uint64(len(m.key))+uint64(m.valueLen))
	}
	if m.err != nil {
		return nil, 0, fmt.Errorf("find split keys of [%x, %x): %w", start, end, m.err)
	}
	return sp.finish(), sp.total, nil
}

// splitter chooses boundaries from keys that come in the regions' order.
type splitter struct {
	start, end []byte
	splitBytes uint64
	maxKeys    int

	keys    [][]byte
	total   uint64
	piece   uint64 // bytes since the last boundary
	pending []byte // the next boundary, if the keys have not reached it yet
	prev    []byte // the last key, which must stay left of a new boundary
}

func (s *splitter) add(cf kv.CF, key []byte, size uint64) {
	if s.pending == nil && s.piece >= s.splitBytes && len(s.keys) < s.maxKeys {
		s.propose(cf, key)
	}
	if s.pending != nil && bytes.Compare(key, s.pending) >= 0 {
		s.keys = append(s.keys, s.pending)
		s.pending, s.piece = nil, 0
	}
	s.piece += size
	s.total += size
	s.prev = append(s.prev[:0], key...)
}

// propose sets pending to the boundary of key, if it is one and lies inside
// the range behind all keys so far (the versions of one user key stay
// together). The boundary of a raw key may be larger than the key.
func (s *splitter) propose(cf kv.CF, key []byte) {
	var b []byte
	n := codec.EncodedPrefixLen(key)
	valid := false
	if n >= 0 && (cf != kv.CFRaw || n == len(key)) {
		_, _, err := codec.DecodeBytes(nil, key[:n])
		valid = err == nil
	}
	switch {
	case valid: // raw keys of API V2 are stored encoded, too
		b = append([]byte{}, key[:n]...)
	case cf == kv.CFRaw:
		b = codec.EncodeBytes(nil, key)
	default:
		return
	}
	if bytes.Compare(b, s.start) > 0 && bytes.Compare(b, s.prev) > 0 && (len(s.end) == 0 || bytes.Compare(b, s.end) < 0) {
		s.pending = b
	}
}

func (s *splitter) finish() [][]byte {
	if n := len(s.keys); n > 0 && s.piece < s.splitBytes/splitRestFraction {
		s.keys = s.keys[:n-1]
	}
	return s.keys
}

// mergedKeys walks the families side by side, in the order of the keys without
// timestamps, which is the order of the regions.
type mergedKeys struct {
	iters    [len(kv.CFs)]*pebble.Iterator
	cur      int // index of the family at the smallest key, -1 before the first
	cf       kv.CF
	key      []byte
	valueLen int
	err      error
}

func newMergedKeys(snap *pebble.Snapshot, start, end []byte) (*mergedKeys, error) {
	m := &mergedKeys{cur: -1}
	for i, cf := range kv.CFs {
		it, err := snap.NewIter(&pebble.IterOptions{LowerBound: cfKey(nil, cf, start), UpperBound: cfEnd(nil, cf, end)})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("iterate over family %s: %w", cf, err), m.close())
		}
		m.iters[i] = it
		it.First()
	}
	return m, nil
}

func (m *mergedKeys) next() bool {
	if m.cur >= 0 {
		m.iters[m.cur].Next()
	}
	m.cur = -1
	for i, it := range m.iters {
		if !it.Valid() {
			m.err = errors.Join(m.err, it.Error())
			continue
		}
		if m.cur < 0 || bytes.Compare(it.Key()[1:], m.key) < 0 {
			m.cur, m.key = i, it.Key()[1:]
		}
	}
	if m.cur < 0 || m.err != nil {
		return false
	}
	lazy := m.iters[m.cur].LazyValue()
	m.cf, m.valueLen = kv.CFs[m.cur], lazy.Len()
	return true
}

func (m *mergedKeys) close() error {
	var err error
	for _, it := range m.iters {
		if it != nil {
			err = errors.Join(err, it.Close())
		}
	}
	return err
}
