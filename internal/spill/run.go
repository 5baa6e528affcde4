package spill

import (
	"bufio"
	"errors"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

const (
	// writeBufferBytes is what a Writer gathers before it writes, readBufferBytes
	// what a Reader reads at least.
	writeBufferBytes = 256 << 10
	readBufferBytes  = 64 << 10
	// packEvery: a file whose frames do not shrink is tried again every so many.
	packEvery = 16
)

// ReaderBytes is about what a Reader of a run of small frames keeps in memory;
// see Run.FrameBytes for others.
const ReaderBytes = readBufferBytes

// WriterBytes is about what a Writer keeps in memory.
const WriterBytes = writeBufferBytes

// Writer writes a file. It must be ended by Finish or Discard.
type Writer struct {
	s       *Space
	f       *file
	types   []sqltypes.Type
	body    []byte // frame under construction
	packed  []byte
	pending []byte // frames not yet written
	rows    int64  // of pending
	run     Run
	skip    int // frames that are not compressed
	failed  error
}

// Write appends rows, in one or more frames. After an error the file is of no
// use.
func (w *Writer) Write(cols []arrow.Array, n int) error {
	if w.failed != nil {
		return w.failed
	}
	each := n
	if size := rawBytes(cols); size > frameBytesTarget {
		each = max(1, int(int64(n)*frameBytesTarget/size))
	}
	for lo := 0; lo < n; lo += each {
		if w.failed = w.frame(cols, lo, min(n, lo+each)); w.failed != nil {
			return w.failed
		}
	}
	return nil
}

func rawBytes(cols []arrow.Array) int64 {
	n := int64(0)
	for _, c := range cols {
		n += colvec.ArrayBytes(c)
	}
	return n
}

func (w *Writer) frame(cols []arrow.Array, lo, hi int) error {
	var err error
	w.body = append(w.body[:0], make([]byte, frameHead)...)
	if w.body, err = appendBody(w.body, cols, w.types, lo, hi); err != nil {
		return err
	}
	body := len(w.body) - frameHead
	if body > frameBytesMax {
		return pgerror.New(pgerror.ProgramLimitExceeded, "%d rows of %d bytes together are too large for a temporary file", hi-lo, body)
	}
	pack := w.skip == 0
	frame, packed, smaller := seal(w.body, w.packed, hi-lo, w.f.id, w.run.frames, pack)
	w.packed = packed
	switch {
	case w.skip > 0:
		w.skip--
	case !smaller:
		w.skip = packEvery
	}
	w.run.frames++
	w.run.Rows += int64(hi - lo)
	w.run.FrameBytes = max(w.run.FrameBytes, int64(body))
	w.s.m.metrics.raw.Add(float64(body))
	w.pending = append(w.pending, frame...)
	w.rows += int64(hi - lo)
	if len(w.pending) >= writeBufferBytes {
		return w.flush()
	}
	return nil
}

func (w *Writer) flush() error {
	n := len(w.pending)
	if n == 0 {
		return nil
	}
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	if w.f.gone {
		return ended(w.f.path)
	}
	if err := w.s.reserve(w.f, int64(n), int(w.rows)); err != nil {
		return err
	}
	if _, err := w.f.write.Write(w.pending); err != nil {
		return ioError(err, "write to", w.f.path)
	}
	w.s.m.metrics.written.Add(float64(n))
	w.pending, w.rows = w.pending[:0], 0
	return nil
}

// Rows are those written so far.
func (w *Writer) Rows() int64 { return w.run.Rows }

// Finish ends the file. On an error it is removed.
func (w *Writer) Finish() (*Run, error) {
	err := w.failed
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		err = w.f.closeWrite()
	}
	if err != nil {
		return nil, errors.Join(err, w.f.remove())
	}
	w.body, w.packed, w.pending = nil, nil, nil
	w.run.f, w.run.Types, w.run.Bytes = w.f, w.types, w.f.bytes.Load()
	return &w.run, nil
}

// Discard removes the file.
func (w *Writer) Discard() error { return w.f.remove() }

func (f *file) closeWrite() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return ended(f.path)
	}
	h := f.write
	f.write = nil
	return ioError(h.Close(), "close", f.path)
}

// Run is a file that is complete.
type Run struct {
	Types []sqltypes.Type
	Rows  int64
	Bytes int64 // on disk
	// FrameBytes is the size of the largest frame, which a Reader has in memory.
	FrameBytes int64

	f      *file
	frames int
}

// Remove removes the file; Readers of it fail.
func (r *Run) Remove() error { return r.f.remove() }

// Open begins to read it from the start.
func (r *Run) Open() (*Reader, error) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.f.gone {
		return nil, pgerror.New(pgerror.InternalError, "temporary file \"%s\" was removed before it was read", r.f.path)
	}
	h, err := r.f.m.o.FS.Open(r.f.path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, ioError(err, "open", r.f.path)
	}
	r.f.open[h] = struct{}{}
	return &Reader{run: r, h: h, in: bufio.NewReaderSize(guarded{r.f, h}, readBufferBytes)}, nil
}

// guarded reads a file that Space.Close may close.
type guarded struct {
	f *file
	h vfs.File
}

func (g guarded) Read(p []byte) (int, error) {
	g.f.mu.Lock()
	defer g.f.mu.Unlock()
	if g.f.gone {
		return 0, ended(g.f.path)
	}
	return g.h.Read(p)
}

// Reader reads a run from its start.
type Reader struct {
	run    *Run
	h      vfs.File
	in     *bufio.Reader
	frame  int
	head   [frameHead]byte
	closed bool
}

// Next returns the next rows, 0 at the end. The columns are the caller's.
func (r *Reader) Next() ([]arrow.Array, int, error) {
	if r.frame == r.run.frames {
		return nil, 0, nil
	}
	path, file := r.run.f.path, r.run.f.id
	if _, err := io.ReadFull(r.in, r.head[:]); err != nil {
		return nil, 0, r.readError(err)
	}
	h, why := openHeader(r.head[:])
	if why == "" && int64(h.stored) > r.run.Bytes {
		why = "is too large"
	}
	if why == "" && h.number != r.frame {
		why = "is another one"
	}
	if why != "" {
		return nil, 0, corrupt(path, r.frame, why)
	}
	stored := make([]byte, h.stored)
	if _, err := io.ReadFull(r.in, stored); err != nil {
		return nil, 0, r.readError(err)
	}
	body, why := openFrame(h, r.head[:], stored, file)
	if why != "" {
		return nil, 0, corrupt(path, r.frame, why)
	}
	cols, err := openBody(body, r.run.Types, h.rows)
	if err != nil {
		return nil, 0, corrupt(path, r.frame, err.Error())
	}
	r.run.f.m.metrics.read.Add(float64(frameHead + h.stored))
	r.frame++
	return cols, h.rows, nil
}

func (r *Reader) readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt(r.run.f.path, r.frame, "is cut off")
	}
	return ioError(err, "read", r.run.f.path)
}

// Close ends reading. It may be called more than once.
func (r *Reader) Close() error {
	if r == nil || r.closed {
		return nil
	}
	r.closed = true
	f := r.run.f
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil
	}
	delete(f.open, r.h)
	return ioError(r.h.Close(), "close", f.path)
}
