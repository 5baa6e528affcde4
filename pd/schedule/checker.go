package schedule

import (
	"context"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
)

// Patrol looks at the next regions in key order and starts what they need.
func (c *Controller) Patrol(ctx context.Context) {
	c.mu.Lock()
	from := c.patrol
	c.mu.Unlock()
	regions := c.cluster.Regions().Scan(from, nil, patrolRegionsMax)
	for _, r := range regions {
		if op := c.check(ctx, r); op != nil {
			c.Add(op)
		}
	}
	var next []byte
	if len(regions) == patrolRegionsMax {
		next = regions[len(regions)-1].Meta.EndKey
	}
	c.mu.Lock()
	c.patrol = next
	c.mu.Unlock()
}

// check returns the operator that the region needs most, or nil.
func (c *Controller) check(ctx context.Context, r *core.Region) *Operator {
	if r.Leader == nil || r.ReportedAt.IsZero() || c.busy(r.ID()) {
		return nil
	}
	if quorumWithout(r, 0) != nil {
		// It cannot commit a change; and what the leader says of its peers may
		// be the view of a minority (hazard 15).
		return nil
	}
	if r.InJoint() {
		return c.checkJoint(r)
	}
	if op := c.checkLearners(r); op != nil {
		return op
	}
	return c.checkReplicas(ctx, r)
}

// checkJoint ends a joint change that nobody drives any more.
func (c *Controller) checkJoint(r *core.Region) *Operator {
	var steps []Step
	if ro, _ := role(r, r.Leader.Id); ro == metapb.PeerRole_DemotingVoter {
		other := otherVoter(r, r.Leader.Id)
		if other == nil {
			return nil
		}
		steps = append(steps, TransferLeader{To: other.StoreId})
	}
	return NewOperator("leave-joint-state", KindAdmin, r, append(steps, LeaveJoint{})...)
}

// checkLearners promotes a learner where a voter is missing, and removes what
// an interrupted operator left over.
func (c *Controller) checkLearners(r *core.Region) *Operator {
	missing := len(r.Voters()) < c.cluster.Options().Replicas
	for _, p := range r.Learners() {
		switch {
		case missing && r.Healthy(p.Id) && c.storeKeeps(p.StoreId):
			return NewOperator("promote-learner", KindReplica, r, Promote{Store: p.StoreId, Peer: p.Id})
		case !missing || !c.storeKeeps(p.StoreId) || c.isDown(r, p):
			rm := Remove{Store: p.StoreId, Peer: p.Id}
			if rm.Check(r, c.cluster.Stores()) == nil {
				return NewOperator("remove-orphan-peer", KindReplica, r, rm)
			}
		}
	}
	return nil
}

// storeKeeps reports whether the store is to go on holding data.
func (c *Controller) storeKeeps(id uint64) bool {
	s := c.cluster.Stores().Get(id)
	return s != nil && s.IsUp()
}

// isDown reports whether both the peer's leader and PD have not heard from the
// peer's store for so long that the peer is given up.
func (c *Controller) isDown(r *core.Region, p *metapb.Peer) bool {
	limit := c.cluster.Options().MaxStoreDownTime
	if time.Duration(r.DownSeconds(p.Id))*time.Second < limit {
		return false
	}
	s := c.cluster.Stores().Get(p.StoreId)
	return s == nil || s.SilentFor(c.now()) >= limit
}

// checkReplicas keeps the number of voters, on stores that are there to stay.
func (c *Controller) checkReplicas(ctx context.Context, r *core.Region) *Operator {
	replicas, voters := c.cluster.Options().Replicas, r.Voters()
	for _, p := range voters {
		desc := ""
		switch {
		case c.isDown(r, p):
			desc = "down-replica"
		case !c.storeKeeps(p.StoreId):
			desc = "offline-replica"
		default:
			continue
		}
		if len(voters) > replicas {
			if op := c.removeVoter("remove-extra-"+desc, r, p); op != nil {
				return op
			}
			continue
		}
		if op := c.replaceVoter(ctx, "replace-"+desc, r, p); op != nil {
			return op
		}
	}
	if len(voters) < replicas && len(r.Learners()) == 0 {
		return c.addVoter(ctx, r)
	}
	if len(voters) > replicas {
		return c.removeExtra(r, voters)
	}
	return nil
}

func (c *Controller) replaceVoter(ctx context.Context, desc string, r *core.Region, p *metapb.Peer) *Operator {
	to := c.pickTarget(r)
	if to == nil {
		return nil
	}
	op, err := c.replace(ctx, desc, KindReplica, r, p, to)
	if err != nil {
		c.log.Warn("pd: replace a peer", "region", r.ID(), "peer", p.Id, "err", err)
		return nil
	}
	return op
}

func (c *Controller) addVoter(ctx context.Context, r *core.Region) *Operator {
	to := c.pickTarget(r)
	if to == nil {
		return nil
	}
	id, err := c.cluster.AllocID(ctx)
	if err != nil {
		c.log.Warn("pd: add a peer", "region", r.ID(), "err", err)
		return nil
	}
	return NewOperator("make-up-replica", KindReplica, r,
		AddLearner{Store: to.ID(), Peer: id}, Promote{Store: to.ID(), Peer: id})
}

// removeExtra removes one voter too many: one that is not healthy, else one on
// the fullest store.
func (c *Controller) removeExtra(r *core.Region, voters []*metapb.Peer) *Operator {
	in := c.influence()
	var worst *metapb.Peer
	score := func(p *metapb.Peer) int {
		n := c.cluster.Regions().StoreCounts(p.StoreId).Peers + in[p.StoreId].peers
		if !r.Healthy(p.Id) {
			n += 1 << 40
		}
		return n
	}
	for _, p := range voters {
		if p.Id != r.Leader.Id && (worst == nil || score(p) > score(worst)) {
			worst = p
		}
	}
	if worst == nil {
		return nil
	}
	return c.removeVoter("remove-extra-replica", r, worst)
}

func (c *Controller) removeVoter(desc string, r *core.Region, p *metapb.Peer) *Operator {
	var steps []Step
	if r.Leader.Id == p.Id {
		other := otherVoter(r, p.Id)
		if other == nil {
			return nil
		}
		steps = append(steps, TransferLeader{To: other.StoreId})
	}
	if quorumWithout(r, p.Id) != nil {
		return nil
	}
	return NewOperator(desc, KindReplica, r, append(steps, Remove{Store: p.StoreId, Peer: p.Id})...)
}

// pickTarget is the store with the fewest peers that can take one of the
// region's, or nil.
func (c *Controller) pickTarget(r *core.Region) *core.Store {
	in, o, now := c.influence(), c.cluster.Options(), c.now()
	var best *core.Store
	bestScore := 0
	for _, s := range c.cluster.Stores().All() {
		if !takesPeers(s, now) || r.StorePeer(s.ID()) != nil || in[s.ID()].adding >= o.StoreLimit {
			continue
		}
		if n := c.cluster.Regions().StoreCounts(s.ID()).Peers + in[s.ID()].peers; best == nil || n < bestScore {
			best, bestScore = s, n
		}
	}
	return best
}
