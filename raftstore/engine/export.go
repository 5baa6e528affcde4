package engine

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
)

// SSTFile is one file of an exported range: the keys of one family in
// [Start, End), with a range tombstone over exactly that span, so that
// ingesting the file replaces what was there.
type SSTFile struct {
	Path  string
	CF    kv.CF
	Size  uint64 // bytes of the file
	Keys  uint64
	Start []byte // first key
	End   []byte // exclusive
}

// exportFlushBytes is how many logical bytes are written between two looks at
// the file's size.
const exportFlushBytes = 16 << 10

// ExportRange writes the keys of [start, end) of all families, as of the
// snapshot, into new files in dir (which must exist) of about fileBytesMax
// each. An empty end is unbounded. Families without keys give no file. The
// files are synced; after an error the caller removes dir.
func (e *Engine) ExportRange(s *Snapshot, start, end []byte, dir string, fileBytesMax int64) ([]SSTFile, error) {
	var files []SSTFile
	for _, cf := range kv.CFs {
		it, err := s.s.NewIter(&pebble.IterOptions{LowerBound: cfKey(nil, cf, start), UpperBound: cfEnd(nil, cf, end)})
		if err != nil {
			return nil, fmt.Errorf("export family %s: %w", cf, err)
		}
		files, err = e.exportFamily(it, cf, dir, fileBytesMax, files)
		if err = errors.Join(err, it.Close()); err != nil {
			return nil, fmt.Errorf("export family %s into %s: %w", cf, dir, err)
		}
	}
	return files, nil
}

func (e *Engine) exportFamily(it *pebble.Iterator, cf kv.CF, dir string, fileBytesMax int64, files []SSTFile) ([]SSTFile, error) {
	for ok := it.First(); ok; ok = it.Valid() {
		path := e.fs.PathJoin(dir, fmt.Sprintf("%s_%04d.sst", cf, len(files)))
		f, err := e.exportFile(it, cf, path, fileBytesMax)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, it.Error()
}

// exportFile writes keys from the iterator's position on until the file is
// full, and leaves the iterator at the first key that is not in the file.
func (e *Engine) exportFile(it *pebble.Iterator, cf kv.CF, path string, fileBytesMax int64) (f SSTFile, err error) {
	w, err := e.newSST(path)
	if err != nil {
		return f, err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, w.Close())
		}
	}()
	f = SSTFile{Path: path, CF: cf, Start: append([]byte{}, it.Key()[1:]...)}
	pending := 0
	for ok := true; ok; ok = it.Next() {
		if pending >= exportFlushBytes {
			pending = 0
			if int64(w.Raw().EstimatedSize()) >= fileBytesMax {
				break
			}
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return f, err
		}
		if err := w.Set(it.Key(), value); err != nil {
			return f, err
		}
		f.Keys++
		pending += len(it.Key()) + len(value)
		f.End = append(f.End[:0], it.Key()[1:]...)
	}
	if err := it.Error(); err != nil {
		return f, err
	}
	f.End = append(f.End, 0)
	if err := w.DeleteRange(cfKey(nil, cf, f.Start), cfKey(nil, cf, f.End)); err != nil {
		return f, err
	}
	closed = true
	if err := w.Close(); err != nil {
		return f, err
	}
	meta, err := w.Metadata()
	if err != nil {
		return f, err
	}
	f.Size = meta.Size
	return f, nil
}

// newSST starts a table that this database can ingest.
func (e *Engine) newSST(path string) (*sstable.Writer, error) {
	file, err := e.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("create table %s: %w", path, err)
	}
	// Not the options of the lowest level: there a delete is obsolete from the
	// start, and Pebble would hide it.
	o := e.opts.MakeWriterOptions(0, e.db.TableFormat())
	return sstable.NewWriter(objstorageprovider.NewFileWritable(file), o), nil
}
