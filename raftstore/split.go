package raftstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
)

// A split cuts a region at keys. The region keeps the rightmost piece; the
// others become regions of their own, with peers on the same stores whose ids
// PD has given out.
//
//	[a ─────────────── z) id 2, version 5
//	[a ── h)  [h ── p)  [p ── z)
//	 id 10     id 11     id 2     all version 7
//
// It is an entry of the region's log, so every peer creates the children at
// the same place of the log.

// splitResult is one child that apply has made.
type splitResult struct {
	region  *metapb.Region
	skipped bool // this store's peer was removed before it was created
}

// SplitRegion cuts a region at encoded keys (strictly inside, valid boundaries)
// and returns the pieces from left to right when the split is applied here.
func (s *Store) SplitRegion(ctx context.Context, rc *kvrpcpb.Context, keys [][]byte) ([]*metapb.Region, error) {
	p, err := s.peerFor(rc)
	if err != nil {
		return nil, err
	}
	if err := p.checkLeader(rc, p.role.Load()); err != nil {
		return nil, err
	}
	region := p.region.Load()
	if err := s.checkEpoch(rc, region); err != nil {
		return nil, err
	}
	keys = slices.Clone(keys)
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	for _, key := range keys {
		if len(key) == 0 || !keyInRegion(key, region) || bytes.Equal(key, region.StartKey) {
			return nil, errKeyNotInRegion(key, region)
		}
	}
	return p.split(ctx, region, keys)
}

// split asks PD for ids and proposes.
func (p *peer) split(ctx context.Context, region *metapb.Region, keys [][]byte) ([]*metapb.Region, error) {
	if len(keys) == 0 {
		return []*metapb.Region{region}, nil
	}
	if len(keys) > splitKeyCountMax {
		return nil, fmt.Errorf("raftstore: split of region %d at %d keys: at most %d at once", p.regionID, len(keys), splitKeyCountMax)
	}
	askCtx, cancel := context.WithTimeout(ctx, pdRequestTimeout)
	resp, err := p.store.pd.AskBatchSplit(askCtx, region, len(keys))
	cancel()
	if err != nil {
		return nil, fmt.Errorf("raftstore: split of region %d: ask PD for ids: %w", p.regionID, err)
	}
	req, err := splitRequest(region, keys, resp.GetIds())
	if err != nil {
		return nil, err
	}
	h := p.newHeader(entryKindAdmin, region)
	admin := &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_BatchSplit, Splits: req}
	err = p.propose(ctx, &proposal{
		id: h.id, epoch: proposalEpoch{h.epoch.ConfVer, h.epoch.Version},
		data: encodeAdmin(&h, admin), admin: &adminCommand{req: admin}, done: make(chan error, 1)})
	if err != nil {
		return nil, err
	}
	children, derived := splitRegions(region, req)
	return append(children, derived), nil
}

func splitRequest(region *metapb.Region, keys [][]byte, ids []*pdpb.SplitID) (*raft_cmdpb.BatchSplitRequest, error) {
	if len(ids) != len(keys) {
		return nil, fmt.Errorf("raftstore: split of region %d: PD gave %d ids for %d keys", region.Id, len(ids), len(keys))
	}
	req := &raft_cmdpb.BatchSplitRequest{RightDerive: true}
	for i, key := range keys {
		if len(ids[i].GetNewPeerIds()) != len(region.Peers) {
			return nil, fmt.Errorf("raftstore: split of region %d: PD gave %d peer ids for %d peers", region.Id, len(ids[i].GetNewPeerIds()), len(region.Peers))
		}
		req.Requests = append(req.Requests, &raft_cmdpb.SplitRequest{
			SplitKey: key, NewRegionId: ids[i].GetNewRegionId(), NewPeerIds: ids[i].GetNewPeerIds()})
	}
	return req, nil
}

// splitRegions returns the regions behind a split: the children from left to
// right, and what remains of the region.
func splitRegions(region *metapb.Region, req *raft_cmdpb.BatchSplitRequest) (children []*metapb.Region, derived *metapb.Region) {
	derived = cloneRegion(region)
	derived.RegionEpoch.Version += uint64(len(req.Requests))
	start := region.StartKey
	for _, r := range req.Requests {
		child := cloneRegion(derived)
		child.Id, child.StartKey, child.EndKey = r.NewRegionId, start, r.SplitKey
		for i := range child.Peers {
			child.Peers[i].Id = r.NewPeerIds[i]
		}
		children = append(children, child)
		start = r.SplitKey
	}
	derived.StartKey = start
	return children, derived
}

