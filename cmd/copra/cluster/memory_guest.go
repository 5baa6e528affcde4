package cluster

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A playground's caches are in Go's heap like all else, so that gcPercent alone
// would let the heap grow to three times what they hold. guestHeapBytes is up to
// where it may: from there on the heap has guestRoomPercent more than what is alive.
// The limit follows that, since one that is below it would have the collector run
// all the time.
const (
	guestHeapBytes       = 3 << 30
	guestRoomPercent     = 50
	guestLimitInterval   = time.Second
	guestLimitStepsBytes = 64 << 20 // changes of less are left
)

// TuneGuestGC sets the garbage collector up for a playground, until ctx ends.
func TuneGuestGC(ctx context.Context) {
	setGCPercent()
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	total, err := memoryBytes()
	if err != nil {
		total = math.MaxInt64
	}
	limit := guestLimit(0, total)
	debug.SetMemoryLimit(limit)
	go func() {
		tick := time.NewTicker(guestLimitInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if next := guestLimit(liveBytes(), total); next < limit-guestLimitStepsBytes || next > limit+guestLimitStepsBytes {
				limit = next
				debug.SetMemoryLimit(limit)
			}
		}
	}()
}

// guestLimit is the memory limit of a playground on a machine with total bytes
// of memory, when live bytes of its heap are in use.
func guestLimit(live, total int64) int64 {
	return min(max(guestHeapBytes, live+live/100*guestRoomPercent), total/100*memoryLimitSharePercent)
}

// liveBytes is what the last collection has found alive.
func liveBytes() int64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(s[0].Value.Uint64())
}
