package raftstore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// A store that stops in order leaves no region without a leader, whether it
// sleeps or not.
func TestHandOver(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		ids := manyRegions(t, c, 60, false)
		for _, id := range ids {
			c.PD.TransferLeader(id, 1)
		}
		waitAsleep(c)
		c.Put("k000005", "awake")
		start := time.Now()
		gone, left := c.Node(1).Store.HandOver(context.Background())
		require.Equal(t, []int{60, 0}, []int{gone, left})
		require.Less(t, time.Since(start), time.Second)
		stores := map[uint64]int{}
		for _, id := range ids {
			stores[c.LeaderOf(id)]++
		}
		require.Zero(t, stores[1])
		require.Greater(t, stores[2], 10)
		require.Greater(t, stores[3], 10)
		c.Stop(1)
		start = time.Now()
		require.Equal(t, "awake", c.Get("k000005"))
		c.Put("k000006", "v")
		require.Zero(t, time.Since(start), "a region waited for an election")
	})
}

// Where nobody else can lead, nobody waits.
func TestHandOverToNobody(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.PD.TransferLeader(first, 1)
		c.Stop(2)
		c.Stop(3)
		time.Sleep(5 * time.Second)
		start := time.Now()
		gone, left := c.Node(1).Store.HandOver(context.Background())
		require.Equal(t, []int{0, 0}, []int{gone, left})
		require.Zero(t, time.Since(start))
	})
}

// Stores that stop at the same time do not pass leaders to each other.
func TestHandOverTogether(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		manyRegions(t, c, 30, true)
		waitAsleep(c)
		start := time.Now()
		var wg sync.WaitGroup
		for _, id := range c.IDs() {
			wg.Go(func() { c.Node(id).Store.HandOver(context.Background()) })
		}
		wg.Wait()
		require.LessOrEqual(t, time.Since(start), time.Second)
	})
}
