package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/stretchr/testify/require"
)

// noSpaceErrors is after how many errors a full disk has room again. An error of
// the disk itself stays.
const noSpaceErrors = 3

// failingDisk refuses one kind of operation from some moment on.
type failingDisk struct {
	kind   errorfs.OpKind
	errno  syscall.Errno
	on     atomic.Bool
	errors atomic.Int64
}

func (d *failingDisk) MaybeError(op errorfs.Op) error {
	if !d.on.Load() || op.Kind != d.kind {
		return nil
	}
	if n := d.errors.Add(1); d.errno == syscall.ENOSPC && n > noSpaceErrors {
		return nil
	}
	return &os.PathError{Op: fmt.Sprint("operation ", d.kind), Path: op.Path, Err: d.errno}
}

func (*failingDisk) String() string { return "failingDisk" }

// diskRun is a life of an engine on a failing disk, up to its end: the script's,
// or the process's.
type diskRun struct {
	t       *testing.T
	e       *Engine
	fs      vfs.FS
	disk    *failingDisk
	applied int // batches
	flushed atomic.Int64
	// ingested: 0 not tried, 1 tried, 2 acknowledged, 3 refused
	ingested atomic.Int32
	refused  atomic.Int64
}

func (r *diskRun) apply(n int) {
	for range n {
		b := r.e.NewBatch()
		b.Put(kv.CFDefault, fmt.Appendf(nil, "k%04d", r.applied), diskValue(r.applied))
		r.applied++
		b.PutMeta([]byte("count"), fmt.Append(nil, r.applied))
		require.NoError(r.t, r.e.Apply(b))
		require.NoError(r.t, b.Close())
	}
}

func diskValue(i int) []byte { return append(make([]byte, 4<<10), fmt.Sprint(i)...) }

// check notes an error, which must be the disk's.
func (r *diskRun) check(err error) bool {
	if err == nil {
		return true
	}
	r.refused.Add(1)
	require.ErrorIs(r.t, err, r.disk.errno)
	return false
}

func (r *diskRun) flush() {
	n := int64(r.applied)
	if r.check(r.e.Flush(context.Background())) {
		r.flushed.Store(n)
	}
}

func (r *diskRun) compact() {
	r.check(r.e.db.Compact(context.Background(), []byte{0}, []byte{0xFF}, false))
}

func (r *diskRun) export() {
	const dir = "snap"
	if !r.check(r.fs.MkdirAll(dir, 0o755)) {
		return
	}
	s := r.e.NewSnapshot()
	files, err := r.e.ExportRange(s, nil, nil, dir, 64<<10)
	require.NoError(r.t, s.Close())
	if !r.check(err) {
		return
	}
	keys := uint64(0)
	for _, f := range files {
		keys += f.Keys
	}
	require.Equal(r.t, uint64(r.applied), keys)
}

// ingest puts a key in the place of all that begins with z.
func (r *diskRun) ingest(files []string) {
	r.ingested.Store(1)
	err := r.e.IngestReplace([]byte("z"), nil, files, []MetaPut{{[]byte("ingested"), []byte("1")}})
	if r.check(err) {
		r.ingested.Store(2)
		return
	}
	r.ingested.Store(3)
	_, ok, err := r.e.GetMeta([]byte("ingested"))
	if r.check(err) {
		require.False(r.t, ok, "an ingest failed and has happened")
	}
}

// TestHazard02_DataEngineErrors makes the disk refuse one kind of operation from
// some step on. The step is refused, or it goes through when there is room again,
// or the process stops with a line that says why. What was acknowledged as
// durable survives, and nothing is there that should not be.
func TestHazard02_DataEngineErrors(t *testing.T) {
	kinds := map[string]errorfs.OpKind{"create": errorfs.OpCreate, "link": errorfs.OpLink, "open": errorfs.OpOpen, "open-dir": errorfs.OpOpenDir,
		"remove": errorfs.OpRemove, "remove-all": errorfs.OpRemoveAll, "rename": errorfs.OpRename, "reuse": errorfs.OpReuseForWrite,
		"mkdir": errorfs.OpMkdirAll, "list": errorfs.OpList, "stat": errorfs.OpStat, "read": errorfs.OpFileRead,
		"read-at": errorfs.OpFileReadAt, "write": errorfs.OpFileWrite, "file-stat": errorfs.OpFileStat, "sync": errorfs.OpFileSync,
		"sync-data": errorfs.OpFileSyncData, "sync-to": errorfs.OpFileSyncTo}
	ends := map[string]int{}
	for op, kind := range kinds {
		for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
			for step, name := range []string{"flush", "compact", "export", "ingest"} {
				t.Run(fmt.Sprint(op, " ", errno, " ", name), func(t *testing.T) { ends[runOnFailingDisk(t, kind, errno, step)]++ })
			}
		}
	}
	t.Logf("ends: %v", ends)
	require.Greater(t, ends["stopped"], 10)
	require.Greater(t, ends["refused"], 10)
}

