package raftstore

import (
	"bytes"
	"fmt"
	"log/slog"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// A merge gives the range of one region, the source, to its neighbour, the
// target; both have their peers on the same stores. docs/adr/0006 has the
// argument why nothing is lost and nothing served twice.
//
//	source's log    ... writes | PrepareMerge | nothing takes effect ...
//	                             state Merging: no writes, no reads
//	source's leader              waits until every peer has the entry on disk,
//	                             then asks the target's leader ──┐
//	target's log    ... writes ...                       CommitMerge | writes to both ranges
//	                             valid at one epoch of the target only;
//	                             each store first applies its source to PrepareMerge
//
// If the target's epoch has moved by anything else, CommitMerge never applies,
// and the source's leader proposes RollbackMerge. When a merge takes too long it
// asks the target's leader to move the epoch: time alone proves nothing (hazard
// 11).

// mergeState is the Raft worker's view of a merge in which its peer is the
// source.
type mergeState struct {
	// Of the leader: which merge it drives, since when, when it last looked how
	// it stands, and whether it has asked its target.
	commit uint64
	since  int64
	looked int64
	asked  bool

	// stop says why this peer takes no part in Raft any longer; see mergestop.go.
	stop *sourceStop
}

// prepareMerge proposes to give the region to target, which PD has chosen.
func (p *peer) prepareMerge(target *metapb.Region) error {
	region := p.region.Load()
	local, err := p.checkMerge(region, target)
	if err != nil {
		return fmt.Errorf("merge of region %d into region %d: %w", p.regionID, target.GetId(), err)
	}
	h := p.newHeader(entryKindAdmin, region)
	req := &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_PrepareMerge,
		PrepareMerge: &raft_cmdpb.PrepareMergeRequest{MinIndex: p.minMatch(), Target: local}}
	// From here on another store may lead the range (hazard 8).
	p.admin.prepare = h.id
	p.suspendLease()
	p.store.metrics.proposals.WithLabelValues("prepare_merge").Inc()
	if err := p.proposeMergeCommand(&h, req); err != nil {
		p.adminApplied(h.id)
		return err
	}
	return nil
}

// proposeMergeCommand proposes a command that nobody waits for.
func (p *peer) proposeMergeCommand(h *entryHeader, req *raft_cmdpb.AdminRequest) error {
	prop := &proposal{id: h.id, data: encodeAdmin(h, req), admin: &adminCommand{req: req}, done: make(chan error, 1)}
	if err := p.stepProposals([]*proposal{prop}, p.role.Load().term); err != nil {
		return p.dropped()
	}
	return nil
}

// checkMerge returns the target as it is here, or why a merge can't begin now.
func (p *peer) checkMerge(region, target *metapb.Region) (local *metapb.Region, err error) {
	tp := p.store.peer(target.GetId())
	if tp == nil || !tp.initialized() || target.GetId() == p.regionID {
		return nil, fmt.Errorf("the target has no peer with data on this store")
	}
	local = tp.region.Load()
	switch {
	case tp.merging.Load() != nil:
		return nil, fmt.Errorf("the target is being merged itself")
	case !sameEpoch(local.RegionEpoch, target.GetRegionEpoch()):
		return nil, fmt.Errorf("the target's epoch is %s here, not %s", local.RegionEpoch, target.GetRegionEpoch())
	case !adjacent(region, local):
		return nil, fmt.Errorf("the regions are no neighbours")
	case !decodableTogether(region, local):
		return nil, fmt.Errorf("the merged region would have a boundary that transactional clients can't decode")
	case len(p.failed) > 0 || len(p.store.failedOf(local.Id)) > 0:
		return nil, fmt.Errorf("a region is recovering from the loss of its quorum")
	case !samePlaces(region, local):
		return nil, fmt.Errorf("the regions are on different stores, or in different roles")
	case isJoint(region) || isJoint(local):
		return nil, fmt.Errorf("the members of a region are changing")
	case p.admin.split != (proposalID{}) || p.admin.prepare != (proposalID{}) || len(p.admin.removing) > 0:
		return nil, fmt.Errorf("the region is being split, merged or moved already")
	case p.rn.BasicStatus().LeadTransferee != raft.None:
		return nil, fmt.Errorf("the region's leader is being transferred")
	}
	return local, p.checkFollowers()
}

