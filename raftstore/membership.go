package raftstore

import (
	"fmt"
	"log/slog"

	"github.com/copradb/copra/raftstore/engine"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/raft_cmdpb"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// Changes of members (hazard 5). One at a time; whatever touches the voters
// goes through a joint configuration, which Raft leaves by itself as soon as it
// is applied. A learner comes and goes in one step, since it is in no quorum.
//
//	voter → gone:    voter ──joint──► demoting voter ──leave──► learner ──► gone
//	learner → voter: learner ──joint──► incoming voter ──leave──► voter
//
// A peer's roles during the joint phase are the configuration: confState
// derives it after a restart. conf_ver counts as in TiKV: by the number of
// changes on entering, by the number of changed roles on leaving.

// adminState is the Raft worker's view of the admin commands on their way.
type adminState struct {
	split    proposalID // zero: none
	prepare  proposalID // PrepareMerge
	merge    proposalID // CommitMerge of a target, RollbackMerge of a source
	removing []uint64   // voters being removed: demoted, then dropped
	compact  bool
}

func (a *adminState) reset() { *a = adminState{} }

// adminCommand is an admin proposal before it has an entry.
type adminCommand struct{ req *raft_cmdpb.AdminRequest }

// mailOperator is an instruction of PD.
type mailOperator struct{ resp *pdpb.RegionHeartbeatResponse }

// OnPDResponse runs what PD answers to a region heartbeat. What can't be done
// now is dropped: PD repeats an operator until it sees its result.
func (s *Store) OnPDResponse(resp *pdpb.RegionHeartbeatResponse) {
	if p := s.peer(resp.GetRegionId()); p != nil {
		p.send(mailOperator{resp})
	}
}

func (p *peer) onOperator(resp *pdpb.RegionHeartbeatResponse) {
	if !p.role.Load().leader {
		return
	}
	region := p.region.Load()
	if e := resp.GetRegionEpoch(); e != nil && resp.GetSplitRegion() == nil &&
		(e.GetVersion() != region.RegionEpoch.GetVersion() || e.GetConfVer() != region.RegionEpoch.GetConfVer()) {
		p.log.Info("operator of another epoch ignored", slog.String("operator", e.String()), slog.String("epoch", region.RegionEpoch.String()))
		return
	}
	if p.merging.Load() != nil || p.merge.stop != nil {
		p.log.Info("operator ignored: the region is being merged")
		return
	}
	var err error
	switch {
	case resp.GetChangePeer() != nil:
		err = p.changePeers([]*pdpb.ChangePeer{resp.GetChangePeer()})
	case resp.GetChangePeerV2() != nil:
		// Without changes it asks to leave the joint state, which Raft does.
		if changes := resp.GetChangePeerV2().GetChanges(); len(changes) > 0 {
			err = p.changePeers(changes)
		}
	case resp.GetTransferLeader() != nil:
		err = p.transferLeader(resp.GetTransferLeader())
	case resp.GetSplitRegion() != nil:
		p.splitByOperator(resp.GetSplitRegion())
	case resp.GetMerge() != nil:
		err = p.prepareMerge(resp.GetMerge().GetTarget())
	case resp.GetSwitchWitnesses() != nil:
		err = fmt.Errorf("witnesses are not supported")
	}
	if err != nil {
		p.log.Warn("operator refused", slog.Any("error", err))
	}
}

// changePeers proposes a change of members.
func (p *peer) changePeers(changes []*pdpb.ChangePeer) error {
	region := p.region.Load()
	if p.admin.split != (proposalID{}) {
		return fmt.Errorf("a split is on its way")
	}
	if p.admin.prepare != (proposalID{}) || p.merging.Load() != nil {
		return fmt.Errorf("the region is being merged")
	}
	plan, removing, err := planMembership(region, p.id, changes)
	if err != nil || len(plan) == 0 {
		return err
	}
	if err := p.checkPromotions(plan); err != nil {
		return err
	}
	h := p.newHeader(entryKindAdmin, region)
	cc := confChange(plan)
	cc.Context = encodeAdmin(&h, membershipRequest(plan))
	p.store.metrics.proposals.WithLabelValues("conf_change").Inc()
	if err := p.rn.ProposeConfChange(cc); err != nil {
		return fmt.Errorf("propose change of members: %w", err)
	}
	if len(removing) > 0 {
		p.admin.removing = removing
	}
	return nil
}

// checkPromotions refuses to give a vote to a peer that has no data yet, and
// may not even exist: only a leader's message creates it, so that a leader that
// is lost while its vote is needed could never be followed by another one. For
// the same reason it refuses to take the vote of so many that have data that
// the others, such as a split's child whose parent lags there, are needed.
func (p *peer) checkPromotions(plan []*pdpb.ChangePeer) error {
	if err := p.checkDemotions(plan); err != nil {
		return err
	}
	for _, c := range plan {
		if c.GetChangeType() != eraftpb.ConfChangeType_AddNode {
			continue
		}
		id, match := c.GetPeer().GetId(), uint64(0)
		p.rn.WithProgress(func(at uint64, _ raft.ProgressType, pr tracker.Progress) {
			if at == id {
				match = pr.Match
			}
		})
		if match == 0 || match < p.st.truncatedIndex {
			return fmt.Errorf("peer %d on store %d cannot become a voter before it has the region's data: add it as a learner and wait", id, c.GetPeer().GetStoreId())
		}
	}
	return nil
}

func (p *peer) checkDemotions(plan []*pdpb.ChangePeer) error {
	if !demotes(plan) {
		return nil
	}
	leaves := func(id uint64) bool {
		for _, c := range plan {
			if c.GetPeer().GetId() == id && c.GetChangeType() != eraftpb.ConfChangeType_AddNode {
				return true
			}
		}
		return false
	}
	voters, able := 0, 0
	for _, id := range confState(p.region.Load()).Voters {
		if leaves(id) {
			continue
		}
		voters++
		p.rn.WithProgress(func(at uint64, _ raft.ProgressType, pr tracker.Progress) {
			if at == id && (id == p.id || (pr.Match != 0 && pr.Match >= p.st.truncatedIndex)) {
				able++
			}
		})
	}
	if able <= voters/2 {
		return fmt.Errorf("only %d of the %d voters that would stay have the region's data: wait until they do", able, voters)
	}
	return nil
}

// planMembership checks changes against the region and turns them into one
// step. A voter to be removed is demoted in this step; removing has its id.
func planMembership(region *metapb.Region, self uint64, changes []*pdpb.ChangePeer) (plan []*pdpb.ChangePeer, removing []uint64, err error) {
	if isJoint(region) {
		return nil, nil, fmt.Errorf("region %d is still in a joint configuration", region.Id)
	}
	for _, c := range changes {
		id, store := c.GetPeer().GetId(), c.GetPeer().GetStoreId()
		have := findPeer(region, id)
		if id == 0 || store == 0 {
			return nil, nil, fmt.Errorf("peer without id or store")
		}
		if at := peerOnStore(region, store); have == nil && at != nil && c.GetChangeType() != eraftpb.ConfChangeType_RemoveNode {
			return nil, nil, fmt.Errorf("store %d already has peer %d", store, at.Id)
		}
		if have != nil && have.StoreId != store {
			return nil, nil, fmt.Errorf("peer %d is on store %d, not %d", id, have.StoreId, store)
		}
		step := &pdpb.ChangePeer{Peer: &metapb.Peer{Id: id, StoreId: store}, ChangeType: c.GetChangeType()}
		switch {
		case c.GetChangeType() == eraftpb.ConfChangeType_AddNode:
			if have != nil && have.Role == metapb.PeerRole_Voter {
				continue // done before
			}
		case c.GetChangeType() == eraftpb.ConfChangeType_AddLearnerNode:
			if have != nil && have.Role == metapb.PeerRole_Learner {
				continue
			}
			if have != nil {
				step.Peer.Role = metapb.PeerRole_DemotingVoter
			}
		case have == nil:
			continue
		case have.Role == metapb.PeerRole_Voter:
			step.ChangeType = eraftpb.ConfChangeType_AddLearnerNode
			step.Peer.Role = metapb.PeerRole_DemotingVoter
			removing = append(removing, id)
		}
		if id == self && step.ChangeType != eraftpb.ConfChangeType_AddNode {
			return nil, nil, fmt.Errorf("the leader %d cannot be demoted or removed: transfer its leadership first", id)
		}
		plan = append(plan, step)
	}
	return oneStep(region, plan), removing, nil
}

// oneStep cuts a plan to what one entry can do. Learners that come or go
// need no joint configuration if it is one; together with voters they share
// theirs.
func oneStep(region *metapb.Region, plan []*pdpb.ChangePeer) []*pdpb.ChangePeer {
	for _, c := range plan {
		if touchesVoters(region, c) {
			return plan
		}
	}
	return plan[:min(1, len(plan))]
}

func touchesVoters(region *metapb.Region, c *pdpb.ChangePeer) bool {
	have := findPeer(region, c.GetPeer().GetId())
	return c.GetChangeType() == eraftpb.ConfChangeType_AddNode || (have != nil && have.Role == metapb.PeerRole_Voter)
}

func membershipRequest(plan []*pdpb.ChangePeer) *raft_cmdpb.AdminRequest {
	v2 := &raft_cmdpb.ChangePeerV2Request{}
	for _, c := range plan {
		v2.Changes = append(v2.Changes, &raft_cmdpb.ChangePeerRequest{ChangeType: c.ChangeType, Peer: c.Peer})
	}
	return &raft_cmdpb.AdminRequest{CmdType: raft_cmdpb.AdminCmdType_ChangePeerV2, ChangePeerV2: v2}
}

// confChange is the plan as Raft sees it.
func confChange(plan []*pdpb.ChangePeer) *raftpb.ConfChangeV2 {
	cc := &raftpb.ConfChangeV2{}
	joint := len(plan) > 1
	for _, c := range plan {
		typ := raftpb.ConfChangeAddNode
		switch c.GetChangeType() {
		case eraftpb.ConfChangeType_AddLearnerNode:
			typ = raftpb.ConfChangeAddLearnerNode
		case eraftpb.ConfChangeType_RemoveNode:
			typ = raftpb.ConfChangeRemoveNode
		}
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: typ.Enum(), NodeId: new(c.GetPeer().GetId())})
		joint = joint || c.GetChangeType() == eraftpb.ConfChangeType_AddNode
	}
	if joint || demotes(plan) {
		cc.Transition = raftpb.ConfChangeTransitionJointImplicit.Enum()
	}
	return cc
}

