package statistics

import (
	"sync"
	"time"
)

const (
	// historyEvery is how often the hot regions are noted down, as in PD.
	historyEvery = 10 * time.Minute
	// historyPeersMax is how many of a store's hot peers are noted each time, and
	// historyEntriesMax how many notes are kept.
	historyPeersMax   = 20
	historyEntriesMax = 10_000
)

// HistoryEntry is a peer that was hot.
type HistoryEntry struct {
	At   time.Time
	Kind Kind
	HotPeer
}

// History is what was hot, in memory. Safe for concurrent use.
type History struct {
	mu      sync.Mutex
	lastAt  time.Time
	entries []HistoryEntry // oldest first
}

// Record notes down what is hot, if it is time.
func (h *Hot) Record(now time.Time) {
	h.History.mu.Lock()
	defer h.History.mu.Unlock()
	if now.Sub(h.History.lastAt) < historyEvery {
		return
	}
	h.History.lastAt = now
	for k, c := range h.Caches {
		for _, store := range c.StoreIDs() {
			for _, p := range c.Peers(store, Bytes, historyPeersMax) {
				h.History.entries = append(h.History.entries, HistoryEntry{At: now, Kind: Kind(k), HotPeer: p})
			}
		}
	}
	if over := len(h.History.entries) - historyEntriesMax; over > 0 {
		h.History.entries = append([]HistoryEntry(nil), h.History.entries[over:]...)
	}
}

// Between returns the notes of [from, to).
func (h *History) Between(from, to time.Time) []HistoryEntry {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []HistoryEntry
	for _, e := range h.entries {
		if !e.At.Before(from) && e.At.Before(to) {
			out = append(out, e)
		}
	}
	return out
}
