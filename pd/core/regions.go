package core

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/google/btree"
	"github.com/pingcap/kvproto/pkg/metapb"
)

const (
	// treeDegree is the fan-out of the tree over start keys.
	treeDegree = 64
	// shardCount is into how many parts the regions by id are cut, each with a
	// lock of its own. A power of two.
	shardCount = 256
)

// Regions is the set of all regions. Safe for concurrent use.
//
// Nearly all reports change nothing but figures. They take the lock of one
// shard and exchange one pointer; what depends on figures is kept in atomic
// counters per store. Only a report that changes a range, peers or the leader
// takes mu, which guards the tree and the lists per store. Who holds mu may take
// shard locks; never the other way round.
type Regions struct {
	mu       sync.RWMutex
	tree     *btree.BTreeG[item]
	shards   [shardCount]shard
	stores   atomic.Pointer[map[uint64]*storeIndex] // replaced, never changed
	reported atomic.Int64
	count    atomic.Int64
}

type shard struct {
	mu sync.RWMutex
	m  map[uint64]*entry
}

// entry is a region's place in here, the same for as long as the region is
// known. The store lists' positions and the set of slots are guarded by
// Regions.mu; the set of slots is only changed with the shard's lock, too.
type entry struct {
	region atomic.Pointer[Region]
	slots  []slot
	leader slot
}

// slot is a place in a store's list.
type slot struct {
	store *storeIndex
	at    int
}

// item is an entry in the tree. The key stands in it, so that a search does not
// follow a pointer for each comparison.
type item struct {
	start []byte
	e     *entry
}

// NewRegions returns an empty set.
func NewRegions() *Regions {
	rs := &Regions{tree: btree.NewG(treeDegree, func(a, b item) bool {
		return bytes.Compare(a.start, b.start) < 0
	})}
	for i := range rs.shards {
		rs.shards[i].m = make(map[uint64]*entry)
	}
	rs.stores.Store(&map[uint64]*storeIndex{})
	return rs
}

// shard spreads ids, which come in sequences with the same last bits (a region
// and its peers take ids together).
func (rs *Regions) shard(id uint64) *shard {
	return &rs.shards[id*0x9e3779b97f4a7c15>>56%shardCount]
}

// Change says what a Put did.
type Change struct {
	// Meta says that the region is new or its range or peers changed: it has
	// to be saved.
	Meta bool
	// Leader says that another peer leads than before.
	Leader bool
	// Removed are the regions that were covered by the new one.
	Removed []uint64
}

// Put takes in a report and keeps it. A stale one changes nothing and is an
// error that wraps ErrStale. A report without a leader keeps the leader that is
// known, where that is still a peer.
func (rs *Regions) Put(r *Region) (Change, error) {
	if done, err := rs.refresh(r); done {
		return Change{}, err
	}
	return rs.replace(r)
}

// refresh takes in a report that changes figures only, and says whether it was
// one.
func (rs *Regions) refresh(r *Region) (bool, error) {
	sh := rs.shard(r.ID())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.m[r.ID()]
	if e == nil {
		return false, nil
	}
	old := e.region.Load()
	if epochDiffers(old, r) || r.Leader != nil && leaderID(r) != leaderID(old) || !sameMeta(old.Meta, r.Meta) {
		return false, nil
	}
	if err := staleAgainst(r, old); err != nil {
		return true, err
	}
	if r.ReportedAt.IsZero() && !old.ReportedAt.IsZero() {
		return true, nil // told by somebody else than its leader: it has no figures
	}
	inheritSize(r, old)
	// The report's own copy of what did not change is garbage now.
	r.Meta, r.Leader = old.Meta, old.Leader
	e.count(old, -1)
	e.count(r, 1)
	rs.countReported(old, -1)
	rs.countReported(r, 1)
	e.region.Store(r)
	return true, nil
}

