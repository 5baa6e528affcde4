package tikv

import (
	"context"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// The transactional methods: package txn serves them.

var kvGetCommand = command[*kvrpcpb.GetRequest, *kvrpcpb.GetResponse]{
	name:      "kv_get",
	forbidden: func(q *kvrpcpb.GetRequest) bool { return inV2(q.GetKey()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.GetRequest) (*kvrpcpb.GetResponse, error) {
		return s.txn.KvGet(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.GetResponse { return &kvrpcpb.GetResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.GetResponse { return &kvrpcpb.GetResponse{RegionError: e} },
}

// KvGet implements tikvpb.TikvServer.
func (s *Service) KvGet(ctx context.Context, q *kvrpcpb.GetRequest) (*kvrpcpb.GetResponse, error) {
	return kvGetCommand.serve(ctx, s, q)
}

var kvBatchGetCommand = command[*kvrpcpb.BatchGetRequest, *kvrpcpb.BatchGetResponse]{
	name:      "kv_batch_get",
	forbidden: func(q *kvrpcpb.BatchGetRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.BatchGetRequest) (*kvrpcpb.BatchGetResponse, error) {
		return s.txn.KvBatchGet(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.BatchGetResponse { return &kvrpcpb.BatchGetResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.BatchGetResponse { return &kvrpcpb.BatchGetResponse{RegionError: e} },
}

// KvBatchGet implements tikvpb.TikvServer.
func (s *Service) KvBatchGet(ctx context.Context, q *kvrpcpb.BatchGetRequest) (*kvrpcpb.BatchGetResponse, error) {
	return kvBatchGetCommand.serve(ctx, s, q)
}

var kvScanCommand = command[*kvrpcpb.ScanRequest, *kvrpcpb.ScanResponse]{
	name:        "kv_scan",
	run:         (*Service).scan,
	refuse:      func(why string) *kvrpcpb.ScanResponse { return &kvrpcpb.ScanResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.ScanResponse { return &kvrpcpb.ScanResponse{RegionError: e} },
}

// KvScan implements tikvpb.TikvServer.
func (s *Service) KvScan(ctx context.Context, q *kvrpcpb.ScanRequest) (*kvrpcpb.ScanResponse, error) {
	return kvScanCommand.serve(ctx, s, q)
}

var kvPrewriteCommand = command[*kvrpcpb.PrewriteRequest, *kvrpcpb.PrewriteResponse]{
	name:      "kv_prewrite",
	forbidden: func(q *kvrpcpb.PrewriteRequest) bool { return anyMutationInV2(q.GetMutations()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.PrewriteRequest) (*kvrpcpb.PrewriteResponse, error) {
		return s.txn.KvPrewrite(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.PrewriteResponse {
		return &kvrpcpb.PrewriteResponse{Errors: []*kvrpcpb.KeyError{abort(why)}}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.PrewriteResponse { return &kvrpcpb.PrewriteResponse{RegionError: e} },
}

// KvPrewrite implements tikvpb.TikvServer.
func (s *Service) KvPrewrite(ctx context.Context, q *kvrpcpb.PrewriteRequest) (*kvrpcpb.PrewriteResponse, error) {
	return kvPrewriteCommand.serve(ctx, s, q)
}

var kvCommitCommand = command[*kvrpcpb.CommitRequest, *kvrpcpb.CommitResponse]{
	name:      "kv_commit",
	ending:    true,
	forbidden: func(q *kvrpcpb.CommitRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.CommitRequest) (*kvrpcpb.CommitResponse, error) {
		return s.txn.KvCommit(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.CommitResponse { return &kvrpcpb.CommitResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.CommitResponse { return &kvrpcpb.CommitResponse{RegionError: e} },
}

// KvCommit implements tikvpb.TikvServer.
func (s *Service) KvCommit(ctx context.Context, q *kvrpcpb.CommitRequest) (*kvrpcpb.CommitResponse, error) {
	return kvCommitCommand.serve(ctx, s, q)
}

var kvPessimisticLockCommand = command[*kvrpcpb.PessimisticLockRequest, *kvrpcpb.PessimisticLockResponse]{
	name:      "kv_pessimistic_lock",
	forbidden: func(q *kvrpcpb.PessimisticLockRequest) bool { return anyMutationInV2(q.GetMutations()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.PessimisticLockRequest) (*kvrpcpb.PessimisticLockResponse, error) {
		return s.txn.KvPessimisticLock(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.PessimisticLockResponse {
		return &kvrpcpb.PessimisticLockResponse{Errors: []*kvrpcpb.KeyError{abort(why)}}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.PessimisticLockResponse {
		return &kvrpcpb.PessimisticLockResponse{RegionError: e}
	},
}

// KvPessimisticLock implements tikvpb.TikvServer.
func (s *Service) KvPessimisticLock(ctx context.Context, q *kvrpcpb.PessimisticLockRequest) (*kvrpcpb.PessimisticLockResponse, error) {
	return kvPessimisticLockCommand.serve(ctx, s, q)
}

var kvPessimisticRollbackCommand = command[*kvrpcpb.PessimisticRollbackRequest, *kvrpcpb.PessimisticRollbackResponse]{
	name:      "kv_pessimistic_rollback",
	ending:    true,
	forbidden: func(q *kvrpcpb.PessimisticRollbackRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.PessimisticRollbackRequest) (*kvrpcpb.PessimisticRollbackResponse, error) {
		return s.txn.KVPessimisticRollback(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.PessimisticRollbackResponse {
		return &kvrpcpb.PessimisticRollbackResponse{Errors: []*kvrpcpb.KeyError{abort(why)}}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.PessimisticRollbackResponse {
		return &kvrpcpb.PessimisticRollbackResponse{RegionError: e}
	},
}

// KVPessimisticRollback implements tikvpb.TikvServer.
func (s *Service) KVPessimisticRollback(ctx context.Context, q *kvrpcpb.PessimisticRollbackRequest) (*kvrpcpb.PessimisticRollbackResponse, error) {
	return kvPessimisticRollbackCommand.serve(ctx, s, q)
}

var kvTxnHeartBeatCommand = command[*kvrpcpb.TxnHeartBeatRequest, *kvrpcpb.TxnHeartBeatResponse]{
	name:      "kv_txn_heart_beat",
	ending:    true,
	forbidden: func(q *kvrpcpb.TxnHeartBeatRequest) bool { return inV2(q.GetPrimaryLock()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.TxnHeartBeatRequest) (*kvrpcpb.TxnHeartBeatResponse, error) {
		return s.txn.KvTxnHeartBeat(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.TxnHeartBeatResponse {
		return &kvrpcpb.TxnHeartBeatResponse{Error: abort(why)}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.TxnHeartBeatResponse {
		return &kvrpcpb.TxnHeartBeatResponse{RegionError: e}
	},
}

// KvTxnHeartBeat implements tikvpb.TikvServer.
func (s *Service) KvTxnHeartBeat(ctx context.Context, q *kvrpcpb.TxnHeartBeatRequest) (*kvrpcpb.TxnHeartBeatResponse, error) {
	return kvTxnHeartBeatCommand.serve(ctx, s, q)
}

var kvCheckTxnStatusCommand = command[*kvrpcpb.CheckTxnStatusRequest, *kvrpcpb.CheckTxnStatusResponse]{
	name:      "kv_check_txn_status",
	ending:    true,
	forbidden: func(q *kvrpcpb.CheckTxnStatusRequest) bool { return inV2(q.GetPrimaryKey()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.CheckTxnStatusRequest) (*kvrpcpb.CheckTxnStatusResponse, error) {
		return s.txn.KvCheckTxnStatus(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.CheckTxnStatusResponse {
		return &kvrpcpb.CheckTxnStatusResponse{Error: abort(why)}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.CheckTxnStatusResponse {
		return &kvrpcpb.CheckTxnStatusResponse{RegionError: e}
	},
}

// KvCheckTxnStatus implements tikvpb.TikvServer.
func (s *Service) KvCheckTxnStatus(ctx context.Context, q *kvrpcpb.CheckTxnStatusRequest) (*kvrpcpb.CheckTxnStatusResponse, error) {
	return kvCheckTxnStatusCommand.serve(ctx, s, q)
}

var kvCheckSecondaryLocksCommand = command[*kvrpcpb.CheckSecondaryLocksRequest, *kvrpcpb.CheckSecondaryLocksResponse]{
	name:      "kv_check_secondary_locks",
	ending:    true,
	forbidden: func(q *kvrpcpb.CheckSecondaryLocksRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.CheckSecondaryLocksRequest) (*kvrpcpb.CheckSecondaryLocksResponse, error) {
		return s.txn.KvCheckSecondaryLocks(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.CheckSecondaryLocksResponse {
		return &kvrpcpb.CheckSecondaryLocksResponse{Error: abort(why)}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.CheckSecondaryLocksResponse {
		return &kvrpcpb.CheckSecondaryLocksResponse{RegionError: e}
	},
}

// KvCheckSecondaryLocks implements tikvpb.TikvServer.
func (s *Service) KvCheckSecondaryLocks(ctx context.Context, q *kvrpcpb.CheckSecondaryLocksRequest) (*kvrpcpb.CheckSecondaryLocksResponse, error) {
	return kvCheckSecondaryLocksCommand.serve(ctx, s, q)
}

var kvCleanupCommand = command[*kvrpcpb.CleanupRequest, *kvrpcpb.CleanupResponse]{
	name:      "kv_cleanup",
	ending:    true,
	forbidden: func(q *kvrpcpb.CleanupRequest) bool { return inV2(q.GetKey()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.CleanupRequest) (*kvrpcpb.CleanupResponse, error) {
		return s.txn.KvCleanup(ctx, q)
	},
	refuse:      func(why string) *kvrpcpb.CleanupResponse { return &kvrpcpb.CleanupResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.CleanupResponse { return &kvrpcpb.CleanupResponse{RegionError: e} },
}

// KvCleanup implements tikvpb.TikvServer.
func (s *Service) KvCleanup(ctx context.Context, q *kvrpcpb.CleanupRequest) (*kvrpcpb.CleanupResponse, error) {
	return kvCleanupCommand.serve(ctx, s, q)
}

var kvBatchRollbackCommand = command[*kvrpcpb.BatchRollbackRequest, *kvrpcpb.BatchRollbackResponse]{
	name:      "kv_batch_rollback",
	ending:    true,
	forbidden: func(q *kvrpcpb.BatchRollbackRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.BatchRollbackRequest) (*kvrpcpb.BatchRollbackResponse, error) {
		return s.txn.KvBatchRollback(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.BatchRollbackResponse {
		return &kvrpcpb.BatchRollbackResponse{Error: abort(why)}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.BatchRollbackResponse {
		return &kvrpcpb.BatchRollbackResponse{RegionError: e}
	},
}

// KvBatchRollback implements tikvpb.TikvServer.
func (s *Service) KvBatchRollback(ctx context.Context, q *kvrpcpb.BatchRollbackRequest) (*kvrpcpb.BatchRollbackResponse, error) {
	return kvBatchRollbackCommand.serve(ctx, s, q)
}

var kvScanLockCommand = command[*kvrpcpb.ScanLockRequest, *kvrpcpb.ScanLockResponse]{
	name:        "kv_scan_lock",
	run:         (*Service).scanLock,
	refuse:      func(why string) *kvrpcpb.ScanLockResponse { return &kvrpcpb.ScanLockResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.ScanLockResponse { return &kvrpcpb.ScanLockResponse{RegionError: e} },
}

// KvScanLock implements tikvpb.TikvServer.
func (s *Service) KvScanLock(ctx context.Context, q *kvrpcpb.ScanLockRequest) (*kvrpcpb.ScanLockResponse, error) {
	return kvScanLockCommand.serve(ctx, s, q)
}

var kvResolveLockCommand = command[*kvrpcpb.ResolveLockRequest, *kvrpcpb.ResolveLockResponse]{
	name:      "kv_resolve_lock",
	ending:    true,
	forbidden: func(q *kvrpcpb.ResolveLockRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.ResolveLockRequest) (*kvrpcpb.ResolveLockResponse, error) {
		return s.txn.KvResolveLock(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.ResolveLockResponse { return &kvrpcpb.ResolveLockResponse{Error: abort(why)} },
	regionError: func(e *errorpb.Error) *kvrpcpb.ResolveLockResponse {
		return &kvrpcpb.ResolveLockResponse{RegionError: e}
	},
}

// KvResolveLock implements tikvpb.TikvServer.
func (s *Service) KvResolveLock(ctx context.Context, q *kvrpcpb.ResolveLockRequest) (*kvrpcpb.ResolveLockResponse, error) {
	return kvResolveLockCommand.serve(ctx, s, q)
}

var kvDeleteRangeCommand = command[*kvrpcpb.DeleteRangeRequest, *kvrpcpb.DeleteRangeResponse]{
	name:      "kv_delete_range",
	forbidden: func(q *kvrpcpb.DeleteRangeRequest) bool { return meetsV2(q.GetStartKey(), q.GetEndKey()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.DeleteRangeRequest) (*kvrpcpb.DeleteRangeResponse, error) {
		return s.txn.KvDeleteRange(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.DeleteRangeResponse { return &kvrpcpb.DeleteRangeResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.DeleteRangeResponse {
		return &kvrpcpb.DeleteRangeResponse{RegionError: e}
	},
}

// KvDeleteRange implements tikvpb.TikvServer.
func (s *Service) KvDeleteRange(ctx context.Context, q *kvrpcpb.DeleteRangeRequest) (*kvrpcpb.DeleteRangeResponse, error) {
	return kvDeleteRangeCommand.serve(ctx, s, q)
}

var kvFlushCommand = command[*kvrpcpb.FlushRequest, *kvrpcpb.FlushResponse]{
	name:      "kv_flush",
	forbidden: func(q *kvrpcpb.FlushRequest) bool { return anyMutationInV2(q.GetMutations()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.FlushRequest) (*kvrpcpb.FlushResponse, error) {
		return s.txn.KvFlush(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.FlushResponse {
		return &kvrpcpb.FlushResponse{Errors: []*kvrpcpb.KeyError{abort(why)}}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.FlushResponse { return &kvrpcpb.FlushResponse{RegionError: e} },
}

// KvFlush implements tikvpb.TikvServer.
func (s *Service) KvFlush(ctx context.Context, q *kvrpcpb.FlushRequest) (*kvrpcpb.FlushResponse, error) {
	return kvFlushCommand.serve(ctx, s, q)
}

var kvBufferBatchGetCommand = command[*kvrpcpb.BufferBatchGetRequest, *kvrpcpb.BufferBatchGetResponse]{
	name:      "kv_buffer_batch_get",
	forbidden: func(q *kvrpcpb.BufferBatchGetRequest) bool { return anyInV2(q.GetKeys()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.BufferBatchGetRequest) (*kvrpcpb.BufferBatchGetResponse, error) {
		return s.txn.KvBufferBatchGet(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.BufferBatchGetResponse {
		return &kvrpcpb.BufferBatchGetResponse{Error: abort(why)}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.BufferBatchGetResponse {
		return &kvrpcpb.BufferBatchGetResponse{RegionError: e}
	},
}

// KvBufferBatchGet implements tikvpb.TikvServer.
func (s *Service) KvBufferBatchGet(ctx context.Context, q *kvrpcpb.BufferBatchGetRequest) (*kvrpcpb.BufferBatchGetResponse, error) {
	return kvBufferBatchGetCommand.serve(ctx, s, q)
}

var mvccGetByKeyCommand = command[*kvrpcpb.MvccGetByKeyRequest, *kvrpcpb.MvccGetByKeyResponse]{
	name:      "mvcc_get_by_key",
	forbidden: func(q *kvrpcpb.MvccGetByKeyRequest) bool { return inV2(q.GetKey()) },
	run: func(s *Service, ctx context.Context, q *kvrpcpb.MvccGetByKeyRequest) (*kvrpcpb.MvccGetByKeyResponse, error) {
		return s.txn.MvccGetByKey(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.MvccGetByKeyResponse { return &kvrpcpb.MvccGetByKeyResponse{Error: why} },
	regionError: func(e *errorpb.Error) *kvrpcpb.MvccGetByKeyResponse {
		return &kvrpcpb.MvccGetByKeyResponse{RegionError: e}
	},
}

// MvccGetByKey implements tikvpb.TikvServer.
func (s *Service) MvccGetByKey(ctx context.Context, q *kvrpcpb.MvccGetByKeyRequest) (*kvrpcpb.MvccGetByKeyResponse, error) {
	return mvccGetByKeyCommand.serve(ctx, s, q)
}

var mvccGetByStartTsCommand = command[*kvrpcpb.MvccGetByStartTsRequest, *kvrpcpb.MvccGetByStartTsResponse]{
	name: "mvcc_get_by_start_ts",
	run: func(s *Service, ctx context.Context, q *kvrpcpb.MvccGetByStartTsRequest) (*kvrpcpb.MvccGetByStartTsResponse, error) {
		return s.txn.MvccGetByStartTs(ctx, q)
	},
	refuse: func(why string) *kvrpcpb.MvccGetByStartTsResponse {
		return &kvrpcpb.MvccGetByStartTsResponse{Error: why}
	},
	regionError: func(e *errorpb.Error) *kvrpcpb.MvccGetByStartTsResponse {
		return &kvrpcpb.MvccGetByStartTsResponse{RegionError: e}
	},
}

// MvccGetByStartTs implements tikvpb.TikvServer.
func (s *Service) MvccGetByStartTs(ctx context.Context, q *kvrpcpb.MvccGetByStartTsRequest) (*kvrpcpb.MvccGetByStartTsResponse, error) {
	return mvccGetByStartTsCommand.serve(ctx, s, q)
}
