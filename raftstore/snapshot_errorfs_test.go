package raftstore_test

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
)

// snapshotErrorCount is how often an operation fails before it goes through.
const snapshotErrorCount = 3

// Errors of the disk while a snapshot is made, sent and received: it is given up
// and tried again, nothing stops, and in the end all of it is there.
func TestHazard02_SnapshotFileErrors(t *testing.T) {
	type ops map[string]errorfs.OpKind
	sending := ops{"mkdir": errorfs.OpMkdirAll, "create": errorfs.OpCreate, "write": errorfs.OpFileWrite, "sync": errorfs.OpFileSync,
		"open": errorfs.OpOpen, "read": errorfs.OpFileRead, "remove-all": errorfs.OpRemoveAll}
	receiving := ops{"mkdir": errorfs.OpMkdirAll, "create": errorfs.OpCreate, "write": errorfs.OpFileWrite, "sync": errorfs.OpFileSync,
		"open-dir": errorfs.OpOpenDir, "remove-all": errorfs.OpRemoveAll}
	run := func(store uint64, dir string, kinds ops, errno syscall.Errno) {
		for name, kind := range kinds {
			t.Run(fmt.Sprintf("%s %s %s", dir, name, errno), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { snapshotWithErrors(t, store, dir, kind, errno) })
			})
		}
	}
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		run(1, "send", sending, errno)
		run(2, "recv", receiving, errno)
	}
	run(2, "recv", ops{"link": errorfs.OpLink}, syscall.ENOSPC)
}

func snapshotWithErrors(t *testing.T, store uint64, dir string, kind errorfs.OpKind, errno syscall.Errno) {
	var on atomic.Bool
	var failed atomic.Int64
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !on.Load() || op.Kind != kind || !strings.Contains(op.Path, "snap/"+dir) || failed.Add(1) > snapshotErrorCount {
			return nil
		}
		return &os.PathError{Op: "injected", Path: op.Path, Err: errno}
	})
	c := rafttest.NewCluster(t, 2, 1, smallLog, func(c *rafttest.Cluster) {
		c.WrapFS = func(id uint64, fs vfs.FS) vfs.FS {
			if id == store {
				return errorfs.Wrap(fs, inject)
			}
			return fs
		}
	})
	for i := range 20 {
		c.Put(fmt.Sprintf("k%d", i), fmt.Sprint(i))
	}
	on.Store(true)
	c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: rafttest.FirstRegion,
		ChangePeer: rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, c.PD.AllocID(), 2)})
	c.Eventually("the snapshot", func() bool { return c.Local(2, "k19") == "19" })
	time.Sleep(time.Second) // for what is removed behind it
	require.Positive(t, failed.Load(), "nothing failed")
	for i := range 20 {
		require.Equal(t, fmt.Sprint(i), c.Local(2, fmt.Sprintf("k%d", i)))
	}
	on.Store(false)
	c.Crash(2, 0)
	c.Restart(2)
	c.Eventually("the snapshot", func() bool { return c.Local(2, "k19") == "19" })
	c.Close()
}
