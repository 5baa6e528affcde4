package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
)

// A load table is an SST of one family that was made outside of the database,
// from keys that come in order, to be ingested by any store (raftstore's
// ingest.go). Unlike what ExportRange writes it replaces nothing: it has no
// range tombstone.

// loadLevel is the level for whose options load tables are written: what is
// loaded into an empty range stays where it is ingested, at the bottom.
const loadLevel = 6

// LoadTable describes one.
type LoadTable struct {
	Path        string
	CF          kv.CF
	First, Last []byte // keys inside the family
	Bytes       uint64 // of the file
	Keys        uint64
}

// LoadWriter writes a load table. Not safe for concurrent use.
type LoadWriter struct {
	w     *sstable.Writer
	t     LoadTable
	key   []byte // scratch: with the family's prefix
	ended bool
}

func loadOptions() *pebble.Options {
	po := &pebble.Options{FormatMajorVersion: pebble.FormatNewest}
	setTableOptions(po)
	po.EnsureDefaults()
	return po
}

// NewLoadWriter starts a table in a new file.
func NewLoadWriter(fs vfs.FS, path string, cf kv.CF) (*LoadWriter, error) {
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("create table %s: %w", path, err)
	}
	o := loadOptions().MakeWriterOptions(loadLevel, pebble.FormatNewest.MaxTableFormat())
	return &LoadWriter{w: sstable.NewWriter(objstorageprovider.NewFileWritable(file), o), t: LoadTable{Path: path, CF: cf}}, nil
}

// Add appends a key, which must be greater than the one before.
func (w *LoadWriter) Add(key, value []byte) error {
	w.key = cfKey(w.key[:0], w.t.CF, key)
	if err := w.w.Set(w.key, value); err != nil {
		return fmt.Errorf("write table %s: %w", w.t.Path, err)
	}
	if w.t.Keys == 0 {
		w.t.First = bytes.Clone(key)
	}
	w.t.Keys++
	return nil
}

// EstimatedBytes is about how large the file has become.
func (w *LoadWriter) EstimatedBytes() uint64 { return w.w.Raw().EstimatedSize() }

// Finish completes the file and syncs it. There must be a key in it.
func (w *LoadWriter) Finish() (LoadTable, error) {
	w.ended = true
	if err := w.w.Close(); err != nil {
		return LoadTable{}, fmt.Errorf("write table %s: %w", w.t.Path, err)
	}
	meta, err := w.w.Metadata()
	if err != nil {
		return LoadTable{}, fmt.Errorf("write table %s: %w", w.t.Path, err)
	}
	w.t.Bytes = meta.Size
	w.t.Last = bytes.Clone(w.key[1:])
	return w.t, nil
}

// Abort gives the writer up; the file is the caller's to remove. After Finish it
// does nothing.
func (w *LoadWriter) Abort() {
	if !w.ended {
		w.ended = true
		_ = w.w.Close() // nobody wants the file
	}
}

// LoadReader reads a load table in order.
type LoadReader struct {
	r  *sstable.Reader
	it sstable.Iterator
}

// OpenLoad opens a load table of any store.
func OpenLoad(fs vfs.FS, path string) (_ *LoadReader, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open table %s: %w", path, err)
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open table %s: %w", path, err), f.Close())
	}
	r, err := sstable.NewReader(context.Background(), readable, loadOptions().MakeReaderOptions())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open table %s: %w", path, err), readable.Close())
	}
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read table %s: %w", path, err), r.Close())
	}
	return &LoadReader{r: r, it: it}, nil
}

// SeekGE goes to the first key of the family at or behind key. The slices are
// valid until the next call.
func (r *LoadReader) SeekGE(cf kv.CF, key []byte) (k, value []byte, ok bool, err error) {
	e := r.it.SeekGE(cfKey(nil, cf, key), 0)
	if e == nil {
		return nil, nil, false, r.it.Error()
	}
	value, _, err = e.Value(nil)
	return e.K.UserKey[1:], value, err == nil, err
}

