package core

import "bytes"

// Len is the number of regions.
func (rs *Regions) Len() int {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return len(rs.byID)
}

// ByID returns the region, or nil.
func (rs *Regions) ByID(id uint64) *Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.byID[id]
}

// ByKey returns the region that holds key, or nil where there is a hole.
func (rs *Regions) ByKey(key []byte) *Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.find(key)
}

// Prev returns the region that ends where the one that holds key starts, or
// nil.
func (rs *Regions) Prev(key []byte) *Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	cur := rs.find(key)
	if cur == nil || len(cur.Meta.StartKey) == 0 {
		return nil
	}
	var prev *Region
	rs.tree.DescendLessOrEqual(cur, func(r *Region) bool {
		if r.ID() == cur.ID() {
			return true
		}
		prev = r
		return false
	})
	if prev == nil || !bytes.Equal(prev.Meta.EndKey, cur.Meta.StartKey) {
		return nil
	}
	return prev
}

// Scan returns the regions that share keys with [start, end) in key order, at
// most limit where that is positive. An empty end is unbounded.
func (rs *Regions) Scan(start, end []byte, limit int) []*Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	from := start
	if first := rs.find(start); first != nil {
		from = first.Meta.StartKey
	}
	var out []*Region
	rs.tree.AscendGreaterOrEqual(keyItem(from), func(r *Region) bool {
		if len(end) > 0 && bytes.Compare(r.Meta.StartKey, end) >= 0 {
			return false
		}
		if limit > 0 && len(out) >= limit {
			return false
		}
		out = append(out, r)
		return true
	})
	return out
}

// StoreCounts is how much the store holds.
func (rs *Regions) StoreCounts(storeID uint64) Counts {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	s := rs.stores[storeID]
	if s == nil {
		return Counts{}
	}
	return Counts{
		Leaders: len(s.leaders), Peers: len(s.peers), Learners: len(s.learners), Pending: len(s.pending),
		LeaderBytes: s.leaderBytes, PeerBytes: s.peerBytes,
	}
}

// StoreRegions returns the regions with a peer on the store, in no order.
func (rs *Regions) StoreRegions(storeID uint64) []*Region {
	return rs.sample(storeID, -1, func(s *storeRegions) map[uint64]struct{} { return s.peers })
}

// SampleLeaders returns up to n regions that the store leads, picked at random.
func (rs *Regions) SampleLeaders(storeID uint64, n int) []*Region {
	return rs.sample(storeID, n, func(s *storeRegions) map[uint64]struct{} { return s.leaders })
}

// SamplePeers returns up to n regions with a peer on the store, picked at
// random.
func (rs *Regions) SamplePeers(storeID uint64, n int) []*Region {
	return rs.sample(storeID, n, func(s *storeRegions) map[uint64]struct{} { return s.peers })
}

// sample leans on Go's random order of map iteration.
func (rs *Regions) sample(storeID uint64, n int, set func(*storeRegions) map[uint64]struct{}) []*Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	s := rs.stores[storeID]
	if s == nil {
		return nil
	}
	var out []*Region
	for id := range set(s) {
		if n >= 0 && len(out) >= n {
			break
		}
		out = append(out, rs.byID[id])
	}
	return out
}

// Reported is how many regions were heard of from their leaders since this
// member of PD leads.
func (rs *Regions) Reported() int {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	n := 0
	for _, r := range rs.byID {
		if !r.ReportedAt.IsZero() {
			n++
		}
	}
	return n
}
