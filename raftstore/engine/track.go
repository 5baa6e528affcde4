package engine

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
)

// Track makes the iterator tell t, when it is closed, what it has met. Iterators
// of one request may be used, and closed, at the same time.
func (i *Iterator) Track(t *tracker.Tracker) { i.tracker = t }

func (i *Iterator) report() {
	st := i.it.Stats()
	s := &i.tracker.Scan
	calls := func(kind pebble.IteratorStatsKind) (seeks, steps int) {
		return st.ForwardSeekCount[kind] + st.ReverseSeekCount[kind], st.ForwardStepCount[kind] + st.ReverseStepCount[kind]
	}
	seeks, steps := calls(pebble.InterfaceCall)
	_, inner := calls(pebble.InternalIterCall)
	atomic.AddUint64(&s.Seeks, uint64(seeks))
	if i.cf == kv.CFWrite || i.cf == kv.CFRaw {
		atomic.AddUint64(&s.Keys, uint64(seeks+steps))
	}
	atomic.AddUint64(&s.Skipped, uint64(max(inner-steps, 0)))
	atomic.AddUint64(&s.Tombstones, st.InternalStats.PointsCoveredByRangeTombstones)
	atomic.AddUint64(&s.BlockBytes, st.InternalStats.BlockBytes)
	atomic.AddUint64(&s.CachedBytes, st.InternalStats.BlockBytesInCache)
	atomic.AddInt64((*int64)(&s.BlockTime), int64(st.InternalStats.BlockReadDuration))
}
