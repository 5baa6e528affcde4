package spill

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// filesMax bounds the files of one statement that exist at a time.
const filesMax = 1 << 14

// Space has the temporary files of one statement. It costs nothing until there
// is one. Safe for concurrent use.
type Space struct {
	m        *Manager
	bytesMax int64
	used     atomic.Int64

	mu     sync.Mutex
	files  map[*file]struct{}
	closed bool
	stats  Stats
}

// Stats are what a Space has written, ever.
type Stats struct {
	Files int64
	Bytes int64 // on disk
	Rows  int64
}

// NewSpace is for a statement whose files may have bytesMax bytes together (0 =
// no limit of its own). Close it when the statement ends.
func (m *Manager) NewSpace(bytesMax int64) *Space {
	return &Space{m: m, bytesMax: bytesMax, files: map[*file]struct{}{}}
}

// Stats are what was written so far, by nobody on nil.
func (s *Space) Stats() Stats {
	if s == nil {
		return Stats{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close closes and removes all files, also those that are being written or
// read. It may be called more than once, and on nil.
func (s *Space) Close() error {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	s.closed = true
	files := s.files
	s.files = map[*file]struct{}{}
	s.mu.Unlock()
	var errs []error
	for f := range files {
		errs = append(errs, f.drop())
	}
	return errors.Join(errs...)
}

// Create begins a file of rows of these types.
func (s *Space) Create(types []sqltypes.Type) (*Writer, error) {
	f, err := s.newFile()
	if err != nil {
		return nil, err
	}
	if err := f.create(); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	s.m.metrics.files.Inc()
	return &Writer{s: s, f: f, types: types}, nil
}

func (s *Space) newFile() (*file, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, pgerror.New(pgerror.InternalError, "a statement that has ended wants a temporary file")
	case len(s.files) >= filesMax:
		return nil, pgerror.New(pgerror.ConfigurationLimitExceeded, "a statement cannot have more than %d temporary files", filesMax).
			WithHint("Raise copra.statement_memory.")
	}
	f := &file{m: s.m, s: s, id: s.m.next.Add(1), open: map[vfs.File]struct{}{}}
	f.path = s.m.o.FS.PathJoin(s.m.dir, fmt.Sprintf("%d.rows", f.id))
	s.files[f] = struct{}{}
	s.stats.Files++
	s.m.metrics.open.Inc()
	return f, nil
}

func (s *Space) forget(f *file) {
	s.mu.Lock()
	delete(s.files, f)
	s.mu.Unlock()
}

// reserve counts n more bytes of a file before they are written.
func (s *Space) reserve(f *file, n int64, rows int) error {
	if used := s.used.Add(n); s.bytesMax > 0 && used > s.bytesMax {
		s.used.Add(-n)
		s.m.metrics.refused.Inc()
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "temporary file size exceeds temp_file_limit (%dkB)", s.bytesMax>>10)
	}
	if err := s.m.reserve(n); err != nil {
		s.used.Add(-n)
		return err
	}
	f.bytes.Add(n)
	s.mu.Lock()
	s.stats.Bytes += n
	s.stats.Rows += int64(rows)
	s.mu.Unlock()
	return nil
}

// file is one temporary file.
type file struct {
	m     *Manager
	s     *Space
	id    uint64
	path  string
	bytes atomic.Int64

	mu    sync.Mutex
	write vfs.File
	open  map[vfs.File]struct{} // for reading
	gone  bool
}

func (f *file) create() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return ended(f.path)
	}
	h, err := f.m.o.FS.Create(f.path, vfs.WriteCategoryUnspecified)
	f.write = h
	return ioError(err, "create", f.path)
}

// drop closes all handles and removes the file.
func (f *file) drop() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil
	}
	f.gone = true
	if f.write != nil {
		_ = f.write.Close() // what it has is thrown away
	}
	for h := range f.open {
		_ = h.Close()
	}
	f.write, f.open = nil, nil
	n := f.bytes.Load()
	f.s.used.Add(-n)
	f.m.giveBack(n)
	f.m.metrics.open.Dec()
	if err := f.m.o.FS.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ioError(err, "remove", f.path)
	}
	return nil
}

// remove is drop for a file that the statement needs no longer.
func (f *file) remove() error {
	f.s.forget(f)
	return f.drop()
}
