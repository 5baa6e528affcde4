package engine

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// GetMeta returns a copy of a meta key's value as of the snapshot.
func (s *Snapshot) GetMeta(key []byte) (value []byte, ok bool, err error) {
	v, closer, err := s.s.Get(metaKey(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read meta key %x of a snapshot: %w", key, err)
	}
	value = append([]byte{}, v...)
	return value, true, closer.Close()
}
