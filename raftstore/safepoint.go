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

// safePointsOf is up to where versions may be missing in a region of which the
// caller has a state in hand: a region may have keys of several keyspaces.
func (s *Store) safePointsOf(region *metapb.Region) []kv.CollectedAt {
	if s.safePoints == nil {
		return nil
	}
	return s.safePoints(region.StartKey, region.EndKey)
}

// learnSafePoint is noteSafePoint for a snapshot that is about to be visible.
func (s *Store) learnSafePoint(data *snapshotData) {
	if s.collected == nil {
		return
	}
	for _, c := range data.safePoints {
		s.collected(c.Key, c.TS, 0)
	}
}
