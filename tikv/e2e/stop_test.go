package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestStopWithoutQuorum: a node stops though a write on it waits for a quorum
// that is gone, and will be waited for by nobody else.
func TestStopWithoutQuorum(t *testing.T) {
	c := start(t, 3, nil)
	cl := c.txnClient()
	c.replicated()
	c.moveLeader("k", 0)
	ts, err := cl.CurrentTimestamp("global")
	c.must(err)
	_, info, _ := c.regionOf("k")
	cc, err := grpc.NewClient(c.nodes[0].Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	c.must(err)
	defer cc.Close()
	rc := &kvrpcpb.Context{RegionId: info.Region.GetId(), RegionEpoch: info.Region.GetRegionEpoch(), Peer: &metapb.Peer{Id: info.PeerID, StoreId: c.nodes[0].StoreID()}}
	ctx, cancel := context.WithCancel(c.ctx)
	var writers sync.WaitGroup
	for i := range 8 { // some of them are caught between propose and commit
		writers.Go(func() {
			key := fmt.Appendf(nil, "k%d", i)
			for n := uint64(1); ctx.Err() == nil; n++ {
				// What the answers are does not matter.
				_, _ = tikvpb.NewTikvClient(cc).KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{Context: rc, StartVersion: ts, PrimaryLock: key, LockTtl: 3000,
					Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: fmt.Appendf(key, "/%d", n), Value: []byte("v")}}})
			}
		})
	}
	c.nodes[1].Stop()
	c.nodes[2].Stop()
	stopped := make(chan struct{})
	go func() {
		c.nodes[0].Stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		t.Error("the node does not stop")
	}
	cancel()
	writers.Wait()
}
