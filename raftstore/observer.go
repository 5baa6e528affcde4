package raftstore

import (
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

// DecodeWrite returns the kv.Batch bytes of an entry that Applied was given. ok
// is false for any other entry.
func DecodeWrite(e *raftpb.Entry) (batch []byte, ok bool) {
	if e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0 {
		return nil, false
	}
	h, rest, err := decodeEntry(e.GetData())
	return rest, err == nil && h.kind == entryKindWrite
}

// NoObserver is an Observer that does nothing, to be embedded.
type NoObserver struct{}

// RoleChanged implements Observer.
func (NoObserver) RoleChanged(uint64, bool, uint64) {}

// RegionChanged implements Observer.
func (NoObserver) RegionChanged(*metapb.Region, bool) {}

// Applied implements Observer.
func (NoObserver) Applied(uint64, []*raftpb.Entry) {}
