package raftstore

import (
	"bytes"
	"fmt"
	"log/slog"
	"sync/atomic"

	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"go.etcd.io/raft/v3/raftpb"
)

// The target's part of a merge.
//
//	target's applier          source's Raft worker        source's applier
//	comes to CommitMerge
//	pauses ──── catchUp ────► stops Raft, feeds ────────► applies to PrepareMerge
//	                                  ◄─── held ───────── holds
//	goes on ◄───── ready ────
//	one batch: source is a tombstone, target is wider
//	    └── applyDone ► target's Raft worker: ranges, then mailMerged ► source ends
//
// The source's log goes when that batch is durable: a crash before it brings
// both regions back as they were, and the target applies CommitMerge again.

// mergeWant is a CommitMerge that an applier waits with.
type mergeWant struct {
	source *metapb.Region
	commit uint64
	// ready is the source's peer, held at the commit index.
	ready atomic.Pointer[peer]
}

// mergeResult is what apply has consumed.
type mergeResult struct {
	source *peer
	region *metapb.Region
	record *raft_serverpb.MergedRecord
}

// onTargetAsked answers a source's leader, or proposes what it asks for.
func (p *peer) onTargetAsked(m *RaftMessage) {
	source := m.Merge.Source
	ms := source.MergeState
	if ms.Target.Id != p.regionID || p.store.answerMerge(m) {
		return
	}
	region, r := p.region.Load(), p.role.Load()
	if !r.leader || !sameEpoch(region.GetRegionEpoch(), ms.Target.RegionEpoch) || p.merging.Load() != nil ||
		p.admin.prepare != (proposalID{}) || p.admin.merge != (proposalID{}) {
		return
	}
	req := &raft_cmdpb.CommitMergeRequest{Source: source.Region, Commit: ms.Commit}
	label := "commit_merge"
	if m.Merge.Kind == MergeCancel {
		req.Commit, label = 0, "cancel_merge"
	}
	h := p.newHeader(entryKindAdmin, region)
	p.store.metrics.proposals.WithLabelValues(label).Inc()
	err := p.proposeMergeCommand(&h, &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_CommitMerge, CommitMerge: req})
	if err != nil {
		p.log.Debug("merge waits", slog.String("command", label), slog.Any("error", err))
		return
	}
	p.admin.merge = h.id
}

// commitMergeIn returns the CommitMerge of an entry that is valid now.
func (a *applier) commitMergeIn(e *raftpb.Entry) *raft_cmdpb.CommitMergeRequest {
	data := e.GetData()
	if e.GetType() != raftpb.EntryNormal || len(data) < 2 || data[1] != entryKindAdmin {
		return nil
	}
	h, rest, err := decodeEntry(data)
	if err != nil || !sameEpoch(&h.epoch, a.region.RegionEpoch) || a.merge != nil {
		return nil
	}
	req, err := decodeAdmin(rest)
	if err != nil || req.GetCmdType() != raft_cmdpb.AdminCmdType_CommitMerge || req.GetCommitMerge().GetCommit() == 0 ||
		!adjacent(a.region, req.GetCommitMerge().GetSource()) || !samePlaces(a.region, req.GetCommitMerge().GetSource()) {
		return nil
	}
	return req.GetCommitMerge()
}

// mustWait stops before a CommitMerge until its source is here and held.
func (a *applier) mustWait(e *raftpb.Entry) bool {
	req := a.commitMergeIn(e)
	if req == nil {
		return false
	}
	if w := a.want.Load(); w != nil {
		return w.ready.Load() == nil
	}
	w := &mergeWant{source: req.GetSource(), commit: req.GetCommit()}
	a.want.Store(w)
	a.p.store.wantSource(a.p, w)
	return true
}

// paused reports whether the applier waits for a source.
func (a *applier) paused() bool {
	w := a.want.Load()
	return w != nil && w.ready.Load() == nil
}

// wantSource asks the source's peer to come to its PrepareMerge. If it is not
// here yet, because after a crash its parent has not come to the split that
// makes it, it is asked when it is.
func (s *Store) wantSource(target *peer, w *mergeWant) {
	s.mu.Lock()
	sp := s.peer(w.source.Id)
	if sp == nil {
		s.wanted[w.source.Id] = target
	}
	s.mu.Unlock()
	if self := peerOnStore(w.source, s.id); sp != nil && self != nil && sp.id == self.Id {
		sp.send(&mailCatchUp{target: target, want: w})
	}
}

// offerSource tells the target that waits for a new peer, if there is one.
func (s *Store) offerSource(child *peer) {
	s.mu.Lock()
	target := s.wanted[child.regionID]
	delete(s.wanted, child.regionID)
	s.mu.Unlock()
	if target == nil {
		return
	}
	if w := target.apply.want.Load(); w != nil && w.source.Id == child.regionID {
		s.wantSource(target, w)
	}
}

// tickWant asks again: the source may have been busy with a snapshot.
func (p *peer) tickWant() {
	if w := p.apply.want.Load(); w != nil && w.ready.Load() == nil {
		p.store.wantSource(p, w)
	}
}

