package catalog

import (
	"context"
	"fmt"

	"github.com/tikv/client-go/v2/kv"

	"github.com/copradb/copra/internal/pgerror"
)

// Change is a schema change in the making, inside a transaction: it holds the
// pessimistic lock on the schema version, so that there is only one at a time
// in the cluster, and everything it writes takes effect when the transaction
// commits, or not at all.
type Change struct {
	store *Store
	txn   *Txn
	base  *Snapshot
	view  *Snapshot // with the changes so far
	next  int64     // next object id
	// replaced: a table of the base was changed or dropped.
	replaced bool
}

// Replaces reports whether the change takes a table that others may be using
// away from them, or changes it.
func (c *Change) Replaces() bool { return c.replaced }

// Begin starts a change in txn, which must be pessimistic. It waits for other
// schema changes to end. lock has its ForUpdateTS freshly set.
func (s *Store) Begin(ctx context.Context, txn *Txn, lock *kv.LockCtx) (*Change, error) {
	if err := txn.LockKeys(ctx, lock, versionKey); err != nil {
		return nil, err
	}
	base, err := s.At(ctx, lock.ForUpdateTS)
	if err != nil {
		return nil, err
	}
	c := &Change{store: s, txn: txn, view: base.clone(), base: base}
	c.view.version = base.version + 1
	c.next, err = s.readCounter(ctx, lock.ForUpdateTS, nextIDKey, FirstUserObjectID)
	if err != nil {
		return nil, err
	}
	return c, txn.Set(versionKey, encodeInt(c.view.version))
}

func (s *Store) readCounter(ctx context.Context, ts uint64, key []byte, initial int64) (int64, error) {
	v, err := s.kv.GetSnapshot(ts).Get(ctx, key)
	if isNotFound(err) {
		return initial, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read counter %q: %w", key, err)
	}
	return decodeInt(key, v.Value)
}

// ChangeState is what a savepoint remembers of a change.
type ChangeState struct {
	view *Snapshot
	next int64
}

// Save returns the state to go back to, Restore goes back: the keys written
// since are the transaction's buffer's business.
func (c *Change) Save() ChangeState { return ChangeState{view: c.view.clone(), next: c.next} }

// Restore undoes what was changed since Save.
func (c *Change) Restore(s ChangeState) { c.view, c.next = s.view.clone(), s.next }

// Snapshot is the catalog with the change's effects so far. It is a copy: later
// changes don't show in it.
func (c *Change) Snapshot() *Snapshot { return c.view.clone() }

// Base is the catalog without the change.
func (c *Change) Base() *Snapshot { return c.base }

// NewID gives out an object id (OID).
func (c *Change) NewID() (int64, error) {
	id := c.next
	if id > 1<<31 {
		return 0, pgerror.New(pgerror.ProgramLimitExceeded, "no object ids are left")
	}
	c.next++
	return id, c.txn.Set(nextIDKey, encodeInt(c.next))
}

// PutTable writes a new or changed descriptor, without the fence that it had. t
// must not be changed after.
func (c *Change) PutTable(t *Table) error {
	if old := c.view.byID[t.ID]; old != nil {
		if t.FencedUntil == old.FencedUntil {
			t.FencedUntil = 0 // the load that it was for goes by the version
		}
		c.view.removeTable(old)
	}
	c.replaced = c.replaced || c.base.byID[t.ID] != nil
	t.Version = c.view.version
	data, err := encode(t)
	if err != nil {
		return err
	}
	c.view.addTable(t)
	return c.txn.Set(idKey(tablePrefix, t.ID), data)
}

// DropTable removes a descriptor with its statistics. Rows and counters, which
// others may be moving at this moment, are freed by the DropRange.
func (c *Change) DropTable(t *Table, r DropRange) error {
	c.view.removeTable(t)
	c.replaced = c.replaced || c.base.byID[t.ID] != nil
	delete(c.view.stats, t.ID)
	if err := c.txn.Delete(idKey(tablePrefix, t.ID)); err != nil {
		return err
	}
	if err := c.txn.Delete(idKey(statsPrefix, t.ID)); err != nil {
		return err
	}
	r.Counters = [][]byte{idKey(rowIDPrefix, t.ID)}
	for _, col := range t.Columns {
		if col.SequenceID != 0 {
			r.Counters = append(r.Counters, idKey(sequencePrefix, col.SequenceID))
		}
	}
	return c.AddDropRange(r)
}

// PutSchema writes a schema.
func (c *Change) PutSchema(s *Schema) error {
	data, err := encode(s)
	if err != nil {
		return err
	}
	c.view.schemas[s.Name] = s
	return c.txn.Set(idKey(schemaPrefix, s.ID), data)
}

// DropSchema removes a schema.
func (c *Change) DropSchema(s *Schema) error {
	delete(c.view.schemas, s.Name)
	return c.txn.Delete(idKey(schemaPrefix, s.ID))
}

// PutStats writes a table's statistics. It is part of a schema change so that
// every node hears of it.
func (c *Change) PutStats(tableID int64, st Stats) error {
	data, err := encode(st)
	if err != nil {
		return err
	}
	c.view.stats[tableID] = st
	return c.txn.Set(idKey(statsPrefix, tableID), data)
}

// AddDropRange queues a range for deletion, see DropRange.
func (c *Change) AddDropRange(r DropRange) error {
	_, err := c.QueueDropRange(r)
	return err
}

// QueueDropRange is AddDropRange, and returns what was queued.
func (c *Change) QueueDropRange(r DropRange) (DropRange, error) {
	id, err := c.NewID()
	if err != nil {
		return r, err
	}
	r.ID, r.QueuedTS = id, c.txn.StartTS()
	data, err := encode(r)
	if err != nil {
		return r, err
	}
	return r, c.txn.Set(r.Key(), data)
}

// TakeBack takes a range off the queue that is to stay after all; lock locks its
// key. It is an error if its deletion has begun.
func (c *Change) TakeBack(ctx context.Context, r DropRange, lock func(key []byte) error) error {
	now, ok, err := readDropRange(ctx, c.txn, r.Key())
	if err != nil {
		return err
	}
	if !ok || now.Begun {
		return pgerror.New(pgerror.ObjectNotInPrerequisiteState, "the range of %s was deleted meanwhile: garbage collection has overtaken it", r.What).
			WithHint("Load in smaller parts.")
	}
	if err := lock(r.Key()); err != nil {
		return err
	}
	return c.txn.Delete(r.Key())
}

// CopyRowIDs lets a table's row ids go on behind those of another one.
func (c *Change) CopyRowIDs(ctx context.Context, from, to int64) error {
	next, err := readCounterIn(ctx, c.txn, idKey(rowIDPrefix, from), 1)
	if err != nil || next == 1 {
		return err
	}
	return c.txn.Set(idKey(rowIDPrefix, to), encodeInt(next))
}
