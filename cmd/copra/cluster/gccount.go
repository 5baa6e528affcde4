package cluster

import (
	"sync/atomic"

	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/txnkv/txnlock"
)

// countingResolver counts the locks that it resolves.
type countingResolver struct {
	*tikv.BaseRegionLockResolver
	locks atomic.Int64
}

// ResolveLocksInOneRegion implements tikv.RegionLockResolver.
func (r *countingResolver) ResolveLocksInOneRegion(bo *tikv.Backoffer, locks []*txnlock.Lock, loc *tikv.KeyLocation) (*tikv.KeyLocation, error) {
	out, err := r.BaseRegionLockResolver.ResolveLocksInOneRegion(bo, locks, loc)
	if err == nil && out != nil {
		r.locks.Add(int64(len(locks)))
	}
	return out, err
}
