package pd

import (
	"context"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/core"
)

// GetMembers implements pdpb.PDServer. Every member answers, whatever cluster
// the caller believes in: this is how it finds out.
func (p *service) GetMembers(context.Context, *pdpb.GetMembersRequest) (*pdpb.GetMembersResponse, error) {
	if err := p.s.started(); err != nil {
		return nil, err
	}
	resp := &pdpb.GetMembersResponse{Header: p.s.header(), Members: p.s.members(), Leader: p.s.leader.Load()}
	etcdLeader := uint64(p.s.etcd.Server.Leader())
	if etcdLeader == 0 && resp.Leader.GetMemberId() != p.s.memberID() {
		resp.Leader = nil // cut off from the others: what it knows may be out of date
	}
	for _, m := range resp.Members {
		if m.MemberId == etcdLeader {
			resp.EtcdLeader = m
		}
	}
	return resp, nil
}

// GetClusterInfo implements pdpb.PDServer.
func (p *service) GetClusterInfo(context.Context, *pdpb.GetClusterInfoRequest) (*pdpb.GetClusterInfoResponse, error) {
	if err := p.s.started(); err != nil {
		return nil, err
	}
	return &pdpb.GetClusterInfoResponse{
		Header: p.s.header(), ServiceModes: []pdpb.ServiceMode{pdpb.ServiceMode_PD_SVC_MODE},
	}, nil
}

// Bootstrap implements pdpb.PDServer.
func (p *service) Bootstrap(ctx context.Context, req *pdpb.BootstrapRequest) (*pdpb.BootstrapResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	if err := t.cluster.bootstrap(ctx, req.GetStore(), req.GetRegion()); err != nil {
		h, err := p.s.refuse(err)
		return &pdpb.BootstrapResponse{Header: h}, err
	}
	return &pdpb.BootstrapResponse{Header: p.s.header()}, nil
}

// IsBootstrapped implements pdpb.PDServer.
func (p *service) IsBootstrapped(_ context.Context, req *pdpb.IsBootstrappedRequest) (*pdpb.IsBootstrappedResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	return &pdpb.IsBootstrappedResponse{
		Header: p.s.header(), Bootstrapped: t.cluster.bootstrapped() == nil,
	}, nil
}

// AllocID implements pdpb.PDServer. The answer's id is the last of the batch, as
// PD's is; without a count it is the only one.
func (p *service) AllocID(ctx context.Context, req *pdpb.AllocIDRequest) (*pdpb.AllocIDResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	n := max(req.GetCount(), 1)
	first, err := t.ids.Alloc(ctx, n)
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.AllocIDResponse{Header: p.s.header(), Id: first + uint64(n) - 1, Count: n}, nil
}

// IsSnapshotRecovering implements pdpb.PDServer.
func (p *service) IsSnapshotRecovering(_ context.Context, req *pdpb.IsSnapshotRecoveringRequest) (*pdpb.IsSnapshotRecoveringResponse, error) {
	if err := p.s.checkCluster(req.GetHeader().GetClusterId()); err != nil {
		return nil, err
	}
	return &pdpb.IsSnapshotRecoveringResponse{Header: p.s.header()}, nil
}

// GetClusterConfig implements pdpb.PDServer.
func (p *service) GetClusterConfig(_ context.Context, req *pdpb.GetClusterConfigRequest) (*pdpb.GetClusterConfigResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetClusterConfigResponse{Header: h}, err
	}
	return &pdpb.GetClusterConfigResponse{Header: h, Cluster: t.cluster.clusterMeta()}, nil
}

// PutClusterConfig implements pdpb.PDServer.
func (p *service) PutClusterConfig(ctx context.Context, req *pdpb.PutClusterConfigRequest) (*pdpb.PutClusterConfigResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.PutClusterConfigResponse{Header: h}, err
	}
	if refused := t.cluster.putClusterMeta(ctx, req.GetCluster()); refused != nil {
		h, err = p.s.refuse(refused)
	}
	return &pdpb.PutClusterConfigResponse{Header: h}, err
}

// GetStore implements pdpb.PDServer.
func (p *service) GetStore(_ context.Context, req *pdpb.GetStoreRequest) (*pdpb.GetStoreResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetStoreResponse{Header: h}, err
	}
	st, err := t.cluster.store(req.GetStoreId())
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.GetStoreResponse{Header: h, Store: st.Meta, Stats: st.Stats}, nil
}

// PutStore implements pdpb.PDServer.
func (p *service) PutStore(ctx context.Context, req *pdpb.PutStoreRequest) (*pdpb.PutStoreResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.PutStoreResponse{Header: h}, err
	}
	if refused := t.cluster.putStore(ctx, req.GetStore()); refused != nil {
		h, err = p.s.refuse(refused)
	}
	return &pdpb.PutStoreResponse{Header: h}, err
}

