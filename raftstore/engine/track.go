package engine

import (
	"github.com/cockroachdb/pebble/v2"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/tracker"
)

// Track makes the iterator tell t, when it is closed, what it has met.
func (i *Iterator) Track(t *tracker.Tracker) { i.tracker = t }

func (i *Iterator) report() {
	st := i.it.Stats()
	s := &i.tracker.Scan
	calls := func(kind pebble.IteratorStatsKind) (seeks, steps int) {
		return st.ForwardSeekCount[kind] + st.ReverseSeekCount[kind], st.ForwardStepCount[kind] + st.ReverseStepCount[kind]
	}
	seeks, steps := calls(pebble.InterfaceCall)
	_, inner := calls(pebble.InternalIterCall)
	s.Seeks += uint64(seeks)
	if i.cf == kv.CFWrite || i.cf == kv.CFRaw {
		s.Keys += uint64(seeks + steps)
	}
	s.Skipped += uint64(max(inner-steps, 0))
	s.Tombstones += st.InternalStats.PointsCoveredByRangeTombstones
	s.BlockBytes += st.InternalStats.BlockBytes
	s.CachedBytes += st.InternalStats.BlockBytesInCache
	s.BlockTime += st.InternalStats.BlockReadDuration
}