// inheritSize keeps the size that is known where the report has none: a new
// leader has not measured the region yet.
func inheritSize(r, old *Region) {
	if r.SizeBytes == 0 {
		r.SizeBytes, r.Keys = old.SizeBytes, max(r.Keys, old.Keys)
	}
}

// replace takes in a report that changes more than figures.
func (rs *Regions) replace(r *Region) (Change, error) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	overlaps := rs.overlaps(r.Meta)
	for _, o := range overlaps {
		if err := staleOverlap(r, o.region.Load()); err != nil {
			return Change{}, err
		}
	}
	ch, old, err := rs.swap(r)
	if err != nil {
		return Change{}, err
	}
	for _, o := range overlaps {
		if was := o.region.Load(); was.ID() != r.ID() {
			ch.Removed = append(ch.Removed, was.ID())
			rs.remove(o)
		}
	}
	if old != nil && !bytes.Equal(old.Meta.StartKey, r.Meta.StartKey) {
		// Its old place may be another region's by now.
		if cur, ok := rs.tree.Get(item{start: old.Meta.StartKey}); ok && cur.e.region.Load().ID() == r.ID() {
			rs.tree.Delete(cur)
		}
	}
	rs.tree.ReplaceOrInsert(item{start: r.Meta.StartKey, e: rs.entry(r.ID())})
	return ch, nil
}

// swap puts the report in the place of the last one in all but the tree.
// Called with mu held.
func (rs *Regions) swap(r *Region) (Change, *Region, error) {
	sh := rs.shard(r.ID())
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e := sh.m[r.ID()]
	if e == nil {
		e = &entry{}
		sh.m[r.ID()] = e
		rs.count.Add(1)
		rs.index(e, r)
		e.region.Store(r)
		return Change{Meta: true, Leader: true}, nil, nil
	}
	old := e.region.Load()
	if err := staleAgainst(r, old); err != nil {
		return Change{}, nil, err
	}
	if r.Epoch().Version == old.Epoch().Version {
		inheritSize(r, old)
	}
	if r.Leader == nil && old.Leader != nil {
		r.Leader = r.Peer(old.Leader.Id)
	}
	ch := Change{
		Meta:   epochDiffers(old, r) || !sameMeta(old.Meta, r.Meta),
		Leader: leaderID(old) != leaderID(r),
	}
	rs.unindex(e, old)
	rs.index(e, r)
	e.region.Store(r)
	return ch, old, nil
}

// remove forgets a region. Called with mu held.
func (rs *Regions) remove(e *entry) {
	id := e.region.Load().ID()
	sh := rs.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := e.region.Load()
	delete(sh.m, id)
	rs.count.Add(-1)
	rs.unindex(e, r)
	if cur, ok := rs.tree.Get(item{start: r.Meta.StartKey}); ok && cur.e == e {
		rs.tree.Delete(cur)
	}
}

// overlaps returns the regions in the tree that share keys with m. Called with
// mu held.
func (rs *Regions) overlaps(m *metapb.Region) []*entry {
	var out []*entry
	from := m.StartKey
	if first := rs.find(m.StartKey); first != nil {
		from = first.region.Load().Meta.StartKey
	}
	rs.tree.AscendGreaterOrEqual(item{start: from}, func(o item) bool {
		if len(m.EndKey) > 0 && bytes.Compare(o.start, m.EndKey) >= 0 {
			return false
		}
		out = append(out, o.e)
		return true
	})
	return out
}

// find returns the region that holds key. Called with mu held.
func (rs *Regions) find(key []byte) *entry {
	var out *entry
	rs.tree.DescendLessOrEqual(item{start: key}, func(i item) bool {
		out = i.e
		return false
	})
	if out == nil || !out.region.Load().Contains(key) {
		return nil
	}
	return out
}

// entry returns the region's entry, or nil.
func (rs *Regions) entry(id uint64) *entry {
	sh := rs.shard(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.m[id]
}
