package raftlog

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3/raftpb"
)

// pointDeletesMax: up to so many overwritten entries are deleted one by one; a
// range tombstone costs every later reader of the table.
const pointDeletesMax = 32

// Batch collects writes of any number of regions. Not safe for concurrent use.
type Batch struct{ b *pebble.Batch }

// NewBatch returns an empty batch. It must be closed.
func (l *Log) NewBatch() *Batch { return &Batch{b: l.db.NewBatch()} }

// Append writes contiguous entries. prevLast is the last index of the region's
// log before: entries behind the new last one, up to prevLast, are deleted.
func (b *Batch) Append(regionID uint64, entries []*raftpb.Entry, prevLast uint64) {
	if len(entries) == 0 {
		return
	}
	first := entries[0].GetIndex()
	for i, e := range entries {
		if e.GetIndex() != first+uint64(i) {
			panic(fmt.Sprintf("raftlog: region %d appends entry %d at place %d behind entry %d", regionID, e.GetIndex(), i, first))
		}
		var head [1 + binary.MaxVarintLen64]byte
		head[0] = byte(e.GetType())
		n := 1 + binary.PutUvarint(head[1:], e.GetTerm())
		op := b.b.SetDeferred(entryKeyBytes, n+len(e.GetData()))
		putEntryKey(op.Key, regionID, e.GetIndex())
		copy(op.Value, head[:n])
		copy(op.Value[n:], e.GetData())
		must(op.Finish())
	}
	last := entries[len(entries)-1].GetIndex()
	if prevLast <= last {
		return
	}
	if prevLast-last <= pointDeletesMax {
		for index := last + 1; index <= prevLast; index++ {
			op := b.b.DeleteDeferred(entryKeyBytes)
			putEntryKey(op.Key, regionID, index)
			must(op.Finish())
		}
		return
	}
	must(b.b.DeleteRange(entryKey(regionID, last+1), entryKey(regionID, prevLast+1), nil))
}

// SetHardState writes the region's term, vote and commit index.
func (b *Batch) SetHardState(regionID uint64, hs *raftpb.HardState) {
	var value [3 * binary.MaxVarintLen64]byte
	n := binary.PutUvarint(value[:], hs.GetTerm())
	n += binary.PutUvarint(value[n:], hs.GetVote())
	n += binary.PutUvarint(value[n:], hs.GetCommit())
	b.setState(regionID, hardStateKind, value[:n])
}

// SetTruncated says that the log starts behind index, which has this term, and
// deletes all entries up to it. A snapshot that replaces the whole log calls
// DeleteRegion first.
func (b *Batch) SetTruncated(regionID, index, term uint64) {
	must(b.b.DeleteRange(entryKey(regionID, 0), entryKey(regionID, index+1), nil))
	var value [2 * binary.MaxVarintLen64]byte
	n := binary.PutUvarint(value[:], index)
	n += binary.PutUvarint(value[n:], term)
	b.setState(regionID, truncatedKind, value[:n])
}

func (b *Batch) setState(regionID uint64, kind byte, value []byte) {
	op := b.b.SetDeferred(regionKeyBytes, len(value))
	putRegionKey(op.Key, regionID, kind)
	copy(op.Value, value)
	must(op.Finish())
}

// DeleteRegion deletes the region's states and entries.
func (b *Batch) DeleteRegion(regionID uint64) {
	must(b.b.DeleteRange(regionKey(regionID, 0), regionKey(regionID, endKind), nil))
}

// PutMeta writes a meta key.
func (b *Batch) PutMeta(key, value []byte) { must(b.b.Set(metaKey(key), value, nil)) }

// DeleteMeta deletes a meta key.
func (b *Batch) DeleteMeta(key []byte) { must(b.b.Delete(metaKey(key), nil)) }

// Size is the batch's size in bytes.
func (b *Batch) Size() int { return b.b.Len() }

// Empty reports whether the batch has no writes.
func (b *Batch) Empty() bool { return b.b.Empty() }

// Reset empties the batch, also after Commit.
func (b *Batch) Reset() { b.b.Reset() }

// Close frees the batch.
func (b *Batch) Close() error { return b.b.Close() }

// must turns an impossible failure into a panic: Pebble's batch operations
// fail only on a batch that was committed or closed.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("raftlog: write into a batch: %v", err))
	}
}
