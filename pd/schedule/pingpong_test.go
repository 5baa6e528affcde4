package schedule

import (
	"context"
	"strings"
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"

	"github.com/copradb/copra/pd/placement"
)

// TestLeadersStayWhereARuleWantsThem: balance does not move leaders to voters
// elsewhere, from where the rule checker would fetch them back, and so on.
func TestLeadersStayWhereARuleWantsThem(t *testing.T) {
	s := schedulerSim(t, 3, 30)
	for id, zone := range map[uint64]string{1: "a", 2: "b", 3: "c"} {
		s.stores.Get(id).Meta.Labels = []*metapb.StoreLabel{{Key: "zone", Value: zone}}
	}
	if err := s.rules.SetRules(context.Background(),
		&placement.Rule{GroupID: "pd", ID: "default", Role: placement.Leader, Count: 1, Index: 1, LabelConstraints: in("zone", "a")},
		&placement.Rule{GroupID: "pd", ID: "rest", Role: placement.Voter, Count: 2, Index: 2}); err != nil {
		t.Fatal(err)
	}
	s.rounds(60)
	s.out.Reset()
	s.options.DisableBalance = false
	s.rounds(60)
	for id := range uint64(30) {
		r := s.regions.ByID(id + 1)
		if err := s.ctl.Scatter(context.Background(), r, "g"); err != nil {
			t.Fatal(err)
		}
	}
	s.rounds(60)
	if n := strings.Count(s.out.String(), "transfer leader"); n > 0 {
		t.Errorf("leaders moved %d times:\n%.600s", n, s.out.String())
	}
	if n := s.leadersOf(1); n != 30 {
		t.Errorf("the wanted store leads %d of 30 regions", n)
	}
}

// TestReportsOutOfOrder: two reports on two streams may be taken in in one order
// and drive the operator in the other; the older one does not end it.
func TestReportsOutOfOrder(t *testing.T) {
	s := schedulerSim(t, 4, 1)
	s.rounds(5)
	before := s.regions.ByID(1)
	if err := s.ctl.AddAdmin(context.Background(), s.ctl.Admin("admin-add-peer", before).AddPeer(4, metapb.PeerRole_Voter)); err != nil {
		t.Fatal(err)
	}
	s.report(1) // the learner is there
	clear(s.pending)
	s.report(1) // and has caught up: it is to be promoted
	s.ctl.Dispatch(before)
	rec, _ := s.ctl.Status(1)
	if rec.Reason != "" {
		t.Fatalf("the operator ended: %v, %s", rec.Status, rec.Reason)
	}
}
