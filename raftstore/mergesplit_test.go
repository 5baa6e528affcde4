package raftstore_test

import (
	"testing"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// A store has a merge's source and never had its target: the target is the child
// of a split that a snapshot of the parent took this store beyond. No split will
// make its peer there, so a message must, though the source has a part of its
// range; a snapshot then takes the source over.
func TestHazard09_SnapshotBehindSplitAndMerge(t *testing.T) {
	for _, crash := range []bool{false, true} {
		name := "up"
		if crash {
			name = "crash"
		}
		t.Run(name, func(t *testing.T) {
			cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
				for _, k := range []string{"a", "f", "z"} {
					c.Put(k, "1")
				}
				parent := uint64(rafttest.FirstRegion)
				source := splitAt(t, c, parent, "d")[0].Id
				c.PD.TransferLeader(parent, 1)
				c.PD.TransferLeader(source, 1)
				c.Eventually("the source everywhere", func() bool { return c.Node(3).Store.RegionCount() == 2 })
				c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
					return m.To.StoreId != 3 || m.RegionID == source || m.RegionID == 0
				})
				target := splitAt(t, c, parent, "m")[0].Id
				compacted(t, c, parent, "z")
				c.PD.TransferLeader(target, 1)
				c.Put("a", "2")
				c.Eventually("merge", func() bool {
					c.PD.TryMerge(source, target)
					_, one := c.Node(1).Store.Region(source)
					_, two := c.Node(2).Store.Region(source)
					return !one && !two
				})
				c.Put("f", "3")
				_, ok := c.Node(3).Store.Region(source)
				require.True(t, ok)
				_, ok = c.Node(3).Store.Region(target)
				require.False(t, ok)
				if crash {
					c.Crash(3, 0)
					c.Restart(3)
				}
				c.Heal()
				c.Eventually("the target is there", func() bool { return c.Local(3, "f") == "3" })
				c.Eventually("the source is not", func() bool { _, ok := c.Node(3).Store.Region(source); return !ok })
				c.Stop(2)
				require.Equal(t, "2", c.Get("a"))
				c.Put("a", "4")
				c.Eventually("writes", func() bool { return c.Local(3, "a") == "4" })
			})
		})
	}
}
