package schedule

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/copradb/copra/pd/core"
)

type shuffleLeaderConfig struct {
	Ranges keyRanges `json:"ranges,omitempty"`
}

// shuffleLeader moves leaders at random, for tests.
type shuffleLeader struct{ cfg shuffleLeaderConfig }

func newShuffleLeader(raw json.RawMessage) (Scheduler, error) {
	s := &shuffleLeader{}
	if err := decodeConfig(ShuffleLeaderName, raw, &s.cfg); err != nil {
		return nil, err
	}
	return s, s.cfg.Ranges.check()
}

func (*shuffleLeader) Name() string  { return ShuffleLeaderName }
func (*shuffleLeader) Kind() Kind    { return KindLeader }
func (s *shuffleLeader) Config() any { return s.cfg }

func (s *shuffleLeader) Schedule(_ context.Context, c *Controller, room int) int {
	stores := c.cluster.Stores().All()
	for _, i := range c.rnd.Perm(len(stores)) {
		to := stores[i]
		for _, r := range c.cluster.Regions().Sample(to.ID(), core.Peers, sampleMax, c.rnd) {
			if !s.cfg.Ranges.holds(r) || !c.leaderMovable(r) || r.Leader.StoreId == to.ID() || !c.canLead(r, to) {
				continue
			}
			if c.Add(NewOperator("shuffle-leader", KindLeader, r, TransferLeader{To: to.ID()})) {
				return 1
			}
		}
	}
	return 0
}

// The roles that shuffle-region may move.
const (
	roleLeader   = "leader"
	roleFollower = "follower"
)

type shuffleRegionConfig struct {
	Ranges keyRanges `json:"ranges,omitempty"`
	Roles  []string  `json:"roles"`
}

// shuffleRegion moves peers at random, for tests.
type shuffleRegion struct{ cfg shuffleRegionConfig }

func newShuffleRegion(raw json.RawMessage) (Scheduler, error) {
	s := &shuffleRegion{shuffleRegionConfig{Roles: []string{roleLeader, roleFollower}}}
	if err := decodeConfig(ShuffleRegionName, raw, &s.cfg); err != nil {
		return nil, err
	}
	for _, role := range s.cfg.Roles {
		if role != roleLeader && role != roleFollower {
			return nil, fmt.Errorf("pd: %s: the role %q is neither %s nor %s", ShuffleRegionName, role, roleLeader, roleFollower)
		}
	}
	return s, s.cfg.Ranges.check()
}

func (*shuffleRegion) Name() string  { return ShuffleRegionName }
func (*shuffleRegion) Kind() Kind    { return KindRegion }
func (s *shuffleRegion) Config() any { return s.cfg }

func (s *shuffleRegion) Schedule(ctx context.Context, c *Controller, room int) int {
	stores, in := c.cluster.Stores().All(), c.influence()
	targets := slices.DeleteFunc(slices.Clone(stores), func(to *core.Store) bool { return !c.acceptsPeers(to, in[to.ID()]) })
	if len(targets) == 0 {
		return 0
	}
	for _, i := range c.rnd.Perm(len(stores)) {
		from := stores[i].ID()
		for _, r := range c.cluster.Regions().Sample(from, core.Peers, sampleMax, c.rnd) {
			to := targets[c.rnd.IntN(len(targets))]
			if !s.cfg.Ranges.holds(r) || !c.movable(r) || !c.mayReplace(r, from, to.ID()) || !s.wants(r, from) {
				continue
			}
			op, err := c.replace(ctx, "shuffle-region", KindRegion, r, r.StorePeer(from), to)
			if err == nil && c.Add(op) {
				return 1
			}
		}
	}
	return 0
}

func (s *shuffleRegion) wants(r *core.Region, store uint64) bool {
	role := roleFollower
	if r.Leader.StoreId == store {
		role = roleLeader
	}
	return slices.Contains(s.cfg.Roles, role)
}
