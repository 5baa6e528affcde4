package raftstore

import (
	"bytes"
	"slices"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// rangeMap holds the ranges of the regions that have data on this store. They
// never overlap.
type rangeMap struct {
	sorted []regionRange // by start
	byID   map[uint64][]byte
}

type regionRange struct {
	id         uint64
	start, end []byte
}

func (m *rangeMap) find(start []byte) (int, bool) {
	return slices.BinarySearchFunc(m.sorted, start, func(r regionRange, k []byte) int { return bytes.Compare(r.start, k) })
}

func (m *rangeMap) remove(id uint64) {
	start, ok := m.byID[id]
	if !ok {
		return
	}
	delete(m.byID, id)
	if i, ok := m.find(start); ok {
		m.sorted = slices.Delete(m.sorted, i, i+1)
	}
}

func (m *rangeMap) set(r *metapb.Region) {
	m.remove(r.Id)
	i, _ := m.find(r.StartKey)
	m.sorted = slices.Insert(m.sorted, i, regionRange{r.Id, r.StartKey, r.EndKey})
	if m.byID == nil {
		m.byID = make(map[uint64][]byte)
	}
	m.byID[r.Id] = r.StartKey
}

// overlaps reports whether a region other than id has a part of [start, end).
func (m *rangeMap) overlaps(id uint64, start, end []byte) bool {
	i, found := m.find(start)
	if !found && i > 0 {
		i--
	}
	for ; i < len(m.sorted); i++ {
		r := m.sorted[i]
		if len(end) > 0 && bytes.Compare(r.start, end) >= 0 {
			return false
		}
		if r.id != id && rangesOverlap(r.start, r.end, start, end) {
			return true
		}
	}
	return false
}

// leftOf returns the id of the region that ends where start is.
func (m *rangeMap) leftOf(start []byte) (id uint64, ok bool) {
	if i, _ := m.find(start); i > 0 && bytes.Equal(m.sorted[i-1].end, start) {
		return m.sorted[i-1].id, true
	}
	return 0, false
}

// overlapsLocked also looks at the ranges of snapshots on their way.
func (s *Store) overlapsLocked(id uint64, start, end []byte) bool {
	if s.ranges.overlaps(id, start, end) {
		return true
	}
	for other, r := range s.reserved {
		if other != id && rangesOverlap(r.data.region.StartKey, r.data.region.EndKey, start, end) {
			return true
		}
	}
	return false
}

func (s *Store) updateRange(region *metapb.Region) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ranges.set(region)
}

// addPeer publishes a new peer with data.
func (s *Store) addPeer(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ranges.set(p.region.Load())
	s.peers.Store(p.regionID, p)
	s.awake.add(p)
}

// splitRanges gives a parent's range to it and its children, in one step.
func (s *Store) splitRanges(parent *metapb.Region, children []*metapb.Region, created []*peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ranges.set(parent)
	for _, r := range children {
		s.ranges.set(r)
	}
	for _, p := range created {
		s.peers.Store(p.regionID, p)
		s.awake.add(p)
	}
}

// rangeCount is how many regions have data here.
func (s *Store) rangeCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ranges.sorted)
}

// rangeIDs appends the ids of up to n regions from the from-th on.
func (s *Store) rangeIDs(buf []uint64, from, n int) []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := from; i < min(from+n, len(s.ranges.sorted)); i++ {
		buf = append(buf, s.ranges.sorted[i].id)
	}
	return buf
}

// nudgeRangeLocked wakes the regions in a range that another region is about to
// get: a sleeper may have the split in its log that makes room.
func (s *Store) nudgeRangeLocked(start, end []byte) {
	i, found := s.ranges.find(start)
	if !found && i > 0 {
		i--
	}
	for ; i < len(s.ranges.sorted); i++ {
		r := s.ranges.sorted[i]
		if len(end) > 0 && bytes.Compare(r.start, end) >= 0 {
			return
		}
		if p := s.peer(r.id); p != nil && p.isAsleep() && rangesOverlap(r.start, r.end, start, end) && p.nudged.CompareAndSwap(false, true) {
			p.send(mailNudge{})
		}
	}
}

// epochNotMatch tells the region as it is, and its left neighbour, which a
// split may have made from it.
func (s *Store) epochNotMatch(region *metapb.Region) error {
	if len(region.GetPeers()) == 0 {
		return errNotInitialized(region.GetId())
	}
	regions := []*metapb.Region{region}
	s.mu.Lock()
	id, ok := s.ranges.leftOf(region.StartKey)
	s.mu.Unlock()
	if ok && len(region.StartKey) > 0 {
		if p := s.peer(id); p != nil && p.initialized() {
			regions = append(regions, p.region.Load())
		}
	}
	return errEpochNotMatch(regions...)
}
