package gc

import (
	"context"
	"errors"
	"fmt"

	"github.com/copradb/copra/internal/kv"
)

// DestroyRange removes the transactional data of the encoded range [start, end)
// from this store alone, past Raft. The tables that hold it go at once, and with
// them it is gone for snapshots, too.
//
// It is for data that nobody will read or write again. Entries of the Raft log
// that wrote to the range and are not applied here yet, or a snapshot on its way
// from a replica that has not been told, bring such data back: who cannot rule
// that out deletes the range through Raft first (KvDeleteRange), as SQL does for
// dropped tables; then the deletion comes behind all of them.
//
// Raw data in the range stays: it is in a family of its own, and not theirs who
// ask for this.
func (c *Collector) DestroyRange(ctx context.Context, start, end []byte) error {
	c.o.Logger.Warn("destroying a key range on request", "start", fmt.Sprintf("%x", start), "end", fmt.Sprintf("%x", end))
	c.metrics.tasks.WithLabelValues("unsafe_destroy_range").Inc()
	// Before and after: a check of the replicas may be under way.
	c.o.Regions.RangeDestroyed(start, end)
	defer c.o.Regions.RangeDestroyed(start, end)
	var err error
	// Locks first: one without its value would be an error to who meets it.
	for _, cf := range [...]kv.CF{kv.CFLock, kv.CFWrite, kv.CFDefault} {
		err = errors.Join(err, c.o.Data.Excise(ctx, cf, start, end))
	}
	if err != nil {
		c.metrics.failures.WithLabelValues("unsafe_destroy_range").Inc()
	}
	return err
}
