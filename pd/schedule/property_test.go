package schedule

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/placement"
)

// ruleSets are rules that can be met while one store of each zone is missing.
var ruleSets = map[string][]*placement.Rule{
	"isolated": {{GroupID: "pd", ID: "default", Role: placement.Voter, Count: 3, LocationLabels: []string{"zone", "host"}}},
	"strict": {{GroupID: "pd", ID: "default", Role: placement.Voter, Count: 3, LocationLabels: []string{"zone", "host"},
		IsolationLevel: "zone"}},
	"two in one zone": {
		{GroupID: "pd", ID: "default", Role: placement.Voter, Count: 2, LabelConstraints: in("zone", "a")},
		{GroupID: "pd", ID: "else", Role: placement.Voter, Count: 1, LabelConstraints: []placement.LabelConstraint{
			{Key: "zone", Op: placement.NotIn, Values: []string{"a"}}}}},
	"leader here": {
		{GroupID: "pd", ID: "default", Role: placement.Leader, Count: 1, Index: 1, LabelConstraints: in("zone", "b")},
		{GroupID: "pd", ID: "rest", Role: placement.Follower, Count: 2, Index: 2, LocationLabels: []string{"zone"}}},
	"learner": {
		{GroupID: "pd", ID: "default", Role: placement.Voter, Count: 3, LocationLabels: []string{"zone"}},
		{GroupID: "pd", ID: "scan", Role: placement.Learner, Count: 1, LabelConstraints: in("disk", "ssd")}},
	"five": {{GroupID: "pd", ID: "default", Role: placement.Voter, Count: 5, LocationLabels: []string{"zone", "host"}}},
	"by range": {
		{GroupID: "pd", ID: "default", Role: placement.Voter, Count: 3},
		{GroupID: "t", ID: "x", Role: placement.Learner, Count: 2, LabelConstraints: in("zone", "c"),
			StartKey: enc("0003"), EndKey: enc("00055")}},
}

func in(key string, values ...string) []placement.LabelConstraint {
	return []placement.LabelConstraint{{Key: key, Op: placement.In, Values: values}}
}

// TestConverges starts from regions anywhere, lets stores die, come back and
// leave, changes the rules, and wants every region to meet the rules in the end
// and everything to stay where it is then. That no step costs a region its
// quorum the simulator checks at each of them.
func TestConverges(t *testing.T) {
	seeds := 4
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds = 200
	}
	for name, rules := range ruleSets {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) { converge(t, int64(seed), rules) })
		}
	}
}

func converge(t *testing.T, seed int64, rules []*placement.Rule) {
	rng := rand.New(rand.NewSource(seed))
	s := newSim(t)
	s.auto = rng.Intn(2) == 0
	const stores = 12
	for id := uint64(1); id <= stores; id++ {
		s.addStore(id)
		disk := "hdd"
		if id%4 == 0 {
			disk = "ssd"
		}
		s.stores.Get(id).Meta.Labels = []*metapb.StoreLabel{
			{Key: "zone", Value: string(rune('a' + id%3))}, {Key: "host", Value: fmt.Sprint(id / 2)}, {Key: "disk", Value: disk}}
	}
	const regions = 10
	for i := range regions {
		start, end := fmt.Sprintf("%04d", i), fmt.Sprintf("%04d", i+1)
		if i == 0 {
			start = ""
		}
		if i == regions-1 {
			end = ""
		}
		var on []uint64
		for _, id := range rng.Perm(stores)[:1+rng.Intn(4)] {
			on = append(on, uint64(id+1))
		}
		s.addRegion(uint64(i+1), start, end, on)
	}
	for range 30 {
		s.round()
	}
	if err := s.rules.SetBundles(context.Background(), []placement.Bundle{}, true); err != nil {
		t.Fatal(err)
	}
	if err := s.rules.SetRules(context.Background(), rules...); err != nil {
		t.Fatal(err)
	}
	s.disturb(rng)
	const settle, quiet = 600, 60
	for range settle {
		s.round()
	}
	s.out.Reset()
	for range quiet {
		s.round()
	}
	if s.out.Len() > 0 {
		t.Errorf("seed %d: it has not come to rest after %d rounds:\n%s", seed, settle, s.out.String())
	}
	for _, r := range s.regions.Scan(nil, nil, 0) {
		if fit := s.ctl.Fit(r); !fit.Satisfied() || !isHealthy(r) {
			t.Errorf("seed %d: region %d does not meet the rules: %v, down %v, pending %v", seed, r.ID(), r.Meta.Peers, r.Down, r.Pending)
		}
		for _, p := range r.Meta.Peers {
			if s.dead[p.StoreId] || s.stores.Get(p.StoreId).IsOffline() {
				t.Errorf("seed %d: region %d is still on store %d", seed, r.ID(), p.StoreId)
			}
		}
	}
}

// disturb kills, revives and drains stores, one at a time, never more than two
// of a zone for good.
func (s *sim) disturb(rng *rand.Rand) {
	for range 6 {
		id := uint64(1 + rng.Intn(12))
		switch rng.Intn(3) {
		case 0: // away for a moment
			s.dead[id] = true
			s.rounds(rng.Intn(20))
			delete(s.dead, id)
		case 1: // away for long
			s.dead[id] = true
			s.rounds(1)
			s.now = s.now.Add(s.options.MaxStoreDownTime)
			s.rounds(60 + rng.Intn(60))
			delete(s.dead, id)
		case 2: // being emptied, and taken back
			s.setState(id, metapb.StoreState_Offline)
			s.rounds(rng.Intn(60))
			s.setState(id, metapb.StoreState_Up)
		}
		s.rounds(40)
	}
	s.setState(uint64(1+rng.Intn(12)), metapb.StoreState_Offline)
}

func (s *sim) rounds(n int) {
	for range n {
		s.round()
	}
}

func (s *sim) setState(id uint64, state metapb.StoreState) {
	next := *s.stores.Get(id)
	meta := *next.Meta
	meta.State = state
	next.Meta = &meta
	s.stores.Put(&next)
}

// TestRulesAllow moves peers as a scheduler would, and wants the fit never to
// get worse.
func TestRulesAllow(t *testing.T) {
	for name, rules := range ruleSets {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			for id := uint64(1); id <= 12; id++ {
				s.addStore(id)
				s.stores.Get(id).Meta.Labels = []*metapb.StoreLabel{{Key: "zone", Value: string(rune('a' + id%3))},
					{Key: "host", Value: fmt.Sprint(id / 2)}, {Key: "disk", Value: []string{"hdd", "ssd"}[id%2]}}
			}
			if err := s.rules.SetRules(context.Background(), rules...); err != nil {
				t.Fatal(err)
			}
			s.addRegion(1, "0003", "0004", []uint64{1, 2, 3})
			for range 200 {
				s.round()
			}
			r := s.regions.ByID(1)
			before, allowed := s.ctl.Fit(r), 0
			for _, p := range r.Meta.Peers {
				for _, to := range s.stores.All() {
					if !s.ctl.rulesAllow(r, p, to) {
						continue
					}
					allowed++
					next := &core.Region{Meta: clone(r.Meta), Leader: r.Leader, ReportedAt: r.ReportedAt}
					moved := next.Peer(p.Id)
					moved.StoreId = to.ID()
					if r.Leader.Id == p.Id {
						next.Leader = moved
					}
					if after := s.ctl.Fit(next); after.Compare(before) < 0 {
						t.Errorf("store %d to %d: %+v became %+v", p.StoreId, to.ID(), before.Rules, after.Rules)
					}
				}
			}
			if allowed == 0 {
				t.Error("nothing may be moved")
			}
		})
	}
}
