package pd

import (
	"testing"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestSupersededStreamEnds: reports that are left on a stream which its store
// has given up don't take the place of what came on the next one.
func TestSupersededStreamEnds(t *testing.T) {
	s := startPD(t, nil)
	c := bootstrap(t, s, 2)
	r := firstRegion()
	r.Peers = append(r.Peers, &metapb.Peer{Id: 9, StoreId: 4})
	r.RegionEpoch.ConfVer++
	report := func(st *storeStream, pending ...*metapb.Peer) error {
		return st.stream.Send(&pdpb.RegionHeartbeatRequest{Header: header(s), Region: r, Leader: r.Peers[0], Term: 5, PendingPeers: pending})
	}
	pending := func() int {
		resp, err := c.GetRegionByID(testContext(t), &pdpb.GetRegionByIDRequest{Header: header(s), RegionId: r.Id})
		if err != nil || resp.GetLeader() == nil || len(resp.GetRegion().GetPeers()) != 2 {
			return -1
		}
		return len(resp.GetPendingPeers())
	}
	old, next := openStream(t, s, c), openStream(t, s, c)
	if err := report(old, r.Peers[1]); err != nil {
		t.Fatal(err)
	}
	until(t, "the peer is pending", func() bool { return pending() == 1 })
	if err := report(next); err != nil {
		t.Fatal(err)
	}
	until(t, "it is not", func() bool { return pending() == 0 })
	if err := report(old, r.Peers[1]); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := old.stream.Recv(); err != nil {
			if status.Code(err) != codes.Aborted {
				t.Fatal(err)
			}
			break
		}
	}
	if n := pending(); n != 0 {
		t.Fatalf("%d peers are pending after a report of long ago", n)
	}
}
