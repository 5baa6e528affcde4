package tikv

import (
	"github.com/copradb/copra/tikv/raw"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// buildTTL makes what removes expired raw values.
func (n *Node) buildTTL() (err error) {
	n.ttl, err = raw.NewTTLChecker(raw.TTLOptions{
		Regions: n.ledRegions, Local: func() raw.LocalReader { return n.data.NewSnapshot() }, Write: n.regions.Write,
		PollInterval: n.cfg.TTLPollInterval, Logger: n.log, Registerer: n.cfg.Registerer,
	})
	if err == nil {
		n.onStop(n.ttl.Close)
	}
	return err
}

// ledRegions are the regions that this store leads.
func (n *Node) ledRegions() []raw.LedRegion {
	var out []raw.LedRegion
	for _, r := range n.regions.Regions() {
		if !r.Leader {
			continue
		}
		rc := &kvrpcpb.Context{RegionId: r.Region.GetId(), RegionEpoch: r.Region.GetRegionEpoch()}
		for _, p := range r.Region.GetPeers() {
			if p.GetStoreId() == n.storeID {
				rc.Peer = p
			}
		}
		out = append(out, raw.LedRegion{Context: rc, Start: r.Region.GetStartKey(), End: r.Region.GetEndKey()})
	}
	return out
}
