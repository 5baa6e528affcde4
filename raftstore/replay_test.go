package raftstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// The region that a split in the log makes has a log of its own, with changes of
// members that a plan of recovery must know.
func TestReplayFollowsSplits(t *testing.T) {
	cluster(t, 3, 1, raftstore.Config{LogCheckInterval: time.Hour}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		child := splitAt(t, c, rafttest.FirstRegion, "m")[0].Id
		c.WaitLeader(child)
		c.PD.AddPeer(child, 2)
		c.PD.AddPeer(child, 3)
		grand := splitAt(t, c, child, "f")[0].Id
		c.WaitLeader(grand)
		for _, id := range []uint64{child, grand} {
			for range 2 { // the commit index goes to the log with the next entry
				require.NoError(t, c.PutAt(context.Background(), c.WaitLeader(id), c.Context(c.WaitLeader(id), id), map[uint64]string{child: "g", grand: "b"}[id], "2"))
			}
		}
		c.Crash(1, 0)
		offline(t, c, 1, func(o *raftstore.Offline) {
			_, ok, err := o.Region(child)
			require.NoError(t, err)
			require.False(t, ok, "the split is in the log only")
			require.NoError(t, o.Replay(t.Context(), c.Node(1).FS, "snap"))
			for _, id := range []uint64{child, grand} {
				after, ok, err := o.Region(id)
				require.NoError(t, err)
				require.True(t, ok)
				require.Len(t, after.Region.Peers, 3, "region %d", id)
				require.GreaterOrEqual(t, after.AppliedIndex, after.Commit)
			}
			plan, err := o.PlanRecovery([]uint64{2, 3}, nil)
			require.NoError(t, err)
			require.Len(t, plan, 2)
		})
	})
}
