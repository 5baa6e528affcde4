package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// manyRegions cuts the first region into n, led by the stores in turn if spread.
func manyRegions(t *testing.T, c *rafttest.Cluster, n int, spread bool) (ids []uint64) {
	c.WaitLeader(first)
	t.Helper()
	var keys []string
	for i := 1; i < n; i++ {
		keys = append(keys, fmt.Sprintf("k%06d", i))
	}
	left := uint64(first)
	for len(keys) > 0 {
		part := keys[max(0, len(keys)-60):]
		keys = keys[:len(keys)-len(part)]
		for _, r := range splitAt(t, c, left, part...) {
			if string(r.StartKey) == "" {
				left = r.Id
			}
			if len(keys) == 0 || string(r.StartKey) != "" {
				ids = append(ids, r.Id)
			}
		}
	}
	require.Len(t, ids, n)
	for _, id := range c.IDs() {
		c.Eventually("all regions everywhere", func() bool { return c.Node(id).Store.RegionCount() == n })
	}
	if spread {
		for i, id := range ids {
			c.PD.TransferLeader(id, c.IDs()[i%len(c.IDs())])
		}
	}
	return ids
}

// asleep reports whether all peers of all running stores sleep.
func asleep(c *rafttest.Cluster) bool {
	for _, id := range c.IDs() {
		if !c.Node(id).Up.Load() {
			continue
		}
		for _, r := range c.Node(id).Store.Regions() {
			if !r.Asleep {
				return false
			}
		}
	}
	return true
}

func waitAsleep(c *rafttest.Cluster) {
	c.TB.Helper()
	c.Eventually("all sleep", func() bool { return asleep(c) })
}

func sum(t *testing.T, c *rafttest.Cluster, name string) (v float64) {
	for _, id := range c.IDs() {
		if c.Node(id).Up.Load() {
			v += metric(t, c, id, name)
		}
	}
	return v
}

// follower makes a request one that any peer may serve.
func follower(rc *kvrpcpb.Context) *kvrpcpb.Context {
	rc.ReplicaRead = true
	return rc
}

const (
	ticksMetric = "tikv_raftstore_peer_tick_total"
	rolesMetric = "tikv_raftstore_role_change_total"
	wakesMetric = "tikv_raftstore_peer_wake_total"
)

// An idle region costs neither ticks nor messages, and is still known to PD.
func TestHibernate(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		waitAsleep(c)
		time.Sleep(time.Second)
		ticks, roles := sum(t, c, ticksMetric), sum(t, c, rolesMetric)
		before := c.PD.Beats(first)
		time.Sleep(5 * time.Minute)
		require.Equal(t, ticks, sum(t, c, ticksMetric), "a sleeper was ticked")
		require.Equal(t, roles, sum(t, c, rolesMetric))
		beats := c.PD.Beats(first) - before
		require.True(t, beats >= 4 && beats <= 10, "%d heartbeats to PD in five minutes", beats)
		require.Empty(t, c.PD.Beat(first).DownPeers)
		require.Empty(t, c.PD.Beat(first).PendingPeers)
		require.True(t, asleep(c))

		start := time.Now()
		require.Equal(t, "1", c.Get("a"))
		c.Put("a", "2")
		require.Less(t, time.Since(start), 50*time.Millisecond, "a region wakes without waiting for its clock")
		require.Equal(t, lead, c.LeaderOf(first))
		waitAsleep(c)
		for _, id := range c.IDs() { // a follower read wakes follower and leader
			got, err := c.GetAt(context.Background(), id, follower(c.Context(id, first)), "a")
			require.NoError(t, err)
			require.Equal(t, "2", got)
		}
		require.Less(t, time.Since(start), time.Minute)
		require.Equal(t, roles, sum(t, c, rolesMetric), "nobody stood for election")
		waitAsleep(c)
		c.PD.TransferLeader(first, lead%3+1) // an operator wakes it
		waitAsleep(c)
		require.Equal(t, lead%3+1, c.LeaderOf(first))
	})
}

