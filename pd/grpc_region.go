package pd

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/core"
)

var errRegionUnknown = errors.New("is not known")

func regionNotFound(id uint64) error { return fmt.Errorf("region %d %w", id, errRegionUnknown) }

// regionResponse is the answer for one region; for none (a hole, not reported
// yet) it is empty, and clients ask again.
func regionResponse(h *pdpb.ResponseHeader, r *core.Region, buckets bool) *pdpb.GetRegionResponse {
	resp := &pdpb.GetRegionResponse{Header: h}
	if r != nil {
		resp.Region, resp.Leader = r.Meta, r.Leader
		resp.DownPeers, resp.PendingPeers = r.Down, r.Pending
		resp.Buckets = r.BucketsPB(buckets)
	}
	return resp
}

// GetRegion implements pdpb.PDServer.
func (p *service) GetRegion(ctx context.Context, req *pdpb.GetRegionRequest) (*pdpb.GetRegionResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetRegionResponse{Header: h}, err
	}
	return regionResponse(h, viewOf(ctx, t.cluster.regions).byKey(req.GetRegionKey()), req.GetNeedBuckets()), nil
}

// GetPrevRegion implements pdpb.PDServer: the region before the one that holds
// the key.
func (p *service) GetPrevRegion(ctx context.Context, req *pdpb.GetRegionRequest) (*pdpb.GetRegionResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetRegionResponse{Header: h}, err
	}
	return regionResponse(h, viewOf(ctx, t.cluster.regions).prev(req.GetRegionKey()), req.GetNeedBuckets()), nil
}

// GetRegionByID implements pdpb.PDServer.
func (p *service) GetRegionByID(ctx context.Context, req *pdpb.GetRegionByIDRequest) (*pdpb.GetRegionResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.GetRegionResponse{Header: h}, err
	}
	return regionResponse(h, viewOf(ctx, t.cluster.regions).byID(req.GetRegionId()), req.GetNeedBuckets()), nil
}

// QueryRegion implements pdpb.PDServer.
func (p *service) QueryRegion(stream pdpb.PD_QueryRegionServer) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			return endOfStream(err)
		}
		t, h, err := p.s.serveRegions(req.GetHeader())
		if err != nil {
			return err
		}
		resp := &pdpb.QueryRegionResponse{Header: h}
		if t != nil {
			queryRegions(viewOf(stream.Context(), t.cluster.regions), req, resp)
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func queryRegions(rs regionView, req *pdpb.QueryRegionRequest, resp *pdpb.QueryRegionResponse) {
	resp.RegionsById = make(map[uint64]*pdpb.RegionResponse)
	add := func(r *core.Region) uint64 {
		if r == nil {
			return 0
		}
		if resp.RegionsById[r.ID()] == nil {
			resp.RegionsById[r.ID()] = &pdpb.RegionResponse{
				Region: r.Meta, Leader: r.Leader, DownPeers: r.Down, PendingPeers: r.Pending,
				Buckets: r.BucketsPB(req.GetNeedBuckets()),
			}
		}
		return r.ID()
	}
	for _, key := range req.GetKeys() {
		resp.KeyIdMap = append(resp.KeyIdMap, add(rs.byKey(key)))
	}
	for _, key := range req.GetPrevKeys() {
		resp.PrevKeyIdMap = append(resp.PrevKeyIdMap, add(rs.prev(key)))
	}
	for _, id := range req.GetIds() {
		add(rs.byID(id))
	}
}

// ScanRegions implements pdpb.PDServer.
func (p *service) ScanRegions(ctx context.Context, req *pdpb.ScanRegionsRequest) (*pdpb.ScanRegionsResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.ScanRegionsResponse{Header: h}, err
	}
	resp := &pdpb.ScanRegionsResponse{Header: h}
	for _, r := range viewOf(ctx, t.cluster.regions).scan(req.GetStartKey(), req.GetEndKey(), int(req.GetLimit())) {
		leader := r.Leader
		if leader == nil {
			leader = &metapb.Peer{} // the list is parallel to the regions
		}
		resp.RegionMetas = append(resp.RegionMetas, r.Meta)
		resp.Leaders = append(resp.Leaders, leader)
		resp.Regions = append(resp.Regions, r.PB(false))
	}
	return resp, nil
}

