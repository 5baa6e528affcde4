package mutate

import (
	"bytes"
	"context"
	"errors"

	tikverr "github.com/tikv/client-go/v2/error"
	"github.com/tikv/client-go/v2/kv"

	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront/catalog"
)

// Buffer is a transaction's own writes (client-go's MemBuffer).
type Buffer interface {
	GetLocal(ctx context.Context, key []byte) ([]byte, error)
	Set(key, value []byte) error
	SetWithFlags(key, value []byte, ops ...kv.FlagsOp) error
	Delete(key []byte) error
}

// Writer writes rows into a transaction's buffer and collects the keys that a
// pessimistic transaction must lock.
type Writer struct {
	*Table
	buf Buffer
	ctx context.Context
	// Locks are the keys written that other transactions could write, too: rows
	// and unique index entries.
	Locks [][]byte
}

// NewWriter writes t's rows to buf.
func NewWriter(ctx context.Context, t *Table, buf Buffer) *Writer {
	return &Writer{Table: t, buf: buf, ctx: ctx}
}

// PutNew writes a unique key that must not exist yet.
func (w *Writer) PutNew(key, value []byte) error {
	own, err := w.buf.GetLocal(w.ctx, key)
	switch {
	case err == nil && len(own) > 0:
		return w.UniqueError(key)
	case err == nil: // deleted by this transaction, which has checked and locked it
		w.Locks = append(w.Locks, key)
		return w.buf.Set(key, value)
	case !errors.Is(err, tikverr.ErrNotExist):
		return err
	}
	w.Locks = append(w.Locks, key)
	return w.buf.SetWithFlags(key, value, kv.SetPresumeKeyNotExists)
}

// Insert writes a new row. handle is the primary key's, or a fresh row id's.
func (w *Writer) Insert(row []sqltypes.Datum, handle []byte) error {
	value, err := w.value(row)
	if err != nil {
		return err
	}
	key := w.RowKey(handle)
	if w.HasRowID() {
		err = w.buf.Set(key, value)
	} else {
		err = w.PutNew(key, value)
	}
	if err != nil {
		return err
	}
	for i := range w.indexes {
		if err := w.insertEntry(&w.indexes[i], row, handle); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) insertEntry(ix *index, row []sqltypes.Datum, handle []byte) error {
	if ix.desc.State == catalog.StateDeleteOnly {
		return nil
	}
	key, unique, err := w.indexKey(ix, row, handle)
	if err != nil {
		return err
	}
	if unique {
		return w.PutNew(key, bytes.Clone(handle))
	}
	return w.buf.Set(key, bytes.Clone(handle))
}

// Delete removes a row, given as it was.
func (w *Writer) Delete(row []sqltypes.Datum, handle []byte) error {
	key := w.RowKey(handle)
	w.Locks = append(w.Locks, key)
	if err := w.buf.Delete(key); err != nil {
		return err
	}
	for i := range w.indexes {
		key, unique, err := w.indexKey(&w.indexes[i], row, handle)
		if err != nil {
			return err
		}
		if unique {
			w.Locks = append(w.Locks, key)
		}
		if err := w.buf.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// Update replaces rows, given as they were, by new ones: rows[i] under
// handles[i] becomes news[i]. A row whose primary key changes moves. All keys
// that go away do so before the first new one is written, so that rows may
// exchange their keys.
func (w *Writer) Update(olds, news [][]sqltypes.Datum, handles [][]byte) error {
	moved := make([][]byte, len(olds))
	for i := range olds {
		moved[i] = handles[i]
		if !w.HasRowID() {
			var err error
			if moved[i], err = w.Handle(nil, news[i]); err != nil {
				return err
			}
		}
		if err := w.removeOld(olds[i], news[i], handles[i], moved[i]); err != nil {
			return err
		}
	}
	for i := range olds {
		if err := w.putUpdated(olds[i], news[i], handles[i], moved[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) removeOld(old, row []sqltypes.Datum, handle, moved []byte) error {
	if !bytes.Equal(moved, handle) {
		return w.Delete(old, handle)
	}
	for i := range w.indexes {
		ix := &w.indexes[i]
		was, unique, err := w.indexKey(ix, old, handle)
		if err != nil {
			return err
		}
		is, _, err := w.indexKey(ix, row, handle)
		if err != nil {
			return err
		}
		if bytes.Equal(was, is) && ix.desc.State != catalog.StateDeleteOnly {
			continue
		}
		if unique {
			w.Locks = append(w.Locks, was)
		}
		if err := w.buf.Delete(was); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) putUpdated(old, row []sqltypes.Datum, handle, moved []byte) error {
	if !bytes.Equal(moved, handle) {
		return w.Insert(row, moved)
	}
	value, err := w.value(row)
	if err != nil {
		return err
	}
	key := w.RowKey(handle)
	w.Locks = append(w.Locks, key)
	if err := w.buf.Set(key, value); err != nil {
		return err
	}
	for i := range w.indexes {
		if err := w.putUpdatedEntry(&w.indexes[i], old, row, handle); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) putUpdatedEntry(ix *index, old, row []sqltypes.Datum, handle []byte) error {
	was, _, err := w.indexKey(ix, old, handle)
	if err != nil {
		return err
	}
	is, unique, err := w.indexKey(ix, row, handle)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, is) {
		return w.insertEntry(ix, row, handle)
	}
	// An unchanged entry need not be written, unless the index is being filled
	// and may not have it yet.
	if ix.desc.State != catalog.StateWriteOnly {
		return nil
	}
	if unique {
		w.Locks = append(w.Locks, is)
	}
	return w.buf.Set(is, bytes.Clone(handle))
}
