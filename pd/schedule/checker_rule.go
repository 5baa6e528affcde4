package schedule

import (
	"context"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

// checkRules returns what the region needs most to meet its rules: peers that
// are missing or given up, then roles, then the removal of what is left over,
// then better places.
func (c *Controller) checkRules(ctx context.Context, r *core.Region, fit *placement.Fit) *Operator {
	for i := range fit.Rules {
		rf := &fit.Rules[i]
		if len(rf.Peers) < rf.Rule.Count {
			if op := c.addRulePeer(ctx, r, fit, rf); op != nil {
				return op
			}
		}
		for _, p := range rf.Peers {
			if why := c.unwanted(r, p); why != "" {
				if op := c.replaceRulePeer(ctx, r, fit, rf, p, why); op != nil {
					return op
				}
			}
		}
	}
	if len(fit.Rules) == 0 {
		return nil
	}
	if op := c.fixRoles(ctx, r, fit); op != nil {
		return op
	}
	if op := c.removeOrphans(ctx, r, fit); op != nil {
		return op
	}
	for i := range fit.Rules {
		if op := c.betterPlace(ctx, r, fit, &fit.Rules[i]); op != nil {
			return op
		}
	}
	return nil
}

// repair builds a change for the rules' sake: it never leaves fewer voters than
// they ask for.
func (c *Controller) repair(desc string, r *core.Region, fit *placement.Fit) *Builder {
	return c.Build(desc, KindReplica, r).MayLead(c.leaderPlaces(r)).KeepVoters(votersWanted(fit))
}

func (c *Controller) built(r *core.Region, op *Operator, err error) *Operator {
	if err != nil {
		c.log.Debug("pd: check of a region", "region", r.ID(), "err", err)
		return nil
	}
	if len(op.Steps) == 0 {
		return nil
	}
	return op
}

// addRulePeer makes up a missing peer. Where another peer is left over, in a
// place that no rule wants, the new one takes its vote in one change.
func (c *Controller) addRulePeer(ctx context.Context, r *core.Region, fit *placement.Fit, rf *placement.RuleFit) *Operator {
	ch := c.pickStore(r, rf.Rule, c.storesOf(rf.Peers, 0))
	if ch.store == nil {
		return c.makeRoom(ctx, r, fit, rf, ch, "no-store-add")
	}
	b := c.repair("add-rule-peer", r, fit).AddPeer(ch.store.ID(), metaRole(rf.Rule))
	if n := len(fit.Orphans); n > 0 {
		orphan := fit.Orphans[n-1] // the last is the worst
		if !isVoter(orphan) || votersIn(b.target) > min(votersWanted(fit), len(r.Voters())) {
			b.desc = "replace-rule-orphan-peer"
			b.RemovePeer(orphan.StoreId)
		}
	}
	op, err := b.Operator(ctx)
	return c.built(r, op, err)
}

// replaceRulePeer moves a peer away from a store that is down or leaving.
func (c *Controller) replaceRulePeer(ctx context.Context, r *core.Region, fit *placement.Fit, rf *placement.RuleFit, p *metapb.Peer, why string) *Operator {
	ch := c.pickStore(r, rf.Rule, c.storesOf(rf.Peers, p.Id))
	if ch.store == nil {
		return c.makeRoom(ctx, r, fit, rf, ch, "no-store-replace")
	}
	desc := "replace-rule-" + why + "-peer"
	if r.Leader.Id == p.Id {
		desc = "replace-rule-" + why + "-leader-peer"
	}
	op, err := c.repair(desc, r, fit).RemovePeer(p.StoreId).AddPeer(ch.store.ID(), metaRole(rf.Rule)).Operator(ctx)
	return c.built(r, op, err)
}

// makeRoom moves a peer of another rule, which has all it wants, off a store that
// only this rule can use as well: each store has one peer of a region. event is
// what there is no store for where that does not help.
func (c *Controller) makeRoom(ctx context.Context, r *core.Region, fit *placement.Fit, rf *placement.RuleFit, none choice, event string) *Operator {
	if none.retry { // a store is not ready, that is all
		c.wait(r)
		return nil
	}
	for _, p := range r.Meta.Peers {
		of := fit.Of(p.Id)
		s := c.cluster.Stores().Get(p.StoreId)
		if of == nil || of == rf || len(of.Peers) < of.Rule.Count || !placement.MatchStore(s, rf.Rule.LabelConstraints) ||
			c.PeerRefusal(s) != nil {
			continue
		}
		ch := c.pickStoreBut(r, of.Rule, c.storesOf(of.Peers, p.Id), rf.Rule)
		if ch.store == nil {
			continue
		}
		op, err := c.repair("replace-rule-swap-fit-peer", r, fit).RemovePeer(p.StoreId).AddPeer(ch.store.ID(), p.Role).Operator(ctx)
		if op = c.built(r, op, err); op != nil {
			return op
		}
	}
	c.noteNoStore(r, rf.Rule, event)
	return nil
}

// fixRoles makes peers what their rules want them to be, and drops voters that
// are left over in the same change.
func (c *Controller) fixRoles(ctx context.Context, r *core.Region, fit *placement.Fit) *Operator {
	b := c.repair("fix-peer-role", r, fit)
	changes := 0
	for i := range fit.Rules {
		rf := &fit.Rules[i]
		for _, p := range rf.WrongRole {
			want := metaRole(rf.Rule)
			switch {
			case p.Role == want:
				continue // it is about the leader
			case want == metapb.PeerRole_Voter && (!r.Healthy(p.Id) || c.unwanted(r, p) != ""):
				continue // it has to catch up first
			}
			if want == metapb.PeerRole_Learner {
				b.desc = "fix-demote-voter"
			}
			b.SetRole(p.StoreId, want)
			changes++
		}
	}
	if changes == 0 {
		return c.fixLeader(r, fit)
	}
	for _, p := range fit.Orphans {
		if isVoter(p) && c.orphanRemovable(r, fit, p) && votersIn(b.target) > votersWanted(fit) {
			b.RemovePeer(p.StoreId)
		}
	}
	op, err := b.Operator(ctx)
	if op = c.built(r, op, err); op == nil || c.keepsQuorum(r, b.target) {
		return op
	}
	return nil
}

// keepsQuorum reports whether the voters of a target that are there already, or
// become voters in good health, are a quorum of it.
func (c *Controller) keepsQuorum(r *core.Region, target map[uint64]metapb.PeerRole) bool {
	return quorumOf(r, func(p *metapb.Peer) bool {
		role, stays := target[p.StoreId]
		return stays && role == metapb.PeerRole_Voter
	}) == nil
}

// fixLeader moves the leadership to where a rule wants it, or away from where
// one does not.
func (c *Controller) fixLeader(r *core.Region, fit *placement.Fit) *Operator {
	mayLead := c.leaderPlaces(r)
	can := func(p *metapb.Peer) bool { return isVoter(p) && r.Healthy(p.Id) && mayLead(p.StoreId) }
	for i := range fit.Rules {
		rf := &fit.Rules[i]
		for _, p := range rf.WrongRole {
			switch {
			case rf.Rule.Role == placement.Leader && p.Id != r.Leader.Id && can(p):
				return NewOperator("fix-leader-role", KindReplica, r, TransferLeader{To: p.StoreId})
			case rf.Rule.Role == placement.Follower && p.Id == r.Leader.Id:
				for _, q := range r.Meta.Peers {
					if of := fit.Of(q.Id); q.Id != p.Id && can(q) && of != nil && of.Rule.Role != placement.Follower {
						return NewOperator("fix-follower-role", KindReplica, r, TransferLeader{To: q.StoreId})
					}
				}
			}
		}
	}
	if isVoter(r.Peer(r.Leader.Id)) && !leaderByRules(c.cluster.Stores().Get(r.Leader.StoreId), c.rulesOf(r)) && fit.Of(r.Leader.Id) == nil {
		for _, q := range r.Meta.Peers {
			if can(q) && fit.Of(q.Id) != nil {
				return NewOperator("fix-leader-role", KindReplica, r, TransferLeader{To: q.StoreId})
			}
		}
	}
	return nil
}

// orphanRemovable reports whether a peer is superfluous by what the leader says
// now: every rule has all of its peers without it, and those are well, or it is
// not well itself (hazard 15).
func (c *Controller) orphanRemovable(r *core.Region, fit *placement.Fit, p *metapb.Peer) bool {
	well := r.Healthy(p.Id)
	for i := range fit.Rules {
		rf := &fit.Rules[i]
		if len(rf.Peers) < rf.Rule.Count {
			return false
		}
		for _, q := range rf.Peers {
			if well && (!r.Healthy(q.Id) || c.unwanted(r, q) != "") && c.unwanted(r, p) == "" {
				return false
			}
		}
	}
	return quorumWithout(r, p.Id) == nil
}

// votersWanted is how many voters the rules ask for.
func votersWanted(fit *placement.Fit) int {
	n := 0
	for i := range fit.Rules {
		if rule := fit.Rules[i].Rule; rule.Role != placement.Learner {
			n += rule.Count
		}
	}
	return n
}

func votersIn(target map[uint64]metapb.PeerRole) int {
	n := 0
	for _, role := range target {
		n += int(count(role == metapb.PeerRole_Voter))
	}
	return n
}

// removeOrphans removes a peer that no rule takes.
func (c *Controller) removeOrphans(ctx context.Context, r *core.Region, fit *placement.Fit) *Operator {
	for i := len(fit.Orphans) - 1; i >= 0; i-- { // the worst first
		p := fit.Orphans[i]
		switch {
		case isVoter(p):
			// A learner that is to replace it does not vote yet.
			if !c.orphanRemovable(r, fit, p) || len(r.Voters()) <= votersWanted(fit) {
				continue
			}
		case !c.orphanRemovable(r, fit, p) && (r.Healthy(p.Id) || c.unwanted(r, p) == ""):
			continue
		}
		op, err := c.repair("remove-orphan-peer", r, fit).RemovePeer(p.StoreId).Operator(ctx)
		if op = c.built(r, op, err); op != nil {
			return op
		}
	}
	return nil
}

// betterPlace moves a peer to where the region is better isolated.
func (c *Controller) betterPlace(ctx context.Context, r *core.Region, fit *placement.Fit, rf *placement.RuleFit) *Operator {
	if !isHealthy(r) || rf.FullyIsolated() || len(rf.Rule.LocationLabels) == 0 || len(rf.Peers) < 2 {
		return nil
	}
	var best choice
	var moved *metapb.Peer
	for _, p := range rf.Peers {
		ch := c.pickStore(r, rf.Rule, c.storesOf(rf.Peers, p.Id))
		if ch.store == nil || ch.isolation <= rf.Isolation {
			continue
		}
		// Among equals one that does not lead.
		if best.store == nil || ch.isolation > best.isolation || ch.isolation == best.isolation && moved.Id == r.Leader.Id {
			best, moved = ch, p
		}
	}
	if best.store == nil {
		return nil
	}
	op, err := c.repair("move-to-better-location", r, fit).Priority(PriorityMedium).
		RemovePeer(moved.StoreId).AddPeer(best.store.ID(), metaRole(rf.Rule)).Operator(ctx)
	return c.built(r, op, err)
}
