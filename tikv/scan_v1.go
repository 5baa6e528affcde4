package tikv

import (
	"bytes"
	"context"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// plainRange is [start, end) in plain keys; an empty end is unbounded.
type plainRange struct{ start, end []byte }

// aroundV2 cuts API V2's keyspaces out of [start, end), ascending. Parts may lie
// outside the request's region: its bounds cut them down to nothing.
func aroundV2(start, end []byte) []plainRange {
	var out []plainRange
	if bytes.Compare(start, v2Start) < 0 {
		out = append(out, plainRange{start, v2Start})
	}
	if len(end) == 0 || bytes.Compare(v2End, end) < 0 {
		out = append(out, plainRange{v2End, end})
	}
	return out
}

// scan is KvScan. For a V1 client V2's keyspaces do not exist: a range that
// meets them is scanned in two parts.
func (s *Service) scan(ctx context.Context, req *kvrpcpb.ScanRequest) (*kvrpcpb.ScanResponse, error) {
	lower, upper := req.GetStartKey(), req.GetEndKey()
	if req.GetReverse() {
		lower, upper = upper, lower
	}
	if !isV1(req.GetContext()) || !meetsV2(lower, upper) {
		return s.txn.KvScan(ctx, req)
	}
	parts := aroundV2(lower, upper)
	if req.GetReverse() {
		slices.Reverse(parts)
	}
	out := &kvrpcpb.ScanResponse{}
	for _, p := range parts {
		left := int(req.GetLimit()) - len(out.Pairs)
		if left <= 0 {
			break
		}
		part := *req
		part.StartKey, part.EndKey, part.Limit = p.start, p.end, uint32(left)
		if req.GetReverse() {
			part.StartKey, part.EndKey = p.end, p.start
		}
		resp, err := s.txn.KvScan(ctx, &part)
		if err != nil || resp.RegionError != nil || resp.Error != nil {
			return resp, err
		}
		out.Pairs = append(out.Pairs, resp.Pairs...)
	}
	return out, nil
}

// scanLock is KvScanLock, with the same blind spot for V1 clients: V2's resolve
// their own locks.
func (s *Service) scanLock(ctx context.Context, req *kvrpcpb.ScanLockRequest) (*kvrpcpb.ScanLockResponse, error) {
	if !isV1(req.GetContext()) || !meetsV2(req.GetStartKey(), req.GetEndKey()) {
		return s.txn.KvScanLock(ctx, req)
	}
	out := &kvrpcpb.ScanLockResponse{}
	for _, p := range aroundV2(req.GetStartKey(), req.GetEndKey()) {
		part := *req
		part.StartKey, part.EndKey = p.start, p.end
		if req.GetLimit() > 0 { // 0 is unlimited
			left := int(req.GetLimit()) - len(out.Locks)
			if left <= 0 {
				break
			}
			part.Limit = uint32(left)
		}
		resp, err := s.txn.KvScanLock(ctx, &part)
		if err != nil || resp.RegionError != nil || resp.Error != nil {
			return resp, err
		}
		out.Locks = append(out.Locks, resp.Locks...)
	}
	return out, nil
}
