package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

func TestGrowFromOneToThree(t *testing.T) {
	cluster(t, 3, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 50 {
			c.Put(fmt.Sprint("k", i), fmt.Sprint(i))
		}
		for id := uint64(2); id <= 3; id++ {
			c.PD.AddPeer(rafttest.FirstRegion, id)
			c.Eventually("data", func() bool { return c.Local(id, "k49") == "49" })
		}
		c.Crash(1, 0)
		require.Equal(t, "49", c.Get("k49"))
		c.Put("more", "x")
		c.Restart(1)
		c.Eventually("catch up", func() bool { return c.Local(1, "more") == "x" })
	})
}

func TestRemoveVoter(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(rafttest.FirstRegion)
		gone := lead%3 + 1
		c.PD.RemovePeer(rafttest.FirstRegion, rafttest.FirstPeer+gone, gone)
		c.Eventually("destroyed", func() bool {
			_, ok := c.Node(gone).Store.Region(rafttest.FirstRegion)
			return !ok && c.Local(gone, "a") == ""
		})
		c.Put("a", "2")
		c.PD.AddPeer(rafttest.FirstRegion, 4)
		c.Eventually("data", func() bool { return c.Local(4, "a") == "2" })
		back := c.PD.AddPeer(rafttest.FirstRegion, gone)
		c.Eventually("data", func() bool { return c.Local(gone, "a") == "2" })
		for _, id := range c.IDs() {
			c.Crash(id, 0)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
		require.Equal(t, "2", c.Get("a"))
		r, _ := c.Node(gone).Store.Region(rafttest.FirstRegion)
		require.Equal(t, back, r.PeerID)
	})
}

func TestReplaceThroughJoint(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		learner := c.PD.AllocID()
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 4))
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool {
			return rafttest.RoleOf(r, learner) == metapb.PeerRole_Voter && rafttest.RoleOf(r, rafttest.FirstPeer+3) == metapb.PeerRole_Learner
		},
			rafttest.Change(eraftpb.ConfChangeType_AddNode, learner, 4),
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, rafttest.FirstPeer+3, 3))
		c.PD.RemovePeer(rafttest.FirstRegion, rafttest.FirstPeer+3, 3)
		c.Eventually("destroyed", func() bool { _, ok := c.Node(3).Store.Region(rafttest.FirstRegion); return !ok })
		c.Stop(2)
		c.Put("a", "2")
		c.Eventually("data", func() bool { return c.Local(4, "a") == "2" })
	})
}

// Hazard 5: the joint state survives a crash of everybody, nothing else starts
// meanwhile, and it ends.
func TestHazard05_JointSurvivesCrash(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		learner := c.PD.AllocID()
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 4))
		c.Eventually("data", func() bool { return c.Local(4, "a") == "1" })
		// The old half of the joint configuration loses its quorum, so the
		// joint state cannot be left.
		var cut atomic.Bool
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Epoch.ConfVer >= 4 {
				cut.Store(true)
			}
			return !cut.Load() || (m.To.StoreId != 2 && m.To.StoreId != 3 && m.From.StoreId != 2 && m.From.StoreId != 3)
		})
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool { return r.RegionEpoch.ConfVer >= 4 },
			rafttest.Change(eraftpb.ConfChangeType_AddNode, learner, 4),
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, rafttest.FirstPeer+3, 3))
		r, _ := c.Node(1).Store.Region(rafttest.FirstRegion)
		require.Equal(t, metapb.PeerRole_IncomingVoter, rafttest.RoleOf(r.Region, learner))
		_, err := c.Node(1).Store.SplitRegion(context.Background(), c.Context(1, rafttest.FirstRegion), [][]byte{[]byte("m")})
		require.NotNil(t, asRegionError(t, err).GetServerIsBusy(), "no split while joint")
		c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: rafttest.FirstRegion,
			ChangePeer: rafttest.Change(eraftpb.ConfChangeType_RemoveNode, rafttest.FirstPeer+2, 2)})
		for _, id := range c.IDs() {
			c.Crash(id, 0)
		}
		c.Heal()
		for _, id := range c.IDs() {
			c.Restart(id)
		}
		c.Eventually("joint state left", func() bool {
			lead := c.LeaderOf(rafttest.FirstRegion)
			if lead == 0 {
				return false
			}
			r, _ := c.Node(lead).Store.Region(rafttest.FirstRegion)
			return rafttest.RoleOf(r.Region, learner) == metapb.PeerRole_Voter && rafttest.RoleOf(r.Region, rafttest.FirstPeer+3) == metapb.PeerRole_Learner
		})
		require.Equal(t, "1", c.Get("a"))
	})
}

