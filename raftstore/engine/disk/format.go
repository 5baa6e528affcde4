package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FormatFile is the name of the file that says what a directory holds and in
// which version: one line, "<kind> <version>".
const FormatFile = "COPRA-FORMAT"

// CheckFormat creates dir and its format file, or checks the one that is
// there. A directory of another kind or of a newer version is refused; an
// older version is returned, so that the caller can upgrade it.
func CheckFormat(fsys vfs.FS, dir, kind string, version int) (found int, err error) {
	if err := MkdirAll(fsys, dir); err != nil {
		return 0, fmt.Errorf("create %s directory %s: %w", kind, dir, err)
	}
	path := fsys.PathJoin(dir, FormatFile)
	line, err := readFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return version, writeFormat(fsys, dir, path, kind, version)
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	foundKind, number, ok := strings.Cut(strings.TrimSpace(line), " ")
	found, convErr := strconv.Atoi(number)
	if !ok || convErr != nil || found < 1 {
		return 0, fmt.Errorf("%s is damaged: it reads %q, not \"%s <version>\"; is %s the right directory?", path, line, kind, dir)
	}
	if foundKind != kind {
		return 0, fmt.Errorf("directory %s holds a %s, not a %s; choose another data directory", dir, foundKind, kind)
	}
	if found > version {
		return 0, fmt.Errorf("directory %s has %s format %d, this binary knows formats up to %d; start a newer copra", dir, kind, found, version)
	}
	return found, nil
}

func readFile(fsys vfs.FS, path string) (string, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(f)
	return string(data), errors.Join(err, f.Close())
}

func writeFormat(fsys vfs.FS, dir, path, kind string, version int) error {
	if err := WriteFileAtomic(fsys, dir, path, fmt.Appendf(nil, "%s %d\n", kind, version)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// WriteFileAtomic replaces the file at path (inside dir) by data: after a crash
// the old or the new content is there, never a part.
func WriteFileAtomic(fsys vfs.FS, dir, path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := fsys.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, path); err != nil {
		return err
	}
	return SyncDir(fsys, dir)
}

// MkdirAll creates dir and its missing parents so that they survive a crash: a
// new directory is only durable when the one above it has been synced.
func MkdirAll(fsys vfs.FS, dir string) error {
	var missing []string // deepest first
	for d := dir; ; d = fsys.PathDir(d) {
		if _, err := fsys.Stat(d); err == nil || !IsNotExist(err) {
			break
		}
		missing = append(missing, d)
		if parent := fsys.PathDir(d); parent == d {
			break
		}
	}
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, d := range slices.Backward(missing) {
		if err := SyncDir(fsys, fsys.PathDir(d)); err != nil {
			return err
		}
	}
	return nil
}

// SyncDir makes the directory's entries durable.
func SyncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// IsNotExist reports whether err says that a file is missing, for both real
// and in-memory file systems.
func IsNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) || os.IsNotExist(err) }
