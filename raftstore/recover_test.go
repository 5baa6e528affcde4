package raftstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// offline opens the disks of a store that is down.
func offline(t testing.TB, c *rafttest.Cluster, id uint64, use func(o *raftstore.Offline)) {
	t.Helper()
	e, err := engine.Open(engine.Options{Dir: "data", FS: c.Node(id).FS, CacheBytes: 1 << 20})
	require.NoError(t, err)
	l, err := raftlog.Open(raftlog.Options{Dir: "raft", FS: c.Node(id).FS, CacheBytes: 1 << 20})
	require.NoError(t, err)
	use(raftstore.NewOffline(id, e, l))
	require.NoError(t, l.Close())
	require.NoError(t, e.Close())
}

func recoverStores(t *testing.T, c *rafttest.Cluster, left, failed []uint64) {
	t.Helper()
	for _, id := range left {
		offline(t, c, id, func(o *raftstore.Offline) {
			require.NoError(t, o.Replay(t.Context(), c.Node(id).FS, "snap"))
			plan, err := o.PlanRecovery(failed, nil)
			require.NoError(t, err)
			for _, step := range plan {
				require.NoError(t, step.Refused)
			}
			marked, err := o.Recover(plan, failed)
			require.NoError(t, err)
			require.NotZero(t, marked)
		})
	}
}

func TestRecoverLostQuorum(t *testing.T) {
	config := raftstore.Config{LogCheckInterval: time.Hour}
	cluster(t, 5, 5, config, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 20 {
			c.Put(fmt.Sprint("k", i), "before")
		}
		// Store 5 hears nothing of a split, so its log is the shorter one.
		c.Partition(5)
		regions := splitAt(t, c, rafttest.FirstRegion, "k5")
		c.Put("k1", "after")
		c.Put("k9", "after")
		c.Eventually("store 4 has it", func() bool { return c.Local(4, "k9") == "after" && c.Local(4, "k1") == "after" })
		for id := range uint64(5) {
			c.Crash(id+1, 0)
		}
		c.Heal()
		left, failed := []uint64{4, 5}, []uint64{1, 2, 3}
		recoverStores(t, c, left, failed)
		for _, id := range left {
			c.Restart(id)
		}
		require.Equal(t, "after", c.Get("k1"), "the survivor that has the most leads")
		require.Equal(t, "after", c.Get("k9"))
		c.Put("k1", "again")
		c.Put("k9", "again")
		for _, r := range regions {
			c.Eventually("failed peers are gone everywhere", func() bool {
				for _, id := range left {
					have, ok := c.Node(id).Store.Region(r.Id)
					if !ok || len(have.Region.Peers) != 2 {
						return false
					}
				}
				return true
			})
		}
		// A failed store comes back from the dead: it is turned away.
		c.Restart(1)
		c.Eventually("the old peers end", func() bool { return len(c.Node(1).Store.Regions()) == 0 })
		require.Equal(t, "again", c.Get("k1"))
		// The mark is gone: after another crash, nothing is left out.
		time.Sleep(time.Second)
		for _, id := range left {
			c.Crash(id, 0)
			offline(t, c, id, func(o *raftstore.Offline) {
				rs, err := o.Regions()
				require.NoError(t, err)
				for _, r := range rs {
					require.Empty(t, r.FailedStores)
					require.Empty(t, r.Problem)
					require.Len(t, r.Region.Peers, 2)
				}
			})
			c.Restart(id)
		}
		require.Equal(t, "again", c.Get("k9"))
	})
}

func TestRecoverLeavesHealthyRegionsAlone(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.Stop(2)
		offline(t, c, 2, func(o *raftstore.Offline) {
			plan, err := o.PlanRecovery([]uint64{3}, nil)
			require.NoError(t, err)
			require.Empty(t, plan, "two of three are a quorum")
			_, err = o.PlanRecovery([]uint64{2}, nil)
			require.ErrorContains(t, err, "other than this store")
			_, err = o.PlanRecovery(nil, nil)
			require.Error(t, err)
		})
	})
}

