package raftstore

import "github.com/copradb/copra/internal/kv"

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
