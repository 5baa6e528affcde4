package gc

import (
	"sync/atomic"
	"time"

	"github.com/copradb/copra/txn"
)

const (
	// sweepInterval is how often tables are looked through for deletes.
	sweepInterval = 10 * time.Second
	// sweepFlushBytesMin: a store flushes its memtables for what garbage collection
	// has written into them from that size of Raft log entries on, some thousand
	// deletes; with less it waits for others' reasons to flush, at most
	sweepFlushBytesMin = 128 << 10
	// sweepFlushDelayMax.
	sweepFlushDelayMax = 10 * time.Minute
)

// Applied hears, on every replica, of the batches that drop garbage; it is
// raftstore's Options.Collected.
type Applied struct {
	SafePoints *txn.SafePoints
	bytes      atomic.Int64 // since the last flush
}

// Note takes in a batch, before it is visible.
func (a *Applied) Note(key []byte, safePoint uint64, batchBytes int) {
	a.SafePoints.RaiseAt(key, safePoint)
	a.bytes.Add(int64(batchBytes))
}

// sweep makes deletes give their room back: they must come from memory to disk,
// and from there to the lowest level. Pebble does both by itself when it has
// other reasons, which an idle store may never have.
func (c *Collector) sweep() {
	timer := time.NewTicker(sweepInterval)
	defer timer.Stop()
	since := time.Now() // when the deletes in memory were first seen
	last := int64(0)
	for {
		select {
		case <-timer.C:
		case <-c.ctx.Done():
			return
		}
		n := c.o.Applied.bytes.Load()
		if last == 0 && n > 0 {
			since = time.Now()
		}
		grows := n != last // wait until a round is over
		last = n
		if n > 0 && !grows && (n >= sweepFlushBytesMin || time.Since(since) > sweepFlushDelayMax) {
			if err := c.o.Data.Flush(c.ctx); err != nil {
				return // the store stops: the data engine ends the process for any other reason
			}
			c.o.Applied.bytes.Add(-n)
			last = 0
		}
		c.compact()
	}
}

func (c *Collector) compact() {
	n, bytes, err := c.o.Data.CompactDeletes(c.ctx)
	c.metrics.compactions.Add(float64(n))
	c.metrics.compactBytes.Add(float64(bytes))
	if err != nil && c.ctx.Err() == nil {
		c.metrics.failures.WithLabelValues("compact").Inc()
		c.o.Logger.Warn("deletes are not compacted", "err", err)
	}
}
