package raftstore_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// readFor reads keys in turn, 1,000 a second of the test's time.
func readFor(t *testing.T, c *rafttest.Cluster, d time.Duration, key func(i int) string) {
	t.Helper()
	i := 0
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for range 10 {
			c.Get(key(i))
			i++
		}
	}
}

func TestSplitByLoad(t *testing.T) {
	config := raftstore.Config{LoadSplitQPS: 300}
	cluster(t, 3, 3, config, func(t *testing.T, c *rafttest.Cluster) {
		name := func(i int) string { return fmt.Sprintf("usertable:%03d", i*7919%100) }
		for i := range 100 {
			c.Put(name(i), "v")
		}
		readFor(t, c, 15*time.Second, func(int) string { return name(0) })
		require.Zero(t, c.PD.Splits(), "one hot key cannot be halved")
		// The keys are not raw ones here, and no encodings either: nothing to cut.
		encoded := func(i int) string { return encodedKey(name(i)) }
		for i := range 100 {
			c.Put(encoded(i), "v")
		}
		time.Sleep(time.Minute)
		readFor(t, c, 15*time.Second, encoded)
		c.Eventually("split", func() bool { return c.PD.Splits() == 1 })
		left := 0
		right := c.RegionAt(encodedKey("usertable:999"))
		for i := range 100 {
			if encoded(i) < string(right.StartKey) {
				left++
			}
			require.Equal(t, "v", c.Get(encoded(i)))
		}
		require.InDelta(t, 50, left, 20)
		time.Sleep(3 * time.Minute)
		require.Equal(t, 1, c.PD.Splits(), "a quiet region is left alone")
	})
}

func TestSplitByKeys(t *testing.T) {
	config := raftstore.Config{RegionMaxKeys: 60, RegionSplitKeys: 40, SplitCheckInterval: time.Second}
	cluster(t, 1, 1, config, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 200 {
			c.Put(encodedKey(fmt.Sprintf("key%05d", i)), "v")
		}
		c.Eventually("splits", func() bool { return c.PD.Splits() >= 3 })
		c.Eventually("keys in the heartbeat", func() bool {
			region := c.RegionAt(encodedKey("key00000"))
			if region == nil { // its leader is being elected
				return false
			}
			beat := c.PD.Beat(region.Id)
			return beat != nil && beat.ApproximateKeys > 0 && beat.ApproximateKeys <= 60
		})
		for i := range 200 {
			require.Equal(t, "v", c.Get(encodedKey(fmt.Sprintf("key%05d", i))))
		}
		_, err := c.GetAt(context.Background(), 1, c.Context(1, rafttest.FirstRegion), encodedKey("key00000"))
		require.NotNil(t, asRegionError(t, err).GetKeyNotInRegion())
	})
}

// A transactional client decodes what an epoch error shows.
func TestPocketsStayHidden(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		old := c.Context(1, rafttest.FirstRegion)
		guard := encodedKey("zz")
		splitAt(t, c, rafttest.FirstRegion, "usertable:5", guard)
		re := asRegionError(t, c.PutAt(context.Background(), 1, old, "zzz", "v"))
		require.NotNil(t, re.GetEpochNotMatch())
		require.Len(t, re.GetEpochNotMatch().CurrentRegions, 1, "the left neighbour begins inside a pocket")
		require.Equal(t, guard, string(re.GetEpochNotMatch().CurrentRegions[0].StartKey))
	})
}

// A piece of a pocket is merged with others in it, and not with what lies outside:
// transactional clients could not decode where that would end.
func TestPocketsAreMergedWithinThemselves(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		p, ok := codec.PocketOf([]byte("usertable:5"))
		require.True(t, ok)
		r := splitAt(t, c, rafttest.FirstRegion, string(p.Start), "usertable:5", string(p.End))
		require.Len(t, r, 4)
		for _, region := range r {
			c.WaitLeader(region.Id)
		}
		for _, pair := range [][2]int{{1, 0}, {0, 1}, {2, 3}, {3, 2}} {
			c.PD.TryMerge(r[pair[0]].Id, r[pair[1]].Id)
			time.Sleep(time.Second)
			_, ok := c.Node(1).Store.Region(r[pair[0]].Id)
			require.True(t, ok, "%v", pair)
		}
		c.PD.Merge(r[1].Id, r[2].Id)
		c.PD.Merge(r[2].Id, r[3].Id)
		c.PD.Merge(r[0].Id, r[3].Id)
		whole := c.RegionAt("a")
		require.Empty(t, whole.StartKey)
		require.Empty(t, whole.EndKey)
	})
}
