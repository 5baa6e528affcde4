package raftlog

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/stretchr/testify/require"
)

// TestHazard02_WriteErrors makes the disk refuse one kind of operation from some
// moment on. A commit fails, and with it all that follow, or it is durable: a
// crash at the end keeps exactly what was acknowledged.
func TestHazard02_WriteErrors(t *testing.T) {
	kinds := []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFileStat,
		errorfs.OpFileRead, errorfs.OpFileReadAt, errorfs.OpFileClose, errorfs.OpCreate, errorfs.OpOpen, errorfs.OpRename, errorfs.OpRemove}
	failed := 0
	for _, kind := range kinds {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			t.Run(fmt.Sprint(kind, errno), func(t *testing.T) {
				if writeUntilError(t, kind, errno) {
					failed++
				}
			})
		}
	}
	require.GreaterOrEqual(t, failed, 4, "writes and syncs were to fail")
}

// The next log file cannot be made: the hook hears of it, in time to end the
// process.
func TestHazard02_NoNextLogFile(t *testing.T) {
	var heard error
	fs := &walFS{fatal: disk.NewFatal("raft log", slog.New(slog.DiscardHandler), func(err error) { heard = err }),
		FS: errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(errorfs.Op) error { return syscall.EIO }))}
	_, err := fs.Create("raft/000007.sst", vfs.WriteCategoryUnspecified)
	require.ErrorIs(t, err, syscall.EIO)
	require.NoError(t, heard, "a table is made again later")
	_, err = fs.Create("raft/000008.log", vfs.WriteCategoryUnspecified)
	require.ErrorIs(t, err, syscall.EIO)
	require.ErrorContains(t, heard, "raft/000008.log")
}

func writeUntilError(t *testing.T, kind errorfs.OpKind, errno syscall.Errno) (failed bool) {
	var on atomic.Bool
	mem := vfs.NewCrashableMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if on.Load() && op.Kind == kind {
			return errno
		}
		return nil
	}))
	fatal := 0
	l, err := Open(Options{Dir: "raft", FS: fs, OnFatal: func(error) { fatal++ }})
	require.NoError(t, err)
	acked := 0
	b := l.NewBatch()
	for i := range 40 {
		on.Store(i >= 20)
		b.Reset()
		b.PutMeta(fmt.Appendf(nil, "k%02d", i), make([]byte, 1<<10))
		if err := l.Commit(b, true); err != nil {
			failed = true
			require.True(t, errors.Is(err, errno) || errors.As(err, new(*disk.FatalError)), "%v", err)
			continue
		}
		require.False(t, failed, "a commit behind a failed one was acknowledged")
		acked = i + 1
	}
	if failed {
		require.Equal(t, 1, fatal)
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	on.Store(false)
	l.Abandon()
	l, err = Open(Options{Dir: "raft", FS: after})
	require.NoError(t, err)
	found := 0
	require.NoError(t, l.ScanMeta([]byte("k"), func(_, _ []byte) error { found++; return nil }))
	require.GreaterOrEqual(t, found, acked, "an acknowledged commit is lost")
	require.NoError(t, l.Close())
	return failed
}
