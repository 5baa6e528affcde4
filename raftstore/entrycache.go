package raftstore

import (
	"cmp"
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
)

// cacheBudget is the room that the entry caches of all regions share. An append
// that finds it used up makes the region's own cache smaller; the ticker does so
// with the largest ones before it comes to that.
type cacheBudget struct {
	bytesMax int64
	used     atomic.Int64
}

// Above the first share of the budget the largest caches are cut until the
// second is left: the regions that are being written need the room.
const (
	cacheTrimAbovePercent = 90
	cacheTrimToPercent    = 75
)

// entryCache keeps the newest entries of a region, so that neither sending nor
// applying reads the disk. They are contiguous. What is not in it is read from
// the log.
type entryCache struct {
	budget *cacheBudget
	shown  *atomic.Int64 // bytes, for others to see

	ents  []*raftpb.Entry
	bytes int
}

func newEntryCache(budget *cacheBudget, shown *atomic.Int64) entryCache {
	return entryCache{budget: budget, shown: shown}
}

func (c *entryCache) count(bytes int) {
	c.bytes += bytes
	c.shown.Store(int64(c.bytes))
	c.budget.used.Add(int64(bytes))
}

func cost(ents []*raftpb.Entry) int { return int(entriesCost(ents)) }

// clear forgets all.
func (c *entryCache) clear() {
	c.count(-c.bytes)
	c.ents = nil
}

// first is the index of the first cached entry, or 0.
func (c *entryCache) first() uint64 {
	if len(c.ents) == 0 {
		return 0
	}
	return c.ents[0].GetIndex()
}

func (c *entryCache) get(i uint64) *raftpb.Entry {
	if first := c.first(); first != 0 && i >= first && i < first+uint64(len(c.ents)) {
		return c.ents[i-first]
	}
	return nil
}

// append takes entries that replace cached ones from their first index on.
func (c *entryCache) append(ents []*raftpb.Entry) {
	if len(ents) == 0 {
		return
	}
	at, first := ents[0].GetIndex(), c.first()
	switch {
	case first == 0:
	case at < first || at > first+uint64(len(c.ents)):
		c.clear()
	default:
		c.count(-cost(c.ents[at-first:]))
		c.ents = c.ents[: at-first : at-first]
	}
	c.count(cost(ents))
	c.ents = append(c.ents, ents...)
	over := max(int64(c.bytes)-entryCacheBytesMax, c.budget.used.Load()-c.budget.bytesMax)
	if over > 0 {
		c.trim(max(0, int64(c.bytes)-over))
	}
}

// trim forgets the oldest entries until at most bytesMax are left, or one entry.
func (c *entryCache) trim(bytesMax int64) {
	n, left := 0, int64(c.bytes)
	for left > bytesMax && n < len(c.ents)-1 {
		left -= int64(entryCost(c.ents[n]))
		n++
	}
	if n == 0 {
		return
	}
	c.count(int(left) - c.bytes)
	c.ents = slices.Clone(c.ents[n:]) // the old array would hold what was forgotten
}

// slice returns [lo, hi) cut off at maxSize bytes, but at least one entry.
func (c *entryCache) slice(lo, hi, maxSize uint64) ([]*raftpb.Entry, bool) {
	first := c.first()
	if first == 0 || lo < first || hi > first+uint64(len(c.ents)) {
		return nil, false
	}
	ents := c.ents[lo-first : hi-first : hi-first]
	var size uint64
	for i, e := range ents {
		if size += uint64(entryCost(e)); size > maxSize && i > 0 {
			return ents[:i:i], true
		}
	}
	return ents, true
}

// dropTo forgets entries up to index.
func (c *entryCache) dropTo(index uint64) {
	first := c.first()
	if first == 0 || index < first {
		return
	}
	n := min(index-first+1, uint64(len(c.ents)))
	c.count(-cost(c.ents[:n]))
	// The array is shared with slices that were handed out: never clear it.
	if c.ents = c.ents[n:]; len(c.ents) == 0 {
		c.ents = nil
	}
}

func entryCost(e *raftpb.Entry) int { return len(e.GetData()) + 48 }

// trimCaches cuts the largest entry caches, all to the same size, when the
// budget is nearly used up. The peers' owners do it.
func (s *Store) trimCaches() {
	b := &s.caches
	if b.used.Load() <= b.bytesMax/100*cacheTrimAbovePercent {
		return
	}
	type large struct {
		p     *peer
		bytes int64
	}
	var all []large
	s.awake.each(func(p *peer) {
		if n := p.cacheBytes.Load(); n > 0 {
			all = append(all, large{p, n})
		}
	})
	slices.SortFunc(all, func(x, y large) int { return cmp.Compare(x.bytes, y.bytes) })
	left := b.bytesMax / 100 * cacheTrimToPercent
	for i, c := range all {
		level := left / int64(len(all)-i)
		if c.bytes <= level {
			left -= c.bytes
			continue
		}
		for _, c := range all[i:] {
			c.p.cacheTrim.Store(max(level, 1))
			s.raftSched.enqueue(c.p)
		}
		return
	}
}

// trimIfAsked is the owner's part.
func (p *peer) trimIfAsked() {
	if p.cacheTrim.Load() != 0 {
		p.st.cache.trim(p.cacheTrim.Swap(0))
	}
}
