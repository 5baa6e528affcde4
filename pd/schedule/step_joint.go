package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// PeerAt is a peer and where it is.
type PeerAt struct{ Store, Peer uint64 }

// EnterJoint promotes learners and demotes voters in one joint change.
type EnterJoint struct{ Promote, Demote []PeerAt }

func (s EnterJoint) String() string {
	parts := make([]string, 0, len(s.Promote)+len(s.Demote))
	for _, p := range s.Promote {
		parts = append(parts, fmt.Sprintf("promote %d on store %d", p.Peer, p.Store))
	}
	for _, p := range s.Demote {
		parts = append(parts, fmt.Sprintf("demote %d on store %d", p.Peer, p.Store))
	}
	return "joint: " + strings.Join(parts, ", ")
}

func role(r *core.Region, peer uint64) (metapb.PeerRole, bool) {
	p := r.Peer(peer)
	if p == nil {
		return 0, false
	}
	return p.Role, true
}

func promoted(r *core.Region, peer uint64) bool {
	ro, ok := role(r, peer)
	return ok && (ro == metapb.PeerRole_IncomingVoter || ro == metapb.PeerRole_Voter)
}

func demoted(r *core.Region, peer uint64) bool {
	ro, ok := role(r, peer)
	return !ok || ro == metapb.PeerRole_DemotingVoter || ro == metapb.PeerRole_Learner
}

// Done implements Step.
func (s EnterJoint) Done(r *core.Region) bool { return s.changed(r) == len(s.Promote)+len(s.Demote) }

func (s EnterJoint) changed(r *core.Region) int {
	n := 0
	for _, p := range s.Promote {
		n += int(count(promoted(r, p.Peer)))
	}
	for _, p := range s.Demote {
		n += int(count(demoted(r, p.Peer)))
	}
	return n
}

// Check implements Step.
func (s EnterJoint) Check(r *core.Region, _ *core.Stores) error {
	after := make(map[uint64]bool)
	for _, p := range s.Promote {
		switch {
		case r.Peer(p.Peer) == nil:
			return fmt.Errorf("peer %d is gone", p.Peer)
		case !r.Healthy(p.Peer):
			return fmt.Errorf("peer %d is pending or down", p.Peer)
		}
		after[p.Peer] = true
	}
	for _, p := range s.Demote {
		switch {
		case r.Peer(p.Peer) == nil:
			return fmt.Errorf("peer %d is gone", p.Peer)
		case r.Leader.Id == p.Peer:
			return fmt.Errorf("peer %d leads: a store does not demote its leader", p.Peer)
		}
		after[p.Peer] = false
	}
	if r.InJoint() {
		return errors.New("another change of peers is under way")
	}
	// The joint change needs both quorums: that of the peers as they are, too.
	if err := quorumWithout(r, 0); err != nil {
		return err
	}
	return quorumOf(r, func(p *metapb.Peer) bool {
		votes, changes := after[p.Id]
		return votes || !changes && p.Role == metapb.PeerRole_Voter
	})
}

// ConfChanges implements Step.
func (s EnterJoint) ConfChanges(r *core.Region) uint64 { return uint64(s.changed(r)) }

// Message implements Step.
func (s EnterJoint) Message(*core.Region) *pdpb.RegionHeartbeatResponse {
	v2 := &pdpb.ChangePeerV2{}
	for _, p := range s.Promote {
		v2.Changes = append(v2.Changes, &pdpb.ChangePeer{ChangeType: eraftpb.ConfChangeType_AddNode,
			Peer: &metapb.Peer{Id: p.Peer, StoreId: p.Store, Role: metapb.PeerRole_Voter}})
	}
	for _, p := range s.Demote {
		v2.Changes = append(v2.Changes, &pdpb.ChangePeer{ChangeType: eraftpb.ConfChangeType_AddLearnerNode,
			Peer: &metapb.Peer{Id: p.Peer, StoreId: p.Store, Role: metapb.PeerRole_Learner}})
	}
	return &pdpb.RegionHeartbeatResponse{ChangePeerV2: v2}
}

// Timeout implements Step.
func (EnterJoint) Timeout() time.Duration { return confStepTimeout }

// LeaveJoint ends a joint change of Changes peers (0 where it is not known).
// Stores that leave by themselves have it done before it is sent.
type LeaveJoint struct{ Changes int }

func (LeaveJoint) String() string { return "leave the joint peer set" }

// Done implements Step.
func (LeaveJoint) Done(r *core.Region) bool { return !r.InJoint() }

// Check implements Step.
func (LeaveJoint) Check(r *core.Region, _ *core.Stores) error {
	if ro, ok := role(r, r.Leader.Id); !ok || ro == metapb.PeerRole_DemotingVoter {
		return fmt.Errorf("peer %d leads and is being demoted", r.Leader.Id)
	}
	return nil
}

// ConfChanges implements Step. The changes of entering are counted once more: a
// store may count a joint change at its start, its end, or both.
func (s LeaveJoint) ConfChanges(r *core.Region) uint64 {
	if r.InJoint() {
		return 0
	}
	return uint64(max(s.Changes, 2))
}

// Message implements Step.
func (LeaveJoint) Message(*core.Region) *pdpb.RegionHeartbeatResponse {
	return &pdpb.RegionHeartbeatResponse{ChangePeerV2: &pdpb.ChangePeerV2{}}
}

// Timeout implements Step.
func (LeaveJoint) Timeout() time.Duration { return confStepTimeout }