// GetAllStores implements pdpb.PDServer.
func (p *service) GetAllStores(_ context.Context, req *pdpb.GetAllStoresRequest) (*pdpb.GetAllStoresResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetAllStoresResponse{Header: h}, err
	}
	resp := &pdpb.GetAllStoresResponse{Header: h}
	for _, st := range t.cluster.stores.All() {
		if !req.GetExcludeTombstoneStores() || !st.IsTombstone() {
			resp.Stores = append(resp.Stores, st.Meta)
		}
	}
	return resp, nil
}

// StoreHeartbeat implements pdpb.PDServer.
func (p *service) StoreHeartbeat(ctx context.Context, req *pdpb.StoreHeartbeatRequest) (*pdpb.StoreHeartbeatResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.StoreHeartbeatResponse{Header: h}, err
	}
	state, err := t.cluster.storeHeartbeat(ctx, req.GetStats())
	if err != nil {
		h, err = p.s.refuse(err)
		return &pdpb.StoreHeartbeatResponse{Header: h}, err
	}
	return &pdpb.StoreHeartbeatResponse{Header: h, ClusterVersion: Version, State: state}, nil
}

// SplitRegions implements pdpb.PDServer.
func (p *service) SplitRegions(ctx context.Context, req *pdpb.SplitRegionsRequest) (*pdpb.SplitRegionsResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.SplitRegionsResponse{Header: h}, err
	}
	percent, ids, err := t.cluster.splitRegions(ctx, req.GetSplitKeys(), req.GetRetryLimit())
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.SplitRegionsResponse{Header: h, FinishedPercentage: percent, RegionsId: ids}, nil
}

// SplitAndScatterRegions implements pdpb.PDServer.
func (p *service) SplitAndScatterRegions(ctx context.Context, req *pdpb.SplitAndScatterRegionsRequest) (*pdpb.SplitAndScatterRegionsResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.SplitAndScatterRegionsResponse{Header: h}, err
	}
	split, ids, err := t.cluster.splitRegions(ctx, req.GetSplitKeys(), req.GetRetryLimit())
	if err != nil {
		return nil, rpcError(err)
	}
	scattered, _ := t.cluster.scatter(ctx, t.cluster.regionsByID(ids), req.GetGroup())
	return &pdpb.SplitAndScatterRegionsResponse{
		Header: h, SplitFinishedPercentage: split, ScatterFinishedPercentage: scattered, RegionsId: ids,
	}, nil
}

// ScatterRegion implements pdpb.PDServer.
func (p *service) ScatterRegion(ctx context.Context, req *pdpb.ScatterRegionRequest) (*pdpb.ScatterRegionResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.ScatterRegionResponse{Header: h}, err
	}
	if ids := req.GetRegionsId(); len(ids) > 0 {
		percent, failed := t.cluster.scatter(ctx, t.cluster.regionsByID(ids), req.GetGroup())
		return &pdpb.ScatterRegionResponse{Header: h, FinishedPercentage: percent, FailedRegionsId: failed}, nil
	}
	//nolint:staticcheck // older clients send it
	id := req.GetRegionId()
	r := t.cluster.regions.ByID(id)
	if r == nil && req.GetRegion() != nil {
		// Just split and not reported yet: the caller knows it.
		r = &core.Region{Meta: req.GetRegion(), Leader: req.GetLeader()}
		if err := core.CheckMeta(r.Meta); err != nil {
			return nil, status.Error(codes.InvalidArgument, err.Error())
		}
		if err := t.cluster.putRegion(r); err != nil {
			return nil, rpcError(err)
		}
	}
	if r == nil {
		h.Error = &pdpb.Error{Type: pdpb.ErrorType_REGION_NOT_FOUND, Message: regionNotFound(id).Error()}
		return &pdpb.ScatterRegionResponse{Header: h}, nil
	}
	if err := t.cluster.sched.Scatter(ctx, r, req.GetGroup()); err != nil {
		h, err = p.s.refuse(err)
		return &pdpb.ScatterRegionResponse{Header: h}, err
	}
	return &pdpb.ScatterRegionResponse{Header: h, FinishedPercentage: 100}, nil
}

// GetOperator implements pdpb.PDServer.
func (p *service) GetOperator(_ context.Context, req *pdpb.GetOperatorRequest) (*pdpb.GetOperatorResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetOperatorResponse{Header: h}, err
	}
	rec, ok := t.cluster.sched.Status(req.GetRegionId())
	if !ok {
		h.Error = &pdpb.Error{Type: pdpb.ErrorType_REGION_NOT_FOUND, Message: "no operator on the region is known"}
		return &pdpb.GetOperatorResponse{Header: h, RegionId: req.GetRegionId()}, nil
	}
	return &pdpb.GetOperatorResponse{
		Header: h, RegionId: req.GetRegionId(), Desc: []byte(rec.Op.Desc), Kind: []byte(rec.Op.Kind.String()), Status: rec.Status,
	}, nil
}