// Next goes on to the next key.
func (r *LoadReader) Next() (k, value []byte, ok bool, err error) {
	e := r.it.Next()
	if e == nil {
		return nil, nil, false, r.it.Error()
	}
	value, _, err = e.Value(nil)
	return e.K.UserKey[1:], value, err == nil, err
}

// Close closes the file.
func (r *LoadReader) Close() error { return errors.Join(r.it.Close(), r.r.Close()) }

// CheckLoad checks that files are load tables of families with versions, whose
// keys lie in [start, end) (empty end: unbounded), and that they don't overlap.
func (e *Engine) CheckLoad(paths []string, start, end []byte) error {
	type span struct {
		path        string
		first, last []byte
	}
	spans := make([]span, len(paths))
	for i, path := range paths {
		first, last, err := e.loadBounds(path)
		if err == nil {
			err = checkBounds(first, last, start, end)
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", path, err)
		}
		spans[i] = span{path, first, last}
	}
	slices.SortFunc(spans, func(a, b span) int { return bytes.Compare(a.first, b.first) })
	for i := 1; i < len(spans); i++ {
		if a, b := spans[i-1], spans[i]; bytes.Compare(a.last, b.first) >= 0 {
			return fmt.Errorf("tables %s and %s overlap at key %x", a.path, b.path, b.first)
		}
	}
	return nil
}

func checkBounds(first, last, start, end []byte) error {
	cf := kv.CF(first[0])
	if !versioned(first[0]) || last[0] != first[0] {
		return fmt.Errorf("it has keys from %x to %x, which are not of one versioned family", first, last)
	}
	if bytes.Compare(first, cfKey(nil, cf, start)) < 0 || bytes.Compare(last, cfEnd(nil, cf, end)) >= 0 {
		return fmt.Errorf("it has keys from %x to %x, which are not inside [%x, %x)", first, last, start, end)
	}
	return nil
}

func (e *Engine) loadBounds(path string) (first, last []byte, err error) {
	r, err := OpenLoad(e.fs, path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	dels, err := r.r.NewRawRangeDelIter(context.Background(), sstable.NoFragmentTransforms, sstable.NoReadEnv)
	if err != nil {
		return nil, nil, err
	}
	if dels != nil {
		dels.Close()
		return nil, nil, errors.New("it has range tombstones: not a load table")
	}
	if k := r.it.First(); k != nil {
		first = bytes.Clone(k.K.UserKey)
	}
	if k := r.it.Last(); k != nil {
		last = bytes.Clone(k.K.UserKey)
	}
	if err := r.it.Error(); err != nil {
		return nil, nil, err
	}
	if len(first) == 0 || len(last) == 0 {
		return nil, nil, errors.New("it has no keys")
	}
	return first, last, nil
}

// IngestLoad adds the content of load tables that don't overlap, and writes
// meta, in one atomic step that is durable when it returns. The files are
// consumed. After an error nothing has changed and the files are still there.
func (e *Engine) IngestLoad(paths []string, meta []MetaPut) error {
	scratch := e.fs.PathJoin(e.dir, scratchDir, fmt.Sprintf("%d", ingestCount.Add(1)))
	if err := e.fs.MkdirAll(scratch, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", scratch, err)
	}
	defer func() {
		if err := e.fs.RemoveAll(scratch); err != nil {
			e.opts.Logger.Errorf("remove %s: %v", scratch, err) // the next start removes it
		}
	}()
	path := e.fs.PathJoin(scratch, "meta.sst")
	if err := e.writeMeta(path, meta); err != nil {
		return err
	}
	err := e.db.Ingest(context.Background(), append(slices.Clone(paths), path))
	e.changed()
	if err != nil {
		return fmt.Errorf("ingest %d loaded tables: %w", len(paths), err)
	}
	return nil
}