// proposeAdmin proposes an admin command of this store.
func (p *peer) proposeAdmin(prop *proposal, r *role, region *metapb.Region) {
	if prop.epoch.confVer != region.RegionEpoch.GetConfVer() {
		prop.finish(p.store.epochNotMatch(region))
		return
	}
	split := prop.admin.req.GetCmdType() == raft_cmdpb.AdminCmdType_BatchSplit
	if split {
		switch {
		case isJoint(region):
			prop.finish(errServerIsBusy("the region's members are changing"))
			return
		case p.admin.split != (proposalID{}):
			prop.finish(errServerIsBusy("the region is being split"))
			return
		case p.admin.prepare != (proposalID{}):
			prop.finish(errMerging(p.regionID))
			return
		}
		// From here on another store may lead a part of the range (hazard 8).
		p.admin.split = prop.id
		p.suspendLease()
		p.store.metrics.proposals.WithLabelValues("split").Inc()
	}
	if err := p.stepProposals([]*proposal{prop}, r.term); err != nil {
		p.adminApplied(prop.id)
		prop.finish(p.dropped())
	}
}

// adminApplied ends the wait for an admin command, whatever its result.
func (p *peer) adminApplied(id proposalID) {
	switch id {
	case p.admin.split:
		p.admin.split = proposalID{}
		p.leases.blocked = false
	case p.admin.prepare:
		p.admin.prepare = proposalID{}
		p.leases.blocked = false
	case p.admin.merge:
		p.admin.merge = proposalID{}
	}
	p.admin.compact = false
}

// applySplit cuts the region. Everything goes into the batch that holds the
// applied index: the split is there as a whole, or not at all.
func (a *applier) applySplit(batch *engine.Batch, h *entryHeader, req *raft_cmdpb.BatchSplitRequest) error {
	if h.epoch.ConfVer != a.region.RegionEpoch.GetConfVer() || isJoint(a.region) {
		return a.epochNotMatch()
	}
	last := a.region.StartKey
	for _, r := range req.GetRequests() {
		if bytes.Compare(r.SplitKey, last) <= 0 || !keyInRegion(r.SplitKey, a.region) || len(r.NewPeerIds) != len(a.region.Peers) {
			return errKeyNotInRegion(r.SplitKey, a.region)
		}
		last = r.SplitKey
	}
	children, derived := splitRegions(a.region, req)
	for _, child := range children {
		result := splitResult{region: child, skipped: !a.p.store.maySplitOff(child)}
		if result.skipped {
			for _, cf := range kv.CFs {
				batch.DeleteRange(cf, child.StartKey, child.EndKey)
			}
		} else {
			batch.PutMeta(metaKey(regionStateKind, child.Id), encodeRegionState(normalState(child)))
			batch.PutMeta(metaKey(applyStateKind, child.Id), applyState{initialIndex, initialTerm}.encode())
		}
		a.out.splits = append(a.out.splits, result)
	}
	a.setRegion(batch, derived)
	return nil
}

// maySplitOff says whether this store's peer of a new child is to be created.
// It isn't if the peer was removed, or replaced by a later one, while this
// store had not come to the split yet (hazards 4, 9). The answer can't change
// before the child is there: as long as the parent covers the range nothing
// else is created in it.
func (s *Store) maySplitOff(child *metapb.Region) bool {
	id := peerOnStore(child, s.id).GetId()
	if s.tombstone(child.Id) >= id {
		return false
	}
	if p := s.peer(child.Id); p != nil {
		if p.initialized() {
			panic(fmt.Sprintf("raftstore: region %d has data before its parent was split", child.Id))
		}
		return p.id <= id
	}
	logged, err := s.loggedPeerID(child.Id)
	if err != nil {
		s.fatal(err)
	}
	return logged <= id
}

// onSplits creates the children that apply has made. Their ranges pass from
// the parent to them in one step, so that nothing gets in between (hazard 9).
// region is the parent behind the splits.
func (p *peer) onSplits(splits []splitResult, region *metapb.Region) {
	s := p.store
	// Once a child has a log, a restart must come to the parent's split before
	// it looks at any message: the commit index that reaches it goes first.
	s.logWriter.submit(&logTask{p: p, sync: true, hs: p.hs.proto()})
	lead := p.role.Load().leader
	size := (p.stats.sizeBytes.Load() + p.stats.sizeDelta.Load()) / uint64(len(splits)+1)
	entries := p.approxKeys() / uint64(len(splits)+1)
	var regions []*metapb.Region
	var created, existing []*peer
	for _, r := range splits {
		if r.skipped {
			p.log.Info("split child not created: its peer was removed", slog.Uint64("child", r.region.Id))
			continue
		}
		regions = append(regions, r.region)
		child := s.peer(r.region.Id)
		if child != nil {
			p.inheritFailed(child.regionID)
			existing = append(existing, child)
			continue
		}
		p.inheritFailed(r.region.Id)
		child, err := s.newChild(r.region)
		if err != nil {
			s.fatal(err)
			return
		}
		child.stats.sizeDelta.Store(size)
		child.stats.sizeGuessed.Store(size > 0)
		child.stats.sizeKeys.Store(entries)
		created = append(created, child)
	}
	p.passReadProgress(len(splits), region, created)
	s.splitRanges(region, regions, created)
	for _, child := range existing {
		child.send(mailInitialize{region: regionOf(regions, child.regionID), campaign: lead})
	}
	for _, child := range created {
		s.observer.RegionChanged(child.region.Load(), false)
		if lead {
			child.send(mailCampaign{})
		}
		s.releaseHeld(child)
		s.offerSource(child)
	}
	p.stats.sizeBytes.Store(0)
	p.stats.sizeDelta.Store(size)
	p.stats.sizeKeys.Store(entries)
	p.stats.sizeKeysAt.Store(p.stats.writtenKeys.Load())
	p.load.reset(p)
	if lead {
		p.log.Info("region split", slog.Int("children", len(regions)), slog.Uint64("version", region.RegionEpoch.Version))
		p.reportSplit(append(regions, region))
	}
}