// demotes reports whether a plan turns a voter into a learner. planMembership
// marks such steps by the role the peer has.
func demotes(plan []*pdpb.ChangePeer) bool {
	for _, c := range plan {
		if c.GetPeer().GetRole() == metapb.PeerRole_DemotingVoter {
			return true
		}
	}
	return false
}

// applyMembership applies an entry of Raft's own kind.
func (a *applier) applyMembership(batch *engine.Batch, e *raftpb.Entry) {
	cc := new(raftpb.ConfChangeV2)
	if err := proto.Unmarshal(e.GetData(), cc); err != nil {
		panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
	}
	if cc.LeaveJoint() {
		if isJoint(a.region) {
			a.changeMembers(batch, cc, leaveJoint(a.region))
		}
		return
	}
	h, rest, err := decodeEntry(cc.GetContext())
	if err != nil {
		panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
	}
	epoch := a.region.RegionEpoch
	if h.epoch.Version != epoch.GetVersion() || h.epoch.ConfVer != epoch.GetConfVer() || isJoint(a.region) || a.merge != nil {
		a.answer(&h, e.GetTerm(), a.epochNotMatch())
		return
	}
	req, err := decodeAdmin(rest)
	if err != nil {
		panic(fmt.Sprintf("raftstore: region %d, entry %d: %v", a.p.regionID, e.GetIndex(), err))
	}
	_, joint := cc.EnterJoint()
	a.changeMembers(batch, cc, enterMembership(a.region, req.GetChangePeerV2(), joint))
	a.answer(&h, e.GetTerm(), nil)
}

