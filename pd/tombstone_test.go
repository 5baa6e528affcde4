package pd

import (
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// TestHazard15_StoreThatHoldsRegionsIsNotBuried: a new leader of PD knows
// regions from etcd, where they are saved late, so a store that is being removed
// can seem empty while it has a peer. It says so itself.
func TestHazard15_StoreThatHoldsRegionsIsNotBuried(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 2)
	ctx := testContext(t)
	tm, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	beat := func(regions uint32) {
		t.Helper()
		for _, st := range []*pdpb.StoreStats{{StoreId: 1}, {StoreId: 4, RegionCount: regions}} {
			if _, err := c.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: header(s), Stats: st}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tm.cluster.setStoreState(ctx, 4, metapb.StoreState_Offline); err != nil {
		t.Fatal(err)
	}
	beat(1)
	r := firstRegion()
	openStream(t, s, c).report(r, r.Peers[0])
	until(t, "enough is known of the cluster", tm.cluster.sched.Prepared)
	bury := func() error {
		st, err := tm.cluster.store(4)
		if err != nil {
			t.Fatal(err)
		}
		if err := tm.cluster.advanceStore(ctx, st, time.Now()); err != nil {
			t.Fatal(err)
		}
		return tm.cluster.setStoreState(ctx, 4, metapb.StoreState_Tombstone)
	}
	if err := bury(); err == nil {
		t.Fatal("a store that says that it has a region became a tombstone")
	}
	if st, err := tm.cluster.store(4); err != nil || !st.IsOffline() {
		t.Fatal(st, err)
	}
	beat(0)
	if err := bury(); err != nil {
		t.Fatal(err)
	}
}

// TestHeartbeatThatCannotBe: such a report is refused, and harms nobody.
func TestHeartbeatThatCannotBe(t *testing.T) {
	s := startPD(t, nil)
	bootstrap(t, s, 1)
	tm, err := s.leading()
	if err != nil {
		t.Fatal(err)
	}
	many := firstRegion()
	for i := range uint64(1000) {
		many.Peers = append(many.Peers, &metapb.Peer{Id: 100 + i, StoreId: 100 + i})
	}
	me := &metapb.Peer{Id: 3, StoreId: 1}
	for name, hb := range map[string]*pdpb.RegionHeartbeatRequest{
		"no region":         {Leader: me},
		"no leader":         {Region: firstRegion()},
		"a strange leader":  {Region: firstRegion(), Leader: &metapb.Peer{Id: 99, StoreId: 77}},
		"leader elsewhere":  {Region: firstRegion(), Leader: &metapb.Peer{Id: 3, StoreId: 77}},
		"down is nobody":    {Region: firstRegion(), Leader: me, DownPeers: []*pdpb.PeerStats{{DownSeconds: 9}}},
		"down is strange":   {Region: firstRegion(), Leader: me, DownPeers: []*pdpb.PeerStats{{Peer: &metapb.Peer{Id: 9, StoreId: 9}}}},
		"pending is absent": {Region: firstRegion(), Leader: me, PendingPeers: []*metapb.Peer{nil}},
		"a thousand peers":  {Region: many, Leader: me},
	} {
		if err := tm.cluster.regionHeartbeat(hb); err == nil {
			t.Errorf("%s: taken in", name)
		}
	}
	if _, err := tm.cluster.askBatchSplit(testContext(t), many, splitCountMax); err == nil {
		t.Error("ids for a split of a region with a thousand peers")
	}
	if n := tm.cluster.regions.StoreCounts(77).Leaders; n != 0 {
		t.Errorf("store 77 leads %d regions", n)
	}
}
