package raftstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// transferTo is PD's operator, once.
func transferTo(c *rafttest.Cluster, store uint64) {
	r, _ := c.Node(1).Store.Region(first)
	c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: first, TransferLeader: &pdpb.TransferLeader{Peer: r.Region.Peers[store-1]}})
	synctest.Wait()
}

// However often PD wants the leadership at a store that was killed, writes wait
// for an election timeout once at most, and later ones not at all.
func TestTransferToDeadStore(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		c.Put("a", "2")
		c.Crash(2, 0)
		var worst, late time.Duration
		killed := time.Now()
		for i := 0; time.Since(killed) < 20*time.Second; i++ {
			transferTo(c, 2)
			start := time.Now()
			require.NoError(t, c.PutAt(context.Background(), 1, c.Context(1, first), "b", fmt.Sprint(i)))
			took := time.Since(start)
			if worst = max(worst, took); start.Sub(killed) > 1100*time.Millisecond {
				late = max(late, took)
			}
			time.Sleep(50 * time.Millisecond)
		}
		require.LessOrEqual(t, worst, 1100*time.Millisecond)
		require.Zero(t, late, "a write waited for a transfer to a store that is known to be dead")

		// Back again, it may lead.
		c.Restart(2)
		c.PD.TransferLeader(first, 2)
		require.Equal(t, uint64(2), c.LeaderOf(first))
	})
}

// A target that is far behind is not waited for.
func TestTransferToLaggingPeer(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		var held atomic.Bool
		held.Store(true)
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			return !held.Load() || m.To.StoreId != 2 || m.Msg.GetType() != raftpb.MsgApp
		})
		for i := range 1100 {
			c.Put("b", fmt.Sprint(i))
		}
		transferTo(c, 2)
		start := time.Now()
		require.NoError(t, c.PutAt(context.Background(), 1, c.Context(1, first), "b", "now"))
		require.Zero(t, time.Since(start))
		held.Store(false)
		c.PD.TransferLeader(first, 2)
		require.Equal(t, uint64(2), c.LeaderOf(first))
		require.Equal(t, "now", c.Get("b"))
	})
}