func runOnFailingDisk(t *testing.T, kind errorfs.OpKind, errno syscall.Errno, step int) (end string) {
	mem := vfs.NewCrashableMem()
	r := &diskRun{t: t, disk: &failingDisk{kind: kind, errno: errno}}
	r.fs = errorfs.Wrap(mem, r.disk)
	source, err := Open(Options{Dir: "source", FS: mem, CacheBytes: 1 << 20}) // of what is ingested
	require.NoError(t, err)
	apply(t, source, func(b *Batch) { b.Put(kv.CFDefault, []byte("zz"), []byte("ingested")) })
	files := ingestable(t, source, mem)
	stopped := make(chan error, 1)
	r.e, err = Open(Options{Dir: "data", FS: r.fs, CacheBytes: 1 << 20, MemTableBytes: 1 << 20, OnFatal: func(err error) {
		stopped <- err
		select {} // the process ends here: what called it goes no further
	}})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.apply(20)
		r.flush()
		r.apply(20)
		for i, do := range []func(){r.flush, r.compact, r.export, func() { r.ingest(files) }} {
			if i == step {
				r.disk.on.Store(true)
			}
			do()
		}
		r.apply(20)
		r.flush()
	}()
	end = "done"
	select {
	case <-done:
		if r.refused.Load() > 0 {
			end = "refused"
		}
	case err := <-stopped:
		end = "stopped"
		require.ErrorContains(t, err, "data engine data: storage failed")
		require.ErrorContains(t, err, errno.Error())
	}
	after := mem.CrashClone(vfs.CrashCloneCfg{})
	flushed, ingested := r.flushed.Load(), r.ingested.Load()
	if end != "stopped" {
		r.disk.on.Store(false)
		require.NoError(t, r.e.Close())
	}
	r.verify(after, flushed, ingested)
	return end
}

func ingestable(t *testing.T, source *Engine, fs vfs.FS) []string {
	t.Helper()
	defer func() { require.NoError(t, source.Close()) }()
	dir := "files"
	require.NoError(t, fs.MkdirAll(dir, 0o755))
	s := source.NewSnapshot()
	defer func() { require.NoError(t, s.Close()) }()
	out, err := source.ExportRange(s, []byte("z"), nil, dir, 1<<20)
	require.NoError(t, err)
	require.Len(t, out, 1)
	return []string{out[0].Path}
}

// verify opens what a crash left.
func (r *diskRun) verify(fs vfs.FS, flushed int64, ingested int32) {
	t := r.t
	e, err := Open(Options{Dir: "data", FS: fs, CacheBytes: 1 << 20})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	count := 0
	v, ok, err := e.GetMeta([]byte("count"))
	require.NoError(t, err)
	if ok {
		_, err = fmt.Sscan(string(v), &count)
		require.NoError(t, err)
	}
	require.GreaterOrEqual(t, int64(count), flushed, "what a flush acknowledged is lost")
	s := e.NewSnapshot()
	defer func() { require.NoError(t, s.Close()) }()
	for i := range 60 {
		v, closer, err := s.Get(kv.CFDefault, fmt.Appendf(nil, "k%04d", i))
		if i >= count {
			require.ErrorIs(t, err, kv.ErrNotFound)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, diskValue(i), v)
		require.NoError(t, closer.Close())
	}
	_, meta, err := e.GetMeta([]byte("ingested"))
	require.NoError(t, err)
	_, closer, err := s.Get(kv.CFDefault, []byte("zz"))
	require.Equal(t, meta, err == nil, "a part of an ingest")
	switch {
	case err == nil:
		require.NoError(t, closer.Close())
	case !errors.Is(err, kv.ErrNotFound):
		t.Fatal(err)
	}
	switch ingested {
	case 0, 3:
		require.False(t, meta, "an ingest that was refused, or not tried, is there")
	case 2:
		require.True(t, meta, "an ingest that was acknowledged is lost")
	}
}
