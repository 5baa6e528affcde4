package disk

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// PlaceholderFile is the name of a file that does nothing but take room, as
// TiKV's. The store gives it up by itself when the disk refuses a write or is
// full at start; an operator may delete it at any time. It is made again when
// there is room.
const PlaceholderFile = "space_placeholder_file"

// placeholderChunkBytes is how much of it is written at a time where the file
// system cannot allocate.
const placeholderChunkBytes = 1 << 20

func (s *Space) placeholderPath() string { return s.o.FS.PathJoin(s.o.Dir, PlaceholderFile) }

// adopt takes over what an earlier start has left; without a reserve there is
// to be none.
func (s *Space) adopt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	info, err := s.o.FS.Stat(s.placeholderPath())
	if IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.o.ReserveBytes < 0 {
		return s.o.FS.Remove(s.placeholderPath())
	}
	s.held, s.heldSize = true, info.Size()
	return nil
}

// holds reports whether the placeholder is there. The operator may have deleted
// it.
func (s *Space) holds(size int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return false
	}
	info, err := s.o.FS.Stat(s.placeholderPath())
	if err != nil || info.Size() != s.heldSize {
		s.held = false
		return false
	}
	return s.heldSize >= size
}

// make writes the placeholder; the caller knows that there is room for it.
func (s *Space) make(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size <= 0 || s.held && s.heldSize == size {
		return
	}
	s.held = false
	if err := s.write(size); err != nil {
		s.o.Logger.Warn("placeholder not made", "path", s.placeholderPath(), "bytes", size, "err", err)
		return
	}
	s.held, s.heldSize = true, size
}

// write takes the room; behind an error nothing of it is left.
func (s *Space) write(size int64) (err error) {
	fs, path := s.o.FS, s.placeholderPath()
	if err := fs.RemoveAll(path); err != nil {
		return err
	}
	f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = f.Preallocate(0, size)
	if err == nil {
		_, err = f.WriteAt([]byte{0}, size-1) // so that ls shows what du does
	} else if !vfs.IsNoSpaceError(err) {
		err = writeZeros(f, size)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, fs.RemoveAll(path))
	}
	return nil
}

func writeZeros(f vfs.File, size int64) error {
	chunk := make([]byte, min(size, placeholderChunkBytes))
	for at := int64(0); at < size; at += int64(len(chunk)) {
		if _, err := f.WriteAt(chunk[:min(int64(len(chunk)), size-at)], at); err != nil {
			return fmt.Errorf("at %d of %d bytes: %w", at, size, err)
		}
	}
	return nil
}

// release deletes the placeholder; it reports whether that has freed room.
func (s *Space) release(why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held {
		return false
	}
	s.held = false
	if err := s.o.FS.Remove(s.placeholderPath()); err != nil {
		s.o.Logger.Error("placeholder not deleted", "path", s.placeholderPath(), "err", err)
		return false
	}
	s.o.Logger.Warn("placeholder given up", "path", s.placeholderPath(), "bytes", s.heldSize, "why", why)
	return true
}
