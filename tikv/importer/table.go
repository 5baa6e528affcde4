package importer

import (
	"bytes"
	"fmt"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/txn/mvcc"
)

// writer implements bulkload.Writer.
type writer struct {
	j     *job
	id    uint64
	write *engine.LoadWriter
	long  *engine.LoadWriter // nil until a value is long
	t     bulkload.Table
	last  []byte
	// scratch
	encoded, key, record []byte
}

// NewTable implements bulkload.Job.
func (j *job) NewTable() (bulkload.Writer, error) { return j.newWriter() }

func (j *job) newWriter() (*writer, error) {
	if err := j.home.RoomToBuild(); err != nil {
		return nil, fmt.Errorf("importer: %w: %w", bulkload.ErrDiskFull, err)
	}
	w := &writer{j: j, id: j.last.Add(1)}
	var err error
	w.write, err = w.file("write", kv.CFWrite)
	return w, err
}

func (w *writer) file(what string, cf kv.CF) (*engine.LoadWriter, error) {
	fs := w.j.home.FS()
	return engine.NewLoadWriter(fs, fs.PathJoin(w.j.dir, fmt.Sprintf("%d_%s.sst", w.id, what)), cf)
}

// Add implements bulkload.Writer.
func (w *writer) Add(key, value []byte) error {
	if w.t.Keys > 0 && bytes.Compare(key, w.last) <= 0 {
		if bytes.Equal(key, w.last) {
			return &bulkload.DuplicateError{Key: bytes.Clone(key)}
		}
		return fmt.Errorf("importer: key %x comes behind %x", key, w.last)
	}
	w.encoded = codec.EncodeBytes(w.encoded[:0], key)
	if err := w.put(value); err != nil {
		return err
	}
	w.note(key, value)
	return nil
}

func (w *writer) note(key, value []byte) {
	if w.t.Keys == 0 {
		w.t.First = bytes.Clone(key)
	}
	w.last = append(w.last[:0], key...)
	w.t.Keys++
	w.t.Bytes += int64(len(key) + len(value))
}

// put writes the value of the key in encoded as a committed one.
func (w *writer) put(value []byte) error {
	rec := mvcc.Write{Type: mvcc.WritePut, StartTS: w.j.startTS}
	if len(value) <= mvcc.ShortValueBytesMax {
		rec.HasShort, rec.ShortValue = true, value
	} else if err := w.putLong(value); err != nil {
		return err
	}
	w.record = mvcc.AppendWrite(w.record[:0], &rec)
	w.key = codec.EncodeTS(append(w.key[:0], w.encoded...), w.j.commitTS)
	return w.write.Add(w.key, w.record)
}

func (w *writer) putLong(value []byte) (err error) {
	if w.long == nil {
		if w.long, err = w.file("default", kv.CFDefault); err != nil {
			return err
		}
	}
	w.key = codec.EncodeTS(append(w.key[:0], w.encoded...), w.j.startTS)
	return w.long.Add(w.key, value)
}

// Finish implements bulkload.Writer.
func (w *writer) Finish() (bulkload.Table, error) {
	if w.t.Keys == 0 {
		return bulkload.Table{}, fmt.Errorf("importer: a table without keys")
	}
	f := &files{hasLong: w.long != nil}
	var err error
	if f.write, err = w.write.Finish(); err == nil && w.long != nil {
		f.long, err = w.long.Finish()
	}
	if err != nil {
		w.Abort()
		return bulkload.Table{}, err
	}
	w.t.ID, w.t.Last = w.id, bytes.Clone(w.last)
	w.j.mu.Lock()
	w.j.tables[w.id] = f
	w.j.mu.Unlock()
	return w.t, nil
}

// Abort implements bulkload.Writer; the job's end removes the files.
func (w *writer) Abort() {
	w.write.Abort()
	if w.long != nil {
		w.long.Abort()
	}
}
