package schedule

import (
	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

// RegionState is something that can be the matter with a region, in PD's words.
type RegionState string

// What can be the matter.
const (
	MissPeer    RegionState = "miss-peer"
	ExtraPeer   RegionState = "extra-peer"
	DownPeer    RegionState = "down-peer"
	PendingPeer RegionState = "pending-peer"
	OfflinePeer RegionState = "offline-peer"
	LearnerPeer RegionState = "learner-peer"
	EmptyRegion RegionState = "empty-region"
	Oversized   RegionState = "oversized-region"
	Undersized  RegionState = "undersized-region"
)

// RegionStates are all of them.
var RegionStates = []RegionState{MissPeer, ExtraPeer, DownPeer, PendingPeer, OfflinePeer, LearnerPeer, EmptyRegion, Oversized, Undersized}

// StatesOf says what is the matter with the region, nothing where all is well.
func (c *Controller) StatesOf(r *core.Region) []RegionState { return c.states(r, c.Fit(r)) }

func (c *Controller) states(r *core.Region, fit *placement.Fit) []RegionState {
	var out []RegionState
	is := func(s RegionState, when bool) {
		if when {
			out = append(out, s)
		}
	}
	missing, learners, wanted := false, 0, 0
	for i := range fit.Rules {
		rf := &fit.Rules[i]
		wanted += rf.Rule.Count
		missing = missing || len(rf.Peers) < rf.Rule.Count
		if rf.Rule.Role == placement.Learner {
			learners += len(rf.Peers)
		}
	}
	offline := false
	for _, p := range r.Meta.Peers {
		s := c.cluster.Stores().Get(p.StoreId)
		offline = offline || s == nil || !s.IsUp()
	}
	o := c.cluster.Options()
	small, limit := c.mergeSizes()
	is(MissPeer, missing)
	is(ExtraPeer, wanted > 0 && len(r.Meta.Peers) > wanted)
	is(DownPeer, len(r.Down) > 0)
	is(PendingPeer, len(r.Pending) > 0)
	is(OfflinePeer, offline)
	is(LearnerPeer, len(r.Learners()) > learners)
	if !r.ReportedAt.IsZero() {
		is(EmptyRegion, r.SizeBytes <= emptyRegionBytes)
		is(Oversized, r.SizeBytes >= limit)
		is(Undersized, r.SizeBytes <= small && r.Keys <= o.mergeKeys())
	}
	return out
}