// Hazard 4: messages for a removed peer do not bring it back, not even when it
// never heard of its removal, and not after a restart.
func TestHazard04_RemovedPeerStaysDead(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		var mu sync.Mutex
		var old []*raftstore.RaftMessage
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.To.StoreId == 3 && m.Msg != nil {
				mu.Lock()
				defer mu.Unlock()
				old = append(old, m)
			}
			return true
		})
		c.Put("a", "2")
		time.Sleep(time.Second)
		c.Partition(3)
		c.PD.RemovePeer(rafttest.FirstRegion, rafttest.FirstPeer+3, 3)
		c.Heal()
		c.Eventually("the removed peer asks and is told", func() bool { _, ok := c.Node(3).Store.Region(rafttest.FirstRegion); return !ok })
		again := func() {
			for _, m := range old {
				require.NoError(t, c.Node(3).Store.Step(m))
			}
			time.Sleep(time.Second)
			_, ok := c.Node(3).Store.Region(rafttest.FirstRegion)
			require.False(t, ok)
		}
		require.NotEmpty(t, old)
		again()
		c.Crash(3, 0)
		c.Restart(3)
		again()
	})
}

func TestTransferLeader(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		for range 2 {
			for id := uint64(1); id <= 3; id++ {
				c.PD.TransferLeader(rafttest.FirstRegion, id)
				require.Equal(t, "1", c.Get("a"))
				require.Equal(t, id, c.LeaderOf(rafttest.FirstRegion))
			}
		}
	})
}

// Hazard 4: a vote is on disk before it is sent.
func TestHazard04_VoteSurvivesCrash(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.Stop(2)
		c.Stop(3)
		var mu sync.Mutex
		granted := map[uint64]bool{}
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Msg.GetType() == raftpb.MsgVoteResp {
				mu.Lock()
				defer mu.Unlock()
				granted[m.To.Id] = !m.Msg.GetReject()
			}
			return false
		})
		ask := func(from uint64) bool {
			r, _ := c.Node(1).Store.Region(first)
			require.NoError(t, c.Node(1).Store.Step(&raftstore.RaftMessage{
				RegionID: first, From: *r.Region.Peers[from-1], To: *r.Region.Peers[0], Epoch: *r.Region.RegionEpoch,
				Msg: &raftpb.Message{
					Type: raftpb.MsgVote.Enum(), Term: new(uint64(100)), Index: new(uint64(1000)), LogTerm: new(uint64(99)),
					From: new(rafttest.FirstPeer + from), To: new(uint64(rafttest.FirstPeer + 1)), Context: []byte("CampaignTransfer")},
			}))
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			answer, ok := granted[rafttest.FirstPeer+from]
			require.True(t, ok, "no answer")
			return answer
		}
		require.True(t, ask(2))
		c.Crash(1, 0)
		c.Restart(1)
		require.False(t, ask(3), "one vote a term")
		require.True(t, ask(2), "and that one again")
	})
}

// Writes during a transfer wait for its end: a client that hears "busy" waits
// for seconds.
func TestWritesWaitForTransfer(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		for _, lost := range []bool{true, false} {
			c.Net.SetFilter(func(m *raftstore.RaftMessage, deliver func()) bool {
				return !lost || m.Msg.GetType() != raftpb.MsgTimeoutNow
			})
			r, _ := c.Node(1).Store.Region(first)
			c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: first, TransferLeader: &pdpb.TransferLeader{Peer: r.Region.Peers[1]}})
			time.Sleep(time.Millisecond)
			err := c.PutAt(context.Background(), 1, c.Context(1, first), "b", "2")
			if lost {
				require.NoError(t, err, "the transfer was given up")
				continue
			}
			if err != nil { // or the write was first
				require.Equal(t, uint64(2), asRegionError(t, err).GetNotLeader().GetLeader().GetStoreId())
			}
		}
	})
}

// A peer gets a vote only when it has data: only a leader's message creates it,
// so if the leader fell before that nobody could be elected.
func TestHazard05_NoVoteWithoutData(t *testing.T) {
	cluster(t, 3, 1, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.Stop(2)
		learner := c.PD.AllocID()
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 2))
		for range 20 {
			c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: rafttest.FirstRegion,
				ChangePeer: rafttest.Change(eraftpb.ConfChangeType_AddNode, learner, 2)})
			time.Sleep(100 * time.Millisecond)
		}
		c.Crash(1, 0)
		c.Restart(1)
		c.Put("a", "2")
		c.Restart(2)
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Voter },
			rafttest.Change(eraftpb.ConfChangeType_AddNode, learner, 2))
		c.Eventually("data", func() bool { return c.Local(2, "a") == "2" })
	})
}