func regionOf(regions []*metapb.Region, id uint64) *metapb.Region {
	for _, r := range regions {
		if r.Id == id {
			return r
		}
	}
	return nil
}

// newChild makes the peer of a child. A log that the child already has, from
// before a crash that made this store forget the split, is kept: it holds
// votes and acknowledged entries (hazards 4, 9).
func (s *Store) newChild(region *metapb.Region) (*peer, error) {
	id := peerOnStore(region, s.id).GetId()
	rs, ok, err := s.loadLog(region.Id, id)
	if err != nil {
		return nil, err
	}
	init := !ok || rs.TruncatedIndex == 0
	if init {
		rs = initialLog(rs, ok)
	}
	child, err := s.newPeer(region, id, rs, applyState{initialIndex, initialTerm})
	if err != nil {
		return nil, fmt.Errorf("raftstore: create region %d: %w", region.Id, err)
	}
	if init {
		s.logWriter.submit(child.initTask())
	}
	return child, nil
}

// initialLog is the start of a child's log, with the votes that rs may hold.
func initialLog(rs raftlog.RaftState, ok bool) raftlog.RaftState {
	hs := hardState{term: initialTerm, commit: initialIndex}
	if ok && rs.HardState.GetTerm() >= initialTerm {
		hs.term, hs.vote = rs.HardState.GetTerm(), rs.HardState.GetVote()
	}
	return raftlog.RaftState{
		HardState: hs.proto(), TruncatedIndex: initialIndex, TruncatedTerm: initialTerm,
		LastIndex: initialIndex, LastTerm: initialTerm}
}

// initTask writes the start of a region's log.
func (p *peer) initTask() *logTask {
	return &logTask{p: p, sync: true, hs: p.hs.proto(), extra: func(b *raftlog.Batch) {
		b.DeleteRegion(p.regionID)
		b.PutMeta(metaKey(peerIDKind, p.regionID), encodeUvarint(p.id))
		b.SetTruncated(p.regionID, initialIndex, initialTerm)
		if len(p.failed) > 0 {
			b.PutMeta(metaKey(recoverKind, p.regionID), encodeFailedStores(p.failed))
		}
	}}
}

// mailInitialize turns a peer without data into the child of a split.
type mailInitialize struct {
	region   *metapb.Region
	campaign bool
}

// initialize is for a peer that was created by its leader's message before
// this store came to the split. Its votes stay.
func (p *peer) initialize(m mailInitialize) {
	if p.initialized() {
		panic(fmt.Sprintf("raftstore: region %d is initialized twice", p.regionID))
	}
	rs := initialLog(raftlog.RaftState{HardState: p.hs.proto()}, true)
	p.hs = hardState{rs.HardState.GetTerm(), rs.HardState.GetVote(), rs.HardState.GetCommit()}
	p.failed = p.store.failedOf(p.regionID)
	members, err := survivors(m.region, p.failed)
	if err != nil {
		p.store.fatal(err)
		return
	}
	p.st.cache.clear()
	p.st = newPeerStorage(p.regionID, p.store.raftLog, newEntryCache(&p.store.caches, &p.cacheBytes), rs, members)
	p.st.hardState = p.hs.proto()
	p.region.Store(m.region)
	p.store.knowStores(m.region)
	p.apply.init(p, m.region, applyState{initialIndex, initialTerm})
	p.applied.Store(initialIndex)
	p.appliedIndex, p.appliedTerm, p.handed = initialIndex, initialTerm, initialIndex
	if err := p.startRaft(initialIndex); err != nil {
		p.store.fatal(err)
		return
	}
	p.role.Store(&role{term: p.hs.term})
	p.appends++
	t := p.initTask()
	t.done = &appendDone{}
	p.store.logWriter.submit(t)
	p.store.observer.RegionChanged(m.region, false)
	if m.campaign {
		p.campaign()
	}
	p.store.releaseHeld(p)
	p.store.offerSource(p)
}
