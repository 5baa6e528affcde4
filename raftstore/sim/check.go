package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
)

type (
	leaderOf      struct{ region, term uint64 }
	regionVersion struct{ id, confVer, version uint64 }
	appliedKey    struct {
		node         *rafttest.Node // one life of a process
		region, peer uint64
	}
)

// roleChanged checks that a term has one leader.
func (w *world) roleChanged(store, region uint64, leader bool, term uint64) {
	if !leader {
		w.log.add(store, region, "leads no longer (term %d)", term)
		return
	}
	w.log.add(store, region, "leads in term %d", term)
	w.mu.Lock()
	other, had := w.leaders[leaderOf{region, term}]
	w.leaders[leaderOf{region, term}] = store
	w.mu.Unlock()
	if had && other != store {
		w.fail("region %d has two leaders in term %d: stores %d and %d", region, term, other, store)
	}
}

// watchInterval is fake time between two looks at all stores.
const watchInterval = 100 * time.Millisecond

// watch is an actor that checks what must hold all the time.
func (w *world) watch() {
	t := time.NewTicker(watchInterval)
	defer t.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-t.C:
			w.checkStores()
		}
	}
}

func (w *world) checkStores() {
	for _, n := range w.sorted() {
		if n.gate.isShut() {
			continue
		}
		w.c.Use(n.id, func(up *rafttest.Node) {
			w.checkStates(n.id, up)
			for _, r := range up.Store.Regions() {
				w.checkApplied(n.id, appliedKey{up, r.Region.GetId(), r.PeerID}, r.AppliedIndex)
			}
		})
	}
}

func (w *world) checkApplied(store uint64, key appliedKey, index uint64) {
	w.mu.Lock()
	before := w.applied[key]
	w.applied[key] = max(before, index)
	w.mu.Unlock()
	if index < before {
		w.fail("store %d, region %d, peer %d: the applied index fell from %d to %d", store, key.region, key.peer, before, index)
	}
}

// states reads the region states of one instant from a store's data engine.
func states(n *rafttest.Node) (out []*raft_serverpb.RegionLocalState, err error) {
	err = n.Engine.ScanMeta([]byte{'r'}, func(_, value []byte) error {
		st := new(raft_serverpb.RegionLocalState)
		if err := st.Unmarshal(value); err != nil {
			return err
		}
		if st.State == raft_serverpb.PeerState_Normal || st.State == raft_serverpb.PeerState_Merging {
			out = append(out, st)
		}
		return nil
	})
	slices.SortFunc(out, func(a, b *raft_serverpb.RegionLocalState) int {
		return bytes.Compare(a.Region.StartKey, b.Region.StartKey)
	})
	return out, err
}

// checkStates checks that the regions of a store don't overlap, and that an
// epoch means the same region everywhere.
func (w *world) checkStates(store uint64, up *rafttest.Node) {
	all, err := states(up)
	if err != nil {
		w.fail("store %d: read region states: %v", store, err)
		return
	}
	var last *metapb.Region
	for _, st := range all {
		r := st.Region
		if last != nil && (len(last.EndKey) == 0 || bytes.Compare(last.EndKey, r.StartKey) > 0) {
			w.fail("store %d: region %d %s overlaps region %d %s", store, last.Id, describe(last), r.Id, describe(r))
		}
		last = r
		key, text := regionVersion{r.Id, r.RegionEpoch.GetConfVer(), r.RegionEpoch.GetVersion()}, describe(r)
		w.mu.Lock()
		before, known := w.regions[key]
		w.regions[key] = text
		w.mu.Unlock()
		if known && before != text {
			w.fail("store %d: region %d is %s, which another store knew as %s", store, r.Id, text, before)
		}
	}
}

// newestRegions returns, for all region ids that a store has, the newest epoch.
func (w *world) newestRegions() map[uint64]*metapb.Region {
	out := map[uint64]*metapb.Region{}
	for _, n := range w.sorted() {
		w.c.Use(n.id, func(up *rafttest.Node) {
			for _, r := range up.Store.Regions() {
				if len(r.Region.GetPeers()) > 0 && newer(r.Region, out[r.Region.Id]) {
					out[r.Region.Id] = r.Region
				}
			}
		})
	}
	return out
}

func newer(a, b *metapb.Region) bool {
	if b == nil || a.RegionEpoch.Version != b.RegionEpoch.Version {
		return b == nil || a.RegionEpoch.Version > b.RegionEpoch.Version
	}
	return a.RegionEpoch.ConfVer > b.RegionEpoch.ConfVer
}

// regionHash hashes what a store has between a region's boundaries.
func regionHash(n *rafttest.Node, r *metapb.Region) (sum uint64, keys int, err error) {
	h := newHash()
	snap := n.Engine.NewSnapshot()
	defer snap.Close()
	for _, cf := range kv.CFs {
		count, err := hashRange(h, snap, cf, r.StartKey, r.EndKey)
		if err != nil {
			return 0, 0, fmt.Errorf("region %d, family %s: %w", r.Id, cf, err)
		}
		keys += count
	}
	return h.Sum64(), keys, nil
}

func appendLen(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)) }
