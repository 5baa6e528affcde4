package exec

import (
	"errors"
	"fmt"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// SpillStats is what an operator wrote to disk.
type SpillStats struct {
	Files int64
	Bytes int64
	Rows  int64
	// Partitions are those of a hash table that were divided, with those that had
	// to be divided again.
	Partitions int64
}

func (s SpillStats) lines() []string {
	if s.Files == 0 {
		return nil
	}
	out := fmt.Sprintf("Disk Usage: %dkB  Files: %d  Rows: %d", (s.Bytes+1023)>>10, s.Files, s.Rows)
	if s.Partitions > 0 {
		out += fmt.Sprintf("  Partitions: %d", s.Partitions)
	}
	return []string{out}
}

func (s *SpillStats) add(o SpillStats) {
	s.Files, s.Bytes, s.Rows, s.Partitions = s.Files+o.Files, s.Bytes+o.Bytes, s.Rows+o.Rows, s.Partitions+o.Partitions
}

// finishRun ends a file and counts it.
func finishRun(w *spill.Writer, st *SpillStats) (*spill.Run, error) {
	run, err := w.Finish()
	if err != nil {
		return nil, err
	}
	st.Files++
	st.Bytes += run.Bytes
	st.Rows += run.Rows
	return run, nil
}

// runReader reads the rows of a run; they may be encoded.
type runReader struct {
	r   *spill.Reader
	run *spill.Run
}

func openRun(run *spill.Run) (*runReader, error) {
	r, err := run.Open()
	if err != nil {
		return nil, err
	}
	return &runReader{r, run}, nil
}

func (r *runReader) next() (*expr.Batch, error) {
	cols, n, err := r.r.Next()
	if err != nil || n == 0 {
		return nil, err
	}
	return &expr.Batch{N: n, Cols: cols}, nil
}

// drop ends reading and removes the file.
func (r *runReader) drop() error { return errors.Join(r.r.Close(), r.run.Remove()) }

// readerBytes is what reading a run takes.
func readerBytes(run *spill.Run) int64 { return spill.ReaderBytes + 2*run.FrameBytes }

// runSource reads a run as an operator's source.
type runSource struct {
	types []sqltypes.Type
	run   *spill.Run
	keep  bool // the file is read again
	in    *runReader
}

func newRunOperator(name string, types []sqltypes.Type, run *spill.Run, keep bool) Operator {
	return NewSource(name, types, func(*Ctx) (Source, error) {
		in, err := openRun(run)
		if err != nil {
			return nil, err
		}
		return &runSource{types: types, run: run, keep: keep, in: in}, nil
	})
}

func (s *runSource) NextRaw() (Raw, error) {
	b, err := s.in.next()
	return Raw{Batch: b}, err
}

func (s *runSource) Next() (*expr.Batch, error) {
	r, err := s.NextRaw()
	if err != nil {
		return nil, err
	}
	return r.plain(s.types)
}

func (s *runSource) Close() error {
	if s.keep {
		return s.in.r.Close()
	}
	return s.in.drop()
}

// spillBatchBytes is how large batches are that are gathered to be written, or
// handed out, from rows that may be wide.
const spillBatchBytes = 4 << 20

// rowsPerBatch is how many of n rows of bytes together make a batch.
func rowsPerBatch(rows, bytes int64) int {
	if bytes <= 0 || rows <= 0 {
		return BatchRowsMax
	}
	return int(max(1, min(BatchRowsMax, spillBatchBytes*rows/bytes)))
}