// applyCommitMerge makes the target wider. The source's applier is held, so its
// state may be used here.
func (a *applier) applyCommitMerge(batch *engine.Batch, e *raftpb.Entry, h *entryHeader, req *raft_cmdpb.CommitMergeRequest) error {
	if !sameEpoch(&h.epoch, a.region.RegionEpoch) {
		return a.epochNotMatch()
	}
	if req.GetCommit() == 0 { // the merge is to become impossible
		region := cloneRegion(a.region)
		region.RegionEpoch.Version++
		a.setRegion(batch, region)
		return nil
	}
	if a.commitMergeIn(e) == nil {
		return a.epochNotMatch()
	}
	sp := a.want.Load().ready.Load()
	src := &sp.apply
	if src.merge.GetCommit() != req.GetCommit() || src.merge.GetTarget().GetId() != a.p.regionID ||
		!sameEpoch(src.merge.GetTarget().GetRegionEpoch(), a.region.RegionEpoch) || !sameEpoch(src.region.RegionEpoch, req.GetSource().RegionEpoch) {
		panic(fmt.Sprintf("raftstore: region %d takes region %d, prepared at index %d, which is %v in state %v at index %d",
			a.p.regionID, sp.regionID, req.GetCommit(), src.region, src.merge, src.state.index))
	}
	a.want.Store(nil)
	wide := widerRegion(a.region, src.region)
	record := &raft_serverpb.MergedRecord{
		SourceRegionId: src.region.Id, SourceEpoch: src.region.RegionEpoch, SourcePeers: src.region.Peers, SourceIndex: req.GetCommit(),
		TargetRegionId: wide.Id, TargetEpoch: wide.RegionEpoch, TargetPeers: wide.Peers, Index: e.GetIndex()}
	batch.PutMeta(metaKey(regionStateKind, sp.regionID), encodeRegionState(src.mergedState(record)))
	batch.DeleteMeta(metaKey(applyStateKind, sp.regionID)) // no data to delete: it is the target's
	a.records = addRecord(a.records, record)
	a.setRegion(batch, wide)
	a.out.merge = &mergeResult{source: sp, region: src.region, record: record}
	return nil
}

// widerRegion is the target behind a merge. Its version is higher than any that
// a region with a part of the range has ever had.
func widerRegion(target, source *metapb.Region) *metapb.Region {
	wide := cloneRegion(target)
	if len(source.EndKey) > 0 && bytes.Equal(source.EndKey, target.StartKey) {
		wide.StartKey = source.StartKey
	} else {
		wide.EndKey = source.EndKey
	}
	wide.RegionEpoch.Version = max(target.RegionEpoch.GetVersion(), source.RegionEpoch.GetVersion()) + 1
	return wide
}

// addRecord keeps the newest records.
func addRecord(records []*raft_serverpb.MergedRecord, r *raft_serverpb.MergedRecord) []*raft_serverpb.MergedRecord {
	out := append(make([]*raft_serverpb.MergedRecord, 0, len(records)+1), records...)
	out = append(out, r)
	return out[max(0, len(out)-mergedRecordCountMax):]
}

// mergedState is a source's end: it tells what it had consumed itself, and by
// whom it was.
func (a *applier) mergedState(record *raft_serverpb.MergedRecord) *raft_serverpb.RegionLocalState {
	st := tombstoneState(a.region, metapb.Peer{Id: a.p.id, StoreId: a.p.store.id})
	st.MergeState = a.merge
	st.MergedRecords = append(append(st.MergedRecords, a.records...), record)
	return st
}

// onMerged is the target's Raft worker behind a merge.
func (p *peer) onMerged(m *mergeResult, wide *metapb.Region) {
	s, src := p.store, m.source
	size := src.stats.sizeBytes.Load() + src.stats.sizeDelta.Load()
	s.mergeRanges(wide, []*peer{src})
	s.mu.Lock()
	s.mergedLogs[src.regionID] = src
	s.mu.Unlock()
	src.send(mailMerged{region: m.region, into: wide, exact: true})
	p.stats.sizeDelta.Add(size)
	p.log.Info("region merged", slog.Uint64("source", src.regionID), slog.Uint64("version", wide.RegionEpoch.Version))
	if r := p.role.Load(); r.leader {
		p.report.soon = true
		// What this store knows from memory about the range is not complete.
		s.observer.RoleChanged(p.regionID, true, r.term)
	}
}

// mergeRanges gives the ranges of sources to their target, in one step.
func (s *Store) mergeRanges(target *metapb.Region, sources []*peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, src := range sources {
		s.ranges.remove(src.regionID)
		s.peers.CompareAndDelete(src.regionID, src)
		s.tombstones[src.regionID] = max(s.tombstones[src.regionID], src.id)
	}
	s.ranges.set(target)
}

// buryMerged drops the logs of sources whose end is durable.
func (s *Store) buryMerged() {
	now := s.now()
	if now-s.lastBury < int64(s.cfg.LogCheckInterval) {
		return
	}
	s.lastBury = now
	s.mu.Lock()
	logs := make([]*peer, 0, len(s.mergedLogs))
	for _, p := range s.mergedLogs {
		logs = append(logs, p)
	}
	s.mu.Unlock()
	for _, p := range logs {
		value, ok, err := s.engine.GetMetaDurable(metaKey(regionStateKind, p.regionID))
		if err != nil {
			s.fatal(err)
			return
		}
		if ok {
			st, err := decodeRegionState(nil, value)
			if err != nil {
				s.fatal(err)
				return
			}
			ok = st.State == raft_serverpb.PeerState_Tombstone
		}
		if !ok {
			s.flushSoon()
			continue
		}
		s.mu.Lock()
		delete(s.mergedLogs, p.regionID)
		s.mu.Unlock()
		s.logWriter.submit(&logTask{p: p, sync: true, extra: func(b *raftlog.Batch) { buryInLog(b, p.regionID, p.id) }})
	}
}
