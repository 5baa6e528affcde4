package tikv

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/tikv/deadlock"
	"github.com/copradb/copra/tikv/raw"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
)

// safePoints is what stale reads need of raftstore.
type safePoints interface {
	CheckLeaders(infos []*kvrpcpb.LeaderInfo) []uint64
	MinSafeTS(start, end []byte) uint64
}

// Service is the Tikv gRPC service of one store. What it does not have answers
// Unimplemented, by name.
type Service struct {
	tikvpb.UnimplementedTikvServer

	clusterID, storeID uint64
	engine             kv.Engine
	data               *engine.Engine
	txn                *txn.Store
	raw                *raw.Service
	detector           *deadlock.Detector
	regions            regionSplitter
	safe               safePoints
	destroyRange       func(ctx context.Context, start, end []byte) error
	reset              func() // the locks of all regions are to be read again
	log                *slog.Logger
	metrics            *metrics
	inFlight           *inFlight
	slow               *slowlog.Log

	slowScore   func() uint64 // of the store, see raftstore.Store.SlowScore
	feedbackSeq atomic.Uint64
	batchSlots  chan struct{} // requests of BatchCommands streams being served
}

var readIndexCommand = command[*kvrpcpb.ReadIndexRequest, *kvrpcpb.ReadIndexResponse]{
	name:        "read_index",
	run:         (*Service).readIndex,
	regionError: func(e *errorpb.Error) *kvrpcpb.ReadIndexResponse { return &kvrpcpb.ReadIndexResponse{RegionError: e} },
}

// ReadIndex returns an index whose state includes every write that was
// acknowledged before the call. Ranges are checked against in-memory locks.
func (s *Service) ReadIndex(ctx context.Context, req *kvrpcpb.ReadIndexRequest) (*kvrpcpb.ReadIndexResponse, error) {
	return readIndexCommand.serve(ctx, s, req)
}

func (s *Service) readIndex(ctx context.Context, req *kvrpcpb.ReadIndexRequest) (*kvrpcpb.ReadIndexResponse, error) {
	var ranges []kv.KeyRange
	for _, r := range req.GetRanges() {
		ranges = append(ranges, kv.KeyRange{Start: r.GetStartKey(), End: r.GetEndKey()})
	}
	if ts := req.GetStartTs(); ts != 0 && ts != math.MaxUint64 {
		if lock := s.txn.CheckMemoryLocks(ranges, ts); lock != nil {
			return &kvrpcpb.ReadIndexResponse{Locked: lock}, nil
		}
	}
	snap, err := s.engine.Snapshot(ctx, req.GetContext(), kv.SnapshotOptions{ReadTS: req.GetStartTs(), Ranges: ranges})
	if re := kv.AsRegionError(err); re != nil {
		return &kvrpcpb.ReadIndexResponse{RegionError: re}, nil
	}
	var locked *raftstore.LockedError
	if errors.As(err, &locked) {
		return &kvrpcpb.ReadIndexResponse{Locked: locked.Lock}, nil
	}
	if err != nil {
		return nil, err
	}
	return &kvrpcpb.ReadIndexResponse{ReadIndex: snap.AppliedIndex()}, snap.Close()
}

var unsafeDestroyRangeCommand = command[*kvrpcpb.UnsafeDestroyRangeRequest, *kvrpcpb.UnsafeDestroyRangeResponse]{
	name:      "unsafe_destroy_range",
	forbidden: func(q *kvrpcpb.UnsafeDestroyRangeRequest) bool { return meetsV2(q.GetStartKey(), q.GetEndKey()) },
	run:       (*Service).unsafeDestroyRange,
	refuse: func(why string) *kvrpcpb.UnsafeDestroyRangeResponse {
		return &kvrpcpb.UnsafeDestroyRangeResponse{Error: why}
	},
}

// UnsafeDestroyRange drops the transactional data of [start, end) on this store
// alone, past Raft: the caller promises that nobody will read the range, and
// asks every store.
func (s *Service) UnsafeDestroyRange(ctx context.Context, req *kvrpcpb.UnsafeDestroyRangeRequest) (*kvrpcpb.UnsafeDestroyRangeResponse, error) {
	return unsafeDestroyRangeCommand.serve(ctx, s, req)
}

func (s *Service) unsafeDestroyRange(ctx context.Context, req *kvrpcpb.UnsafeDestroyRangeRequest) (*kvrpcpb.UnsafeDestroyRangeResponse, error) {
	start := codec.EncodeBytes(nil, req.GetStartKey())
	var end []byte
	if len(req.GetEndKey()) > 0 {
		end = codec.EncodeBytes(nil, req.GetEndKey())
	}
	if err := s.destroyRange(ctx, start, end); err != nil {
		return nil, err
	}
	s.reset()
	return &kvrpcpb.UnsafeDestroyRangeResponse{}, nil
}

// slowScoreHealthy is the slow score of a store that has written nothing yet.
const slowScoreHealthy = 1

func (s *Service) health() *kvrpcpb.HealthFeedback {
	return &kvrpcpb.HealthFeedback{StoreId: s.storeID, FeedbackSeqNo: s.feedbackSeq.Add(1), SlowScore: int32(s.slowScore())}
}

// GetHealthFeedback implements tikvpb.TikvServer.
func (s *Service) GetHealthFeedback(context.Context, *kvrpcpb.GetHealthFeedbackRequest) (*kvrpcpb.GetHealthFeedbackResponse, error) {
	return &kvrpcpb.GetHealthFeedbackResponse{HealthFeedback: s.health()}, nil
}

// GetLockWaitInfo lists the lock waits of this store.
func (s *Service) GetLockWaitInfo(context.Context, *kvrpcpb.GetLockWaitInfoRequest) (*kvrpcpb.GetLockWaitInfoResponse, error) {
	return &kvrpcpb.GetLockWaitInfoResponse{Entries: s.detector.Waits()}, nil
}

// GetLockWaitHistory lists the waits of the last deadlocks on this store.
func (s *Service) GetLockWaitHistory(context.Context, *kvrpcpb.GetLockWaitHistoryRequest) (*kvrpcpb.GetLockWaitHistoryResponse, error) {
	return &kvrpcpb.GetLockWaitHistoryResponse{Entries: s.detector.History()}, nil
}

// BroadcastTxnStatus implements tikvpb.TikvServer.
func (s *Service) BroadcastTxnStatus(ctx context.Context, req *kvrpcpb.BroadcastTxnStatusRequest) (*kvrpcpb.BroadcastTxnStatusResponse, error) {
	start := time.Now()
	resp, err := s.txn.BroadcastTxnStatus(ctx, req)
	s.metrics.observe("broadcast_txn_status", time.Since(start), err)
	return resp, err
}
