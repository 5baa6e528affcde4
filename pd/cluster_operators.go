package pd

import (
	"context"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

// The operators that an administrator asks for. They count against no limit and
// replace what schedulers do with the region.

func (c *cluster) region(id uint64) (*core.Region, error) {
	r := c.regions.ByID(id)
	if r == nil {
		return nil, regionNotFound(id)
	}
	return r, nil
}

// addPeer gives the region a voter, or a learner, on a store.
func (c *cluster) addPeer(ctx context.Context, region, store uint64, learner bool) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	desc, role := "admin-add-peer", metapb.PeerRole_Voter
	if learner {
		desc, role = "admin-add-learner", metapb.PeerRole_Learner
	}
	return c.sched.AddAdmin(ctx, c.sched.Admin(desc, r).AddPeer(store, role))
}

// removePeer takes the region's peer off a store.
func (c *cluster) removePeer(ctx context.Context, region, store uint64) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	return c.sched.AddAdmin(ctx, c.sched.Admin("admin-remove-peer", r).RemovePeer(store))
}

// transferLeader moves the leadership of the region to a store.
func (c *cluster) transferLeader(ctx context.Context, region, store uint64) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	return c.sched.AddAdmin(ctx, c.sched.Admin("admin-transfer-leader", r).SetLeader(store))
}

// transferPeer moves the region's peer from one store to another.
func (c *cluster) transferPeer(ctx context.Context, region, from, to uint64) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	old := r.StorePeer(from)
	if old == nil {
		return fmt.Errorf("pd: region %d has no peer on store %d", region, from)
	}
	return c.sched.AddAdmin(ctx, c.sched.Admin("admin-move-peer", r).RemovePeer(from).AddPeer(to, old.Role))
}

// transferRegion makes the region have peers on just these stores. roles may
// name "leader", "voter", "follower" or "learner" for each of them, or be empty.
func (c *cluster) transferRegion(ctx context.Context, region uint64, stores []uint64, roles []string) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	if len(stores) == 0 || len(roles) > 0 && len(roles) != len(stores) {
		return fmt.Errorf("pd: %d roles for %d stores", len(roles), len(stores))
	}
	b, peers := c.sched.Admin("admin-move-region", r), make(map[uint64]metapb.PeerRole, len(stores))
	for i, id := range stores {
		peers[id] = metapb.PeerRole_Voter
		if len(roles) == 0 {
			continue
		}
		switch roles[i] {
		case "leader":
			b.SetLeader(id)
		case "learner":
			peers[id] = metapb.PeerRole_Learner
		case "voter", "follower":
		default:
			return fmt.Errorf("pd: %q is no role of a peer: use leader, voter, follower or learner", roles[i])
		}
	}
	if len(peers) != len(stores) {
		return fmt.Errorf("pd: a store is named twice in %v", stores)
	}
	return c.sched.AddAdmin(ctx, b.SetPeers(peers))
}

// mergeRegion merges a region into its neighbour.
func (c *cluster) mergeRegion(ctx context.Context, source, target uint64) error {
	from, err := c.region(source)
	if err != nil {
		return err
	}
	to, err := c.region(target)
	if err != nil {
		return err
	}
	return c.sched.AddMerge(ctx, from, to)
}

// splitRegion splits a region at keys, or where its store thinks (SCAN,
// APPROXIMATE).
func (c *cluster) splitRegion(region uint64, policy pdpb.CheckPolicy, keys [][]byte) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	return c.sched.AddSplit(r, policy, keys)
}

// scatterRegion spreads a region's peers and leader.
func (c *cluster) scatterRegion(ctx context.Context, region uint64, group string) error {
	r, err := c.region(region)
	if err != nil {
		return err
	}
	return c.sched.Scatter(ctx, r, group)
}
