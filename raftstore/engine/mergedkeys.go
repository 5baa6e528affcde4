package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/kv"
)

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