// A sleeping leader has no lease that it did not have before.
func TestHazard07_NoLeaseAsleep(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		waitAsleep(c)
		lead := c.LeaderOf(first)
		r, _ := c.Node(lead).Store.Region(first)
		require.Zero(t, r.LeaseLeft)
		rc := c.Context(lead, first)
		c.Partition(lead)
		c.Eventually("the others elect", func() bool {
			now := c.LeaderOf(first)
			return now != lead && c.PutAt(context.Background(), now, c.Context(now, first), "a", "2") == nil
		})
		// The old leader slept through it and believes that it leads.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		got, err := c.GetAt(ctx, lead, rc, "a")
		require.Error(t, err, "a stale read: %q", got)
		c.Heal()
		require.Equal(t, "2", c.Get("a"))
		waitAsleep(c)
	})
}

// The store of sleeping regions' leaders dies: others lead them within seconds,
// each region changes its leader once, and those of other stores sleep on.
func TestHazard14_SleepersFailOver(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		ids := manyRegions(t, c, 90, true)
		waitAsleep(c)
		time.Sleep(time.Minute) // followers are cold by now
		leads, wins, woken := map[uint64]uint64{}, map[uint64]int{}, sum(t, c, wakesMetric)-metric(t, c, 1, wakesMetric)
		for _, id := range ids {
			leads[id] = c.LeaderOf(id)
		}
		for _, id := range c.IDs() {
			wins[id] = c.Node(id).Events.Wins()
		}
		start := time.Now()
		c.Crash(1, 0)
		c.Eventually("all have leaders", func() bool {
			for _, id := range ids {
				if c.LeaderOf(id) == 0 {
					return false
				}
			}
			return true
		})
		took := time.Since(start)
		t.Logf("30 leaders replaced in %v", took)
		require.Less(t, took, 4*time.Second)
		require.LessOrEqual(t, sum(t, c, wakesMetric)-woken, 60.0, "only the peers of the lost leaders wake")
		time.Sleep(30 * time.Second)
		for _, id := range ids {
			if leads[id] != 1 {
				require.Equal(t, leads[id], c.LeaderOf(id), "region %d changed its leader for nothing", id)
			}
		}
		require.Equal(t, 0, c.Node(2).Store.AwakeCount()+c.Node(3).Store.AwakeCount(), "a lost store keeps nobody awake")
		for i := range 90 {
			c.Put(fmt.Sprintf("k%06d", i), "x")
		}
		waitAsleep(c)
		elected := c.Node(2).Events.Wins() - wins[2] + c.Node(3).Events.Wins() - wins[3]
		require.Equal(t, 30, elected, "elections")

		wins[2], wins[3] = c.Node(2).Events.Wins(), c.Node(3).Events.Wins()
		c.Restart(1)
		c.Eventually("the returning store catches up", func() bool { return c.Local(1, "k000000") == "x" && c.Local(1, "k000089") == "x" })
		waitAsleep(c)
		time.Sleep(time.Minute)
		require.Zero(t, c.Node(1).Events.Wins())
		require.Equal(t, []int{wins[2], wins[3]}, []int{c.Node(2).Events.Wins(), c.Node(3).Events.Wins()})
	})
}

// A store that only follows restarts: nobody changes a role, and sleepers
// elsewhere are asked, not woken.
func TestHazard14_RestartDisturbsNobody(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		ids := manyRegions(t, c, 60, false)
		lead := c.WaitLeader(ids[0])
		for _, id := range ids {
			c.PD.TransferLeader(id, lead)
		}
		waitAsleep(c)
		for _, crash := range []bool{false, true} {
			other := lead%3 + 1
			roles, wakes := metric(t, c, lead, rolesMetric), metric(t, c, lead, wakesMetric)
			if crash {
				c.Crash(other, 50)
			} else {
				c.Stop(other)
			}
			c.Restart(other)
			time.Sleep(time.Minute)
			require.Equal(t, roles, metric(t, c, lead, rolesMetric))
			if !crash { // after a crash there may be something to apply again
				require.Equal(t, wakes, metric(t, c, lead, wakesMetric), "sleeping leaders were woken")
			}
			for _, id := range ids {
				r, ok := c.Node(other).Store.Region(id)
				require.True(t, ok)
				require.Equal(t, lead, r.LeaderPeer.GetStoreId(), "the restarted peer has learned who leads")
			}
			waitAsleep(c)
		}
	})
}

