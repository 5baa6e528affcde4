package tikv

import (
	"context"

	"github.com/pingcap/kvproto/pkg/coprocessor"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
)

type (
	batchRequest  = tikvpb.BatchCommandsRequest_Request
	batchResponse = tikvpb.BatchCommandsResponse_Response
)

// dispatch answers one request of a batch, with the arm of the response that
// matches. ok is false if there is nothing to send; known is false for a
// command that this store does not have.
func (s *Service) dispatch(ctx context.Context, req *batchRequest) (resp *batchResponse, ok, known bool) {
	out := &batchResponse{}
	switch c := req.GetCmd().(type) {
	case *tikvpb.BatchCommandsRequest_Request_Get:
		r := &tikvpb.BatchCommandsResponse_Response_Get{}
		r.Get, ok = kvGetCommand.serveBatched(ctx, s, c.Get)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_Scan:
		r := &tikvpb.BatchCommandsResponse_Response_Scan{}
		r.Scan, ok = kvScanCommand.serveBatched(ctx, s, c.Scan)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_Prewrite:
		r := &tikvpb.BatchCommandsResponse_Response_Prewrite{}
		if r.Prewrite, ok = kvPrewriteCommand.serveBatched(ctx, s, c.Prewrite); r.Prewrite != nil {
			out.Cmd = r
		}
	case *tikvpb.BatchCommandsRequest_Request_Commit:
		r := &tikvpb.BatchCommandsResponse_Response_Commit{}
		if r.Commit, ok = kvCommitCommand.serveBatched(ctx, s, c.Commit); r.Commit != nil {
			out.Cmd = r
		}
	case *tikvpb.BatchCommandsRequest_Request_Cleanup:
		r := &tikvpb.BatchCommandsResponse_Response_Cleanup{}
		r.Cleanup, ok = kvCleanupCommand.serveBatched(ctx, s, c.Cleanup)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_BatchGet:
		r := &tikvpb.BatchCommandsResponse_Response_BatchGet{}
		r.BatchGet, ok = kvBatchGetCommand.serveBatched(ctx, s, c.BatchGet)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_BatchRollback:
		r := &tikvpb.BatchCommandsResponse_Response_BatchRollback{}
		r.BatchRollback, ok = kvBatchRollbackCommand.serveBatched(ctx, s, c.BatchRollback)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_ScanLock:
		r := &tikvpb.BatchCommandsResponse_Response_ScanLock{}
		r.ScanLock, ok = kvScanLockCommand.serveBatched(ctx, s, c.ScanLock)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_ResolveLock:
		r := &tikvpb.BatchCommandsResponse_Response_ResolveLock{}
		r.ResolveLock, ok = kvResolveLockCommand.serveBatched(ctx, s, c.ResolveLock)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_DeleteRange:
		r := &tikvpb.BatchCommandsResponse_Response_DeleteRange{}
		r.DeleteRange, ok = kvDeleteRangeCommand.serveBatched(ctx, s, c.DeleteRange)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawGet:
		r := &tikvpb.BatchCommandsResponse_Response_RawGet{}
		r.RawGet, ok = rawGetCommand.serveBatched(ctx, s, c.RawGet)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawBatchGet:
		r := &tikvpb.BatchCommandsResponse_Response_RawBatchGet{}
		r.RawBatchGet, ok = rawBatchGetCommand.serveBatched(ctx, s, c.RawBatchGet)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawPut:
		r := &tikvpb.BatchCommandsResponse_Response_RawPut{}
		r.RawPut, ok = rawPutCommand.serveBatched(ctx, s, c.RawPut)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawBatchPut:
		r := &tikvpb.BatchCommandsResponse_Response_RawBatchPut{}
		r.RawBatchPut, ok = rawBatchPutCommand.serveBatched(ctx, s, c.RawBatchPut)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawDelete:
		r := &tikvpb.BatchCommandsResponse_Response_RawDelete{}
		r.RawDelete, ok = rawDeleteCommand.serveBatched(ctx, s, c.RawDelete)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawBatchDelete:
		r := &tikvpb.BatchCommandsResponse_Response_RawBatchDelete{}
		r.RawBatchDelete, ok = rawBatchDeleteCommand.serveBatched(ctx, s, c.RawBatchDelete)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawScan:
		r := &tikvpb.BatchCommandsResponse_Response_RawScan{}
		r.RawScan, ok = rawScanCommand.serveBatched(ctx, s, c.RawScan)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawDeleteRange:
		r := &tikvpb.BatchCommandsResponse_Response_RawDeleteRange{}
		r.RawDeleteRange, ok = rawDeleteRangeCommand.serveBatched(ctx, s, c.RawDeleteRange)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_RawBatchScan:
		r := &tikvpb.BatchCommandsResponse_Response_RawBatchScan{}
		r.RawBatchScan, ok = rawBatchScanCommand.serveBatched(ctx, s, c.RawBatchScan)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_PessimisticLock:
		r := &tikvpb.BatchCommandsResponse_Response_PessimisticLock{}
		r.PessimisticLock, ok = kvPessimisticLockCommand.serveBatched(ctx, s, c.PessimisticLock)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_PessimisticRollback:
		r := &tikvpb.BatchCommandsResponse_Response_PessimisticRollback{}
		r.PessimisticRollback, ok = kvPessimisticRollbackCommand.serveBatched(ctx, s, c.PessimisticRollback)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_CheckTxnStatus:
		r := &tikvpb.BatchCommandsResponse_Response_CheckTxnStatus{}
		r.CheckTxnStatus, ok = kvCheckTxnStatusCommand.serveBatched(ctx, s, c.CheckTxnStatus)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_TxnHeartBeat:
		r := &tikvpb.BatchCommandsResponse_Response_TxnHeartBeat{}
		r.TxnHeartBeat, ok = kvTxnHeartBeatCommand.serveBatched(ctx, s, c.TxnHeartBeat)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_CheckSecondaryLocks:
		r := &tikvpb.BatchCommandsResponse_Response_CheckSecondaryLocks{}
		r.CheckSecondaryLocks, ok = kvCheckSecondaryLocksCommand.serveBatched(ctx, s, c.CheckSecondaryLocks)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_Flush:
		r := &tikvpb.BatchCommandsResponse_Response_Flush{}
		r.Flush, ok = kvFlushCommand.serveBatched(ctx, s, c.Flush)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_BufferBatchGet:
		r := &tikvpb.BatchCommandsResponse_Response_BufferBatchGet{}
		r.BufferBatchGet, ok = kvBufferBatchGetCommand.serveBatched(ctx, s, c.BufferBatchGet)
		out.Cmd = r
	case *tikvpb.BatchCommandsRequest_Request_GetHealthFeedback:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_GetHealthFeedback{
			GetHealthFeedback: &kvrpcpb.GetHealthFeedbackResponse{HealthFeedback: s.health()}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_BroadcastTxnStatus:
		r, err := s.BroadcastTxnStatus(ctx, c.BroadcastTxnStatus)
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_BroadcastTxnStatus{BroadcastTxnStatus: r}
		ok = err == nil
	case *tikvpb.BatchCommandsRequest_Request_Empty:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_Empty{
			Empty: &tikvpb.BatchCommandsEmptyResponse{TestId: c.Empty.GetTestId()}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_Coprocessor:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_Coprocessor{
			Coprocessor: &coprocessor.Response{OtherError: unsupported("Coprocessor")}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_RawCoprocessor:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_RawCoprocessor{
			RawCoprocessor: &kvrpcpb.RawCoprocessorResponse{Error: unsupported("RawCoprocessor")}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_Import:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_Import{
			Import: &kvrpcpb.ImportResponse{Error: unsupported("KvImport")}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_GC:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_GC{
			GC: &kvrpcpb.GCResponse{Error: abort(unsupported("KvGC"))}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_FlashbackToVersion:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_FlashbackToVersion{
			FlashbackToVersion: &kvrpcpb.FlashbackToVersionResponse{Error: unsupported("KvFlashbackToVersion")}}
		ok = true
	case *tikvpb.BatchCommandsRequest_Request_PrepareFlashbackToVersion:
		out.Cmd = &tikvpb.BatchCommandsResponse_Response_PrepareFlashbackToVersion{
			PrepareFlashbackToVersion: &kvrpcpb.PrepareFlashbackToVersionResponse{Error: unsupported("KvPrepareFlashbackToVersion")}}
		ok = true
	default:
		return nil, false, false
	}
	return out, ok, true
}

func unsupported(method string) string { return method + " is not supported by copra" }
