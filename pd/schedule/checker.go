package schedule

import (
	"context"
	"sort"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

const (
	// A round of the patrol looks at this share of all regions, within these
	// bounds: a whole patrol takes less than a minute. What is urgent is known
	// from heartbeats and does not wait for it.
	patrolRegionsMin   = 128
	patrolRegionsMax   = 8192
	patrolRegionsShare = 4096
	// patrolPause is how long a patrol lasts at least: a few regions are not
	// looked at all the time.
	patrolPause = 100 * time.Millisecond
	// urgentRegionsMax is how many regions that lack peers are kept in mind, and
	// waitingRegionsMax how many that need something that is not possible yet.
	urgentRegionsMax  = 100_000
	waitingRegionsMax = 100_000
	// firstRegionsMax is how many of each are looked at before the patrol goes
	// on.
	firstRegionsMax = 128
	// urgentPause is after how long an urgent region is looked at again, and
	// urgentEvery how often they are put in order: after the loss of a store there
	// are tens of thousands.
	urgentPause = time.Second
	urgentEvery = 100 * time.Millisecond
)

// patrolState is what the patrol keeps in mind between its rounds.
type patrolState struct {
	mu      sync.Mutex
	next    []byte // where the next round starts
	began   time.Time
	counts  map[RegionState]int // of the regions looked at since
	urgent  map[uint64]urgentRegion
	orderAt time.Time // when the urgent ones were put in order
	waiting map[uint64]struct{}
	queue   []uint64             // those waiting, the longest first
	splits  map[uint64]time.Time // when a region was split
}

// urgentRegion is a region that lacks healthy peers.
type urgentRegion struct {
	lost  int // healthy voters that can still be lost before the quorum is
	again time.Time
}

func newPatrolState() patrolState {
	return patrolState{urgent: make(map[uint64]urgentRegion), waiting: make(map[uint64]struct{}), splits: make(map[uint64]time.Time)}
}

// Patrol is called by one goroutine at a time. It looks at the regions that lack peers, at those that wait for
// something, and at the next ones in key order, and starts what they need.
func (c *Controller) Patrol(ctx context.Context) {
	for _, id := range c.firstRegions() {
		if r := c.cluster.Regions().ByID(id); r != nil {
			c.checkAndAdd(ctx, r, c.Fit(r))
		}
	}
	c.patrol.mu.Lock()
	from, now := c.patrol.next, c.now()
	if len(from) == 0 && now.Sub(c.patrol.began) < patrolPause {
		c.patrol.mu.Unlock()
		return
	}
	if len(from) == 0 {
		c.patrol.began, c.patrol.counts = now, make(map[RegionState]int)
	}
	c.patrol.mu.Unlock()
	n := min(max(c.cluster.Regions().Len()/patrolRegionsShare, patrolRegionsMin), patrolRegionsMax)
	regions := c.cluster.Regions().Scan(from, nil, n)
	for _, r := range regions {
		fit := c.Fit(r)
		for _, s := range c.states(r, fit) {
			c.patrol.counts[s]++
		}
		c.checkAndAdd(ctx, r, fit)
	}
	var next []byte
	if len(regions) == n {
		next = regions[len(regions)-1].Meta.EndKey
	}
	if len(next) == 0 {
		c.metrics.patrolled(c.patrol.counts)
	}
	c.patrol.mu.Lock()
	c.patrol.next = next
	c.patrol.mu.Unlock()
}

// suspect keeps a region in mind of whose peers the leader misses some.
func (c *Controller) suspect(r *core.Region) {
	if len(r.Down) == 0 {
		return
	}
	healthy := 0
	for _, p := range r.Voters() {
		healthy += int(count(r.Healthy(p.Id)))
	}
	spare := healthy - (len(r.Voters())/2 + 1)
	c.patrol.mu.Lock()
	defer c.patrol.mu.Unlock()
	if u, ok := c.patrol.urgent[r.ID()]; ok && u.lost == spare || len(c.patrol.urgent) >= urgentRegionsMax {
		return
	}
	c.patrol.urgent[r.ID()] = urgentRegion{lost: spare}
}

// firstRegions returns the regions to look at first: those nearest to losing
// their quorum, then those that wait.
func (c *Controller) firstRegions() []uint64 {
	c.patrol.mu.Lock()
	defer c.patrol.mu.Unlock()
	ids := c.urgentRegions(c.now())
	n := min(len(c.patrol.queue), firstRegionsMax)
	for _, id := range c.patrol.queue[:n] {
		delete(c.patrol.waiting, id)
		ids = append(ids, id)
	}
	c.patrol.queue = c.patrol.queue[n:]
	return ids
}

// urgentRegions is called with the patrol's lock held.
func (c *Controller) urgentRegions(now time.Time) []uint64 {
	if now.Sub(c.patrol.orderAt) < urgentEvery {
		return nil
	}
	c.patrol.orderAt = now
	ids := make([]uint64, 0, len(c.patrol.urgent))
	for id, u := range c.patrol.urgent {
		r := c.cluster.Regions().ByID(id)
		switch {
		case r == nil || len(r.Down) == 0:
			delete(c.patrol.urgent, id)
		case !now.Before(u.again):
			ids = append(ids, id)
		}
	}
	urgent := c.patrol.urgent
	sort.Slice(ids, func(i, j int) bool {
		return urgent[ids[i]].lost < urgent[ids[j]].lost || urgent[ids[i]].lost == urgent[ids[j]].lost && ids[i] < ids[j]
	})
	ids = ids[:min(len(ids), firstRegionsMax)]
	for _, id := range ids {
		urgent[id] = urgentRegion{urgent[id].lost, now.Add(urgentPause)}
	}
	return ids
}

// wait looks at the region again soon.
func (c *Controller) wait(r *core.Region) {
	c.patrol.mu.Lock()
	defer c.patrol.mu.Unlock()
	if _, ok := c.patrol.waiting[r.ID()]; !ok && len(c.patrol.waiting) < waitingRegionsMax {
		c.patrol.waiting[r.ID()] = struct{}{}
		c.patrol.queue = append(c.patrol.queue, r.ID())
	}
}

func (c *Controller) checkAndAdd(ctx context.Context, r *core.Region, fit *placement.Fit) {
	ops := c.check(ctx, r, fit)
	if len(ops) == 0 {
		return
	}
	if err := c.AddAll(ops...); err != nil {
		c.log.Debug("pd: operator not added", "region", r.ID(), "operator", ops[0].Desc, "err", err)
		if ops[0].Kind == KindReplica {
			c.wait(r)
		}
	}
}

// check returns the operators that the region needs most: one, or the two of a
// merge.
func (c *Controller) check(ctx context.Context, r *core.Region, fit *placement.Fit) []*Operator {
	if r.Leader == nil || r.ReportedAt.IsZero() || c.busy(r.ID()) {
		return nil
	}
	if quorumWithout(r, 0) != nil {
		// It cannot commit a change; and what the leader says of its peers may
		// be the view of a minority (hazard 15).
		return nil
	}
	if r.InJoint() {
		return one(c.checkJoint(r))
	}
	if op := c.checkSplit(r); op != nil {
		return one(op)
	}
	if op := c.checkRules(ctx, r, fit); op != nil {
		return one(op)
	}
	if c.cluster.Labels().ScheduleDenied(r) {
		return nil
	}
	return c.checkMerge(ctx, r, fit)
}

func one(op *Operator) []*Operator {
	if op == nil {
		return nil
	}
	return []*Operator{op}
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
	changes := 0
	for _, p := range r.Meta.Peers {
		changes += int(count(p.Role == metapb.PeerRole_IncomingVoter || p.Role == metapb.PeerRole_DemotingVoter))
	}
	return NewOperator("leave-joint-state", KindAdmin, r, append(steps, LeaveJoint{Changes: changes})...)
}

// checkSplit splits a region that crosses the end of a rule's or a label's
// range.
func (c *Controller) checkSplit(r *core.Region) *Operator {
	start, end := r.Meta.StartKey, r.Meta.EndKey
	desc := "rule-split-region"
	var keys [][]byte
	if !c.cluster.Options().DisablePlacementRules {
		keys = c.cluster.Rules().SplitKeys(start, end)
	}
	if len(keys) == 0 {
		desc = "labeler-split-region"
		keys = c.cluster.Labels().SplitKeys(start, end)
	}
	if len(keys) == 0 {
		return nil
	}
	return splitAt(desc, KindSplit, r, keys[:min(len(keys), splitKeysMax)])
}

// splitKeysMax is at how many keys one operator splits.
const splitKeysMax = 64

// RegionIsPlaced reports whether the region is whole and as the rules want it.
func (c *Controller) RegionIsPlaced(r *core.Region) bool {
	return isHealthy(r) && c.Fit(r).Satisfied()
}

// unwanted is why the peer's store is no place for it ("down", "offline"), ""
// where it is.
func (c *Controller) unwanted(r *core.Region, p *metapb.Peer) string {
	switch s := c.cluster.Stores().Get(p.StoreId); {
	case c.isDown(r, p):
		return "down"
	case s == nil || !s.IsUp():
		return "offline"
	}
	return ""
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

// metaRole is the role that a rule gives to peers.
func metaRole(rule *placement.Rule) metapb.PeerRole {
	if rule.Role == placement.Learner {
		return metapb.PeerRole_Learner
	}
	return metapb.PeerRole_Voter
}
