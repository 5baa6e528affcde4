package raftstore_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// A disk that hangs in the sync of the Raft log: the leader hands over within
// seconds, the score says it, and at last the process is told to end.
func TestHazard02_StuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stuck [4]atomic.Bool
		var mu sync.Mutex
		fatal := map[uint64]string{}
		c := rafttest.NewCluster(t, 3, 3, raftstore.Config{}, func(c *rafttest.Cluster) {
			c.WrapFS = func(id uint64, fs vfs.FS) vfs.FS {
				return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
					for (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && stuck[id].Load() {
						time.Sleep(100 * time.Millisecond)
					}
					return nil
				}))
			}
			c.FatalOf = func(id uint64, err error) {
				mu.Lock()
				defer mu.Unlock()
				fatal[id] = err.Error()
			}
		})
		c.Put("a", "1")
		old := c.WaitLeader(rafttest.FirstRegion)
		stuck[old].Store(true)
		started := time.Now()
		c.Put("b", "2")
		require.NotEqual(t, old, c.LeaderOf(rafttest.FirstRegion))
		require.Less(t, time.Since(started), 10*time.Second)
		c.Eventually("the highest score", func() bool { return c.Node(old).Store.SlowScore() == 100 })
		c.Eventually("the end of the process", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return fatal[old] != ""
		})
		require.Contains(t, fatal[old], "the disk is stuck")
		require.Equal(t, "2", c.Get("b"))
		stuck[old].Store(false)
		c.Close()
		require.Len(t, fatal, 1)
	})
}
