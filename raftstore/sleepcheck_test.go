package raftstore_test

import (
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
)

// A peer that is removed while it sleeps, and hears nothing of it, asks in the
// end. Those that still belong to their regions sleep on.
func TestHazard15_RemovedSleeperAsks(t *testing.T) {
	outage := func(m *raftstore.RaftMessage) bool { return m.From.StoreId == 3 || m.To.StoreId == 3 }
	for _, test := range []struct {
		name                 string
		leader, learner, old bool // what is removed: a leader, a learner; cold
		lost                 func(*raftstore.RaftMessage) bool
		within               time.Duration
	}{
		{name: "follower", lost: outage, within: time.Minute},
		{name: "cold follower", old: true, lost: outage, within: time.Minute},
		{name: "learner", learner: true, lost: outage, within: time.Minute},
		{name: "leader", leader: true, lost: outage, within: time.Minute},
		{name: "no outage", within: 4 * time.Minute,
			lost: func(m *raftstore.RaftMessage) bool { return m.To.StoreId == 3 && m.RegionID == first }},
	} {
		t.Run(test.name, func(t *testing.T) {
			cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
				ids := manyRegions(t, c, 20, false)
				for _, id := range ids {
					c.PD.TransferLeader(id, 1)
				}
				if test.leader {
					c.PD.TransferLeader(first, 3)
				}
				r, ok := c.Node(3).Store.Region(first)
				require.True(t, ok)
				id := r.PeerID
				if test.learner {
					c.PD.ChangePeers(first, func(r *metapb.Region) bool { return rafttest.RoleOf(r, id) == metapb.PeerRole_Learner },
						rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, id, 3))
				}
				waitAsleep(c)
				if test.old {
					time.Sleep(2 * time.Minute)
					require.Equal(t, 20, c.Node(3).Store.ColdCount())
				}
				c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return !test.lost(m) })
				if test.leader {
					c.Eventually("another leader", func() bool { at := c.LeaderOf(first); return at != 0 && at != 3 })
				}
				c.PD.RemovePeer(first, id, 3)
				waitAsleep(c)
				before := sum(t, c, wakesMetric)
				c.Heal()
				start := time.Now()
				for _, here := c.Node(3).Store.Region(first); here; _, here = c.Node(3).Store.Region(first) {
					require.Less(t, time.Since(start), test.within, "peer %d doesn't know that it was removed\n%s", id, c.Dump())
					time.Sleep(100 * time.Millisecond)
				}
				t.Logf("asked after %v", time.Since(start))
				time.Sleep(15 * time.Minute)
				require.LessOrEqual(t, sum(t, c, wakesMetric), before+6, "the peer that ends, and those of its region, wake, but not the twenty others")
			})
		})
	}
}

// What the questions of sleepers cost.
func TestHazard14_SleepersAskSeldom(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		const regions, minutes = 30, 20
		manyRegions(t, c, regions, true)
		waitAsleep(c)
		time.Sleep(5 * time.Minute)
		wakes := sum(t, c, wakesMetric)
		asked := make(chan struct{}, 1<<16)
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Signal.Kind == raftstore.SignalPeek {
				asked <- struct{}{}
			}
			return true
		})
		time.Sleep(minutes * time.Minute)
		// Two followers ask a leader every other minute, a leader asks two every tenth.
		require.InDelta(t, regions*(2*minutes/2+2*minutes/10), len(asked), regions*6)
		require.Equal(t, wakes, sum(t, c, wakesMetric))
	})
}
