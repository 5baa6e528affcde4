package pd

import (
	"context"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/pd/core"
)

const (
	// splitRetriesDefault and splitRetriesMax are how often a split is tried
	// again where the caller does not say, and at most.
	splitRetriesDefault = 10
	splitRetriesMax     = 100
	splitRetryPause     = 50 * time.Millisecond
	splitRPCTimeout     = 10 * time.Second
)

// splitRegions asks the leaders of the regions that hold the keys to split
// there. It returns which part of the keys is a region's start now, in percent,
// and these regions.
func (c *cluster) splitRegions(ctx context.Context, keys [][]byte, retries uint64) (percent uint64, ids []uint64, err error) {
	if len(keys) == 0 {
		return 100, nil, nil
	}
	if retries == 0 {
		retries = splitRetriesDefault
	}
	left := keys
	for try := range min(retries, splitRetriesMax) + 1 {
		if try > 0 {
			c.s.pause(ctx, splitRetryPause)
		}
		if ctx.Err() != nil {
			return 0, nil, ctx.Err()
		}
		made, rest := c.splitRound(ctx, left)
		ids, left = append(ids, made...), rest
		if len(left) == 0 {
			break
		}
	}
	return uint64(100 * (len(keys) - len(left)) / len(keys)), ids, nil
}

// splitRound sends one SplitRegion to each region and returns the regions that
// start at a key, and the keys that are none's start yet.
func (c *cluster) splitRound(ctx context.Context, keys [][]byte) (made []uint64, rest [][]byte) {
	byRegion := make(map[uint64][][]byte)
	for _, key := range keys {
		r := c.regions.ByKey(key)
		switch {
		case r == nil || r.Leader == nil:
			rest = append(rest, key)
		case string(r.Meta.StartKey) == string(boundaryOf(key)):
			made = append(made, r.ID())
		default:
			byRegion[r.ID()] = append(byRegion[r.ID()], key)
		}
	}
	for id, ks := range byRegion {
		r := c.regions.ByID(id)
		if r == nil || r.Leader == nil {
			rest = append(rest, ks...)
			continue
		}
		regions, err := c.splitOne(ctx, r, ks)
		if err != nil {
			c.log.Info("pd: split a region", "region", id, "err", err)
			rest = append(rest, ks...)
			continue
		}
		for _, key := range ks {
			if m := startsAt(regions, key); m != nil {
				made = append(made, m.Id)
			} else {
				rest = append(rest, key)
			}
		}
	}
	return made, rest
}

func startsAt(regions []*metapb.Region, key []byte) *metapb.Region {
	at := boundaryOf(key)
	for _, m := range regions {
		if string(m.StartKey) == string(at) {
			return m
		}
	}
	return nil
}

// splitOne calls the leader's store and takes in the regions it answers with.
func (c *cluster) splitOne(ctx context.Context, r *core.Region, keys [][]byte) ([]*metapb.Region, error) {
	st, err := c.store(r.Leader.StoreId)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, splitRPCTimeout)
	defer cancel()
	conn, err := grpc.NewClient(st.Meta.Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("store %d at %s: %w", st.ID(), st.Meta.Address, err)
	}
	defer func() { _ = conn.Close() }()
	resp, err := tikvpb.NewTikvClient(conn).SplitRegion(ctx, &kvrpcpb.SplitRegionRequest{
		Context: &kvrpcpb.Context{
			RegionId: r.ID(), RegionEpoch: r.Epoch(), Peer: r.Leader, ClusterId: c.s.clusterID,
		},
		SplitKeys: keys,
		IsRawKv:   true, // they are keys of regions, not of transactions
	})
	if err != nil {
		return nil, fmt.Errorf("store %d at %s: %w", st.ID(), st.Meta.Address, err)
	}
	if resp.RegionError != nil {
		return nil, fmt.Errorf("store %d at %s: %s", st.ID(), st.Meta.Address, resp.RegionError.Message)
	}
	return resp.Regions, c.reportSplit(resp.Regions)
}

// boundaryOf is where the region of a split key begins: at the key, if that is
// an encoding or lies in a pocket of raw keys, else just below it.
func boundaryOf(key []byte) []byte {
	if codec.InPocket(key) {
		return key
	}
	return codec.EncodingBelow(key)
}

// regionsByID pairs ids with the regions known; nil for those that are not.
func (c *cluster) regionsByID(ids []uint64) map[uint64]*core.Region {
	out := make(map[uint64]*core.Region, len(ids))
	for _, id := range ids {
		out[id] = c.regions.ByID(id)
	}
	return out
}

// scatter spreads the regions and returns which part of them could be, in
// percent, and which could not.
func (c *cluster) scatter(ctx context.Context, regions map[uint64]*core.Region, group string) (percent uint64, failed []uint64) {
	for id, r := range regions {
		err := regionNotFound(id)
		if r != nil {
			err = c.sched.Scatter(ctx, r, group)
		}
		if err != nil {
			c.log.Info("pd: scatter", "region", id, "err", err)
			failed = append(failed, id)
		}
	}
	if len(regions) == 0 {
		return 100, nil
	}
	return uint64(100 * (len(regions) - len(failed)) / len(regions)), failed
}
