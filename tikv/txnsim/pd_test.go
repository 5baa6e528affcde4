package txnsim_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/copradb/copra/raftstore/sim"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	pd "github.com/tikv/pd/client"
	"github.com/tikv/pd/client/clients/gc"
	"github.com/tikv/pd/client/clients/router"
	"github.com/tikv/pd/client/clients/tso"
	"github.com/tikv/pd/client/opt"
	"github.com/tikv/pd/client/pkg/caller"
	sd "github.com/tikv/pd/client/servicediscovery"
)

// timestamps are PD's: they only grow, and follow the clock of the bubble.
type timestamps struct {
	mu   sync.Mutex
	last uint64
}

const logicalBits = 18

func (t *timestamps) next() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = max(t.last+1, uint64(time.Now().UnixMilli())<<logicalBits)
	return t.last
}

// pdClient is what client-go needs of PD. Methods that it does not need are
// those of a nil interface.
type pdClient struct {
	pd.Client
	r      *run
	s      *sim.Sim
	routes *sim.Routes
	tso    *timestamps
}

func (c *pdClient) GetClusterID(context.Context) uint64 { return 1 }
func (c *pdClient) Close()                              {}
func (c *pdClient) WithCallerComponent(caller.Component) pd.Client {
	return c
}
func (c *pdClient) GetServiceDiscovery() sd.ServiceDiscovery { return nil }

func (c *pdClient) GetTS(context.Context) (physical, logical int64, err error) {
	ts := c.tso.next()
	return int64(ts >> logicalBits), int64(ts & (1<<logicalBits - 1)), nil
}

type tsFuture struct {
	c   *pdClient
	ctx context.Context
}

func (f tsFuture) Wait() (physical, logical int64, err error) { return f.c.GetTS(f.ctx) }

func (c *pdClient) GetTSAsync(ctx context.Context) tso.TSFuture { return tsFuture{c, ctx} }
func (c *pdClient) GetLocalTS(ctx context.Context, _ string) (physical, logical int64, err error) {
	return c.GetTS(ctx)
}
func (c *pdClient) GetLocalTSAsync(ctx context.Context, _ string) tso.TSFuture {
	return c.GetTSAsync(ctx)
}
func (c *pdClient) GetMinTS(ctx context.Context) (physical, logical int64, err error) {
	return c.GetTS(ctx)
}
func (c *pdClient) GetExternalTimestamp(context.Context) (uint64, error) { return 0, nil }

// region is a copy: client-go decodes keys in their place.
func region(r sim.Route) *router.Region {
	out := &router.Region{Meta: new(metapb.Region)}
	if r.Leader != nil {
		leader := *r.Leader
		out.Leader = &leader
	}
	b, err := r.Region.Marshal()
	if err == nil {
		err = out.Meta.Unmarshal(b)
	}
	if err != nil {
		panic(fmt.Sprintf("txnsim: copy region %v: %v", r.Region, err))
	}
	return out
}

func (c *pdClient) find(match func(*metapb.Region) bool) (*router.Region, error) {
	for _, r := range c.routes.List() {
		if match(r.Region) {
			return region(r), nil
		}
	}
	return nil, nil
}

func contains(r *metapb.Region, key []byte) bool {
	return bytes.Compare(r.StartKey, key) <= 0 && (len(r.EndKey) == 0 || bytes.Compare(key, r.EndKey) < 0)
}

func (c *pdClient) GetRegion(_ context.Context, key []byte, _ ...opt.GetRegionOption) (*router.Region, error) {
	return c.find(func(r *metapb.Region) bool { return contains(r, key) })
}

func (c *pdClient) GetPrevRegion(_ context.Context, key []byte, _ ...opt.GetRegionOption) (*router.Region, error) {
	return c.find(func(r *metapb.Region) bool {
		return bytes.Compare(r.StartKey, key) < 0 && (len(r.EndKey) == 0 || bytes.Compare(key, r.EndKey) <= 0)
	})
}

func (c *pdClient) GetRegionByID(_ context.Context, id uint64, _ ...opt.GetRegionOption) (*router.Region, error) {
	return c.find(func(r *metapb.Region) bool { return r.Id == id })
}

func (c *pdClient) ScanRegions(_ context.Context, start, end []byte, limit int, _ ...opt.GetRegionOption) (out []*router.Region, err error) {
	if limit <= 0 {
		limit = math.MaxInt
	}
	for _, r := range c.routes.List() {
		if (len(end) == 0 || bytes.Compare(r.Region.StartKey, end) < 0) && (len(r.Region.EndKey) == 0 || bytes.Compare(start, r.Region.EndKey) < 0) && len(out) < limit {
			out = append(out, region(r))
		}
	}
	return out, nil
}

func (c *pdClient) BatchScanRegions(ctx context.Context, ranges []router.KeyRange, limit int, opts ...opt.GetRegionOption) (out []*router.Region, err error) {
	for _, r := range ranges {
		list, err := c.ScanRegions(ctx, r.StartKey, r.EndKey, limit, opts...)
		if err != nil {
			return nil, err
		}
		for _, found := range list {
			if !slices.ContainsFunc(out, func(o *router.Region) bool { return o.Meta.Id == found.Meta.Id }) && (limit <= 0 || len(out) < limit) {
				out = append(out, found)
			}
		}
	}
	return out, nil
}

func address(store uint64) string { return fmt.Sprintf("store%d", store) }

func storeMeta(id uint64) *metapb.Store {
	return &metapb.Store{Id: id, Address: address(id), State: metapb.StoreState_Up}
}

func (c *pdClient) GetStore(_ context.Context, id uint64, _ ...opt.GetStoreOption) (*metapb.Store, error) {
	if !slices.Contains(c.s.Stores(), id) {
		return nil, fmt.Errorf("invalid store ID %d, not found", id)
	}
	return storeMeta(id), nil
}

func (c *pdClient) GetAllStores(context.Context, ...opt.GetStoreOption) (out []*metapb.Store, err error) {
	for _, id := range c.s.Stores() {
		out = append(out, storeMeta(id))
	}
	return out, nil
}

func (c *pdClient) GetAllMembers(context.Context) (*pdpb.GetMembersResponse, error) {
	return &pdpb.GetMembersResponse{}, nil
}

func (c *pdClient) GetGCStatesClient(uint32) gc.GCStatesClient { return gcStates{r: c.r} }

type gcStates struct {
	gc.GCStatesClient
	r *run
}

func (g gcStates) GetGCState(context.Context) (gc.GCState, error) {
	return gc.GCState{TxnSafePoint: g.r.txnSafe.Load(), GCSafePoint: g.r.garbage.Load()}, nil
}
