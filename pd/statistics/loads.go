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

type storeReport [kindCount]Loads

// Observe takes in a store's heartbeat. One without an interval tells no rates.
func (s *StoreLoads) Observe(stats *pdpb.StoreStats) {
	iv := stats.GetInterval()
	if iv == nil || iv.EndTimestamp <= iv.StartTimestamp {
		return
	}
	seconds := float64(iv.EndTimestamp - iv.StartTimestamp)
	q := stats.QueryStats
	r := storeReport{
		Read:  {float64(stats.BytesRead), float64(stats.KeysRead), float64(core.ReadQueries(q))},
		Write: {float64(stats.BytesWritten), float64(stats.KeysWritten), float64(core.WriteQueries(q))},
	}
	for k := range r {
		r[k] = Loads{}.Plus(r[k], 1/seconds)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reports == nil {
		s.reports = make(map[uint64][]storeReport)
	}
	list := append(s.reports[stats.StoreId], r)
	if len(list) > storeReportsMax {
		list = slices.Delete(list, 0, 1)
	}
	s.reports[stats.StoreId] = list
}

// Get returns the store's load, and false where it has reported none.
func (s *StoreLoads) Get(store uint64, k Kind) (Loads, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := s.reports[store]
	if len(list) == 0 {
		return Loads{}, false
	}
	var out Loads
	var rates [storeReportsMax]float64
	for d := range out {
		n := 0
		for _, r := range list {
			rates[n] = r[k][d]
			n++
		}
		slices.Sort(rates[:n])
		out[d] = rates[n/2]
	}
	return out, true
}

// Forget drops a store.
func (s *StoreLoads) Forget(store uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reports, store)
}
