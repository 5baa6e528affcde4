package pd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// splitCountMax is how many new regions one AskBatchSplit may ask for.
const splitCountMax = 4096

// putRegion takes in a report; a stale one is an error that wraps core.ErrStale.
func (c *cluster) putRegion(r *core.Region) error {
	change, err := c.regions.Put(r)
	if err != nil {
		return err
	}
	c.saver.mark(change.Removed...)
	if change.Meta {
		c.saver.mark(r.ID())
	}
	return nil
}

// checkHeartbeat refuses what a leader can't say of its region.
func checkHeartbeat(hb *pdpb.RegionHeartbeatRequest) error {
	is := func(p *metapb.Peer) bool {
		return p != nil && slices.ContainsFunc(hb.Region.Peers, func(q *metapb.Peer) bool { return p.Id == q.Id && p.StoreId == q.StoreId })
	}
	if hb.Leader == nil || hb.Leader.Id == 0 {
		return fmt.Errorf("pd: the heartbeat of region %d names no leader", hb.Region.Id)
	}
	if !is(hb.Leader) {
		return fmt.Errorf("pd: the heartbeat of region %d names a leader that is none of its peers: %v", hb.Region.Id, hb.Leader)
	}
	for _, d := range hb.DownPeers {
		if !is(d.GetPeer()) {
			return fmt.Errorf("pd: the heartbeat of region %d says that a peer is down that is none of its own: %v", hb.Region.Id, d.GetPeer())
		}
	}
	for _, p := range hb.PendingPeers {
		if !is(p) {
			return fmt.Errorf("pd: the heartbeat of region %d says that a peer is pending that is none of its own: %v", hb.Region.Id, p)
		}
	}
	return nil
}

// regionHeartbeat takes in a leader's report and drives the region's operator.
func (c *cluster) regionHeartbeat(hb *pdpb.RegionHeartbeatRequest) error {
	if err := core.CheckMeta(hb.Region); err != nil {
		return err
	}
	if err := checkHeartbeat(hb); err != nil {
		return err
	}
	r := core.FromHeartbeat(hb, time.Now())
	if err := c.putRegion(r); err != nil {
		return err
	}
	c.sched.Observe(r)
	c.sched.Dispatch(r)
	return nil
}

// askBatchSplit allocates the ids of n new regions with as many peers as the
// region has.
func (c *cluster) askBatchSplit(ctx context.Context, m *metapb.Region, n uint32) ([]*pdpb.SplitID, error) {
	if err := core.CheckMeta(m); err != nil {
		return nil, err
	}
	if n == 0 || n > splitCountMax {
		return nil, fmt.Errorf("pd: a split of region %d into %d new ones is outside of 1 to %d", m.Id, n, splitCountMax)
	}
	if known := c.regions.ByID(m.Id); known != nil && known.Epoch().Version > m.RegionEpoch.Version {
		return nil, fmt.Errorf("pd: region %d asks to split at version %d, known is %d: retry with the current epoch",
			m.Id, m.RegionEpoch.Version, known.Epoch().Version)
	}
	peers := uint64(len(m.Peers))
	next, err := c.t.ids.Alloc(ctx, n*uint32(peers+1))
	if err != nil {
		return nil, err
	}
	out := make([]*pdpb.SplitID, n)
	for i := range out {
		id := &pdpb.SplitID{NewRegionId: next, NewPeerIds: make([]uint64, peers)}
		for j := range id.NewPeerIds {
			id.NewPeerIds[j] = next + 1 + uint64(j)
		}
		next += peers + 1
		out[i] = id
	}
	return out, nil
}

// reportSplit takes in the regions that came out of a split before their
// leaders report them, so that clients find them at once.
func (c *cluster) reportSplit(regions []*metapb.Region) error {
	leaderStore := uint64(0)
	for _, m := range regions {
		if err := core.CheckMeta(m); err != nil {
			return err
		}
		if known := c.regions.ByID(m.Id); known != nil && known.Leader != nil {
			leaderStore = known.Leader.StoreId
		}
	}
	for _, m := range regions {
		r := &core.Region{Meta: m}
		// The new regions' leaders start where the old one led.
		r.Leader = r.StorePeer(leaderStore)
		if err := c.putRegion(r); err != nil && !errors.Is(err, core.ErrStale) {
			return err
		}
		c.sched.NoteSplit(m.Id)
	}
	return nil
}
