package raftstore_test

import (
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// Hazard 15: a peer that was removed while it was cut off, and all of whose
// members have left since and are gone, asks PD; awake, asleep and after a
// restart. One that is a member stays, however long it hears nothing.
func TestHazard15_NobodyLeftToAsk(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, config := range []raftstore.Config{
			{MaxLeaderMissingDuration: time.Minute, NoHibernation: true},
			{MaxLeaderMissingDuration: time.Minute, RegionHeartbeatInterval: time.Second},
		} {
			cluster(t, 5, 3, config, func(t *testing.T, c *rafttest.Cluster) {
				c.Put("a", "1")
				c.Eventually("data on store 3", func() bool { return c.Local(3, "a") == "1" })
				c.PD.TransferLeader(first, 1)
				if !config.NoHibernation {
					waitAsleep(c)
				}
				c.Partition(3)
				there := func() bool { _, ok := c.Node(3).Store.Region(first); return ok }
				time.Sleep(5 * time.Minute)
				require.True(t, there(), "a member is gone")
				c.PD.AddPeer(first, 4)
				c.PD.AddPeer(first, 5)
				c.PD.RemovePeer(first, rafttest.FirstPeer+3, 3)
				c.PD.TransferLeader(first, 4)
				c.PD.RemovePeer(first, rafttest.FirstPeer+1, 1)
				c.PD.RemovePeer(first, rafttest.FirstPeer+2, 2)
				c.Put("a", "2")
				c.Stop(1)
				c.Stop(2)
				if restart {
					c.Crash(3, 0)
					c.Restart(3)
				}
				c.Heal()
				time.Sleep(3 * time.Minute)
				c.Eventually("the end of the peer on store 3", func() bool { return !there() })
				c.PD.AddPeer(first, 3) // and the store takes another one
				c.Eventually("data of the new one", func() bool { return c.Local(3, "a") == "2" })
			})
		}
	}
}
