package statistics

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/copradb/copra/pd/core"
)

const (
	// topRegions is how many regions of a store may be hot while there are many:
	// the threshold is topPart of the last one's load.
	topRegions = 60
	topPart    = 0.8
	// hotPerStoreMax is how many hot regions of a store are kept in any case.
	hotPerStoreMax = 1000
	// coldReportsMax is after how many reports below the threshold a region is
	// not hot any more.
	coldReportsMax = 3
	// sampleSecondsMin is over how long a rate is measured at least: heartbeats
	// that follow a change of leader at once tell nothing about the flow.
	sampleSecondsMin = 5
	// smoothSeconds is how quickly the smoothed rate follows: a sample of so many
	// seconds counts for half.
	smoothSeconds = 30
	// thresholdEvery is how often a store's threshold is worked out.
	thresholdEvery = 10 * time.Second
	// hotSilenceMax is after which silence a region is forgotten. Stores report a
	// region every minute.
	hotSilenceMax = 3 * time.Minute
)

// Hot is all that is known of the load.
type Hot struct {
	Caches  [kindCount]*HotCache
	Stores  StoreLoads
	History History
}

// New returns empty statistics.
func New() *Hot {
	return &Hot{Caches: [kindCount]*HotCache{newHotCache(Read), newHotCache(Write)}}
}

// Observe takes in a region's heartbeat.
func (h *Hot) Observe(r *core.Region, now time.Time) {
	if r.Leader == nil {
		return
	}
	for _, c := range h.Caches {
		c.observe(r, now)
	}
}

// HotPeer is a hot region as one of its stores has it.
type HotPeer struct {
	StoreID, RegionID, PeerID uint64
	Leader                    bool
	Degree                    int
	Loads                     Loads
	Stores                    []uint64 // all that have a peer
	UpdatedAt                 time.Time
}

// HotCache is the hot regions of one kind. Safe for concurrent use.
type HotCache struct {
	kind Kind

	mu      sync.RWMutex
	regions map[uint64]*hotRegion
	stores  map[uint64]*hotStore
}

type hotStore struct {
	regions     map[uint64]*hotRegion
	threshold   Loads
	thresholdAt time.Time
}

// hotRegion is one region's load: read by its leader, written by all its peers.
type hotRegion struct {
	id, leader uint64
	peers      map[uint64]uint64 // store → peer, of all peers
	bearers    []uint64          // the stores that bear the load
	smoothed   Loads
	sum        Loads // of reports that are no sample yet
	seconds    float64
	degree     int
	cold       int // reports in a row
	updatedAt  time.Time
}

func newHotCache(k Kind) *HotCache {
	return &HotCache{kind: k, regions: make(map[uint64]*hotRegion), stores: make(map[uint64]*hotStore)}
}

func (c *HotCache) flow(r *core.Region) Loads {
	if c.kind == Read {
		return Loads{float64(r.ReadBytes), float64(r.ReadKeys), float64(r.ReadQueries)}
	}
	return Loads{float64(r.WrittenBytes), float64(r.WrittenKeys), float64(r.WriteQueries)}
}

func (c *HotCache) observe(r *core.Region, now time.Time) {
	sum, seconds := c.flow(r), float64(r.IntervalSeconds)
	if (seconds == 0 || !sum.reaches(Loads{}.Plus(leastHot[c.kind], seconds))) && !c.known(r.ID()) {
		return // nearly all are like this
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.regions[r.ID()]
	if h == nil {
		if seconds < sampleSecondsMin {
			return
		}
		rate := Loads{}.Plus(sum, 1/seconds)
		if st := c.store(r.Leader.StoreId, now); !rate.reaches(st.threshold) || len(st.regions) >= hotPerStoreMax {
			return
		}
		h = &hotRegion{id: r.ID(), smoothed: rate, degree: 1, updatedAt: now}
		c.place(h, r, now)
		c.regions[h.id] = h
		return
	}
	h.updatedAt = now
	if c.moved(h, r) {
		c.unplace(h)
		c.place(h, r, now)
		h.degree = 0
	}
	h.sum, h.seconds = h.sum.Plus(sum, 1), h.seconds+seconds
	if h.seconds >= sampleSecondsMin {
		c.sample(h, now)
	}
}

// IsHot reports whether the region was seen hot at least degree times in a row,
// by reads or by writes.
func (h *Hot) IsHot(region uint64, degree int) bool {
	for _, c := range h.Caches {
		c.mu.RLock()
		r := c.regions[region]
		hot := r != nil && r.degree >= degree
		c.mu.RUnlock()
		if hot {
			return true
		}
	}
	return false
}

func (c *HotCache) known(id uint64) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.regions[id] != nil
}

