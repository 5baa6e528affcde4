package tikv

import (
	"bytes"
	"context"
	"slices"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/tikv/raw"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// regionSplitter is what SplitRegion needs of raftstore.
type regionSplitter interface {
	// SplitRegion cuts the request's region at boundaries and returns the
	// regions that it became, from left to right.
	SplitRegion(ctx context.Context, rc *kvrpcpb.Context, keys [][]byte) ([]*metapb.Region, error)
	Region(id uint64) (raftstore.RegionInfo, bool)
}

// A SplitRegion may have splitKeysMax keys: client-go sends 2048. The region is
// cut at splitBatchKeysMax boundaries at a time.
const (
	splitKeysMax      = 4096
	splitBatchKeysMax = 63
	// splitKeyBytesMax is the length of the longest key, transactional or raw.
	splitKeyBytesMax = max(txn.KeyBytesMax, raw.KeyBytesMax)
)

var splitRegionCommand = command[*kvrpcpb.SplitRegionRequest, *kvrpcpb.SplitRegionResponse]{
	name: "split_region",
	run:  (*Service).splitRegion,
	regionError: func(e *errorpb.Error) *kvrpcpb.SplitRegionResponse {
		return &kvrpcpb.SplitRegionResponse{RegionError: e}
	},
}

// SplitRegion cuts a region at keys: at the encodings of plain keys, or with
// is_raw_kv at raw ones. A raw key of API V1 is a boundary as it is where it
// shares its first eight bytes with others (the pocket's ends become boundaries,
// too); anywhere else the region begins just below it, with no other raw key
// between, so that transactional clients can decode where it begins.
func (s *Service) SplitRegion(ctx context.Context, req *kvrpcpb.SplitRegionRequest) (*kvrpcpb.SplitRegionResponse, error) {
	return splitRegionCommand.serve(ctx, s, req)
}

func (s *Service) splitRegion(ctx context.Context, req *kvrpcpb.SplitRegionRequest) (*kvrpcpb.SplitRegionResponse, error) {
	keys := req.GetSplitKeys()
	if len(keys) == 0 {
		keys = [][]byte{req.GetSplitKey()}
	}
	if len(keys) > splitKeysMax {
		return nil, status.Errorf(codes.InvalidArgument, "split of region %d at %d keys: at most %d are possible", req.GetContext().GetRegionId(), len(keys), splitKeysMax)
	}
	for _, k := range keys {
		if len(k) == 0 {
			return nil, status.Errorf(codes.InvalidArgument, "split of region %d at an empty key", req.GetContext().GetRegionId())
		}
		if len(k) > splitKeyBytesMax { // boundaries are in every heartbeat, and in PD's memory
			return nil, status.Errorf(codes.InvalidArgument, "split of region %d at a key of %d bytes: no key is longer than %d", req.GetContext().GetRegionId(), len(k), splitKeyBytesMax)
		}
	}
	regions, err := s.splitInBatches(ctx, req.GetContext(), s.boundaries(req, keys))
	if re := kv.AsRegionError(err); re != nil {
		return &kvrpcpb.SplitRegionResponse{RegionError: re}, nil
	}
	if err != nil {
		return nil, err
	}
	resp := &kvrpcpb.SplitRegionResponse{Regions: regions}
	if len(regions) == 2 { // what old clients look at
		resp.Left, resp.Right = regions[0], regions[1]
	}
	return resp, nil
}

// splitInBatches cuts the region, and then what is left of it on the right. Of a
// failure in the middle the client hears, and asks for what is missing.
func (s *Service) splitInBatches(ctx context.Context, rc *kvrpcpb.Context, keys [][]byte) (out []*metapb.Region, err error) {
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	for {
		n := min(len(keys), splitBatchKeysMax)
		regions, err := s.regions.SplitRegion(ctx, rc, keys[:n])
		if err != nil {
			return nil, err
		}
		if keys = keys[n:]; len(keys) == 0 {
			return append(out, regions...), nil
		}
		last := len(regions) - 1
		out = append(out, regions[:last]...)
		next := *rc
		next.RegionEpoch = regions[last].GetRegionEpoch()
		rc = &next
	}
}

// boundaries are where the region is cut for the keys of a request. A key that
// is outside of it stays as it is, to be refused; one whose piece begins where
// the region does is left out.
func (s *Service) boundaries(req *kvrpcpb.SplitRegionRequest, keys [][]byte) [][]byte {
	var out [][]byte
	if !req.GetIsRawKv() || !isV1(req.GetContext()) {
		for _, k := range keys {
			out = append(out, codec.EncodeBytes(nil, k))
		}
		return out
	}
	info, ok := s.regions.Region(req.GetContext().GetRegionId())
	if !ok {
		return keys // SplitRegion says so, too
	}
	start, end := info.Region.GetStartKey(), info.Region.GetEndKey()
	var inside [][]byte
	for _, k := range keys {
		if bytes.Compare(k, start) < 0 || len(end) > 0 && bytes.Compare(k, end) >= 0 {
			out = append(out, k)
			continue
		}
		inside = append(inside, k)
	}
	return append(out, engine.RawBoundaries(start, end, inside)...)
}
