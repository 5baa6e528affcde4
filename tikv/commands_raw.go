package tikv

import (
	"context"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// The raw methods: package tikv/raw serves them.

var rawGetCommand = command[*kvrpcpb.RawGetRequest, *kvrpcpb.RawGetResponse]{
	name: "raw_get",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawGetRequest) (*kvrpcpb.RawGetResponse, error) {
		return s.raw.RawGet(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.RawGetResponse { return &kvrpcpb.RawGetResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawGetResponse { return &kvrpcpb.RawGetResponse{RegionError: e} },
}

// RawGet implements tikvpb.TikvServer.
func (s *Service) RawGet(ctx context.Context, q *kvrpcpb.RawGetRequest) (*kvrpcpb.RawGetResponse, error) {
	return rawGetCommand.serve(ctx, s, q)
}

var rawBatchGetCommand = command[*kvrpcpb.RawBatchGetRequest, *kvrpcpb.RawBatchGetResponse]{
	name: "raw_batch_get",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawBatchGetRequest) (*kvrpcpb.RawBatchGetResponse, error) {
		return s.raw.RawBatchGet(ctx, q)
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.RawBatchGetResponse {
		return &kvrpcpb.RawBatchGetResponse{RegionError: e}
	},
}

// RawBatchGet implements tikvpb.TikvServer.
func (s *Service) RawBatchGet(ctx context.Context, q *kvrpcpb.RawBatchGetRequest) (*kvrpcpb.RawBatchGetResponse, error) {
	return rawBatchGetCommand.serve(ctx, s, q)
}

var rawPutCommand = command[*kvrpcpb.RawPutRequest, *kvrpcpb.RawPutResponse]{
	name: "raw_put",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawPutRequest) (*kvrpcpb.RawPutResponse, error) {
		return s.raw.RawPut(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.RawPutResponse { return &kvrpcpb.RawPutResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawPutResponse { return &kvrpcpb.RawPutResponse{RegionError: e} },
}

// RawPut implements tikvpb.TikvServer.
func (s *Service) RawPut(ctx context.Context, q *kvrpcpb.RawPutRequest) (*kvrpcpb.RawPutResponse, error) {
	return rawPutCommand.serve(ctx, s, q)
}

var rawBatchPutCommand = command[*kvrpcpb.RawBatchPutRequest, *kvrpcpb.RawBatchPutResponse]{
	name: "raw_batch_put",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawBatchPutRequest) (*kvrpcpb.RawBatchPutResponse, error) {
		return s.raw.RawBatchPut(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.RawBatchPutResponse { return &kvrpcpb.RawBatchPutResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawBatchPutResponse {
		return &kvrpcpb.RawBatchPutResponse{RegionError: e}
	},
}

// RawBatchPut implements tikvpb.TikvServer.
func (s *Service) RawBatchPut(ctx context.Context, q *kvrpcpb.RawBatchPutRequest) (*kvrpcpb.RawBatchPutResponse, error) {
	return rawBatchPutCommand.serve(ctx, s, q)
}

var rawDeleteCommand = command[*kvrpcpb.RawDeleteRequest, *kvrpcpb.RawDeleteResponse]{
	name: "raw_delete",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawDeleteRequest) (*kvrpcpb.RawDeleteResponse, error) {
		return s.raw.RawDelete(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.RawDeleteResponse { return &kvrpcpb.RawDeleteResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawDeleteResponse { return &kvrpcpb.RawDeleteResponse{RegionError: e} },
}

// RawDelete implements tikvpb.TikvServer.
func (s *Service) RawDelete(ctx context.Context, q *kvrpcpb.RawDeleteRequest) (*kvrpcpb.RawDeleteResponse, error) {
	return rawDeleteCommand.serve(ctx, s, q)
}

var rawBatchDeleteCommand = command[*kvrpcpb.RawBatchDeleteRequest, *kvrpcpb.RawBatchDeleteResponse]{
	name: "raw_batch_delete",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawBatchDeleteRequest) (*kvrpcpb.RawBatchDeleteResponse, error) {
		return s.raw.RawBatchDelete(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.RawBatchDeleteResponse { return &kvrpcpb.RawBatchDeleteResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawBatchDeleteResponse {
		return &kvrpcpb.RawBatchDeleteResponse{RegionError: e}
	},
}

// RawBatchDelete implements tikvpb.TikvServer.
func (s *Service) RawBatchDelete(ctx context.Context, q *kvrpcpb.RawBatchDeleteRequest) (*kvrpcpb.RawBatchDeleteResponse, error) {
	return rawBatchDeleteCommand.serve(ctx, s, q)
}

var rawScanCommand = command[*kvrpcpb.RawScanRequest, *kvrpcpb.RawScanResponse]{
	name: "raw_scan",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawScanRequest) (*kvrpcpb.RawScanResponse, error) {
		return s.raw.RawScan(ctx, q)
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.RawScanResponse { return &kvrpcpb.RawScanResponse{RegionError: e} },
}

// RawScan implements tikvpb.TikvServer.
func (s *Service) RawScan(ctx context.Context, q *kvrpcpb.RawScanRequest) (*kvrpcpb.RawScanResponse, error) {
	return rawScanCommand.serve(ctx, s, q)
}

var rawDeleteRangeCommand = command[*kvrpcpb.RawDeleteRangeRequest, *kvrpcpb.RawDeleteRangeResponse]{
	name: "raw_delete_range",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawDeleteRangeRequest) (*kvrpcpb.RawDeleteRangeResponse, error) {
		return s.raw.RawDeleteRange(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.RawDeleteRangeResponse { return &kvrpcpb.RawDeleteRangeResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawDeleteRangeResponse {
		return &kvrpcpb.RawDeleteRangeResponse{RegionError: e}
	},
}

// RawDeleteRange implements tikvpb.TikvServer.
func (s *Service) RawDeleteRange(ctx context.Context, q *kvrpcpb.RawDeleteRangeRequest) (*kvrpcpb.RawDeleteRangeResponse, error) {
	return rawDeleteRangeCommand.serve(ctx, s, q)
}

var rawBatchScanCommand = command[*kvrpcpb.RawBatchScanRequest, *kvrpcpb.RawBatchScanResponse]{
	name: "raw_batch_scan",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawBatchScanRequest) (*kvrpcpb.RawBatchScanResponse, error) {
		return s.raw.RawBatchScan(ctx, q)
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.RawBatchScanResponse {
		return &kvrpcpb.RawBatchScanResponse{RegionError: e}
	},
}

// RawBatchScan implements tikvpb.TikvServer.
func (s *Service) RawBatchScan(ctx context.Context, q *kvrpcpb.RawBatchScanRequest) (*kvrpcpb.RawBatchScanResponse, error) {
	return rawBatchScanCommand.serve(ctx, s, q)
}

var rawGetKeyTTLCommand = command[*kvrpcpb.RawGetKeyTTLRequest, *kvrpcpb.RawGetKeyTTLResponse]{
	name: "raw_get_key_ttl",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawGetKeyTTLRequest) (*kvrpcpb.RawGetKeyTTLResponse, error) {
		return s.raw.RawGetKeyTTL(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.RawGetKeyTTLResponse { return &kvrpcpb.RawGetKeyTTLResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawGetKeyTTLResponse {
		return &kvrpcpb.RawGetKeyTTLResponse{RegionError: e}
	},
}

// RawGetKeyTTL implements tikvpb.TikvServer.
func (s *Service) RawGetKeyTTL(ctx context.Context, q *kvrpcpb.RawGetKeyTTLRequest) (*kvrpcpb.RawGetKeyTTLResponse, error) {
	return rawGetKeyTTLCommand.serve(ctx, s, q)
}

var rawCompareAndSwapCommand = command[*kvrpcpb.RawCASRequest, *kvrpcpb.RawCASResponse]{
	name: "raw_compare_and_swap",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawCASRequest) (*kvrpcpb.RawCASResponse, error) {
		return s.raw.RawCompareAndSwap(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.RawCASResponse { return &kvrpcpb.RawCASResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawCASResponse { return &kvrpcpb.RawCASResponse{RegionError: e} },
}

// RawCompareAndSwap implements tikvpb.TikvServer.
func (s *Service) RawCompareAndSwap(ctx context.Context, q *kvrpcpb.RawCASRequest) (*kvrpcpb.RawCASResponse, error) {
	return rawCompareAndSwapCommand.serve(ctx, s, q)
}

var rawChecksumCommand = command[*kvrpcpb.RawChecksumRequest, *kvrpcpb.RawChecksumResponse]{
	name: "raw_checksum",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.RawChecksumRequest) (*kvrpcpb.RawChecksumResponse, error) {
		return s.raw.RawChecksum(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.RawChecksumResponse { return &kvrpcpb.RawChecksumResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.RawChecksumResponse {
		return &kvrpcpb.RawChecksumResponse{RegionError: e}
	},
}

// RawChecksum implements tikvpb.TikvServer.
func (s *Service) RawChecksum(ctx context.Context, q *kvrpcpb.RawChecksumRequest) (*kvrpcpb.RawChecksumResponse, error) {
	return rawChecksumCommand.serve(ctx, s, q)
}