// BatchScanRegions implements pdpb.PDServer.
func (p *service) BatchScanRegions(ctx context.Context, req *pdpb.BatchScanRegionsRequest) (*pdpb.BatchScanRegionsResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.BatchScanRegionsResponse{Header: h}, err
	}
	if err := checkRanges(req.GetRanges()); err != nil {
		return nil, err
	}
	regions, whole := scanRanges(viewOf(ctx, t.cluster.regions), req.GetRanges(), int(req.GetLimit()))
	resp := &pdpb.BatchScanRegionsResponse{Header: h}
	if req.GetContainAllKeyRange() && !whole {
		h.Error = &pdpb.Error{Type: pdpb.ErrorType_REGIONS_NOT_CONTAIN_ALL_KEY_RANGE,
			Message: "there are holes between the known regions; ask again when they have reported"}
		return resp, nil
	}
	for _, r := range regions {
		resp.Regions = append(resp.Regions, r.PB(req.GetNeedBuckets()))
	}
	return resp, nil
}

func checkRanges(ranges []*pdpb.KeyRange) error {
	for i, kr := range ranges {
		if len(kr.EndKey) > 0 && bytes.Compare(kr.StartKey, kr.EndKey) > 0 {
			return status.Errorf(codes.InvalidArgument, "invalid key range, start key > end key: [%x, %x)", kr.StartKey, kr.EndKey)
		}
		if i == 0 {
			continue
		}
		if prev := ranges[i-1]; len(prev.EndKey) == 0 || bytes.Compare(prev.EndKey, kr.StartKey) > 0 {
			return status.Errorf(codes.InvalidArgument, "invalid key range, ranges overlapped or out of order: %x follows %x", kr.StartKey, prev.EndKey)
		}
	}
	return nil
}

// scanRanges returns the regions of all ranges, each once, and whether they
// leave no hole. A scan that ended at its limit leaves none up to there.
func scanRanges(rs regionView, ranges []*pdpb.KeyRange, limit int) (out []*core.Region, whole bool) {
	whole = true
	for _, kr := range ranges {
		left := 0
		if limit > 0 {
			if left = limit - len(out); left <= 0 {
				return out, whole
			}
			left++ // the first may be the last one of the range before
		}
		next, open := kr.StartKey, true
		for _, r := range rs.scan(kr.StartKey, kr.EndKey, left) {
			if limit > 0 && len(out) >= limit {
				return out, whole
			}
			if bytes.Compare(r.Meta.StartKey, next) > 0 {
				whole = false
			}
			next = r.Meta.EndKey
			open = len(next) > 0
			if len(out) == 0 || out[len(out)-1].ID() != r.ID() {
				out = append(out, r)
			}
		}
		reached := !open || len(kr.EndKey) > 0 && bytes.Compare(next, kr.EndKey) >= 0
		if !reached && (limit <= 0 || len(out) < limit) {
			whole = false
		}
	}
	return out, whole
}

// AskSplit implements pdpb.PDServer.
func (p *service) AskSplit(ctx context.Context, req *pdpb.AskSplitRequest) (*pdpb.AskSplitResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.AskSplitResponse{Header: h}, err
	}
	ids, err := t.cluster.askBatchSplit(ctx, req.GetRegion(), 1)
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.AskSplitResponse{Header: h, NewRegionId: ids[0].NewRegionId, NewPeerIds: ids[0].NewPeerIds}, nil
}

// AskBatchSplit implements pdpb.PDServer.
func (p *service) AskBatchSplit(ctx context.Context, req *pdpb.AskBatchSplitRequest) (*pdpb.AskBatchSplitResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.AskBatchSplitResponse{Header: h}, err
	}
	ids, err := t.cluster.askBatchSplit(ctx, req.GetRegion(), req.GetSplitCount())
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.AskBatchSplitResponse{Header: h, Ids: ids}, nil
}

// ReportSplit implements pdpb.PDServer.
func (p *service) ReportSplit(_ context.Context, req *pdpb.ReportSplitRequest) (*pdpb.ReportSplitResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.ReportSplitResponse{Header: h}, err
	}
	if err := t.cluster.reportSplit([]*metapb.Region{req.GetLeft(), req.GetRight()}); err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.ReportSplitResponse{Header: h}, nil
}

// ReportBatchSplit implements pdpb.PDServer.
func (p *service) ReportBatchSplit(_ context.Context, req *pdpb.ReportBatchSplitRequest) (*pdpb.ReportBatchSplitResponse, error) {
	t, h, err := p.s.serveRegions(req.GetHeader())
	if t == nil {
		return &pdpb.ReportBatchSplitResponse{Header: h}, err
	}
	if err := t.cluster.reportSplit(req.GetRegions()); err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.ReportBatchSplitResponse{Header: h}, nil
}
