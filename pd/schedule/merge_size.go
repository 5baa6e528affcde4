package schedule

// mergePartNum of mergePartDenom of the size at which stores split regions is up
// to where a region counts as small; it is the defaults' 54 of 144 MiB.
const mergePartNum, mergePartDenom = 3, 8

// LimitRegionBytes says at which size the stores split regions, 0 where that is
// not known. Merges stay below it, whatever the settings say: what they made
// would be split again.
func (c *Controller) LimitRegionBytes(n uint64) { c.regionBytes.Store(n) }

// mergeSizes is up to where a region is small, and what a merge must not reach.
func (c *Controller) mergeSizes() (small, limit uint64) {
	o := c.cluster.Options()
	small, limit = uint64(o.MaxMergeRegionMiB)<<20, uint64(o.RegionMaxMiB)<<20
	if n := c.regionBytes.Load(); n > 0 && n < limit {
		small, limit = min(small, n/mergePartDenom*mergePartNum), n
	}
	return small, limit
}
