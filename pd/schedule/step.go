package schedule

import (
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

const (
	// leaderStepTimeout is for steps without data; peerStepTimeout for those
	// that wait for a snapshot.
	leaderStepTimeout = 20 * time.Second
	confStepTimeout   = time.Minute
	peerStepTimeout   = 10 * time.Minute
)

// Step is one change of one region.
type Step interface {
	fmt.Stringer
	// Done reports whether the region shows the change.
	Done(r *core.Region) bool
	// Check returns why the step must not be sent (any more).
	Check(r *core.Region, stores *core.Stores) error
	// ConfChanges is by how much the step has moved conf_ver, at most, as far
	// as the region shows.
	ConfChanges(r *core.Region) uint64
	// Message is what to tell the region's leader, without the address.
	Message(r *core.Region) *pdpb.RegionHeartbeatResponse
	// Timeout is how long the step may take.
	Timeout() time.Duration
}

// AddLearner adds an empty peer that does not vote and waits until it has
// caught up.
type AddLearner struct{ Store, Peer uint64 }

func (s AddLearner) String() string {
	return fmt.Sprintf("add learner %d on store %d", s.Peer, s.Store)
}

// Done implements Step.
func (s AddLearner) Done(r *core.Region) bool { return r.Peer(s.Peer) != nil && r.Healthy(s.Peer) }

// Check implements Step.
func (s AddLearner) Check(r *core.Region, stores *core.Stores) error {
	if p := r.StorePeer(s.Store); p != nil && p.Id != s.Peer {
		return fmt.Errorf("store %d has peer %d of the region", s.Store, p.Id)
	}
	if st := stores.Get(s.Store); st == nil || !st.IsUp() {
		return fmt.Errorf("store %d takes no peers any more", s.Store)
	}
	return nil
}

// ConfChanges implements Step.
func (s AddLearner) ConfChanges(r *core.Region) uint64 { return count(r.Peer(s.Peer) != nil) }

// Message implements Step.
func (s AddLearner) Message(*core.Region) *pdpb.RegionHeartbeatResponse {
	return changePeer(eraftpb.ConfChangeType_AddLearnerNode,
		&metapb.Peer{Id: s.Peer, StoreId: s.Store, Role: metapb.PeerRole_Learner})
}

// Timeout implements Step.
func (AddLearner) Timeout() time.Duration { return peerStepTimeout }

// Promote makes a learner vote.
type Promote struct{ Store, Peer uint64 }

func (s Promote) String() string {
	return fmt.Sprintf("promote learner %d on store %d", s.Peer, s.Store)
}

// Done implements Step.
func (s Promote) Done(r *core.Region) bool {
	p := r.Peer(s.Peer)
	return p != nil && p.Role == metapb.PeerRole_Voter
}

// Check implements Step.
func (s Promote) Check(r *core.Region, _ *core.Stores) error {
	switch {
	case r.Peer(s.Peer) == nil:
		return fmt.Errorf("peer %d is gone", s.Peer)
	case !r.Healthy(s.Peer):
		// One voter and one that is down are no quorum any more.
		return fmt.Errorf("peer %d is pending or down", s.Peer)
	}
	return nil
}

// ConfChanges implements Step. A store may make the one change jointly and
// leave by itself, which counts at both ends.
func (s Promote) ConfChanges(r *core.Region) uint64 {
	switch ro, ok := role(r, s.Peer); {
	case ok && ro == metapb.PeerRole_Voter:
		return 2
	case ok && ro == metapb.PeerRole_IncomingVoter:
		return 1
	}
	return 0
}

// Message implements Step.
func (s Promote) Message(*core.Region) *pdpb.RegionHeartbeatResponse {
	return changePeer(eraftpb.ConfChangeType_AddNode, &metapb.Peer{Id: s.Peer, StoreId: s.Store})
}

// Timeout implements Step.
func (Promote) Timeout() time.Duration { return confStepTimeout }

// Remove removes a peer.
type Remove struct{ Store, Peer uint64 }

func (s Remove) String() string { return fmt.Sprintf("remove peer %d on store %d", s.Peer, s.Store) }

// Done implements Step.
func (s Remove) Done(r *core.Region) bool { return r.Peer(s.Peer) == nil }

// Check implements Step.
func (s Remove) Check(r *core.Region, _ *core.Stores) error {
	if r.Leader.Id == s.Peer {
		return fmt.Errorf("peer %d leads", s.Peer)
	}
	return quorumWithout(r, s.Peer)
}

// ConfChanges implements Step. A store may demote a voter jointly first, and
// remove the learner then.
func (s Remove) ConfChanges(r *core.Region) uint64 {
	switch ro, ok := role(r, s.Peer); {
	case !ok:
		return 3
	case ro == metapb.PeerRole_Learner:
		return 2
	case ro == metapb.PeerRole_DemotingVoter:
		return 1
	}
	return 0
}

// Message implements Step.
func (s Remove) Message(r *core.Region) *pdpb.RegionHeartbeatResponse {
	return changePeer(eraftpb.ConfChangeType_RemoveNode, r.Peer(s.Peer))
}

// Timeout implements Step.
func (Remove) Timeout() time.Duration { return confStepTimeout }

// TransferLeader moves the leadership to the peer on a store.
type TransferLeader struct{ To uint64 }

func (s TransferLeader) String() string { return fmt.Sprintf("transfer leader to store %d", s.To) }

// Done implements Step.
func (s TransferLeader) Done(r *core.Region) bool { return r.Leader.StoreId == s.To }

// Check implements Step.
func (s TransferLeader) Check(r *core.Region, stores *core.Stores) error {
	p := r.StorePeer(s.To)
	switch {
	case p == nil:
		return fmt.Errorf("store %d has no peer of the region", s.To)
	case p.Role == metapb.PeerRole_Learner || p.Role == metapb.PeerRole_DemotingVoter:
		return fmt.Errorf("peer %d on store %d does not vote", p.Id, s.To)
	case !r.Healthy(p.Id):
		return fmt.Errorf("peer %d on store %d is pending or down", p.Id, s.To)
	}
	st := stores.Get(s.To)
	if st == nil || st.IsTombstone() {
		return fmt.Errorf("store %d is gone", s.To)
	}
	if stores.Suspect(st) {
		return fmt.Errorf("the other stores take store %d for dead", s.To)
	}
	return nil
}

// ConfChanges implements Step.
func (TransferLeader) ConfChanges(*core.Region) uint64 { return 0 }

// Message implements Step.
func (s TransferLeader) Message(r *core.Region) *pdpb.RegionHeartbeatResponse {
	p := r.StorePeer(s.To)
	return &pdpb.RegionHeartbeatResponse{
		TransferLeader: &pdpb.TransferLeader{Peer: p, Peers: []*metapb.Peer{p}},
	}
}

// Timeout implements Step.
func (TransferLeader) Timeout() time.Duration { return leaderStepTimeout }

func changePeer(t eraftpb.ConfChangeType, p *metapb.Peer) *pdpb.RegionHeartbeatResponse {
	return &pdpb.RegionHeartbeatResponse{ChangePeer: &pdpb.ChangePeer{Peer: p, ChangeType: t}}
}

func count(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// quorumWithout refuses the removal of a peer after which the region would have
// no healthy quorum. With peer 0 it is about the region as it is.
func quorumWithout(r *core.Region, peer uint64) error {
	return quorumOf(r, func(p *metapb.Peer) bool {
		return p.Id != peer && (p.Role == metapb.PeerRole_Voter || p.Role == metapb.PeerRole_IncomingVoter)
	})
}

// quorumOf refuses a set of voters of which no majority is healthy by the
// leader's report (hazard 15).
func quorumOf(r *core.Region, votes func(*metapb.Peer) bool) error {
	voters, healthy := 0, 0
	for _, p := range r.Meta.Peers {
		if !votes(p) {
			continue
		}
		voters++
		if r.Healthy(p.Id) {
			healthy++
		}
	}
	if healthy < voters/2+1 {
		return fmt.Errorf("only %d of %d voters are healthy", healthy, voters)
	}
	return nil
}
