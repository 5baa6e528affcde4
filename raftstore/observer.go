package raftstore

import (
	"iter"

	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// Observer is told what happens to the regions of a store. The calls come from
// the store's workers and must not block.
type Observer interface {
	// RoleChanged: this peer became leader in term, or stopped leading. A leader
	// whose region has consumed another one by a merge becomes leader again, in
	// the same term: what the store knows from memory is not complete any longer.
	RoleChanged(regionID uint64, leader bool, term uint64)
	// RegionChanged: the region was loaded or created, or its range or members changed. A
	// region that left the store has removed set.
	RegionChanged(region *metapb.Region, removed bool)
	// Applied: the entries are writes that took effect; DecodeWrite reads them.
	// The call comes before they are acknowledged, but a snapshot may show them a
	// moment earlier. The slice must not be kept, the entries not be changed.
	Applied(regionID uint64, entries []*raftpb.Entry)
}

// DataObserver is an Observer that follows the regions' data, step by step.
type DataObserver interface {
	Observer
	// Advanced: the data of the region went from the applied index from to the
	// index to, by these writes (as for Applied) and by nothing else. from is the to
	// of the call before, unless the data was replaced by a snapshot of Raft's, or
	// the observer's store was started in between. The call comes before the applied
	// index and a change of the region are told to anybody, but a snapshot may have
	// the step a moment earlier. A step with an ingestion in it is told to Ingested
	// before.
	Advanced(regionID, from, to uint64, entries []*raftpb.Entry)
	// Ingested: tables were added to a region; r is its range. What was known of
	// the data in it may not hold any more. The call comes behind the change and
	// before its applied index is told to anybody.
	Ingested(r kv.KeyRange)
}

// RangeObserver is a DataObserver that follows the data from region to region.
// Its calls come behind the Advanced of the step in which the ranges change, and
// before snapshots show the regions with their new ranges; those with the old
// ones may still be read.
type RangeObserver interface {
	DataObserver
	// Split: what the region, which is at applied index at, had in the ranges of the
	// children is theirs, and is at index in their logs. Children that this store
	// does not create are left out.
	Split(region *metapb.Region, at uint64, children []*metapb.Region, index uint64)
	// Merged: what source had at its applied index sourceAt belongs to the region,
	// and is there at its applied index at.
	Merged(region *metapb.Region, at uint64, source *metapb.Region, sourceAt uint64)
}

// DecodeWrite returns the kv.Batch bytes of an entry that Applied was given. ok
// is false for any other entry.
func DecodeWrite(e *raftpb.Entry) (batch []byte, ok bool) {
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return nil, false
	}
	h, rest, err := decodeEntry(e.GetData())
	return rest, err == nil && h.kind == entryKindWrite
}

// Writes yields index and kv.Batch bytes of those entries that DecodeWrite takes.
func Writes(entries []*raftpb.Entry) iter.Seq2[uint64, []byte] {
	return func(yield func(uint64, []byte) bool) {
		for _, e := range entries {
			if data, ok := DecodeWrite(e); ok && !yield(e.GetIndex(), data) {
				return
			}
		}
	}
}

// NoObserver is an Observer that does nothing, to be embedded.
type NoObserver struct{}

// RoleChanged implements Observer.
func (NoObserver) RoleChanged(uint64, bool, uint64) {}

// RegionChanged implements Observer.
func (NoObserver) RegionChanged(*metapb.Region, bool) {}

// Applied implements Observer.
func (NoObserver) Applied(uint64, []*raftpb.Entry) {}
