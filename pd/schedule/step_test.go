package schedule

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// A learner that fell behind or went down before its promotion is not made a
// voter: beside a single voter it would cost the quorum.
func TestHazard15_PromotesOnlyHealthyLearners(t *testing.T) {
	learner := &metapb.Peer{Id: 12, StoreId: 2, Role: metapb.PeerRole_Learner}
	r := &core.Region{Meta: &metapb.Region{Id: 1, Peers: []*metapb.Peer{{Id: 11, StoreId: 1}, learner}}}
	step := Promote{Store: 2, Peer: 12}
	if err := step.Check(r, core.NewStores()); err != nil {
		t.Errorf("a healthy learner: %v", err)
	}
	r.Pending = []*metapb.Peer{learner}
	if step.Check(r, core.NewStores()) == nil {
		t.Error("a pending learner is promoted")
	}
	r.Pending, r.Down = nil, []*pdpb.PeerStats{{Peer: learner, DownSeconds: 700}}
	if step.Check(r, core.NewStores()) == nil {
		t.Error("a learner that is down is promoted")
	}
}
