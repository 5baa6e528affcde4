package txntest

import "github.com/pingcap/kvproto/pkg/metapb"

// Merge gives the range and the data of the right region to the one left of it.
func (e *Engine) Merge(leftID, rightID uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	left, right := e.regions[leftID], e.regions[rightID]
	if left == nil || right == nil || string(left.meta.EndKey) != string(right.meta.StartKey) {
		panic("txntest: the regions to be merged are not neighbours")
	}
	wide := *left.meta
	wide.EndKey = right.meta.EndKey
	wide.RegionEpoch = &metapb.RegionEpoch{
		ConfVer: wide.RegionEpoch.ConfVer,
		Version: max(left.meta.RegionEpoch.Version, right.meta.RegionEpoch.Version) + 1,
	}
	left.meta = &wide
	delete(e.regions, rightID)
}