func (a *applier) changeMembers(batch *engine.Batch, cc *raftpb.ConfChangeV2, region *metapb.Region) {
	a.out.confChanges = append(a.out.confChanges, cc)
	for _, p := range a.region.Peers {
		if findPeer(region, p.Id) == nil {
			a.out.left = append(a.out.left, p)
		}
	}
	if findPeer(region, a.p.id) == nil {
		a.out.changed = true
		a.end(batch, region)
		return
	}
	a.setRegion(batch, region)
}

// enterMembership gives the peers their roles behind a change.
func enterMembership(region *metapb.Region, req *raft_cmdpb.ChangePeerV2Request, joint bool) *metapb.Region {
	out := cloneRegion(region)
	for _, c := range req.GetChanges() {
		have := findPeer(out, c.GetPeer().GetId())
		add := have == nil && c.GetChangeType() != eraftpb.ConfChangeType_RemoveNode
		if add {
			have = &metapb.Peer{Id: c.GetPeer().GetId(), StoreId: c.GetPeer().GetStoreId(), Role: metapb.PeerRole_Learner}
			out.Peers = append(out.Peers, have)
		}
		switch {
		case c.GetChangeType() == eraftpb.ConfChangeType_RemoveNode:
			out.Peers = withoutPeer(out.Peers, c.GetPeer().GetId())
		case c.GetChangeType() == eraftpb.ConfChangeType_AddLearnerNode:
			if !add && have.Role == metapb.PeerRole_Voter {
				have.Role = metapb.PeerRole_DemotingVoter
			}
		case joint && have.Role != metapb.PeerRole_Voter:
			have.Role = metapb.PeerRole_IncomingVoter
		}
	}
	out.RegionEpoch.ConfVer += uint64(len(req.GetChanges()))
	return out
}

