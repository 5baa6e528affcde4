package core

import "bytes"

// scanChunkRegionsMax is how many regions are read under one hold of the lock:
// a scan of millions must not stop the heartbeats.
const scanChunkRegionsMax = 1024

// Len is the number of regions.
func (rs *Regions) Len() int { return int(rs.count.Load()) }

// ByID returns the region, or nil.
func (rs *Regions) ByID(id uint64) *Region {
	if e := rs.entry(id); e != nil {
		return e.region.Load()
	}
	return nil
}

// ByKey returns the region that holds key, or nil where there is a hole.
func (rs *Regions) ByKey(key []byte) *Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	if e := rs.find(key); e != nil {
		return e.region.Load()
	}
	return nil
}

// Prev returns the region that ends where the one that holds key starts, or
// nil.
func (rs *Regions) Prev(key []byte) *Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	cur := rs.find(key)
	if cur == nil {
		return nil
	}
	start := cur.region.Load().Meta.StartKey
	if len(start) == 0 {
		return nil
	}
	var prev *Region
	rs.tree.DescendLessOrEqual(item{start: start}, func(i item) bool {
		if i.e == cur {
			return true
		}
		prev = i.e.region.Load()
		return false
	})
	if prev == nil || !bytes.Equal(prev.Meta.EndKey, start) {
		return nil
	}
	return prev
}

// Scan returns the regions that share keys with [start, end) in key order, at
// most limit where that is positive. An empty end is unbounded. A scan of more
// than scanChunkRegionsMax is not of one moment: where regions were merged
// meanwhile, the later report overlaps the earlier.
func (rs *Regions) Scan(start, end []byte, limit int) []*Region {
	var out []*Region
	rs.each(start, end, limit, func(r *Region) bool {
		out = append(out, r)
		return limit <= 0 || len(out) < limit
	})
	return out
}

// Each calls fn for the regions that share keys with [start, end) in key order
// until it returns false. fn is called without a lock.
func (rs *Regions) Each(start, end []byte, fn func(*Region) bool) { rs.each(start, end, 0, fn) }

// each reads not much more than limit regions, where that is positive.
func (rs *Regions) each(start, end []byte, limit int, fn func(*Region) bool) {
	n := scanChunkRegionsMax
	if limit > 0 {
		n = min(n, limit)
	}
	chunk := make([]*Region, 0, min(n, 64))
	for {
		chunk = rs.chunk(chunk[:0], start, end, n)
		for _, r := range chunk {
			if !fn(r) {
				return
			}
		}
		if len(chunk) < n {
			return
		}
		start = chunk[len(chunk)-1].Meta.EndKey
		if len(start) == 0 || len(end) > 0 && bytes.Compare(start, end) >= 0 {
			return
		}
	}
}

// chunk appends the next n regions from the one that holds start on.
func (rs *Regions) chunk(out []*Region, start, end []byte, n int) []*Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	from := start
	if first := rs.find(start); first != nil {
		from = first.region.Load().Meta.StartKey
	}
	rs.tree.AscendGreaterOrEqual(item{start: from}, func(i item) bool {
		if len(end) > 0 && bytes.Compare(i.start, end) >= 0 || len(out) >= n {
			return false
		}
		out = append(out, i.e.region.Load())
		return true
	})
	return out
}
