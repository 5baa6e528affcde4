package raftstore_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
)

func splitAt(t *testing.T, c *rafttest.Cluster, regionID uint64, keys ...string) []*metapb.Region {
	t.Helper()
	var out []*metapb.Region
	c.Eventually("split", func() bool {
		lead := c.WaitLeader(regionID)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var encoded [][]byte
		for _, k := range keys {
			encoded = append(encoded, []byte(k))
		}
		var err error
		out, err = c.Node(lead).Store.SplitRegion(ctx, c.Context(lead, regionID), encoded)
		return err == nil
	})
	return out
}

func TestSplit(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		for _, k := range []string{"a", "g", "m", "z"} {
			c.Put(k, k)
		}
		lead := c.WaitLeader(rafttest.FirstRegion)
		before := c.Context(lead, rafttest.FirstRegion)
		regions := splitAt(t, c, rafttest.FirstRegion, "m", "g")
		require.Len(t, regions, 3)
		require.Equal(t, "g", string(regions[0].EndKey))
		require.Equal(t, "m", string(regions[1].EndKey))
		require.Equal(t, uint64(rafttest.FirstRegion), regions[2].Id, "the right piece keeps the id")
		for _, r := range regions {
			require.Equal(t, uint64(3), r.RegionEpoch.Version)
		}
		start := time.Now()
		for _, k := range []string{"a", "g", "m", "z"} {
			require.Equal(t, k, c.Get(k))
			c.Put(k, k+"2")
		}
		require.Less(t, time.Since(start), 500*time.Millisecond, "children elect the parent's leader at once")
		for _, r := range regions {
			require.Equal(t, lead, c.LeaderOf(r.Id))
		}
		re := asRegionError(t, c.PutAt(context.Background(), lead, before, "z", "old"))
		require.Len(t, re.GetEpochNotMatch().GetCurrentRegions(), 2)
		_, err := c.GetAt(context.Background(), lead, before, "z")
		require.NotNil(t, asRegionError(t, err).GetEpochNotMatch())
		_, err = c.GetAt(context.Background(), lead, c.Context(lead, rafttest.FirstRegion), "a")
		require.NotNil(t, asRegionError(t, err).GetKeyNotInRegion())
		c.Eventually("report", func() bool { return c.PD.Splits() == 2 && c.PD.Beat(regions[0].Id) != nil })
		for _, id := range c.IDs() {
			c.Eventually("regions", func() bool { return len(c.Node(id).Store.Regions()) == 3 })
			c.Crash(id, 0)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
		for _, k := range []string{"a", "g", "m", "z"} {
			require.Equal(t, k+"2", c.Get(k))
		}
	})
}

func TestSplitRefusesBadKeys(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		splitAt(t, c, rafttest.FirstRegion, "m")
		for _, bad := range []string{"", "a", "m"} {
			_, err := c.Node(1).Store.SplitRegion(context.Background(), c.Context(1, rafttest.FirstRegion), [][]byte{[]byte(bad)})
			require.NotNil(t, asRegionError(t, err).GetKeyNotInRegion(), "key %q", bad)
		}
	})
}

func TestSplitBySize(t *testing.T) {
	config := raftstore.Config{RegionMaxBytes: 48 << 10, RegionSplitBytes: 32 << 10, SplitCheckInterval: time.Second}
	cluster(t, 3, 3, config, func(t *testing.T, c *rafttest.Cluster) {
		value := strings.Repeat("v", 1000)
		for i := range 200 {
			c.Put(encodedKey(fmt.Sprintf("key%05d", i)), value)
		}
		c.Eventually("splits", func() bool { return c.PD.Splits() >= 4 })
		for i := range 200 {
			require.Equal(t, value, c.Get(encodedKey(fmt.Sprintf("key%05d", i))))
		}
	})
}

// The window between a child's birth and the flush of its parent's split: the
// child has voted and written, and the store forgets that it exists.
func TestHazard09_ChildSurvivesForgottenSplit(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		regions := splitAt(t, c, rafttest.FirstRegion, "m")
		child := regions[0].Id
		for i := range 10 {
			c.Put(fmt.Sprint("a", i), fmt.Sprint(i))
		}
		for _, id := range c.IDs() {
			c.Eventually("replication", func() bool { return c.Local(id, "a9") == "9" })
		}
		terms := map[uint64]uint64{}
		for _, id := range c.IDs() {
			r, _ := c.Node(id).Store.Region(child)
			terms[id] = r.Term
			c.Crash(id, 0)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
		for _, id := range c.IDs() {
			c.Eventually("child", func() bool {
				r, ok := c.Node(id).Store.Region(child)
				return ok && r.Term >= terms[id]
			})
		}
		for i := range 10 {
			require.Equal(t, fmt.Sprint(i), c.Get(fmt.Sprint("a", i)))
		}
	})
}

// A store that has not come to the split yet hears from the child's leader.
func TestHazard09_MessageBeforeSplit(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(rafttest.FirstRegion)
		late := lead%3 + 1
		// The late store gets everything but the parent's log.
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			return m.RegionID != rafttest.FirstRegion || m.To.StoreId != late
		})
		regions := splitAt(t, c, rafttest.FirstRegion, "m")
		c.Put("a", "2")
		time.Sleep(500 * time.Millisecond)
		_, ok := c.Node(late).Store.Region(regions[0].Id)
		require.False(t, ok, "the range still belongs to the parent")
		c.Heal()
		c.Eventually("child", func() bool { return c.Local(late, "a") == "2" })
	})
}

// A store forgets a split in a crash, its child has a log by then, and the
// others no longer have the parent's: it must come to the split by its own log
// before a snapshot can take the parent past it.
func TestHazard09_ForgottenSplitThenSnapshot(t *testing.T) {
	cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("z", "0")
		c.PD.TransferLeader(first, 1)
		regions := splitAt(t, c, first, "m")
		for i := range 5 {
			c.Put("a", fmt.Sprint(i))
		}
		c.Eventually("replication", func() bool { return c.Local(3, "a") == "4" })
		c.Crash(3, 0)
		for i := range 150 {
			c.Put("z", fmt.Sprint(i))
			if i%30 == 0 {
				for id := uint64(1); id <= 2; id++ {
					require.NoError(t, c.Node(id).Engine.Flush(t.Context()))
				}
				time.Sleep(time.Second)
			}
		}
		c.Put("a", "5")
		c.PD.TransferLeader(first, 2) // a leader that doesn't remember what store 3 had
		c.Restart(3)
		c.Eventually("parent", func() bool { return c.Local(3, "z") == "149" })
		c.Eventually("child", func() bool { return c.Local(3, "a") == "5" })
		got, _ := c.Node(3).Store.Region(regions[0].Id)
		require.Equal(t, regions[0].RegionEpoch, got.Region.RegionEpoch)
	})
}
