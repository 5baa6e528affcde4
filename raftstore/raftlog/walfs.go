package raftlog

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/raftstore/engine/disk"
)

// walFS stops the process in order when the next file of the log cannot be made.
// Pebble would end it with a dump of all goroutines instead of a line that says
// what failed: it panics there without the lock that it is about to release.
type walFS struct {
	vfs.FS
	fatal *disk.Fatal
}

func (f *walFS) check(name string, err error) {
	if err != nil && strings.HasSuffix(name, ".log") {
		f.fatal.Stop(fmt.Errorf("create log file %s: %w", name, err))
	}
}

// Create implements vfs.FS.
func (f *walFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	out, err := f.FS.Create(name, c)
	f.check(name, err)
	return out, err
}

// ReuseForWrite implements vfs.FS.
func (f *walFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	out, err := f.FS.ReuseForWrite(oldname, newname, c)
	f.check(newname, err)
	return out, err
}

// Unwrap is for vfs.Root.
func (f *walFS) Unwrap() vfs.FS { return f.FS }
