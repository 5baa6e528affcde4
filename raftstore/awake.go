package raftstore

import "sync"

// awakeSet holds the peers that the clock visits. A sleeper costs it nothing:
// it leaves the list at the first tick after it fell asleep.
type awakeSet struct {
	mu   sync.Mutex
	list []*peer
}

// add makes the clock tick for a peer, which is not cold.
func (a *awakeSet) add(p *peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p.awake.Store(true)
	if !p.listed {
		p.listed = true
		a.list = append(a.list, p)
	}
}

// each calls fn for the peers that are awake and forgets the others.
func (a *awakeSet) each(fn func(*peer)) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.list[:0]
	for _, p := range a.list {
		if !p.awake.Load() {
			p.listed = false
			continue
		}
		kept = append(kept, p)
		fn(p)
	}
	clear(a.list[len(kept):])
	a.list = kept
	return len(kept)
}

// AwakeCount is how many peers get ticks.
func (s *Store) AwakeCount() int { return s.awake.len() }

func (a *awakeSet) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.list)
}
