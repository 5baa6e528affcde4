package schedule

import (
	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

// Fit is how the region's peers meet the rules.
func (c *Controller) Fit(r *core.Region) *placement.Fit {
	o := c.cluster.Options()
	when := placement.When{Now: c.now(), MaxDown: o.MaxStoreDownTime}
	if o.DisablePlacementRules {
		rule := placement.DefaultRule(o.Replicas, o.LocationLabels, o.IsolationLevel)
		return placement.FitRules(c.cluster.Stores(), r, []*placement.Rule{rule}, when)
	}
	return c.cluster.Rules().Fit(c.cluster.Stores(), r, when)
}

// rulesAllow reports whether the peer could be on the store instead, and the
// region meets the rules as well as before.
func (c *Controller) rulesAllow(r *core.Region, old *metapb.Peer, to *core.Store) bool {
	if old == nil || r.StorePeer(to.ID()) != nil {
		return false
	}
	rf := c.Fit(r).Of(old.Id)
	if rf == nil || !placement.MatchStore(to, rf.Rule.LabelConstraints) {
		return false
	}
	stays := c.storesOf(rf.Peers, old.Id)
	if !isolated(to, stays, rf.Rule) {
		return false
	}
	return placement.Isolation(append(stays, to), rf.Rule.LocationLabels) >= rf.Isolation
}

// leaderPlaces is by which stores the rules and the stores' states let the region be
// led. A store whose leaders are being moved away is none.
func (c *Controller) leaderPlaces(r *core.Region) func(store uint64) bool {
	rules := c.rulesOf(r)
	return func(id uint64) bool {
		s := c.cluster.Stores().Get(id)
		return c.LeaderRefusal(s) == nil && !s.LeadersPaused(core.LeadersIn) && leaderByRules(s, rules)
	}
}

// leaderByRules reports whether a rule wants a leader or voter on the store.
func leaderByRules(s *core.Store, rules []*placement.Rule) bool {
	for _, rule := range rules {
		if (rule.Role == placement.Leader || rule.Role == placement.Voter) && placement.MatchStore(s, rule.LabelConstraints) {
			return true
		}
	}
	return len(rules) == 0
}

// leaderAsWanted reports whether the region's rules like the store as well as the
// one that leads now: where a rule wants the leader, balance leaves it.
func (c *Controller) leaderAsWanted(r *core.Region, to *core.Store) bool {
	from, here := c.cluster.Stores().Get(r.Leader.StoreId), false
	for _, rule := range c.rulesOf(r) {
		if rule.Role != placement.Leader {
			continue
		}
		if placement.MatchStore(to, rule.LabelConstraints) {
			return true
		}
		here = here || placement.MatchStore(from, rule.LabelConstraints)
	}
	return !here
}

// rulesOf returns the rules of the region's range; none where it crosses their
// ends.
func (c *Controller) rulesOf(r *core.Region) []*placement.Rule {
	o := c.cluster.Options()
	if o.DisablePlacementRules {
		return []*placement.Rule{placement.DefaultRule(o.Replicas, o.LocationLabels, o.IsolationLevel)}
	}
	rules, _ := c.cluster.Rules().RulesFor(r.Meta.StartKey, r.Meta.EndKey)
	return rules
}

// storesOf returns the stores of the peers but one.
func (c *Controller) storesOf(peers []*metapb.Peer, but uint64) []*core.Store {
	out := make([]*core.Store, 0, len(peers)+1)
	for _, p := range peers {
		if s := c.cluster.Stores().Get(p.StoreId); s != nil && p.Id != but {
			out = append(out, s)
		}
	}
	return out
}

// isolated reports whether the store differs from all others as the rule's
// isolation level demands.
func isolated(s *core.Store, others []*core.Store, rule *placement.Rule) bool {
	if rule.IsolationLevel == "" {
		return true
	}
	var labels []string
	for _, l := range rule.LocationLabels {
		labels = append(labels, l)
		if l == rule.IsolationLevel {
			break
		}
	}
	for _, o := range others {
		if s.CompareLocation(o, labels) < 0 {
			return false
		}
	}
	return true
}

// choice is a store to put a peer on.
type choice struct {
	store     *core.Store
	isolation float64
	load      float64
	// retry says that there is none now, but one that may soon be.
	retry bool
}

// pickStore picks the store on which the rule wants one more peer beside those
// on others: the one that is furthest away from them, and has the least of
// those.
func (c *Controller) pickStore(r *core.Region, rule *placement.Rule, others []*core.Store) choice {
	return c.pickStoreBut(r, rule, others, nil)
}

// pickStoreBut is pickStore without the stores that another rule could use.
func (c *Controller) pickStoreBut(r *core.Region, rule *placement.Rule, others []*core.Store, spare *placement.Rule) choice {
	var best choice
	retry := false
	in, o := c.influence(), c.cluster.Options()
	for _, s := range c.cluster.Stores().All() {
		if r.StorePeer(s.ID()) != nil || !placement.MatchStore(s, rule.LabelConstraints) || !isolated(s, others, rule) ||
			spare != nil && placement.MatchStore(s, spare.LabelConstraints) {
			continue
		}
		if why := c.PeerRefusal(s); why != nil {
			retry = retry || why.Temporary
			continue
		}
		if in[s.ID()].adding >= o.StoreLimit || !c.storeHasBudget(s.ID(), costOf(r)) {
			retry = true
			continue
		}
		ch := choice{store: s, isolation: placement.Isolation(append(others[:len(others):len(others)], s), rule.LocationLabels),
			load: c.loadOf(s, in)}
		if best.store == nil || ch.isolation > best.isolation || ch.isolation == best.isolation && ch.load < best.load {
			best = ch
		}
	}
	best.retry = retry && best.store == nil
	return best
}

// loadOf is how full the store is, moves under way done: what balance-region goes
// by, so that it has nothing to put right afterwards.
func (c *Controller) loadOf(s *core.Store, in map[uint64]influence) float64 {
	bytes := int64(c.cluster.Regions().StoreCounts(s.ID()).PeerBytes) + in[s.ID()].peerBytes
	return regionScore(s, float64(bytes)/mib)
}
