package raftstore

import (
	"bytes"
	"log/slog"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
)

// A snapshot of a target that has consumed a source meets the source on a store
// that lagged. It may take the source's range over, in the very step that puts
// the target's data there, if it is proven that the source was merged into this
// target and that the snapshot is later than that: by the record that the
// snapshot carries, or by what another store told the source. Anything else in
// the range makes the snapshot wait, as ever (hazard 9).

// takesLocked returns the regions whose range a snapshot takes over; ok is false
// if there is one in its way that it may not take.
func (s *Store) takesLocked(id uint64, st *raft_serverpb.RegionLocalState) (ids []uint64, ok bool) {
	region := st.Region
	for other, r := range s.reserved {
		if other != id && rangesOverlap(r.data.region.StartKey, r.data.region.EndKey, region.StartKey, region.EndKey) {
			return nil, false
		}
	}
	for _, other := range s.ranges.overlapping(id, region.StartKey, region.EndKey) {
		if !s.mergedIntoSnapshot(other, st) || s.reserved[other] != nil {
			return nil, false
		}
		ids = append(ids, other)
	}
	return ids, true
}

// mergedIntoSnapshot reports whether it is proven that the data of a region that
// is here was in st's region before st was made.
func (s *Store) mergedIntoSnapshot(id uint64, st *raft_serverpb.RegionLocalState) bool {
	p := s.peer(id)
	if p == nil {
		return false
	}
	mine := func(r *raft_serverpb.MergedRecord) bool {
		return r != nil && findPeer(&metapb.Region{Peers: r.SourcePeers}, p.id) != nil
	}
	if mine(recordOf(st.MergedRecords, id)) {
		return true
	}
	// The snapshot carries the newest records only; others may have told.
	r := p.mergedInto.Load()
	return mine(r) && r.TargetRegionId == st.Region.Id && st.Region.RegionEpoch.GetVersion() >= r.TargetEpoch.GetVersion()
}

// consumedLocked reports whether all that is here of a message's range is known
// to have been merged into its region. The region's peer may be created beside
// it then: no split here will make it, only a snapshot that takes the sources over.
func (s *Store) consumedLocked(m *RaftMessage) bool {
	for _, r := range s.reserved {
		if rangesOverlap(r.data.region.StartKey, r.data.region.EndKey, m.StartKey, m.EndKey) {
			return false
		}
	}
	st := &raft_serverpb.RegionLocalState{Region: &metapb.Region{Id: m.RegionID, RegionEpoch: &m.Epoch}}
	for _, id := range s.ranges.overlapping(m.RegionID, m.StartKey, m.EndKey) {
		if !s.mergedIntoSnapshot(id, st) {
			return false
		}
	}
	return true
}

// overlapping lists the regions other than id that have a part of [start, end).
func (m *rangeMap) overlapping(id uint64, start, end []byte) (ids []uint64) {
	i, found := m.find(start)
	if !found && i > 0 {
		i--
	}
	for ; i < len(m.sorted); i++ {
		r := m.sorted[i]
		if len(end) > 0 && bytes.Compare(r.start, end) >= 0 {
			break
		}
		if r.id != id && rangesOverlap(r.start, r.end, start, end) {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// holdSources stops the sources before Raft sees the snapshot: once it has taken
// it there is no way back.
func (p *peer) holdSources(r *receivedSnapshot) {
	t := &sourceTake{target: p, r: r}
	r.take = t
	for _, id := range r.takes {
		if src := p.store.peer(id); src != nil {
			t.sources = append(t.sources, src)
		}
	}
	t.waiting.Store(int32(len(t.sources)) + 1)
	for _, src := range t.sources {
		src.send(mailHold{t})
	}
	t.answered(true)
}

// onTaken goes on when all sources have answered. What they did before they
// held may have put another region into the range: a split's child.
func (p *peer) onTaken(m *mailTaken) {
	t, s := m.take, p.store
	region := t.r.data.region
	t.done = true
	clear := !t.failed.Load()
	s.mu.Lock()
	for _, id := range s.ranges.overlapping(p.regionID, region.StartKey, region.EndKey) {
		held := false
		for _, src := range t.sources {
			held = held || src.regionID == id
		}
		clear = clear && held
	}
	s.mu.Unlock()
	if !clear || p.merge.stop != nil {
		s.drop("snapshot_too_early")
		s.background.must(t.r.discard)
		return
	}
	p.onMessage(t.r.m)
}

// release lets the sources go on.
func (t *sourceTake) release() {
	if t == nil {
		return
	}
	for _, src := range t.sources {
		src.send(mailRelease{t})
	}
}

// takeOver says what a snapshot replaces besides its own region, and which
// states end with it.
func (t *sourceTake) takeOver(st *raft_serverpb.RegionLocalState) (ranges []kv.KeyRange, meta []engine.MetaPut) {
	if t == nil {
		return nil, nil
	}
	for _, src := range t.sources {
		a := &src.apply
		ranges = append(ranges, kv.KeyRange{Start: a.region.StartKey, End: a.region.EndKey})
		record := recordOf(st.MergedRecords, src.regionID)
		if record == nil {
			record = src.mergedInto.Load()
		}
		meta = append(meta,
			engine.MetaPut{Key: metaKey(regionStateKind, src.regionID), Value: encodeRegionState(a.mergedState(record))},
			engine.MetaPut{Key: metaKey(applyStateKind, src.regionID)})
	}
	return ranges, meta
}

// bury drops the sources' logs.
func (t *sourceTake) bury(b *raftlog.Batch) {
	if t == nil {
		return
	}
	for _, src := range t.sources {
		buryInLog(b, src.regionID, src.id)
	}
}

// finish ends the sources behind the snapshot.
func (t *sourceTake) finish(region *metapb.Region) {
	if t == nil {
		return
	}
	t.target.store.mergeRanges(region, t.sources)
	for _, src := range t.sources {
		src.send(mailMerged{region: src.apply.region, into: region})
		t.target.log.Info("merged region taken over by a snapshot", slog.Uint64("source", src.regionID))
	}
}
