package pdclient_test

import (
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/internal/pdclient"
)

// RegionHeartbeat implements pdpb.PDServer: it reads when it may.
func (p *fakePD) RegionHeartbeat(stream pdpb.PD_RegionHeartbeatServer) error {
	select {
	case <-p.reads:
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// TestDroppedReportsAreRepeated: PD was too slow for a while, so that the last
// news of some regions were dropped. When it reads again, all are asked for.
func TestDroppedReportsAreRepeated(t *testing.T) {
	p := startFakePD(t)
	p.leader, p.reads = p, make(chan struct{})
	asked := make(chan struct{}, 100)
	c, err := pdclient.New(testContext(t), []string{p.addr}, pdclient.Options{OnHeartbeatStream: func() { asked <- struct{}{} }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	<-asked // the stream is open
	ctx := testContext(t)
	region := &metapb.Region{Id: 1, StartKey: make([]byte, 1024)}
	for c.ReportRegion(&pdpb.RegionHeartbeatRequest{Region: region}) {
	}
	close(p.reads)
	for {
		select {
		case <-asked:
			return
		case <-time.After(10 * time.Millisecond): // there is always something to report
			c.ReportRegion(&pdpb.RegionHeartbeatRequest{Region: region})
		case <-ctx.Done():
			t.Fatal("nobody asked for what was dropped")
		}
	}
}
