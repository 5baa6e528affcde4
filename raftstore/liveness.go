package raftstore

import (
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/pingcap/kvproto/pkg/metapb"
)

// Liveness is kept per store, not per region: sleeping regions have no
// heartbeats, so somebody else must notice that a leader is gone (hazard 14).
// Every store sends the stores that it shares regions with a beat, twice an
// election timeout. A store is alive while its beats come; one that has
// restarted has another incarnation, and leads nothing that it led before.
//
// A gossip between stores may know earlier that a store is gone
// (Store.OnStoreLiveness). It may not say that one is alive: what counts is
// whether messages come through from there to here.
type liveness struct {
	deadAfter int64 // ns without a beat

	mu     sync.Mutex
	stores atomic.Pointer[map[uint64]*storeHealth] // copied to be changed
}

// storeHealth is what this store knows about another.
type storeHealth struct {
	lastBeat    atomic.Int64  // on this store's clock; 0: never
	incarnation atomic.Uint64 // 0: unknown
	gossipDead  atomic.Bool   // until the next beat
	stopping    atomic.Bool   // it gives its leaders away
	wasAlive    bool          // at the last look of the ticker
	seen        uint64        // the incarnation at that look
	backAt      int64         // when the ticker saw it come back; owned by the ticker
}

func newLiveness(deadAfter int64) *liveness {
	l := &liveness{deadAfter: deadAfter}
	l.stores.Store(&map[uint64]*storeHealth{})
	return l
}

func (l *liveness) health(storeID uint64) *storeHealth { return (*l.stores.Load())[storeID] }

// add makes a store known: from now on it gets beats.
func (l *liveness) add(storeID uint64) *storeHealth {
	if h := l.health(storeID); h != nil {
		return h
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.health(storeID); h != nil {
		return h
	}
	next := maps.Clone(*l.stores.Load())
	h := &storeHealth{}
	next[storeID] = h
	l.stores.Store(&next)
	return h
}

// keep forgets the stores that share no region with this one any longer.
func (l *liveness) keep(wanted map[uint64]struct{}, now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := maps.Clone(*l.stores.Load())
	for id, h := range next {
		if _, ok := wanted[id]; !ok && now-h.lastBeat.Load() > l.deadAfter {
			delete(next, id)
		}
	}
	l.stores.Store(&next)
}

// heard takes a beat; it reports whether the store is new, or was restarted.
func (l *liveness) heard(storeID, incarnation uint64, stopping bool, now int64) (news bool) {
	h := l.add(storeID)
	h.stopping.Store(stopping)
	news = h.incarnation.Swap(incarnation) != incarnation
	h.lastBeat.Store(max(now, 1))
	h.gossipDead.Store(false)
	return news
}

// alive reports whether messages come from a store, and its incarnation.
func (l *liveness) alive(storeID uint64, now int64) (incarnation uint64, ok bool) {
	h := l.health(storeID)
	if h == nil {
		return 0, false
	}
	return h.incarnation.Load(), h.isAlive(now, l.deadAfter)
}

func (h *storeHealth) isAlive(now, deadAfter int64) bool {
	last := h.lastBeat.Load()
	return last != 0 && now-last < deadAfter && !h.gossipDead.Load()
}

// silent is how long a store has been silent, in nanoseconds; 0 if it is alive
// or was never heard of.
func (l *liveness) silent(storeID uint64, now int64) int64 {
	h := l.health(storeID)
	if h == nil || h.isAlive(now, l.deadAfter) || h.lastBeat.Load() == 0 {
		return 0
	}
	return now - h.lastBeat.Load()
}

// lost reports whether a leader that was there in that incarnation of its
// store is there no longer.
func (s *Store) lost(lead *metapb.Peer, incarnation uint64, now int64) bool {
	if lead.GetStoreId() == s.id {
		return false
	}
	have, ok := s.live.alive(lead.GetStoreId(), now)
	return !ok || have != incarnation
}

// OnStoreLiveness takes the opinion of a failure detector outside of the
// raftstore, such as a gossip between nodes. dead is believed if no beat has
// come since an election timeout, until the next one comes; alive is not news.
func (s *Store) OnStoreLiveness(storeID uint64, alive bool) {
	h := s.live.health(storeID)
	if alive || h == nil || s.now()-h.lastBeat.Load() < int64(s.cfg.electionTimeout()) {
		return
	}
	h.gossipDead.Store(true)
}

// StoreAlive reports whether messages of another store reach this one.
func (s *Store) StoreAlive(storeID uint64) bool {
	_, ok := s.live.alive(storeID, s.now())
	return ok || storeID == s.id
}

// knowStores makes the stores of a region known.
func (s *Store) knowStores(region *metapb.Region) {
	for _, p := range region.GetPeers() {
		if p.StoreId != s.id {
			s.live.add(p.StoreId)
		}
	}
}

// beat tells the other stores that this one is up.
func (s *Store) beat() {
	for id := range *s.live.stores.Load() {
		s.beatTo(id)
	}
}

func (s *Store) beatTo(id uint64) {
	s.transport.Send(&RaftMessage{
		From: metapb.Peer{StoreId: s.id}, To: metapb.Peer{StoreId: id},
		Signal: Signal{Kind: SignalBeat, Term: s.incarnation, Index: s.stopping.Load()}})
}

// mayLead reports whether a store can take leaders over.
func (s *Store) mayLead(storeID uint64, now int64) bool {
	h := s.live.health(storeID)
	return h != nil && h.isAlive(now, s.live.deadAfter) && !h.stopping.Load()
}

// answers reports whether a store can take a leader over this moment: it has
// sent a beat, of which there are two, within an election timeout.
func (s *Store) answers(storeID uint64, now int64) bool {
	h := s.live.health(storeID)
	return h != nil && h.isAlive(now, int64(s.cfg.electionTimeout())) && !h.stopping.Load()
}

// watchStores reports whether a store has died or has come back, or has
// restarted, since the last call. Only the ticker calls it.
func (s *Store) watchStores(now int64) (changed bool) {
	for id, h := range *s.live.stores.Load() {
		alive, incarnation := h.isAlive(now, s.live.deadAfter), h.incarnation.Load()
		if alive == h.wasAlive && incarnation == h.seen {
			continue
		}
		s.log.Info("store liveness changed", slog.Uint64("other", id), slog.Bool("alive", alive),
			slog.Bool("restarted", h.seen != 0 && h.seen != incarnation))
		h.wasAlive, h.seen = alive, incarnation
		if alive {
			h.backAt = now
		}
		changed = true
	}
	return changed
}
