package importer

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/copradb/copra/internal/bulkload"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/txn/mvcc"
)

// cancelCheckKeys is how many keys are merged between two looks at the context.
const cancelCheckKeys = 4096

// source is one table of a merge, at a key.
type source struct {
	write, long *engine.LoadReader
	key         []byte // encoded, without the timestamp; the reader's memory
	value       []byte
	from        []byte // encoded lower bound
	longBegan   bool
}

// sources is a heap by key.
type sources []*source

func (s sources) Len() int           { return len(s) }
func (s sources) Less(a, b int) bool { return bytes.Compare(s[a].key, s[b].key) < 0 }
func (s sources) Swap(a, b int)      { s[a], s[b] = s[b], s[a] }

// Push implements heap.Interface.
func (s *sources) Push(x any) { *s = append(*s, x.(*source)) }

// Pop implements heap.Interface.
func (s *sources) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// Merge implements bulkload.Job.
func (j *job) Merge(ctx context.Context, in []bulkload.Table, lower, upper []byte, tableBytes int64) (out []bulkload.Table, err error) {
	m := &merge{j: j, ctx: ctx, tableBytes: tableBytes}
	defer func() {
		m.close()
		if err != nil {
			j.Drop(m.out)
		}
	}()
	if upper != nil {
		m.end = codec.EncodeBytes(nil, upper)
	}
	for _, t := range in {
		if err := m.open(t, codec.EncodeBytes(nil, lower)); err != nil {
			return nil, err
		}
	}
	if err := m.run(); err != nil {
		return nil, err
	}
	return m.out, nil
}

type merge struct {
	j          *job
	ctx        context.Context
	tableBytes int64
	end        []byte // encoded upper bound, nil: none
	opened     []*source
	heap       sources
	w          *writer
	out        []bulkload.Table
}

func (m *merge) open(t bulkload.Table, from []byte) error {
	f, err := m.j.files(t)
	if err != nil {
		return err
	}
	s := &source{from: from}
	m.opened = append(m.opened, s)
	fs := m.j.home.FS()
	if s.write, err = engine.OpenLoad(fs, f.write.Path); err != nil {
		return err
	}
	if f.hasLong {
		if s.long, err = engine.OpenLoad(fs, f.long.Path); err != nil {
			return err
		}
	}
	k, v, ok, err := s.write.SeekGE(kv.CFWrite, from)
	if ok, err = s.at(k, v, ok, err, m.end); ok {
		heap.Push(&m.heap, s)
	}
	return err
}

// at takes an entry of the write family; ok is false at the end.
func (s *source) at(key, record []byte, ok bool, err error, end []byte) (bool, error) {
	if err != nil || !ok || end != nil && bytes.Compare(key, end) >= 0 {
		return false, err
	}
	if s.key, _, err = codec.DecodeTS(key); err != nil {
		return false, fmt.Errorf("importer: key %x of a table: %w", key, err)
	}
	w, err := mvcc.ParseWrite(record)
	if err != nil {
		return false, err
	}
	if w.HasShort {
		s.value = w.ShortValue
		return true, nil
	}
	return true, s.longValue()
}

// longValue goes on in the other family: it has the same keys in the same order.
func (s *source) longValue() error {
	if s.long == nil {
		return fmt.Errorf("importer: the value of key %x is missing", s.key)
	}
	var k []byte
	var ok bool
	var err error
	if s.longBegan {
		k, s.value, ok, err = s.long.Next()
	} else {
		k, s.value, ok, err = s.long.SeekGE(kv.CFDefault, s.from)
		s.longBegan = true
	}
	if err == nil && (!ok || !bytes.HasPrefix(k, s.key)) {
		err = fmt.Errorf("importer: the value of key %x is missing", s.key)
	}
	return err
}

func (m *merge) run() error {
	var user []byte
	for n := 1; len(m.heap) > 0; n++ {
		if n%cancelCheckKeys == 0 && m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		s := m.heap[0]
		var err error
		if user, _, err = codec.DecodeBytes(user[:0], s.key); err != nil {
			return fmt.Errorf("importer: key %x of a table: %w", s.key, err)
		}
		if err := m.add(user, s.value); err != nil {
			return err
		}
		k, v, ok, err := s.write.Next()
		if ok, err = s.at(k, v, ok, err, m.end); err != nil {
			return err
		}
		if ok {
			heap.Fix(&m.heap, 0)
		} else {
			heap.Pop(&m.heap)
		}
	}
	return m.finish()
}

func (m *merge) add(key, value []byte) (err error) {
	if m.w != nil && m.w.t.Bytes >= m.tableBytes {
		if bytes.Equal(key, m.w.last) {
			return &bulkload.DuplicateError{Key: bytes.Clone(key)}
		}
		if err := m.finish(); err != nil {
			return err
		}
	}
	if m.w == nil {
		if m.w, err = m.j.newWriter(); err != nil {
			return err
		}
	}
	return m.w.Add(key, value)
}

func (m *merge) finish() error {
	if m.w == nil {
		return nil
	}
	t, err := m.w.Finish()
	m.w = nil
	if err == nil {
		m.out = append(m.out, t)
	}
	return err
}

func (m *merge) close() {
	if m.w != nil {
		m.w.Abort()
	}
	var errs []error
	for _, s := range m.opened {
		for _, r := range []*engine.LoadReader{s.write, s.long} {
			if r != nil {
				errs = append(errs, r.Close())
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		slog.Warn("importer: tables were not closed", "error", err)
	}
}
