package raftstore

import (
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/internal/kv"
)

// noteSafePoint tells the owner of the store of a write that drops garbage,
// before it becomes visible: who reads it from here on must know up to where
// versions are gone.
func (a *applier) noteSafePoint(batch []byte) {
	ts, ok := kv.SafePoint(batch)
	if !ok || a.p.store.collected == nil {
		return
	}
	r := kv.ReadBatch(batch)
	if _, _, key, _, ok, err := r.Next(); ok && err == nil {
		a.p.store.collected(key, ts, len(batch))
	}
}

// safePointOf is up to where versions may be missing in a region of which the
// caller has a state in hand.
func (s *Store) safePointOf(region *metapb.Region) uint64 {
	if s.safePoint == nil {
		return 0
	}
	return s.safePoint(region.StartKey)
}

// learnSafePoint is noteSafePoint for a snapshot that is about to be visible.
func (s *Store) learnSafePoint(data *snapshotData) {
	if data.safePoint != 0 && s.collected != nil {
		s.collected(data.region.StartKey, data.safePoint, 0)
	}
}