// checkFollowers refuses a merge that would have to wait for a slow peer.
func (p *peer) checkFollowers() (err error) {
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		switch {
		case id == p.id:
		case pr.State != tracker.StateReplicate || !pr.RecentActive:
			err = fmt.Errorf("peer %d is not up to date", id)
		case pr.Match+mergeLogGapMax < p.st.last:
			err = fmt.Errorf("peer %d lags by %d entries", id, p.st.last-pr.Match)
		}
	})
	return err
}

// adjacent reports whether one region begins where the other ends.
func adjacent(a, b *metapb.Region) bool {
	return (len(a.EndKey) > 0 && bytes.Equal(a.EndKey, b.StartKey)) || (len(b.EndKey) > 0 && bytes.Equal(b.EndKey, a.StartKey))
}

// decodableTogether reports whether transactional clients can decode what two
// neighbours would be as one region. One that lies in a pocket of raw keys, and
// ends there, stays apart from those outside of it.
func decodableTogether(a, b *metapb.Region) bool {
	if len(a.EndKey) > 0 && bytes.Equal(a.EndKey, b.StartKey) {
		return codec.RegionDecodable(a.StartKey, b.EndKey)
	}
	return codec.RegionDecodable(b.StartKey, a.EndKey)
}

// samePlaces reports whether two regions have peers on the same stores, in the
// same roles.
func samePlaces(a, b *metapb.Region) bool {
	if len(a.Peers) != len(b.Peers) {
		return false
	}
	for _, p := range a.Peers {
		if o := peerOnStore(b, p.StoreId); o == nil || o.Role != p.Role || o.IsWitness != p.IsWitness {
			return false
		}
	}
	return true
}

// applyPrepareMerge stops the region: behind this entry nothing takes effect
// but RollbackMerge.
func (a *applier) applyPrepareMerge(batch *engine.Batch, index uint64, h *entryHeader, req *raft_cmdpb.PrepareMergeRequest) error {
	if h.epoch.ConfVer != a.region.RegionEpoch.GetConfVer() || isJoint(a.region) {
		return a.epochNotMatch()
	}
	if !adjacent(a.region, req.GetTarget()) || !samePlaces(a.region, req.GetTarget()) {
		return a.epochNotMatch()
	}
	region := cloneRegion(a.region)
	region.RegionEpoch.Version++
	region.RegionEpoch.ConfVer++ // no change of members that is on its way may take effect
	a.merge = &raft_serverpb.MergeState{MinIndex: req.GetMinIndex(), Target: req.GetTarget(), Commit: index}
	a.setRegion(batch, region)
	return nil
}

// applyRollbackMerge lets the region serve again. Whoever proposed it had proof
// that CommitMerge can't be applied any more.
func (a *applier) applyRollbackMerge(batch *engine.Batch, req *raft_cmdpb.RollbackMergeRequest) error {
	if a.merge == nil || a.merge.Commit != req.GetCommit() {
		return a.epochNotMatch()
	}
	region := cloneRegion(a.region)
	region.RegionEpoch.Version++
	a.merge = nil
	a.setRegion(batch, region)
	return nil
}

// publishRegion shows what apply has made of the region. A reader that sees the
// epoch of a merging region sees that it is one.
func (p *peer) publishRegion(region *metapb.Region, merge *raft_serverpb.MergeState) {
	if merge != nil {
		p.merging.Store(merge)
	}
	p.region.Store(region)
	if merge == nil {
		p.merging.Store(nil)
	}
}

// driveMerge is the source's leader at the end of a round.
func (p *peer) driveMerge() {
	ms, r := p.merging.Load(), p.role.Load()
	if ms == nil || !r.leader || p.gone || p.merge.stop != nil || p.appliedTerm != r.term {
		p.merge.since = 0
		return
	}
	m := &p.merge
	if m.since == 0 || m.commit != ms.Commit {
		m.commit, m.since, m.looked, m.asked = ms.Commit, p.now, p.now, false
	}
	all := p.allHave(ms.Commit)
	if due := p.now-m.looked >= mergeRetryTicks*int64(p.store.cfg.TickInterval); !due && (m.asked || !all) {
		return
	}
	m.looked, m.asked = p.now, m.asked || all
	v, record := p.store.judgeMerge(p.regionID, ms.Target)
	p.onMergeVerdict(ms.Commit, v, record)
	switch {
	case v != mergeOpen:
	case p.now-m.since >= int64(p.store.cfg.MergeTimeout):
		p.askTarget(ms, MergeCancel)
	case all:
		p.askTarget(ms, MergeCommit)
	}
}

