package schedule

import (
	"context"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// replaceSteps moves a peer to another store. The new peer catches up as a
// learner and takes the old one's vote in one joint change; the leadership goes
// away from the old peer first. Where nobody else votes the two vote together
// for a while instead: a store does not demote the peer that leads.
func replaceSteps(r *core.Region, old *metapb.Peer, toStore, newPeer uint64) []Step {
	steps := []Step{AddLearner{Store: toStore, Peer: newPeer}}
	if old.Role == metapb.PeerRole_Learner {
		return append(steps, Remove{Store: old.StoreId, Peer: old.Id})
	}
	leads := r.Leader != nil && r.Leader.Id == old.Id
	other := otherVoter(r, old.Id)
	remove := Remove{Store: old.StoreId, Peer: old.Id}
	if leads && other == nil {
		return append(steps, Promote{Store: toStore, Peer: newPeer}, TransferLeader{To: toStore}, remove)
	}
	if leads {
		steps = append(steps, TransferLeader{To: other.StoreId})
	}
	return append(steps, Swap{PromoteStore: toStore, Promote: newPeer, DemoteStore: old.StoreId, Demote: old.Id}, LeaveJoint{}, remove)
}

// otherVoter is a healthy voter but the one given, or nil.
func otherVoter(r *core.Region, but uint64) *metapb.Peer {
	for _, p := range r.Voters() {
		if p.Id != but && r.Healthy(p.Id) {
			return p
		}
	}
	return nil
}

func (c *Controller) replace(ctx context.Context, desc string, kind Kind, r *core.Region, old *metapb.Peer, to *core.Store) (*Operator, error) {
	id, err := c.cluster.AllocID(ctx)
	if err != nil {
		return nil, fmt.Errorf("an id for the new peer: %w", err)
	}
	return NewOperator(desc, kind, r, replaceSteps(r, old, to.ID(), id)...), nil
}
