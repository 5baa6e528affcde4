package raftstore_test

import (
	"context"
	"testing"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// A leader that is cut off from the other stores, but not from its clients,
// does not let them wait until the network is whole again.
func TestDeposedLeaderAnswersWrites(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		c.Partition(lead)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		err := c.PutAt(ctx, lead, c.Context(lead, first), "a", "lost")
		require.NotNil(t, kv.AsRegionError(err).GetUndeterminedResult(), "%v", err)
		c.Put("a", "2")
		err = c.PutAt(ctx, lead, c.Context(lead, first), "a", "refused")
		require.NotNil(t, kv.AsRegionError(err).GetNotLeader(), "%v", err)
		c.Heal()
		c.Eventually("the same everywhere", func() bool { return c.Local(lead, "a") == "2" })
		require.Equal(t, "2", c.Get("a"))
	})
}