// allHave reports whether every peer has the log up to index on disk.
func (p *peer) allHave(index uint64) bool {
	all := true
	p.rn.WithProgress(func(_ uint64, _ raft.ProgressType, pr tracker.Progress) {
		all = all && pr.Match >= index
	})
	return all
}

// askTarget asks the peers of the target: one of them leads.
func (p *peer) askTarget(ms *raft_serverpb.MergeState, kind MergeKind) {
	region := p.region.Load()
	source := &raft_serverpb.RegionLocalState{State: raft_serverpb.PeerState_Merging, Region: region, MergeState: ms}
	for _, to := range ms.Target.Peers {
		m := p.newMessage(region)
		m.RegionID, m.To = ms.Target.Id, *to
		m.Epoch = metapb.RegionEpoch{ConfVer: ms.Target.RegionEpoch.GetConfVer(), Version: ms.Target.RegionEpoch.GetVersion()}
		m.Merge = &MergeMessage{Kind: kind, Source: source}
		p.store.sendMerge(m)
	}
}

// onMergeMessage handles what another region's peer says about a merge.
func (p *peer) onMergeMessage(m *RaftMessage) {
	switch {
	case m.Merge.Kind != MergeVerdict:
		p.onTargetAsked(m)
	case m.Merge.Record == nil:
		p.onMergeVerdict(m.Merge.Commit, mergeFailed, nil)
	default:
		p.onMergeVerdict(m.Merge.Commit, mergeDone, m.Merge.Record)
	}
}

// onMergeVerdict goes on when it is known how the merge ended.
func (p *peer) onMergeVerdict(commit uint64, v verdict, record *raft_serverpb.MergedRecord) {
	ms, r := p.merging.Load(), p.role.Load()
	switch {
	case v == mergeDone && record.SourceRegionId == p.regionID && findPeer(&metapb.Region{Peers: record.SourcePeers}, p.id) != nil:
		p.mergedInto.Store(record)
		p.leaveMerged(record)
	case v == mergeDone && record.SourceRegionId == p.regionID:
		// The merge froze the members: this peer was removed before.
		epoch := p.region.Load().RegionEpoch
		p.endLife(metapb.RegionEpoch{ConfVer: epoch.GetConfVer(), Version: epoch.GetVersion()})
	case v == mergeFailed && ms != nil && ms.Commit == commit && r.leader && p.admin.merge == (proposalID{}):
		region := p.region.Load()
		h := p.newHeader(entryKindAdmin, region)
		req := &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_RollbackMerge,
			RollbackMerge: &raft_cmdpb.RollbackMergeRequest{Commit: ms.Commit}}
		p.store.metrics.proposals.WithLabelValues("rollback_merge").Inc()
		if err := p.proposeMergeCommand(&h, req); err != nil {
			p.log.Debug("rollback of a merge waits", slog.Any("error", err))
			return
		}
		p.admin.merge = h.id
		p.log.Info("merge rolled back: its target has changed", slog.Uint64("target", ms.Target.Id))
	}
}

// leaveMerged ends a source that was merged elsewhere when nobody here will
// need its data: the peer of the target that would have consumed it is gone, or
// past the merge by a snapshot of a later time.
func (p *peer) leaveMerged(record *raft_serverpb.MergedRecord) {
	if p.merge.stop != nil || p.ending {
		return
	}
	consumer := peerOnStore(&metapb.Region{Peers: record.TargetPeers}, p.store.id)
	if consumer == nil {
		return
	}
	over := p.store.tombstone(record.TargetRegionId) >= consumer.Id
	if tp := p.store.peer(record.TargetRegionId); tp != nil && tp.initialized() {
		over = over || tp.region.Load().RegionEpoch.GetVersion() >= record.TargetEpoch.GetVersion()
	}
	if over {
		epoch := p.region.Load().RegionEpoch
		p.log.Info("region was merged elsewhere", slog.Uint64("target", record.TargetRegionId))
		p.endLife(metapb.RegionEpoch{ConfVer: epoch.GetConfVer(), Version: epoch.GetVersion()})
	}
}
