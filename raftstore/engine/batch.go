package engine

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
)

// Batch collects writes that Apply makes visible, and a crash keeps or loses,
// as one. Not safe for concurrent use.
type Batch struct {
	e *Engine
	b *pebble.Batch
}

// NewBatch returns an empty batch. It must be closed.
func (e *Engine) NewBatch() *Batch { return &Batch{e: e, b: e.db.NewBatch()} }

// Put writes value under key.
func (b *Batch) Put(cf kv.CF, key, value []byte) { b.set(byte(cf), key, value) }

// PutMeta writes a meta key.
func (b *Batch) PutMeta(key, value []byte) { b.set(metaPrefix, key, value) }

func (b *Batch) set(first byte, key, value []byte) {
	op := b.b.SetDeferred(len(key)+1, len(value))
	op.Key[0] = first
	copy(op.Key[1:], key)
	copy(op.Value, value)
	b.finish(op.Finish())
}

// Delete deletes key.
func (b *Batch) Delete(cf kv.CF, key []byte) { b.delete(byte(cf), key) }

// DeleteMeta deletes a meta key.
func (b *Batch) DeleteMeta(key []byte) { b.delete(metaPrefix, key) }

func (b *Batch) delete(first byte, key []byte) {
	op := b.b.DeleteDeferred(len(key) + 1)
	op.Key[0] = first
	copy(op.Key[1:], key)
	b.finish(op.Finish())
}

// DeleteRange deletes [start, end) of a family; an empty end is the family's
// end.
func (b *Batch) DeleteRange(cf kv.CF, start, end []byte) {
	lower, upper := cfKey(nil, cf, start), cfEnd(nil, cf, end)
	b.finish(b.b.DeleteRange(lower, upper, nil))
}

// finish turns an impossible failure into a panic: Pebble's batch operations
// fail only on a batch that was committed or closed.
func (b *Batch) finish(err error) {
	if err != nil {
		panic(fmt.Sprintf("engine: write into a batch: %v", err))
	}
}

// ApplyEncoded appends the writes of a kv.Batch's bytes. After an error the
// batch must not be applied. Conditional deletes must have been resolved: what
// they depend on may be in the batch.
func (b *Batch) ApplyEncoded(data []byte) error {
	r := kv.ReadBatch(data)
	for {
		op, cf, key, value, ok, err := r.Next()
		if err != nil || !ok {
			return err
		}
		switch op {
		case kv.OpPut:
			b.Put(cf, key, value)
		case kv.OpDelete:
			b.Delete(cf, key)
		case kv.OpDeleteRange:
			b.DeleteRange(cf, key, value)
		default:
			return fmt.Errorf("operation %d cannot be applied as it is", op)
		}
	}
}

// Size is the batch's size in bytes, Len the number of its writes.
func (b *Batch) Size() int { return b.b.Len() }
func (b *Batch) Len() int  { return int(b.b.Count()) }

// Reset empties the batch, also after Apply.
func (b *Batch) Reset() { b.b.Reset() }

// Close frees the batch.
func (b *Batch) Close() error { return b.b.Close() }

// Apply makes the batch's writes visible. They are durable after a later
// Flush. Reset the batch to use it again.
func (e *Engine) Apply(b *Batch) error {
	if b.b.Empty() {
		return nil
	}
	err := b.b.Commit(pebble.NoSync)
	e.changed()
	if err != nil {
		return fmt.Errorf("apply batch of %d writes: %w", b.Len(), err)
	}
	return nil
}

// prefixEnd is codec.PrefixNext for prefixes that have one.
func prefixEnd(prefix []byte) []byte { return codec.PrefixNext(prefix) }
