package raftstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// mergePair makes two regions with some data: left [.., m) and right [m, ..).
func mergePair(t *testing.T, c *rafttest.Cluster) (left, right uint64) {
	t.Helper()
	for i := range 10 {
		c.Put(fmt.Sprint("a", i), fmt.Sprint(i))
		c.Put(fmt.Sprint("z", i), fmt.Sprint(i))
	}
	regions := splitAt(t, c, rafttest.FirstRegion, "m")
	c.WaitLeader(regions[0].Id)
	return regions[0].Id, regions[1].Id
}

// whole checks that one region has everything.
func whole(t *testing.T, c *rafttest.Cluster, target uint64) {
	t.Helper()
	for i := range 10 {
		require.Equal(t, fmt.Sprint(i), c.Get(fmt.Sprint("a", i)))
		require.Equal(t, fmt.Sprint(i), c.Get(fmt.Sprint("z", i)))
	}
	r := c.RegionAt("a")
	require.Equal(t, target, r.Id)
	require.Empty(t, r.StartKey)
	require.Empty(t, r.EndKey)
}

func TestMerge(t *testing.T) {
	for _, toRight := range []bool{true, false} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprint("right=", toRight, " together=", together), func(t *testing.T) {
				cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
					source, target := mergePair(t, c)
					if !toRight {
						source, target = target, source
					}
					c.PD.TransferLeader(source, 1)
					if together {
						c.PD.TransferLeader(target, 1)
					} else {
						c.PD.TransferLeader(target, 2)
					}
					start := time.Now()
					c.PD.Merge(source, target)
					require.Less(t, time.Since(start), 100*time.Millisecond, "no step waits for a tick")
					whole(t, c, target)
					r := c.RegionAt("a")
					require.EqualValues(t, 4, r.RegionEpoch.Version, "one more than the source's at PrepareMerge")
					c.Put("a", "new")
					c.Put("z", "new")
					for _, id := range c.IDs() {
						c.Eventually("replication", func() bool { return c.Local(id, "a") == "new" && c.Local(id, "z") == "new" })
					}
					lead := c.LeaderOf(target)
					rc := c.Context(lead, target)
					rc.RegionId, rc.Peer = source, nil
					re := asRegionError(t, c.PutAt(context.Background(), lead, rc, "a", "x"))
					require.NotNil(t, re.GetRegionNotFound())
					c.Eventually("PD hears of it", func() bool {
						b := c.PD.Beat(target)
						return b.Region.RegionEpoch.Version == r.RegionEpoch.Version
					})
				})
			})
		}
	}
}

func TestMergeCrashAllBehind(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		c.PD.Merge(source, target)
		for range 3 {
			for _, id := range c.IDs() {
				c.Crash(id, 0)
			}
			for _, id := range c.IDs() {
				c.Restart(id)
			}
			c.WaitLeader(target)
			c.Eventually("merge", func() bool { return c.PD.Merged(source, target) })
			whole(t, c, target)
			time.Sleep(20 * time.Second) // logs are dropped when the end is durable
		}
		for _, id := range c.IDs() {
			_, ok, err := c.Node(id).Log.Load(source)
			require.NoError(t, err)
			require.False(t, ok, "the source's log is still on store %d", id)
		}
	})
}

// A peer that was removed, unknown to itself, before its region was merged away
// hears of its end from those that have merged.
func TestHazard15_RemovedBeforeMerge(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		for _, id := range []uint64{source, target} {
			c.PD.TransferLeader(id, 1)
		}
		c.Eventually("the children are everywhere", func() bool { _, ok := c.Node(3).Store.Region(source); return ok })
		c.Partition(3)
		for _, id := range []uint64{source, target} {
			r, _ := c.Node(1).Store.Region(id)
			for _, p := range r.Region.Peers {
				if p.StoreId == 3 {
					c.PD.RemovePeer(id, p.Id, 3)
				}
			}
		}
		c.Eventually("merge", func() bool {
			c.PD.TryMerge(source, target)
			_, here := c.Node(1).Store.Region(source)
			_, there := c.Node(2).Store.Region(source)
			return !here && !there
		})
		c.Heal()
		c.Eventually("all gone", func() bool { return len(c.Node(3).Store.Regions()) == 0 })
		whole(t, c, target)
	})
}
