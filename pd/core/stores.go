package core

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// DisconnectAfter is how long a store may be silent before it gets no new
// peers and leaders, as in PD. Stores report every 10 s.
const DisconnectAfter = 20 * time.Second

// Store is one store. Read-only.
type Store struct {
	Meta  *metapb.Store
	Stats *pdpb.StoreStats // the last heartbeat's; nil before the first
	// HeardAt is the last heartbeat, or when this member of PD became leader,
	// whatever is later: silence before that says nothing about the store.
	HeardAt time.Time
	// Reported says that a heartbeat came since this member of PD leads.
	Reported bool
	// MinResolvedTS is the store's last report of it.
	MinResolvedTS uint64
	// StatsPeerBytes is the size of the store's regions when Stats came: what was
	// moved since is not in its free space yet. Zero where it is not known.
	StatsPeerBytes uint64
	// LeaderWeight and RegionWeight are how much of the load the store shall
	// have beside others; zero is 1.
	LeaderWeight, RegionWeight float64

	pauses *leaderPauses // shared by all that is known of one store
}

// ID is the store's id.
func (s *Store) ID() uint64 { return s.Meta.Id }

// IsUp reports whether the store is meant to hold data.
func (s *Store) IsUp() bool { return s.Meta.State == metapb.StoreState_Up }

// IsOffline reports whether the store is being emptied.
func (s *Store) IsOffline() bool { return s.Meta.State == metapb.StoreState_Offline }

// IsTombstone reports whether the store is gone for good.
func (s *Store) IsTombstone() bool { return s.Meta.State == metapb.StoreState_Tombstone }

// SilentFor is how long the store has not reported.
func (s *Store) SilentFor(now time.Time) time.Duration { return now.Sub(s.HeardAt) }

// IsConnected reports whether the store has reported lately.
func (s *Store) IsConnected(now time.Time) bool { return s.SilentFor(now) < DisconnectAfter }

// StateName is the store's state in pd-ctl's words.
func (s *Store) StateName(now time.Time, maxDown time.Duration) string {
	switch {
	case !s.IsUp():
		return s.Meta.State.String()
	case s.SilentFor(now) >= maxDown:
		return "Down"
	case !s.IsConnected(now):
		return "Disconnected"
	}
	return "Up"
}

// Stores is the set of all stores. Safe for concurrent use. Who changes a store
// reads it, changes a copy and puts that back, under a lock of its own.
type Stores struct {
	// deadSince is when a failure detector besides the heartbeats saw a store
	// die; zero where it lives. nil: there is none.
	deadSince func(id uint64) time.Time

	mu   sync.RWMutex
	byID map[uint64]*Store
}

// NewStores returns an empty set.
func NewStores() *Stores { return &Stores{byID: make(map[uint64]*Store)} }

// UseDetector makes another failure detector known, before the set is used. It
// must not block.
func (ss *Stores) UseDetector(deadSince func(id uint64) time.Time) { ss.deadSince = deadSince }

// Suspect reports whether a store is believed dead that may have reported a
// moment ago: the detector saw it die, and no heartbeat has come since. It is
// good enough a reason to give it nothing, and none to take anything from it.
func (ss *Stores) Suspect(s *Store) bool {
	if ss.deadSince == nil || s == nil {
		return false
	}
	since := ss.deadSince(s.ID())
	return !since.IsZero() && s.HeardAt.Before(since)
}

// Put adds or replaces a store.
func (ss *Stores) Put(s *Store) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if old := ss.byID[s.ID()]; old != nil && old.pauses != nil {
		s.pauses = old.pauses
	} else if s.pauses == nil {
		s.pauses = &leaderPauses{}
	}
	ss.byID[s.ID()] = s
}

// Delete forgets a store.
func (ss *Stores) Delete(id uint64) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	delete(ss.byID, id)
}

// Get returns the store, or nil.
func (ss *Stores) Get(id uint64) *Store {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	return ss.byID[id]
}

// All returns the stores by id.
func (ss *Stores) All() []*Store {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	out := make([]*Store, 0, len(ss.byID))
	for _, s := range ss.byID {
		out = append(out, s)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID() < out[j].ID() })
	return out
}

// CheckAddress refuses an address that another living store has.
func (ss *Stores) CheckAddress(id uint64, address string) error {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	for _, s := range ss.byID {
		if s.ID() != id && s.Meta.Address == address && !s.IsTombstone() && !s.Meta.PhysicallyDestroyed {
			return fmt.Errorf("duplicated store address: store %d says %s, which store %d has registered; "+
				"remove store %d first if its data is gone", id, address, s.ID(), s.ID())
		}
	}
	return nil
}
