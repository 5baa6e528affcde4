package raftstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
)

// Crashes at every step (in short runs: at some) of a store's disk around an ingestion, of the leader, on
// whose disk the table is linked, and of a follower, which gets a copy: what was
// deleted before stays deleted, what was acknowledged is there, and what was
// written over it is not undone.
func TestIngestCrashAtEveryStep(t *testing.T) {
	stride := int64(11)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		stride = 1
	}
	for _, victim := range []uint64{1, 3} {
		steps := 0
		for n := int64(victim); ; n += stride {
			more := true
			synctest.Test(t, func(t *testing.T) { more = ingestCrashAt(t, victim, n) })
			if !more {
				break
			}
			if t.Failed() {
				t.Fatalf("store %d, step %d", victim, n)
			}
			steps++
		}
		if steps < 10 {
			t.Errorf("store %d: only %d steps", victim, steps)
		}
	}
}

// ingestCrashAt kills the victim at step n and reports whether there was one.
func ingestCrashAt(t *testing.T, victim uint64, n int64) bool {
	var left atomic.Int64
	left.Store(-1)
	c := rafttest.NewCluster(t, 3, 3, raftstore.Config{LogCheckInterval: time.Hour}, func(c *rafttest.Cluster) {
		c.WrapFS = func(id uint64, fs vfs.FS) vfs.FS {
			return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if id == victim && changesDisk(op.Kind) && left.Load() >= 0 && left.Add(-1) == -1 {
					c.Kill(victim, int(n)*29%101, rand.New(rand.NewPCG(1, uint64(n))))
				}
				return nil
			}))
		}
	})
	defer c.Close()
	c.Put("a", "deleted")
	c.PD.TransferLeader(rafttest.FirstRegion, 1)
	var b kv.Batch
	b.DeleteRange(kv.CFDefault, []byte("a"), []byte("z"))
	require.NoError(t, c.Node(1).Store.Write(context.Background(), c.Context(1, rafttest.FirstRegion), &b))
	c.Put("m", "written")

	_, table := loadTable(t, c.Node(1).FS, kv.CFDefault, "b", "c", "d")
	src := raftstore.IngestSource{FS: c.Node(1).FS, Path: "table-default-b.sst"}
	region := c.RegionAt("a")
	left.Store(n)
	table.Name = "first"
	err := stageAll(c, region, table.Name, src)
	if err == nil {
		err = ingestAt(c, region, table)
	}
	told := err == nil
	for end := time.Now().Add(5 * time.Second); told && c.Node(victim).Up.Load() && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_ = c.TryPut(ctx, "c", "over")
		cancel()
	}
	if c.Node(victim).Up.Load() {
		left.Store(-1)
		require.True(t, told, "%v", err)
		return false
	}
	c.Bury(victim)
	c.Restart(victim)
	if !told {
		again, _ := loadTable(t, vfs.NewMem(), kv.CFDefault, "b", "c", "d")
		ingestUntil(c, "b", again, table)
	}
	c.Put("c", "over")
	for range 2 {
		for k, want := range map[string]string{"a": "", "b": "loaded b", "c": "over", "d": "loaded d", "m": "written"} {
			require.Equal(t, want, c.Get(k), "%s, step %d", k, n)
			for _, id := range c.IDs() {
				c.Eventually(fmt.Sprintf("%s on store %d, step %d", k, id, n), func() bool { return c.Local(id, k) == want })
			}
		}
		for _, id := range c.IDs() {
			c.Crash(id, 0)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
	}
	return true
}

func changesDisk(k errorfs.OpKind) bool {
	switch k {
	case errorfs.OpCreate, errorfs.OpLink, errorfs.OpRemove, errorfs.OpRemoveAll, errorfs.OpRename, errorfs.OpMkdirAll,
		errorfs.OpFileClose, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return true
	}
	return false
}
