package raftstore_test

import (
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// A peer that slept while it was cut off, and was removed meanwhile, finds out
// when its store can be reached again: nobody else has a reason to tell it.
func TestHazard15_RemovedInItsSleep(t *testing.T) {
	for _, leader := range []bool{false, true} {
		name := "follower"
		if leader {
			name = "leader"
		}
		t.Run(name, func(t *testing.T) {
			cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
				c.Put("a", "1")
				lead := c.WaitLeader(first)
				waitAsleep(c)
				time.Sleep(time.Minute) // followers are cold by now
				gone := lead
				if !leader {
					gone = lead%3 + 1
				}
				c.Partition(gone)
				c.Eventually("a leader that can be reached", func() bool { return c.LeaderOf(first) == lead != leader })
				c.PD.AddPeer(first, 4)
				c.PD.RemovePeer(first, rafttest.FirstPeer+gone, gone)
				waitAsleep(c)
				time.Sleep(time.Minute)
				require.Equal(t, 1, c.Node(gone).Store.RegionCount())
				c.Heal()
				c.Eventually("the removed peer ends", func() bool { return c.Node(gone).Store.RegionCount() == 0 })
				c.Put("a", "2")
				waitAsleep(c)
			})
		})
	}
}
