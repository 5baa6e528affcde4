package pdclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
)

// Region is a region as PD knows it.
type Region struct {
	Meta    *metapb.Region
	Leader  *metapb.Peer // nil where PD does not know
	Down    []*pdpb.PeerStats
	Pending []*metapb.Peer
}

// AllocID returns an id that was never given before.
func (c *Client) AllocID(ctx context.Context) (uint64, error) {
	resp, err := call(ctx, c, "AllocID", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.AllocIDResponse, error) {
		return pd.AllocID(ctx, &pdpb.AllocIDRequest{Header: c.header()})
	})
	if err != nil {
		return 0, err
	}
	return resp.GetId(), nil
}

// IsBootstrapped reports whether the cluster has its first store.
func (c *Client) IsBootstrapped(ctx context.Context) (bool, error) {
	resp, err := call(ctx, c, "IsBootstrapped", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.IsBootstrappedResponse, error) {
		return pd.IsBootstrapped(ctx, &pdpb.IsBootstrappedRequest{Header: c.header()})
	})
	if err != nil {
		return false, err
	}
	return resp.GetBootstrapped(), nil
}

// Bootstrap makes the store the cluster's first and region its first region. See
// IsAlreadyBootstrapped; after a lost answer, that may mean this very call.
func (c *Client) Bootstrap(ctx context.Context, store *metapb.Store, region *metapb.Region) error {
	_, err := call(ctx, c, "Bootstrap", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.BootstrapResponse, error) {
		return pd.Bootstrap(ctx, &pdpb.BootstrapRequest{Header: c.header(), Store: store, Region: region})
	})
	return err
}

// PutStore registers the store, or tells PD what changed about it.
func (c *Client) PutStore(ctx context.Context, store *metapb.Store) error {
	_, err := call(ctx, c, "PutStore", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.PutStoreResponse, error) {
		return pd.PutStore(ctx, &pdpb.PutStoreRequest{Header: c.header(), Store: store})
	})
	return err
}

// GetStore returns a store; one that does not exist is an error.
func (c *Client) GetStore(ctx context.Context, id uint64) (*metapb.Store, error) {
	resp, err := call(ctx, c, "GetStore", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.GetStoreResponse, error) {
		return pd.GetStore(ctx, &pdpb.GetStoreRequest{Header: c.header(), StoreId: id})
	})
	if err != nil {
		return nil, err
	}
	return resp.GetStore(), nil
}

// GetAllStores returns the stores that are not tombstones.
func (c *Client) GetAllStores(ctx context.Context) ([]*metapb.Store, error) {
	resp, err := call(ctx, c, "GetAllStores", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.GetAllStoresResponse, error) {
		return pd.GetAllStores(ctx, &pdpb.GetAllStoresRequest{Header: c.header(), ExcludeTombstoneStores: true})
	})
	if err != nil {
		return nil, err
	}
	return resp.GetStores(), nil
}

// StoreHeartbeat reports the store's state.
func (c *Client) StoreHeartbeat(ctx context.Context, stats *pdpb.StoreStats) (*pdpb.StoreHeartbeatResponse, error) {
	return call(ctx, c, "StoreHeartbeat", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.StoreHeartbeatResponse, error) {
		return pd.StoreHeartbeat(ctx, &pdpb.StoreHeartbeatRequest{Header: c.header(), Stats: stats})
	})
}

// ReportMinResolvedTS tells PD up to where every replica of the store can be
// read without asking its leader.
func (c *Client) ReportMinResolvedTS(ctx context.Context, storeID, ts uint64) error {
	_, err := call(ctx, c, "ReportMinResolvedTS", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.ReportMinResolvedTsResponse, error) {
		return pd.ReportMinResolvedTS(ctx, &pdpb.ReportMinResolvedTsRequest{Header: c.header(), StoreId: storeID, MinResolvedTs: ts})
	})
	return err
}

// AskBatchSplit returns ids for n new regions, each with as many peers as
// region has.
func (c *Client) AskBatchSplit(ctx context.Context, region *metapb.Region, n int) ([]*pdpb.SplitID, error) {
	if n <= 0 {
		return nil, fmt.Errorf("pdclient: AskBatchSplit for %d regions", n)
	}
	resp, err := call(ctx, c, "AskBatchSplit", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.AskBatchSplitResponse, error) {
		return pd.AskBatchSplit(ctx, &pdpb.AskBatchSplitRequest{Header: c.header(), Region: region, SplitCount: uint32(n)})
	})
	if err != nil {
		return nil, err
	}
	if len(resp.GetIds()) != n {
		return nil, fmt.Errorf("pdclient: AskBatchSplit for %d regions was answered with ids for %d", n, len(resp.GetIds()))
	}
	return resp.GetIds(), nil
}

// ReportBatchSplit tells PD the regions that came out of a split.
func (c *Client) ReportBatchSplit(ctx context.Context, regions []*metapb.Region) error {
	_, err := call(ctx, c, "ReportBatchSplit", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.ReportBatchSplitResponse, error) {
		return pd.ReportBatchSplit(ctx, &pdpb.ReportBatchSplitRequest{Header: c.header(), Regions: regions})
	})
	return err
}

// ErrRegionNotFound says that PD knows no such region (yet).
var ErrRegionNotFound = errors.New("pdclient: PD knows no such region")

// GetRegion returns the region that holds the (encoded) key, or
// ErrRegionNotFound.
func (c *Client) GetRegion(ctx context.Context, key []byte) (*Region, error) {
	resp, err := call(ctx, c, "GetRegion", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.GetRegionResponse, error) {
		return pd.GetRegion(ctx, &pdpb.GetRegionRequest{Header: c.header(), RegionKey: key})
	})
	if err != nil {
		return nil, err
	}
	return region(resp)
}

// GetRegionByID returns the region, or ErrRegionNotFound.
func (c *Client) GetRegionByID(ctx context.Context, id uint64) (*Region, error) {
	resp, err := call(ctx, c, "GetRegionByID", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.GetRegionResponse, error) {
		return pd.GetRegionByID(ctx, &pdpb.GetRegionByIDRequest{Header: c.header(), RegionId: id})
	})
	if err != nil {
		return nil, err
	}
	return region(resp)
}

func region(resp *pdpb.GetRegionResponse) (*Region, error) {
	if resp.GetRegion() == nil {
		return nil, ErrRegionNotFound
	}
	return &Region{Meta: resp.Region, Leader: resp.Leader, Down: resp.DownPeers, Pending: resp.PendingPeers}, nil
}

// GetGCSafePoint returns the timestamp below which old versions may be removed.
func (c *Client) GetGCSafePoint(ctx context.Context) (uint64, error) {
	resp, err := call(ctx, c, "GetGCSafePoint", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.GetGCSafePointResponse, error) {
		return pd.GetGCSafePoint(ctx, &pdpb.GetGCSafePointRequest{Header: c.header()})
	})
	if err != nil {
		return 0, err
	}
	return resp.GetSafePoint(), nil
}