// All stores restart: every region is led again, most in one election, and
// what was written is there.
func TestHazard14_AllRestart(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		ids := manyRegions(t, c, 60, true)
		for i := range 60 {
			c.Put(fmt.Sprintf("k%06d", i), "v")
		}
		for _, id := range c.IDs() {
			c.Crash(id, 30)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
		start := time.Now()
		require.Equal(t, "v", c.Get("k000030"))
		require.Less(t, time.Since(start), 3*time.Second)
		wins := 0
		c.Eventually("all have leaders", func() bool {
			for _, id := range ids {
				if c.LeaderOf(id) == 0 {
					return false
				}
			}
			return true
		})
		t.Logf("60 regions led after %v", time.Since(start))
		waitAsleep(c)
		for _, id := range c.IDs() {
			wins += c.Node(id).Events.Wins()
		}
		require.LessOrEqual(t, wins, 70, "elections for 60 regions")
		for i := range 60 {
			require.Equal(t, "v", c.Get(fmt.Sprintf("k%06d", i)))
		}
	})
}

// A leader that is cut off while it sleeps comes back, and follows.
func TestSleepingLeaderCutOff(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		waitAsleep(c)
		lead := c.LeaderOf(first)
		c.Partition(lead)
		c.Eventually("another leader", func() bool { return c.LeaderOf(first) != lead })
		time.Sleep(20 * time.Second)
		c.Heal()
		c.Eventually("one leader", func() bool {
			r, _ := c.Node(lead).Store.Region(first)
			return !r.Leader && r.LeaderPeer != nil
		})
		c.Put("a", "2")
		waitAsleep(c)
	})
}

// With hibernation off nobody sleeps.
func TestNoHibernation(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{NoHibernation: true}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		time.Sleep(time.Minute)
		for _, id := range c.IDs() {
			for _, r := range c.Node(id).Store.Regions() {
				require.False(t, r.Asleep)
			}
		}
	})
}

// Writes that come at any moment of falling asleep succeed at once.
func TestWakeAtAnyMoment(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{HibernateTicks: 10}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "0")
		lead := c.WaitLeader(first)
		for i := range 60 {
			time.Sleep(time.Duration(900+7*i) * time.Millisecond)
			start := time.Now()
			require.NoError(t, c.PutAt(context.Background(), lead, c.Context(lead, first), "a", fmt.Sprint(i)))
			require.Zero(t, time.Since(start))
			id := uint64(i%3 + 1)
			got, err := c.GetAt(context.Background(), id, follower(c.Context(id, first)), "a")
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(i), got)
		}
		require.Equal(t, lead, c.LeaderOf(first))
	})
}

// A new leader's report that a peer is pending is corrected at once.
func TestPendingPeersClear(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{LogTruncateEntries: 8, LogCheckInterval: time.Second}, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 200 {
			c.Put(fmt.Sprint("k", i), "v")
			if i%50 == 0 {
				time.Sleep(12 * time.Second) // flushed, truncated
			}
		}
		lead := c.LeaderOf(first)
		c.PD.TransferLeader(first, lead%3+1)
		c.Eventually("the new leader reports", func() bool { return c.PD.Beat(first).GetLeader().GetStoreId() == lead%3+1 })
		start := time.Now()
		c.Eventually("no peer is pending", func() bool { return len(c.PD.Beat(first).PendingPeers) == 0 })
		require.Less(t, time.Since(start), time.Second)
	})
}

// A peer that was never needed since the restart still knows what it voted.
func TestHazard04_ColdPeerKeepsVote(t *testing.T) {
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
		r, _ := c.Node(1).Store.Region(first)
		ask := func(from uint64) bool {
			require.NoError(t, c.Node(1).Store.Step(&raftstore.RaftMessage{
				RegionID: first, From: metapb.Peer{Id: rafttest.FirstPeer + from, StoreId: from}, To: metapb.Peer{Id: r.PeerID, StoreId: 1},
				Epoch: *r.Region.RegionEpoch,
				Msg: &raftpb.Message{
					Type: raftpb.MsgVote.Enum(), From: new(rafttest.FirstPeer + from), To: new(r.PeerID), Term: new(uint64(1000)),
					LogTerm: new(uint64(1000)), Index: new(uint64(1000)), Context: []byte("CampaignTransfer")}}))
			time.Sleep(time.Second)
			mu.Lock()
			defer mu.Unlock()
			return granted[rafttest.FirstPeer+from]
		}
		require.True(t, ask(2))
		c.Crash(1, 0)
		c.Restart(1)
		require.Equal(t, 1, c.Node(1).Store.ColdCount())
		require.False(t, ask(3), "two votes in one term")
		require.Zero(t, c.Node(1).Store.ColdCount())
	})
}

