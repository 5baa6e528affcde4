package pd

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/schedule"
)

// TestAdminOperators asks for each kind of operator on two regions on stores 1,
// 4 and 5, of six stores, and looks at the steps.
func TestAdminOperators(t *testing.T) {
	s := startPD(t, func(c *Config) { c.Schedule = schedule.Options{PatrolInterval: time.Hour, BalanceInterval: time.Hour} })
	c, ctx := bootstrap(t, s, 6), testContext(t)
	cl := s.term.Load().cluster
	for _, id := range []uint64{1, 4, 5, 6, 7, 8} {
		if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: &pdpb.StoreStats{StoreId: id}}); err != nil {
			t.Fatal(err)
		}
	}
	key := func(k string) []byte { return codec.EncodeBytes(nil, []byte(k)) }
	peers := func(from uint64) []*metapb.Peer {
		return []*metapb.Peer{{Id: from, StoreId: 1}, {Id: from + 1, StoreId: 4}, {Id: from + 2, StoreId: 5}}
	}
	for _, m := range []*metapb.Region{
		{Id: 2, EndKey: key("m"), RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 5}, Peers: peers(20)},
		{Id: 10, StartKey: key("m"), RegionEpoch: &metapb.RegionEpoch{Version: 2, ConfVer: 5}, Peers: peers(30)},
	} {
		if err := cl.putRegion(&core.Region{Meta: m, Leader: m.Peers[0], ReportedAt: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name string
		add  func(ctx context.Context) error
		want string // in the operator of region 2, or in the error
	}{
		{"add-peer", func(ctx context.Context) error { return cl.addPeer(ctx, 2, 6, false) }, "on store 6, promote learner"},
		{"add-learner", func(ctx context.Context) error { return cl.addPeer(ctx, 2, 6, true) }, "add learner"},
		{"add-peer to nowhere", func(ctx context.Context) error { return cl.addPeer(ctx, 2, 99, false) }, "error: pd: store 99 takes no peers"},
		{"add-peer where one is", func(ctx context.Context) error { return cl.addPeer(ctx, 2, 4, false) }, "error: pd: admin-add-peer of region 2: region 2 has peer 21"},
		{"remove-peer", func(ctx context.Context) error { return cl.removePeer(ctx, 2, 5) }, "remove peer 22 on store 5"},
		{"remove-peer that leads", func(ctx context.Context) error { return cl.removePeer(ctx, 2, 1) }, "transfer leader to store 4, remove peer 20"},
		{"transfer-leader", func(ctx context.Context) error { return cl.transferLeader(ctx, 2, 5) }, "step 0 of 1: transfer leader to store 5"},
		{"transfer-leader to itself", func(ctx context.Context) error { return cl.transferLeader(ctx, 2, 1) }, "error: pd: region 2 needs no change"},
		{"transfer-peer", func(ctx context.Context) error { return cl.transferPeer(ctx, 2, 4, 6) }, "demote 21 on store 4, leave the joint peer set, remove peer 21"},
		{"transfer-peer from nowhere", func(ctx context.Context) error { return cl.transferPeer(ctx, 2, 6, 7) }, "error: pd: region 2 has no peer on store 6"},
		{"transfer-region", func(ctx context.Context) error {
			return cl.transferRegion(ctx, 2, []uint64{5, 6, 7}, []string{"voter", "leader", "learner"})
		}, "transfer leader to store 5, joint: promote"},
		{"transfer-region twice to one store", func(ctx context.Context) error { return cl.transferRegion(ctx, 2, []uint64{5, 5}, nil) }, "error: pd: a store is named twice"},
		{"transfer-region in an unknown role", func(ctx context.Context) error { return cl.transferRegion(ctx, 2, []uint64{5}, []string{"boss"}) }, `error: pd: "boss" is no role`},
		{"merge-region", func(ctx context.Context) error { return cl.mergeRegion(ctx, 2, 10) }, "merge into region 10"},
		{"merge-region the other way", func(ctx context.Context) error { return cl.mergeRegion(ctx, 10, 2) }, "take in region 10"},
		{"split-region", func(context.Context) error { return cl.splitRegion(2, pdpb.CheckPolicy_USEKEY, [][]byte{key("c")}) }, "split at"},
		{"split-region in the middle", func(context.Context) error { return cl.splitRegion(2, pdpb.CheckPolicy_SCAN, nil) }, "split by policy SCAN"},
		{"split-region elsewhere", func(context.Context) error { return cl.splitRegion(2, pdpb.CheckPolicy_USEKEY, [][]byte{key("x")}) }, "error: pd: split region 2: key"},
		{"unknown region", func(ctx context.Context) error { return cl.removePeer(ctx, 77, 1) }, "error: "},
	} {
		got := ""
		if err := tc.add(ctx); err != nil {
			got = "error: " + err.Error()
		}
		for _, op := range cl.sched.Operators() {
			if op.Region == 2 {
				got = op.Text
			}
		}
		if !strings.Contains(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		for _, id := range []uint64{2, 10} {
			cl.sched.Cancel(id, "the test goes on")
		}
	}
	if err := cl.scatterRegion(ctx, 2, "g"); err != nil {
		t.Error(err)
	}
	ended := cl.sched.History(time.Time{})
	if len(ended) == 0 || ended[0].Status != pdpb.OperatorStatus_CANCEL {
		t.Error("the operators that ended are not remembered:", ended)
	}
	// The other half of a merge ends with it.
	cl.sched.Cancel(2, "the test goes on")
	if err := cl.mergeRegion(ctx, 2, 10); err != nil {
		t.Fatal(err)
	}
	cl.sched.Cancel(10, "no more")
	if list := cl.sched.List(); len(list) > 0 {
		t.Error("half a merge goes on:", list)
	}
}
