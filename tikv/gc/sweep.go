package gc

import "time"

// sweepInterval is how often tables are looked through for deletes.
const sweepInterval = time.Minute

// sweep compacts what consists of deletes, now and then and behind every round
// that dropped something.
func (c *Collector) sweep() {
	timer := time.NewTicker(sweepInterval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.sweepWanted:
		case <-c.ctx.Done():
			return
		}
		n, bytes, err := c.o.Data.CompactDeletes(c.ctx)
		c.metrics.compactions.Add(float64(n))
		c.metrics.compactBytes.Add(float64(bytes))
		if err != nil && c.ctx.Err() == nil {
			c.metrics.failures.WithLabelValues("compact").Inc()
			c.o.Logger.Warn("deletes are not compacted", "err", err)
		}
	}
}