// Hazard 15: a learner that was removed while it was cut off asks for its fate,
// although it believes in a leader as ever.
func TestHazard15_RemovedLearnerAsks(t *testing.T) {
	cluster(t, 2, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		learner := c.PD.AllocID()
		c.PD.ChangePeers(rafttest.FirstRegion, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 2))
		c.Eventually("data", func() bool { return c.Local(2, "a") == "1" })
		c.Partition(2)
		c.PD.RemovePeer(rafttest.FirstRegion, learner, 2)
		time.Sleep(time.Second)
		c.Heal()
		c.Eventually("destroyed", func() bool { _, ok := c.Node(2).Store.Region(rafttest.FirstRegion); return !ok })
	})
}

// The child of a split whose parent left a store before it came to the split is
// there only elsewhere, and may need the vote of the peer that isn't.
func TestVoteCreatesPeer(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		c.Partition(3)
		splitAt(t, c, first, "m")
		c.Put("a", "2")
		c.PD.RemovePeer(first, rafttest.FirstPeer+3, 3)
		c.Stop(2)
		child := c.RegionAt("a").GetId()
		c.Eventually("the child has no leader", func() bool { return child != 0 && c.LeaderOf(child) == 0 })
		c.Heal()
		c.Put("a", "3")
		require.Equal(t, "3", c.Get("a"))
	})
}

// Hazard 15: a store whose peer was removed while it was behind doesn't know the
// members that joined in between, and must not bury them.
func TestHazard15_TheDeadDontBuryTheYounger(t *testing.T) {
	cluster(t, 4, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		links := func(cut ...[2]uint64) {
			c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
				for _, l := range cut {
					if (m.From.StoreId == l[0] && m.To.StoreId == l[1]) || (m.From.StoreId == l[1] && m.To.StoreId == l[0]) {
						return false
					}
				}
				return true
			})
		}
		links([2]uint64{3, 1}, [2]uint64{3, 2}, [2]uint64{3, 4})
		learner := c.PD.AllocID()
		c.PD.ChangePeers(first, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 4))
		c.Eventually("data", func() bool { return c.Local(4, "a") == "1" })
		links([2]uint64{3, 1}, [2]uint64{3, 2}, [2]uint64{3, 4}, [2]uint64{4, 1}, [2]uint64{4, 2})
		c.PD.RemovePeer(first, rafttest.FirstPeer+3, 3)
		links([2]uint64{4, 1}, [2]uint64{4, 2})
		c.Eventually("destroyed", func() bool { _, ok := c.Node(3).Store.Region(first); return !ok })
		time.Sleep(20 * time.Second) // the learner asks the one it can reach
		links()
		c.Put("a", "2")
		c.Eventually("the learner lives", func() bool { return c.Local(4, "a") == "2" })
	})
}

// Hazard 10: a peer that hears of its removal right after a restart first applies
// what it knows to be committed, be it the split whose child lives on here.
func TestHazard10_SplitBeforeEnd(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		require.NoError(t, c.Node(2).Engine.Flush(t.Context()))
		child := splitAt(t, c, first, "m")[0].Id
		c.Put("a", "2")
		c.Eventually("the child is on store 2", func() bool { return c.Local(2, "a") == "2" })
		c.Crash(2, 0) // which forgets that it has applied the split
		c.PD.RemovePeer(first, rafttest.FirstPeer+2, 2)
		c.Partition(2)
		c.Restart(2)
		region, _ := c.Node(1).Store.Region(first)
		require.NoError(t, c.Node(2).Store.Step(&raftstore.RaftMessage{
			RegionID: first, From: *region.Region.Peers[0], To: metapb.Peer{Id: rafttest.FirstPeer + 2, StoreId: 2},
			Epoch: *region.Region.RegionEpoch, Tombstone: true}))
		c.Eventually("destroyed", func() bool { _, ok := c.Node(2).Store.Region(first); return !ok })
		r, ok := c.Node(2).Store.Region(child)
		require.True(t, ok, "the child is lost")
		require.NotEmpty(t, r.Region.Peers)
		c.Heal()
		c.Stop(3)
		c.Put("a", "3")
		c.Eventually("data", func() bool { return c.Local(2, "a") == "3" })
	})
}
