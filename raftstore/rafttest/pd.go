package rafttest

import (
	"context"
	"fmt"
	"sync"

	"github.com/copradb/copra/raftstore"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// PD gives out ids and remembers the newest heartbeat of every region. It
// decides nothing; tests send operators.
type PD struct {
	c      *Cluster
	mu     sync.Mutex
	nextID uint64
	beats  map[uint64]*pdpb.RegionHeartbeatRequest
	counts map[uint64]int
	splits int
}

var _ raftstore.PD = (*PD)(nil)

func newPD(c *Cluster) *PD {
	return &PD{c: c, nextID: 1000, beats: map[uint64]*pdpb.RegionHeartbeatRequest{}, counts: map[uint64]int{}}
}

// AllocID returns an id that was never used.
func (p *PD) AllocID() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextID++
	return p.nextID
}

// AskBatchSplit implements raftstore.PD.
func (p *PD) AskBatchSplit(ctx context.Context, region *metapb.Region, count int) (*pdpb.AskBatchSplitResponse, error) {
	resp := &pdpb.AskBatchSplitResponse{}
	for range count {
		id := &pdpb.SplitID{NewRegionId: p.AllocID()}
		for range region.Peers {
			id.NewPeerIds = append(id.NewPeerIds, p.AllocID())
		}
		resp.Ids = append(resp.Ids, id)
	}
	return resp, ctx.Err()
}

// ReportBatchSplit implements raftstore.PD.
func (p *PD) ReportBatchSplit(ctx context.Context, regions []*metapb.Region) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.splits += len(regions) - 1
	return ctx.Err()
}

// GetRegionByID implements raftstore.PD.
func (p *PD) GetRegionByID(ctx context.Context, id uint64) (*metapb.Region, error) {
	return p.Beat(id).GetRegion(), ctx.Err()
}

// ReportRegion implements raftstore.PD.
func (p *PD) ReportRegion(hb *pdpb.RegionHeartbeatRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[hb.Region.Id]++
	if old := p.beats[hb.Region.Id]; old == nil || old.Term <= hb.Term {
		p.beats[hb.Region.Id] = hb
	}
}

// Beat returns the newest heartbeat of a region, or nil.
func (p *PD) Beat(regionID uint64) *pdpb.RegionHeartbeatRequest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beats[regionID]
}

// Beats is how many heartbeats of a region came.
func (p *PD) Beats(regionID uint64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts[regionID]
}

// Splits is how many new regions were reported.
func (p *PD) Splits() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.splits
}

// Operate sends an operator to the region's leader.
func (p *PD) Operate(resp *pdpb.RegionHeartbeatResponse) {
	if lead := p.c.LeaderOf(resp.RegionId); lead != 0 {
		if resp.RegionEpoch == nil {
			r, _ := p.c.Node(lead).Store.Region(resp.RegionId)
			resp.RegionEpoch = r.Region.RegionEpoch
		}
		p.c.Node(lead).Store.OnPDResponse(resp)
	}
}

// Change is one change of members.
func Change(typ eraftpb.ConfChangeType, peer, store uint64) *pdpb.ChangePeer {
	return &pdpb.ChangePeer{ChangeType: typ, Peer: &metapb.Peer{Id: peer, StoreId: store}}
}

// Merge repeats the operator that merges source into target until it has taken
// effect: the target has the range, and the source is gone.
func (p *PD) Merge(source, target uint64) {
	p.c.TB.Helper()
	p.c.Eventually(fmt.Sprintf("merge of region %d into %d", source, target), func() bool {
		return p.TryMerge(source, target)
	})
}

// TryMerge sends the operator once, and reports whether the source has no leader
// any longer because the target has its range.
func (p *PD) TryMerge(source, target uint64) bool {
	if p.Merged(source, target) {
		return true
	}
	if lead := p.c.LeaderOf(target); lead != 0 {
		if r, ok := p.c.Node(lead).Store.Region(target); ok {
			p.Operate(&pdpb.RegionHeartbeatResponse{RegionId: source, Merge: &pdpb.Merge{Target: r.Region}})
		}
	}
	return false
}

// Merged reports whether no store that is up has source any longer, and the
// target has a leader.
func (p *PD) Merged(source, target uint64) bool {
	for _, id := range p.c.IDs() {
		if n := p.c.Node(id); n.Up.Load() {
			if _, ok := n.Store.Region(source); ok {
				return false
			}
		}
	}
	return p.c.LeaderOf(target) != 0
}

// ChangePeers repeats an operator, as PD does, until done says that it has
// taken effect.
func (p *PD) ChangePeers(regionID uint64, done func(*metapb.Region) bool, changes ...*pdpb.ChangePeer) {
	p.c.TB.Helper()
	p.c.Eventually("change of members", func() bool {
		lead := p.c.LeaderOf(regionID)
		if lead == 0 {
			return false
		}
		r, _ := p.c.Node(lead).Store.Region(regionID)
		if done(r.Region) {
			return true
		}
		p.Operate(&pdpb.RegionHeartbeatResponse{RegionId: regionID, ChangePeerV2: &pdpb.ChangePeerV2{Changes: changes}})
		return false
	})
}

// AddPeer adds a learner, waits for its data, and promotes it.
func (p *PD) AddPeer(regionID, store uint64) (peer uint64) {
	p.c.TB.Helper()
	peer = p.AllocID()
	p.ChangePeers(regionID, func(r *metapb.Region) bool { return RoleOf(r, peer) == metapb.PeerRole_Learner },
		Change(eraftpb.ConfChangeType_AddLearnerNode, peer, store))
	p.c.Eventually("data of the learner", func() bool {
		r, ok := p.c.Node(store).Store.Region(regionID)
		return ok && len(r.Region.Peers) > 0
	})
	p.ChangePeers(regionID, func(r *metapb.Region) bool { return RoleOf(r, peer) == metapb.PeerRole_Voter },
		Change(eraftpb.ConfChangeType_AddNode, peer, store))
	return peer
}

// RemovePeer removes a peer, whatever it is.
func (p *PD) RemovePeer(regionID, peer, store uint64) {
	p.c.TB.Helper()
	p.ChangePeers(regionID, func(r *metapb.Region) bool { return RoleOf(r, peer) < 0 },
		Change(eraftpb.ConfChangeType_RemoveNode, peer, store))
}

// TransferLeader makes the peer on store the leader.
func (p *PD) TransferLeader(regionID, store uint64) {
	p.c.TB.Helper()
	p.c.Eventually("leader transfer", func() bool {
		lead := p.c.LeaderOf(regionID)
		if lead == store || lead == 0 {
			return lead == store
		}
		r, _ := p.c.Node(lead).Store.Region(regionID)
		for _, peer := range r.Region.Peers {
			if peer.StoreId == store {
				p.Operate(&pdpb.RegionHeartbeatResponse{RegionId: regionID, TransferLeader: &pdpb.TransferLeader{Peer: peer}})
			}
		}
		return false
	})
}

// RoleOf returns a peer's role, or -1 if it is no member.
func RoleOf(r *metapb.Region, peer uint64) metapb.PeerRole {
	for _, p := range r.GetPeers() {
		if p.Id == peer {
			return p.Role
		}
	}
	return -1
}
