package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// spoil changes a key on one store behind Raft's back.
func spoil(t *testing.T, c *rafttest.Cluster, id uint64, key string) {
	t.Helper()
	b := c.Node(id).Engine.NewBatch()
	defer b.Close()
	b.Put(kv.CFDefault, []byte(key), []byte("spoilt"))
	require.NoError(t, c.Node(id).Engine.Apply(b))
}

func TestConsistencyCheck(t *testing.T) {
	var mu sync.Mutex
	var found []raftstore.Inconsistency
	prepare := func(c *rafttest.Cluster) {
		c.Config.ConsistencyCheckInterval = -1
		c.Customize = func(o *raftstore.Options) {
			o.Inconsistent = func(i raftstore.Inconsistency) {
				mu.Lock()
				defer mu.Unlock()
				found = append(found, i)
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c := rafttest.NewCluster(t, 3, 3, raftstore.Config{}, prepare)
		defer c.Close()
		for i := range 50 {
			c.Put(fmt.Sprintf("k%02d", i), "v")
		}
		lead := c.WaitLeader(first)
		check := func() (hashes []raftstore.RegionHash) {
			before, _ := c.Node(lead).Store.LastHash(first)
			require.NoError(t, c.Node(lead).Store.CheckConsistency(context.Background(), first))
			for _, id := range c.IDs() {
				c.Eventually("hash", func() bool {
					h, ok := c.Node(id).Store.LastHash(first)
					return ok && h.Index > before.Index
				})
				h, _ := c.Node(id).Store.LastHash(first)
				hashes = append(hashes, h)
			}
			time.Sleep(time.Second)
			return hashes
		}
		hashes := check()
		require.Equal(t, hashes[0], hashes[1])
		require.Equal(t, hashes[0], hashes[2])
		require.Equal(t, uint64(50), hashes[0].Entries)
		require.Empty(t, found)
		// Writes on their way don't disturb it.
		for i := range 20 {
			go func() { _ = c.TryPut(context.Background(), fmt.Sprintf("k%02d", i), "w") }()
		}
		check()
		require.Empty(t, found)
		follower := lead%3 + 1
		spoil(t, c, follower, "k07")
		check()
		mu.Lock()
		defer mu.Unlock()
		require.Len(t, found, 1)
		require.Equal(t, uint64(rafttest.FirstPeer+follower), found[0].PeerID)
		require.NotEqual(t, found[0].Leader, found[0].Hash)
		err := c.Node(follower).Store.CheckConsistency(context.Background(), first)
		require.NotNil(t, asRegionError(t, err).GetNotLeader())
	})
}

// A region that nobody writes to is compared once, and then left in peace.
func TestConsistencyCheckOfQuietRegion(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{ConsistencyCheckInterval: time.Second}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		time.Sleep(10 * time.Second)
		r, _ := c.Node(1).Store.Region(first)
		time.Sleep(time.Minute)
		later, _ := c.Node(1).Store.Region(first)
		require.Equal(t, r.AppliedIndex, later.AppliedIndex)
		_, ok := c.Node(1).Store.LastHash(first)
		require.True(t, ok)
	})
}
