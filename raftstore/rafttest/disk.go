package rafttest

import (
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is a file system of limited size: what does not fit fails with ENOSPC,
// after a part of it was written, as on a real one.
type Disk struct {
	vfs.FS
	mu     sync.Mutex
	size   int64
	used   int64 // at least what is used; exact after measure
	refuse func(path string) bool
}

var _ vfs.FS = (*Disk)(nil)

// NewDisk limits fs, which must be in memory, to size bytes.
func NewDisk(fs vfs.FS, size int64) *Disk {
	d := &Disk{FS: fs, size: size}
	d.measure()
	return d
}

// Resize sets the size; it may be less than what is used.
func (d *Disk) Resize(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = size
}

// Refuse makes writes to the files for which fn returns true fail, whatever
// room there is; nil ends that.
func (d *Disk) Refuse(fn func(path string) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = fn
}

// Used is the size of all files in bytes.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.measure()
	return d.used
}

func (d *Disk) measure() { d.used = sizeOf(d.FS, "/") }

func sizeOf(fs vfs.FS, dir string) (n int64) {
	names, err := fs.List(dir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		path := fs.PathJoin(dir, name)
		info, err := fs.Stat(path)
		if err != nil {
			continue
		}
		if info.IsDir() {
			n += sizeOf(fs, path)
		} else {
			n += info.Size()
		}
	}
	return n
}

// GetDiskUsage implements vfs.FS.
func (d *Disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	used := d.Used()
	d.mu.Lock()
	defer d.mu.Unlock()
	return vfs.DiskUsage{TotalBytes: uint64(d.size), UsedBytes: uint64(used), AvailBytes: uint64(max(0, d.size-used))}, nil
}

// take reserves up to n bytes of growth for a file and says how many it got.
func (d *Disk) take(path string, n int64) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	full := &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
	if d.refuse != nil && d.refuse(path) {
		return 0, full
	}
	if d.used+n > d.size {
		d.measure()
	}
	if got := max(0, d.size-d.used); got < n {
		d.used += got
		return got, full
	}
	d.used += n
	return n, nil
}

func (d *Disk) wrap(f vfs.File, path string, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, d: d, path: path}, nil
}

// Create implements vfs.FS.
func (d *Disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if _, err := d.take(name, 0); err != nil {
		return nil, err
	}
	f, err := d.FS.Create(name, c)
	return d.wrap(f, name, err)
}

// OpenReadWrite implements vfs.FS.
func (d *Disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	return d.wrap(f, name, err)
}

// ReuseForWrite implements vfs.FS.
func (d *Disk) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return d.wrap(f, newname, err)
}

type diskFile struct {
	vfs.File
	d    *Disk
	path string
}

func (f *diskFile) Write(p []byte) (int, error) {
	got, full := f.d.take(f.path, int64(len(p)))
	n, err := f.File.Write(p[:got])
	if err == nil {
		err = full
	}
	return n, err
}

func (f *diskFile) WriteAt(p []byte, at int64) (int, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if _, err := f.d.take(f.path, max(0, at+int64(len(p))-info.Size())); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, at)
}

// DataTables picks the tables of the data engine, for Refuse.
func DataTables(path string) bool {
	return strings.HasPrefix(path, "data") && strings.HasSuffix(path, ".sst")
}