func leaveJoint(region *metapb.Region) *metapb.Region {
	out := cloneRegion(region)
	for _, p := range out.Peers {
		switch p.Role {
		case metapb.PeerRole_IncomingVoter:
			p.Role = metapb.PeerRole_Voter
		case metapb.PeerRole_DemotingVoter:
			p.Role = metapb.PeerRole_Learner
		default:
			continue
		}
		out.RegionEpoch.ConfVer++
	}
	return out
}

func withoutPeer(peers []*metapb.Peer, id uint64) []*metapb.Peer {
	out := peers[:0]
	for _, p := range peers {
		if p.Id != id {
			out = append(out, p)
		}
	}
	return out
}

// tickRemoval finishes the removal of a voter: demoted and out of the joint
// state, it is dropped.
func (p *peer) tickRemoval() {
	region := p.region.Load()
	if len(p.admin.removing) == 0 || isJoint(region) {
		return
	}
	gone := findPeer(region, p.admin.removing[0])
	if gone == nil {
		p.admin.removing = p.admin.removing[1:]
		return
	}
	if gone.Role != metapb.PeerRole_Learner {
		return // the demotion is not applied yet
	}
	err := p.changePeers([]*pdpb.ChangePeer{{ChangeType: eraftpb.ConfChangeType_RemoveNode, Peer: gone}})
	if err != nil {
		p.log.Debug("removal waits", slog.Any("error", err))
	}
}

// transferLeader hands the office to another voter. A transfer's MsgTimeoutNow
// may arrive at any time, and the election it starts ignores leases: so this
// leader has none any longer in this term (hazard 7).
func (p *peer) transferLeader(op *pdpb.TransferLeader) error {
	to := op.GetPeer()
	if peers := op.GetPeers(); len(peers) > 0 {
		to = peers[0]
	}
	have := findPeer(p.region.Load(), to.GetId())
	if have == nil || have.Role == metapb.PeerRole_Learner || have.Role == metapb.PeerRole_DemotingVoter {
		return fmt.Errorf("peer %d cannot lead", to.GetId())
	}
	if have.Id == p.id {
		return nil
	}
	if err := p.readyToLead(have); err != nil {
		return fmt.Errorf("transfer of the leadership to store %d: %w", have.StoreId, err)
	}
	p.handOver(have)
	return nil
}

// transferLagEntriesMax is how far behind the log the next leader may be. What
// is written during a transfer waits for its end.
const transferLagEntriesMax = 1024

// readyToLead refuses a transfer that would only hold up the region: its writes
// would wait for an election timeout until Raft gives it up, and its reads would
// go without a lease for the rest of the term.
func (p *peer) readyToLead(to *metapb.Peer) error {
	if !p.store.answers(to.StoreId, p.now) {
		return fmt.Errorf("nothing was heard of it for an election timeout, or it is stopping")
	}
	var err error
	p.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if id != to.Id {
			return
		}
		switch lag := p.st.last - min(p.st.last, pr.Match); {
		case pr.State == tracker.StateSnapshot || pr.Match < p.st.truncatedIndex:
			err = fmt.Errorf("peer %d needs a snapshot first", id)
		case lag > transferLagEntriesMax:
			err = fmt.Errorf("peer %d is %d entries behind, more than %d", id, lag, transferLagEntriesMax)
		}
	})
	return err
}

// handOver starts the transfer.
func (p *peer) handOver(to *metapb.Peer) {
	p.leases.transferTerm = p.role.Load().term
	p.resetLease()
	p.store.metrics.proposals.WithLabelValues("transfer_leader").Inc()
	p.rn.TransferLeader(to.Id)
}