// sample ends a sample. Called with the lock held.
func (c *HotCache) sample(h *hotRegion, now time.Time) {
	weight := h.seconds / (h.seconds + smoothSeconds)
	h.smoothed = Loads{}.Plus(h.smoothed, 1-weight).Plus(h.sum, weight/h.seconds)
	h.sum, h.seconds = Loads{}, 0
	if h.smoothed.reaches(c.store(h.leader, now).threshold) {
		h.degree, h.cold = h.degree+1, 0
		return
	}
	h.degree, h.cold = max(h.degree-1, 0), h.cold+1
	if h.cold >= coldReportsMax {
		c.drop(h)
	}
}

func (c *HotCache) drop(h *hotRegion) {
	c.unplace(h)
	delete(c.regions, h.id)
}

// moved reports whether other stores bear the load than before.
func (c *HotCache) moved(h *hotRegion, r *core.Region) bool {
	if h.leader != r.Leader.StoreId {
		return true
	}
	if len(h.peers) != len(r.Meta.Peers) {
		return true
	}
	for _, p := range r.Meta.Peers {
		if h.peers[p.StoreId] != p.Id {
			return true
		}
	}
	return false
}

func (c *HotCache) place(h *hotRegion, r *core.Region, now time.Time) {
	h.leader, h.peers, h.bearers = r.Leader.StoreId, make(map[uint64]uint64, len(r.Meta.Peers)), nil
	for _, p := range r.Meta.Peers {
		h.peers[p.StoreId] = p.Id
		if c.kind == Write || p.StoreId == h.leader {
			h.bearers = append(h.bearers, p.StoreId)
		}
	}
	for _, s := range h.bearers {
		c.store(s, now).regions[h.id] = h
	}
}

func (c *HotCache) unplace(h *hotRegion) {
	for _, s := range h.bearers {
		if st := c.stores[s]; st != nil {
			delete(st.regions, h.id)
		}
	}
}

// store returns the store's hot regions with a threshold that is not too old.
// Called with the lock held.
func (c *HotCache) store(id uint64, now time.Time) *hotStore {
	st := c.stores[id]
	if st == nil {
		st = &hotStore{regions: make(map[uint64]*hotRegion), threshold: leastHot[c.kind], thresholdAt: now}
		c.stores[id] = st
	}
	if now.Sub(st.thresholdAt) >= thresholdEvery {
		st.thresholdAt = now
		for _, h := range st.regions {
			if now.Sub(h.updatedAt) > hotSilenceMax {
				c.drop(h)
			}
		}
		st.threshold = st.newThreshold(c.kind, id)
	}
	return st
}

func (st *hotStore) newThreshold(k Kind, id uint64) Loads {
	out := leastHot[k]
	rates := make([]float64, 0, len(st.regions))
	for d := range out {
		rates = rates[:0]
		for _, h := range st.regions {
			if h.leader == id {
				rates = append(rates, h.smoothed[d])
			}
		}
		if len(rates) >= topRegions {
			slices.Sort(rates)
			out[d] = max(out[d], topPart*rates[len(rates)-topRegions])
		}
	}
	return out
}

// Peers returns the store's hot peers, the busiest in the dimension first, at
// most n where that is positive.
func (c *HotCache) Peers(store uint64, dim, n int) []HotPeer {
	c.mu.RLock()
	defer c.mu.RUnlock()
	st := c.stores[store]
	if st == nil {
		return nil
	}
	out := make([]HotPeer, 0, len(st.regions))
	for _, h := range st.regions {
		out = append(out, h.peer(store))
	}
	slices.SortFunc(out, func(a, b HotPeer) int {
		return cmp.Or(cmp.Compare(b.Loads[dim], a.Loads[dim]), cmp.Compare(a.RegionID, b.RegionID))
	})
	if n > 0 && len(out) > n {
		out = out[:n]
	}
	return out
}

func (h *hotRegion) peer(store uint64) HotPeer {
	p := HotPeer{StoreID: store, RegionID: h.id, PeerID: h.peers[store], Leader: h.leader == store,
		Degree: h.degree, Loads: h.smoothed, UpdatedAt: h.updatedAt}
	for s := range h.peers {
		p.Stores = append(p.Stores, s)
	}
	slices.Sort(p.Stores)
	return p
}

// Sum is the load of the store's hot regions, of those it leads only if leaders
// is set.
func (c *HotCache) Sum(store uint64, leaders bool) Loads {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out Loads
	if st := c.stores[store]; st != nil {
		for _, h := range st.regions {
			if !leaders || h.leader == store {
				out = out.Plus(h.smoothed, 1)
			}
		}
	}
	return out
}

// StoreIDs are the stores with hot regions, in order.
func (c *HotCache) StoreIDs() []uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	var out []uint64
	for id, st := range c.stores {
		if len(st.regions) > 0 {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}
