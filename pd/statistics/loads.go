package statistics

import (
	"slices"
	"sync"

	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// The dimensions of a load.
const (
	Bytes = iota
	Keys
	Queries
	Dimensions
)

// Loads are rates per second.
type Loads [Dimensions]float64

// Plus returns l + weight·o.
func (l Loads) Plus(o Loads, weight float64) Loads {
	for d := range l {
		l[d] += weight * o[d]
	}
	return l
}

// reaches reports whether l is as large as the threshold in any dimension.
func (l Loads) reaches(threshold Loads) bool {
	for d := range l {
		if l[d] >= threshold[d] {
			return true
		}
	}
	return false
}

// Kind tells reads from writes.
type Kind int

// The kinds of load.
const (
	Read Kind = iota
	Write
	kindCount
)

func (k Kind) String() string { return [...]string{"read", "write"}[k] }

// leastHot is the load from which a region can be hot at all, as in PD.
var leastHot = [kindCount]Loads{Read: {8 << 10, 128, 128}, Write: {1 << 10, 32, 32}}

// storeReportsMax is how many of a store's reports the median is taken of: one
// burst, or one report that was late, does not move regions.
const storeReportsMax = 5

// StoreLoads is how much the stores read and write. Safe for concurrent use.
type StoreLoads struct {
	mu      sync.RWMutex
	reports map[uint64][]storeReport
}

// storeReport is one report, and what of it the hot regions known at that time
// do not explain.
type storeReport struct{ all, rest [kindCount]Loads }

// ObserveStore takes in a store's heartbeat. One without an interval tells no
// rates.
func (h *Hot) ObserveStore(stats *pdpb.StoreStats) {
	iv := stats.GetInterval()
	if iv == nil || iv.EndTimestamp <= iv.StartTimestamp {
		return
	}
	seconds := float64(iv.EndTimestamp - iv.StartTimestamp)
	q := stats.QueryStats
	var r storeReport
	r.all[Read] = Loads{float64(stats.BytesRead), float64(stats.KeysRead), float64(core.ReadQueries(q))}
	r.all[Write] = Loads{float64(stats.BytesWritten), float64(stats.KeysWritten), float64(core.WriteQueries(q))}
	for k, c := range h.Caches {
		r.all[k] = Loads{}.Plus(r.all[k], 1/seconds)
		r.rest[k] = r.all[k].Plus(c.Sum(stats.StoreId, false), -1)
	}
	h.Stores.add(stats.StoreId, r)
}

func (s *StoreLoads) add(store uint64, r storeReport) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reports == nil {
		s.reports = make(map[uint64][]storeReport)
	}
	list := append(s.reports[store], r)
	if len(list) > storeReportsMax {
		list = slices.Delete(list, 0, 1)
	}
	s.reports[store] = list
}

// Load is how much the store does: its hot regions as they are now, and the rest
// by its reports. A hot region that moves takes its load along at once, while
// the store's own figures show it only after a while: who went by those would
// move more and more, and then all back. With leaders set it is the hot regions
// that the store leads, alone.
func (h *Hot) Load(store uint64, k Kind, leaders bool) Loads {
	out := h.Caches[k].Sum(store, leaders)
	if leaders {
		return out
	}
	rest, _ := h.Stores.median(store, func(r storeReport) Loads { return r.rest[k] })
	for d := range out {
		out[d] += max(rest[d], 0)
	}
	return out
}

// Get returns the store's load by its own reports, and false where there are
// none.
func (s *StoreLoads) Get(store uint64, k Kind) (Loads, bool) {
	return s.median(store, func(r storeReport) Loads { return r.all[k] })
}

func (s *StoreLoads) median(store uint64, of func(storeReport) Loads) (Loads, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := s.reports[store]
	if len(list) == 0 {
		return Loads{}, false
	}
	var out Loads
	rates := make([]float64, len(list))
	for d := range out {
		for i, r := range list {
			rates[i] = of(r)[d]
		}
		slices.Sort(rates)
		out[d] = rates[len(rates)/2]
	}
	return out, true
}

// Forget drops a store.
func (s *StoreLoads) Forget(store uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reports, store)
}