// A cold follower that is asked for a pre-vote stands by the leader that it
// knew, and does not vote against it.
func TestHazard14_ColdPeerStandsByItsLeader(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		waitAsleep(c)
		time.Sleep(2 * time.Minute)
		lead := c.LeaderOf(first)
		a, b := lead%3+1, (lead+1)%3+1
		require.Equal(t, 1, c.Node(a).Store.ColdCount())
		require.Equal(t, 1, c.Node(b).Store.ColdCount())
		var mu sync.Mutex
		var answers []bool
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			mu.Lock()
			defer mu.Unlock()
			if m.Msg.GetType() == raftpb.MsgPreVoteResp {
				answers = append(answers, !m.Msg.GetReject())
			}
			return true
		})
		r, _ := c.Node(b).Store.Region(first)
		require.NoError(t, c.Node(b).Store.Step(&raftstore.RaftMessage{
			RegionID: first, From: metapb.Peer{Id: rafttest.FirstPeer + a, StoreId: a}, To: metapb.Peer{Id: r.PeerID, StoreId: b},
			Epoch: *r.Region.RegionEpoch,
			Msg: &raftpb.Message{
				Type: raftpb.MsgPreVote.Enum(), From: new(rafttest.FirstPeer + a), To: new(r.PeerID), Term: new(r.Term + 1),
				LogTerm: new(uint64(1000)), Index: new(uint64(1000))}}))
		waitAsleep(c)
		require.NotContains(t, answers, true)
		require.Equal(t, lead, c.LeaderOf(first))
	})
}

// What a failure detector outside says is believed when it is bad, and no beat
// contradicts it.
func TestOutsideLiveness(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		waitAsleep(c)
		c.Node(1).Store.OnStoreLiveness(2, false)
		require.True(t, c.Node(1).Store.StoreAlive(2), "it has just been heard of")
		c.Stop(2)
		c.Stop(3)
		time.Sleep(1100 * time.Millisecond)
		require.True(t, c.Node(1).Store.StoreAlive(3), "silent, but not for long enough")
		c.Node(1).Store.OnStoreLiveness(3, true)
		c.Node(1).Store.OnStoreLiveness(2, false)
		require.False(t, c.Node(1).Store.StoreAlive(2))
		time.Sleep(time.Second)
		require.False(t, c.Node(1).Store.StoreAlive(3))
		c.Restart(2)
		c.Eventually("back", func() bool { return c.Node(1).Store.StoreAlive(2) })
		require.Equal(t, "1", c.Get("a"))
	})
}

// A leader of PD that is new hears of all regions soon.
func TestReportAll(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		ids := manyRegions(t, c, 60, true)
		waitAsleep(c)
		before := map[uint64]int{}
		for _, id := range ids {
			before[id] = c.PD.Beats(id)
		}
		ticks := sum(t, c, ticksMetric)
		start := time.Now()
		for _, id := range c.IDs() {
			c.Node(id).Store.ReportAll()
		}
		c.Eventually("all report", func() bool {
			for _, id := range ids {
				if c.PD.Beats(id) == before[id] {
					return false
				}
			}
			return true
		})
		require.Less(t, time.Since(start), time.Second)
		require.Equal(t, ticks, sum(t, c, ticksMetric), "nobody was woken for it")
	})
}

// The follower's store of a sleeping region is gone: PD hears that the peer is down.
func TestSleeperReportsDownPeer(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{PeerDownDuration: 30 * time.Second}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		waitAsleep(c)
		lead := c.LeaderOf(first)
		c.Stop(lead%3 + 1)
		time.Sleep(2 * time.Minute)
		down := c.PD.Beat(first).DownPeers
		require.Len(t, down, 1)
		require.Equal(t, lead%3+1, down[0].Peer.StoreId)
		c.Restart(lead%3 + 1)
		c.Eventually("up again", func() bool { return len(c.PD.Beat(first).DownPeers) == 0 })
	})
}
