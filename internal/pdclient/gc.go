package pdclient

import (
	"context"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// GCSafePoints returns the timestamps below which old versions may be removed:
// the one that keyspaces share, and those of keyspaces that have their own.
func (c *Client) GCSafePoints(ctx context.Context) (shared uint64, own map[uint32]uint64, err error) {
	resp, err := call(ctx, c, "GetAllKeyspacesGCStates", func(ctx context.Context, pd pdpb.PDClient) (*pdpb.GetAllKeyspacesGCStatesResponse, error) {
		return pd.GetAllKeyspacesGCStates(ctx, &pdpb.GetAllKeyspacesGCStatesRequest{
			Header: c.header(), ExcludeGcBarriers: true, ExcludeGlobalGcBarriers: true})
	})
	if err != nil {
		return 0, nil, err
	}
	for _, st := range resp.GetGcStates() {
		switch ks := st.GetKeyspaceScope().GetKeyspaceId(); {
		case ks == nullKeyspace:
			shared = st.GetGcSafePoint()
		case st.GetIsKeyspaceLevelGc():
			if own == nil {
				own = make(map[uint32]uint64)
			}
			own[ks] = st.GetGcSafePoint()
		}
	}
	return shared, own, nil
}

// nullKeyspace stands for all keyspaces without safe points of their own.
const nullKeyspace = 0xFFFFFFFF
