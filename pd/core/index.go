package core

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// regionBytesMin is what a region counts at least: it costs its store something
// even when it is empty, and balance by size must see it. PD's
// EmptyRegionApproximateSize.
const regionBytesMin = 1 << 20

// storeIndex is what one store holds. The lists are guarded by Regions.mu, the
// figures are not: they are read without a lock.
type storeIndex struct {
	lists [setCount][]*entry

	lens                                      [setCount]atomic.Int64
	learners, pending, leaderBytes, peerBytes atomic.Int64
}

// Set names one of a store's lists of regions.
type Set int

// The lists of a store: the regions with a peer on it, and those it leads.
const (
	Peers Set = iota
	Leaders
	setCount
)

// Counts is how much one store holds. Peers includes Learners and the leaders'
// own peers; sizes are approximate, and a region counts for 1 MiB at least.
type Counts struct {
	Leaders, Peers, Learners, Pending int
	LeaderBytes, PeerBytes            uint64
}

// StoreCounts is how much the store holds.
func (rs *Regions) StoreCounts(storeID uint64) Counts {
	s := (*rs.stores.Load())[storeID]
	if s == nil {
		return Counts{}
	}
	return Counts{
		Leaders: int(s.lens[Leaders].Load()), Peers: int(s.lens[Peers].Load()),
		Learners: int(s.learners.Load()), Pending: int(s.pending.Load()),
		LeaderBytes: uint64(max(s.leaderBytes.Load(), 0)), PeerBytes: uint64(max(s.peerBytes.Load(), 0)),
	}
}

// Reported is how many regions were heard of from their leaders since this
// member of PD leads.
func (rs *Regions) Reported() int { return int(rs.reported.Load()) }

// StoreRegions returns the regions with a peer on the store, in no order.
func (rs *Regions) StoreRegions(storeID uint64) []*Region { return rs.all(storeID, Peers) }

// StoreLeaders returns the regions that the store leads, in no order.
func (rs *Regions) StoreLeaders(storeID uint64) []*Region { return rs.all(storeID, Leaders) }

func (rs *Regions) all(storeID uint64, set Set) []*Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	s := (*rs.stores.Load())[storeID]
	if s == nil {
		return nil
	}
	out := make([]*Region, len(s.lists[set]))
	for i, e := range s.lists[set] {
		out[i] = e.region.Load()
	}
	return out
}

// Sample picks up to n of the store's regions at random, the same one perhaps
// more than once; all of them, in random order, where there are not more.
func (rs *Regions) Sample(storeID uint64, set Set, n int, rnd *rand.Rand) []*Region {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	s := (*rs.stores.Load())[storeID]
	if s == nil || len(s.lists[set]) == 0 {
		return nil
	}
	list := s.lists[set]
	out := make([]*Region, 0, min(n, len(list)))
	if len(list) <= n {
		for _, i := range rnd.Perm(len(list)) {
			out = append(out, list[i].region.Load())
		}
		return out
	}
	for range n {
		out = append(out, list[rnd.IntN(len(list))].region.Load())
	}
	return out
}

// storeIndex returns the store's index and makes it where there is none. Called
// with mu held.
func (rs *Regions) storeIndex(id uint64) *storeIndex {
	stores := *rs.stores.Load()
	if s := stores[id]; s != nil {
		return s
	}
	next := make(map[uint64]*storeIndex, len(stores)+1)
	for k, v := range stores {
		next[k] = v
	}
	s := &storeIndex{}
	next[id] = s
	rs.stores.Store(&next)
	return s
}

// index puts the entry into the lists. Called with mu and the shard's lock held.
func (rs *Regions) index(e *entry, r *Region) {
	e.slots = make([]slot, 0, len(r.Meta.Peers))
	for _, p := range r.Meta.Peers {
		s := rs.storeIndex(p.StoreId)
		e.slots = append(e.slots, slot{s, s.add(Peers, e)})
	}
	if r.Leader != nil {
		s := rs.storeIndex(r.Leader.StoreId)
		e.leader = slot{s, s.add(Leaders, e)}
	}
	e.count(r, 1)
	rs.countReported(r, 1)
}

// unindex undoes index.
func (rs *Regions) unindex(e *entry, r *Region) {
	e.count(r, -1)
	rs.countReported(r, -1)
	for _, sl := range e.slots {
		sl.store.drop(Peers, sl.at)
	}
	if e.leader.store != nil {
		e.leader.store.drop(Leaders, e.leader.at)
	}
	e.slots, e.leader = nil, slot{}
}

func (s *storeIndex) add(set Set, e *entry) int {
	s.lists[set] = append(s.lists[set], e)
	s.lens[set].Add(1)
	return len(s.lists[set]) - 1
}

// drop fills the place with the last of the list.
func (s *storeIndex) drop(set Set, at int) {
	list := s.lists[set]
	last := len(list) - 1
	if at != last {
		moved := list[last]
		list[at] = moved
		moved.slot(set, s).at = at
	}
	list[last] = nil
	s.lists[set] = list[:last]
	s.lens[set].Add(-1)
}

func (e *entry) slot(set Set, s *storeIndex) *slot {
	if set == Leaders {
		return &e.leader
	}
	for i := range e.slots {
		if e.slots[i].store == s {
			return &e.slots[i]
		}
	}
	panic("pd/core: a region is in the list of a store on which it has no peer")
}

// count adds the region's figures to those of its stores, sign times. Called
// with the shard's lock held.
func (e *entry) count(r *Region, sign int64) {
	size := sign * int64(r.ScoreBytes())
	for i, p := range r.Meta.Peers {
		s := e.slots[i].store
		s.peerBytes.Add(size)
		if p.Role == metapb.PeerRole_Learner {
			s.learners.Add(sign)
		}
		if len(r.Pending) > 0 && r.IsPending(p.Id) {
			s.pending.Add(sign)
		}
	}
	if e.leader.store != nil {
		e.leader.store.leaderBytes.Add(size)
	}
}

func (rs *Regions) countReported(r *Region, sign int64) {
	if !r.ReportedAt.IsZero() {
		rs.reported.Add(sign)
	}
}
