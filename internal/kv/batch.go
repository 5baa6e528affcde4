package kv

import (
	"encoding/binary"
	"fmt"
)

// Op is what one entry of a Batch does.
type Op byte

// The operations. Their values are part of the Raft log's format.
const (
	OpPut         Op = 1
	OpDelete      Op = 2
	OpDeleteRange Op = 3 // key = start, value = end (exclusive, not empty)
	// OpDeleteIf deletes the key if its value, when the entry is applied, begins
	// with the bytes given as value (not empty).
	OpDeleteIf Op = 4
	// opSafePoint, at the start of a batch only, marks what garbage collection
	// drops: op(1) safe point(8, big endian).
	opSafePoint Op = 5
)

// safePointBytes is the length of a batch's mark.
const safePointBytes = 9

// Batch is an ordered list of writes to one region, kept in the very bytes
// that go into the Raft log:
//
//	batch := [safe point mark] entry...
//	entry := op(1) cf(1) uvarint(len key) key uvarint(len value) value
//
// A delete has an empty value. A batch whose first entry is an OpDeleteIf has
// only such. The zero Batch is empty and ready to use.
type Batch struct {
	data  []byte
	count int
}

// Put appends a write of value under key.
func (b *Batch) Put(cf CF, key, value []byte) { b.append(OpPut, cf, key, value) }

// Delete appends a delete of key.
func (b *Batch) Delete(cf CF, key []byte) { b.append(OpDelete, cf, key, nil) }

// DeleteRange appends a delete of [start, end).
func (b *Batch) DeleteRange(cf CF, start, end []byte) { b.append(OpDeleteRange, cf, start, end) }

// DeleteIf appends a delete of key that takes effect only if the value begins
// with prefix when the batch is applied. It goes with no other operation.
func (b *Batch) DeleteIf(cf CF, key, prefix []byte) { b.append(OpDeleteIf, cf, key, prefix) }

// Conditional reports whether an encoded batch is made of OpDeleteIf.
func Conditional(data []byte) bool { return len(data) > 0 && Op(data[0]) == OpDeleteIf }

func (b *Batch) append(op Op, cf CF, key, value []byte) {
	b.data = append(b.data, byte(op), byte(cf))
	b.data = binary.AppendUvarint(b.data, uint64(len(key)))
	b.data = append(b.data, key...)
	b.data = binary.AppendUvarint(b.data, uint64(len(value)))
	b.data = append(b.data, value...)
	b.count++
}

// SetSafePoint marks an empty batch as one of garbage collection: who has
// applied it cannot be read below ts any longer. The mark is no entry.
func (b *Batch) SetSafePoint(ts uint64) {
	b.data = binary.BigEndian.AppendUint64(append(b.data[:0], byte(opSafePoint)), ts)
	b.count = 0
}

// CollectedAt says that garbage may be missing up to TS around Key: in its
// keyspace, or, if it is in none, wherever keyspaces share a safe point.
type CollectedAt struct {
	Key []byte
	TS  uint64
}

// SafePoint returns the mark of an encoded batch.
func SafePoint(data []byte) (ts uint64, ok bool) {
	if len(data) < safePointBytes || Op(data[0]) != opSafePoint {
		return 0, false
	}
	return binary.BigEndian.Uint64(data[1:]), true
}

// Len is the number of entries, Size their encoded bytes.
func (b *Batch) Len() int  { return b.count }
func (b *Batch) Size() int { return len(b.data) }

// Bytes is the encoded batch; it aliases the batch.
func (b *Batch) Bytes() []byte { return b.data }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.data, b.count = b.data[:0], 0 }

// BatchReader decodes an encoded batch. The slices it returns alias its input.
type BatchReader struct{ rest []byte }

// ReadBatch starts reading encoded batch bytes.
func ReadBatch(data []byte) BatchReader {
	if _, ok := SafePoint(data); ok {
		data = data[safePointBytes:]
	}
	return BatchReader{rest: data}
}

// Next returns the next entry. ok is false at the end; a malformed batch is an
// error (from a log entry it is a broken invariant).
func (r *BatchReader) Next() (op Op, cf CF, key, value []byte, ok bool, err error) {
	if len(r.rest) == 0 {
		return 0, 0, nil, nil, false, nil
	}
	if len(r.rest) < 2 {
		return 0, 0, nil, nil, false, fmt.Errorf("kv: batch entry of %d bytes is cut off", len(r.rest))
	}
	op, cf = Op(r.rest[0]), CF(r.rest[1])
	if op < OpPut || op > OpDeleteIf || !cf.Valid() {
		return 0, 0, nil, nil, false, fmt.Errorf("kv: batch entry has operation %d on family %#x", op, byte(cf))
	}
	r.rest = r.rest[2:]
	if key, err = r.bytes(); err != nil {
		return 0, 0, nil, nil, false, err
	}
	if value, err = r.bytes(); err != nil {
		return 0, 0, nil, nil, false, err
	}
	return op, cf, key, value, true, nil
}

func (r *BatchReader) bytes() ([]byte, error) {
	n, w := binary.Uvarint(r.rest)
	if w <= 0 || n > uint64(len(r.rest)-w) {
		return nil, fmt.Errorf("kv: batch length field is malformed")
	}
	out := r.rest[w : w+int(n) : w+int(n)]
	r.rest = r.rest[w+int(n):]
	return out, nil
}