func TestOfflineLooks(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		splitAt(t, c, rafttest.FirstRegion, "m")
		require.NoError(t, c.PutAt(context.Background(), 1, c.Context(1, rafttest.FirstRegion), "z", "2"))
		c.Crash(1, 0)
		offline(t, c, 1, func(o *raftstore.Offline) {
			r, ok, err := o.Region(rafttest.FirstRegion)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, raft_serverpb.PeerState_Normal, r.State)
			require.Equal(t, uint64(rafttest.FirstPeer+1), r.PeerID)
			require.GreaterOrEqual(t, r.LastIndex, r.AppliedIndex)
			_, ok, err = o.Region(99)
			require.NoError(t, err)
			require.False(t, ok)
			var kinds []string
			require.NoError(t, o.Entries(rafttest.FirstRegion, 0, 0, func(e raftstore.OfflineEntry) error {
				kinds = append(kinds, e.Kind)
				return nil
			}))
			require.Equal(t, []string{"", "write", "BatchSplit", "write"}, kinds)
			require.ErrorContains(t, o.Entries(99, 0, 0, nil), "region 99")
		})
	})
}

// A store that crashes before it flushes knows its newest members from the log
// only.
func TestReplayFindsNewMembers(t *testing.T) {
	cluster(t, 3, 1, raftstore.Config{LogCheckInterval: time.Hour}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.AddPeer(rafttest.FirstRegion, 2)
		c.PD.AddPeer(rafttest.FirstRegion, 3)
		c.Put("a", "2")
		c.Put("a", "3")
		c.Crash(1, 0)
		offline(t, c, 1, func(o *raftstore.Offline) {
			before, _, err := o.Region(rafttest.FirstRegion)
			require.NoError(t, err)
			require.Len(t, before.Region.Peers, 1)
			require.NoError(t, o.Replay(t.Context(), c.Node(1).FS, "snap"))
			after, _, err := o.Region(rafttest.FirstRegion)
			require.NoError(t, err)
			require.Len(t, after.Region.Peers, 3)
			require.GreaterOrEqual(t, after.AppliedIndex, before.Commit)
			require.Equal(t, before.LastIndex, after.LastIndex, "a replay writes nothing of its own to the log")
			plan, err := o.PlanRecovery([]uint64{2, 3}, nil)
			require.NoError(t, err)
			require.Len(t, plan, 1)
		})
	})
}

// The survivor's log ends with the promotion of a peer on a store that has failed
// since: it must not need that peer's vote to get rid of it.
func TestRecoverPassesOverFailedNewMembers(t *testing.T) {
	config := raftstore.Config{LogCheckInterval: time.Hour}
	cluster(t, 4, 3, config, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 2)
		learner := c.PD.AllocID()
		c.PD.ChangePeers(first, func(r *metapb.Region) bool { return peerAt(r, 4) == learner && len(c.Local(4, "a")) > 0 },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 4))
		c.Eventually("all know", func() bool {
			r, _ := c.Node(1).Store.Region(first)
			return peerAt(r.Region, 4) == learner
		})
		var deaf atomic.Bool
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.To.StoreId != 1 {
				return true
			}
			for _, e := range m.Msg.GetEntries() {
				if e.GetType() == raftpb.EntryConfChangeV2 && m.Msg.GetCommit() < e.GetIndex() {
					return !deaf.Swap(true) // the last that store 1 hears
				}
			}
			return !deaf.Load()
		})
		c.PD.ChangePeers(first, func(r *metapb.Region) bool {
			return rafttest.RoleOf(r, learner) == metapb.PeerRole_Voter && len(r.Peers) == 4
		},
			rafttest.Change(eraftpb.ConfChangeType_AddNode, learner, 4))
		require.True(t, deaf.Load())
		for id := range uint64(4) {
			c.Crash(id+1, 0)
		}
		c.Heal()
		recoverStores(t, c, []uint64{1}, []uint64{2, 3, 4})
		c.Restart(1)
		c.Put("a", "2")
		c.Eventually("the failed peers are gone", func() bool {
			r, _ := c.Node(1).Store.Region(first)
			return len(r.Region.Peers) == 1
		})
		c.Put("a", "3")
	})
}
