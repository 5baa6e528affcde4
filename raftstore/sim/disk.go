package sim

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a store's disk: its syncs take time, stop with the process, may be
// counted, and may fail.
type disk struct {
	vfs.FS
	gate    *gate
	latency atomic.Int64 // of a sync; fake time
	failing atomic.Bool  // all syncs fail
	failed  atomic.Bool  // a failure was seen

	mu sync.Mutex
	// onSync is called before and after each sync of a file or directory.
	onSync func(path string, after bool)
}

func (d *disk) wrap(fs vfs.FS) vfs.FS { return diskFS{fs, d} }

func (d *disk) hook() func(string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.onSync
}

func (d *disk) setHook(f func(path string, after bool)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.onSync = f
}

// sync is what happens around a sync.
func (d *disk) sync(path string, do func() error) error {
	if wait := d.latency.Load(); wait > 0 {
		time.Sleep(time.Duration(wait))
	}
	if d.gate != nil {
		d.gate.wait()
	}
	// Pebble panics when it cannot sync a manifest; a process may, a test not.
	if d.failing.Load() && !strings.Contains(path, "MANIFEST") {
		d.failed.Store(true)
		return &vfsError{"sync", path, syscall.EIO}
	}
	hook := d.hook()
	if hook != nil {
		hook(path, false)
	}
	err := do()
	if hook != nil {
		hook(path, true)
	}
	return err
}

type vfsError struct {
	op, path string
	err      error
}

func (e *vfsError) Error() string { return fmt.Sprintf("%s %s: %v (injected)", e.op, e.path, e.err) }
func (e *vfsError) Unwrap() error { return e.err }

// diskFS is one mount of a disk.
type diskFS struct {
	vfs.FS
	d *disk
}

func (f diskFS) Unwrap() vfs.FS { return f.FS }

func (f diskFS) file(path string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{file, f.d, path}, nil
}

func (f diskFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.file(name, file, err)
}

func (f diskFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	return f.file(name, file, err)
}

func (f diskFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, opts...)
	return f.file(name, file, err)
}

func (f diskFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return f.file(name, file, err)
}

func (f diskFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, c)
	return f.file(newname, file, err)
}

type diskFile struct {
	vfs.File
	d    *disk
	path string
}

func (f *diskFile) Sync() error     { return f.d.sync(f.path, f.File.Sync) }
func (f *diskFile) SyncData() error { return f.d.sync(f.path, f.File.SyncData) }

func (f *diskFile) SyncTo(n int64) (full bool, err error) {
	err = f.d.sync(f.path, func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}
