package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// cluster runs a test with n stores in a bubble of its own time.
func cluster(t *testing.T, n, voters int, config raftstore.Config, test func(t *testing.T, c *rafttest.Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.NewCluster(t, n, voters, config)
		test(t, c)
		c.Close()
	})
}

func TestLoneRegion(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		start := time.Now()
		c.Put("a", "1")
		require.Less(t, time.Since(start), 500*time.Millisecond, "a lone peer need not wait for an election timeout")
		require.Equal(t, "1", c.Get("a"))
		c.Stop(1)
		c.Restart(1)
		require.Equal(t, "1", c.Get("a"))
		c.Put("a", "2")
		c.Crash(1, 0)
		c.Restart(1)
		require.Equal(t, "2", c.Get("a"))
	})
}

func TestReplicateAndFailOver(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 20 {
			c.Put(fmt.Sprint("k", i), fmt.Sprint(i))
		}
		lead := c.WaitLeader(rafttest.FirstRegion)
		for _, id := range c.IDs() {
			c.Eventually("replication", func() bool { return c.Local(id, "k19") == "19" })
		}
		start := time.Now()
		c.Crash(lead, 0)
		require.Equal(t, "19", c.Get("k19"))
		require.Less(t, time.Since(start), 3*time.Second)
		c.Put("after", "x")
		c.Restart(lead)
		c.Eventually("catch up", func() bool { return c.Local(lead, "after") == "x" })
	})
}

func TestNotLeader(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(rafttest.FirstRegion)
		other := lead%3 + 1
		err := c.PutAt(context.Background(), other, c.Context(other, rafttest.FirstRegion), "a", "2")
		re := asRegionError(t, err)
		require.Equal(t, lead, re.GetNotLeader().GetLeader().GetStoreId())
	})
}

// In a bubble time passes only when everybody waits: a write that waited for a
// tick, because somebody forgot to wake somebody, would be seen.
func TestNothingWaitsForATick(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "0")
		lead := c.WaitLeader(rafttest.FirstRegion)
		rc := c.Context(lead, rafttest.FirstRegion)
		start := time.Now()
		var wg sync.WaitGroup
		for client := range 64 {
			wg.Go(func() {
				key := fmt.Sprint("k", client)
				for i := range 50 {
					if err := c.PutAt(context.Background(), lead, rc, key, fmt.Sprint(i)); err != nil {
						t.Error(err)
					}
					if got, err := c.GetAt(context.Background(), lead, rc, key); err != nil || got != fmt.Sprint(i) {
						t.Errorf("got %q, %v", got, err)
					}
				}
			})
		}
		wg.Wait()
		require.Zero(t, time.Since(start))
	})
}
