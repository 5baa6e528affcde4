package tikv

import (
	"time"

	"github.com/copradb/copra/internal/tracker"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
)

// detailsOf is where a response has room for its ExecDetailsV2; nil if nowhere.
func detailsOf(resp any) **kvrpcpb.ExecDetailsV2 {
	switch r := resp.(type) {
	case *kvrpcpb.GetResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.BatchGetResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.BufferBatchGetResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.ScanLockResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.PrewriteResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.CommitResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.FlushResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.PessimisticLockResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.PessimisticRollbackResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.BatchRollbackResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.TxnHeartBeatResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.CheckTxnStatusResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.CheckSecondaryLocksResponse:
		return &r.ExecDetailsV2
	case *kvrpcpb.ResolveLockResponse:
		return &r.ExecDetailsV2
	}
	return nil
}

// readDetails and writeDetails are what one answer says of its costs, in one
// piece of memory.
type readDetails struct {
	exec  kvrpcpb.ExecDetailsV2
	time  kvrpcpb.TimeDetail
	time2 kvrpcpb.TimeDetailV2
	scan  kvrpcpb.ScanDetailV2
}

type writeDetails struct {
	readDetails
	write kvrpcpb.WriteDetail
}

// execDetails turns a tracker into what clients show in their slow logs.
func execDetails(t *tracker.Tracker, took time.Duration) *kvrpcpb.ExecDetailsV2 {
	if t.Spent(tracker.Latch) == 0 && t.Spent(tracker.Write) == 0 {
		d := &readDetails{}
		d.fill(t, took)
		return &d.exec
	}
	d := &writeDetails{}
	d.fill(t, took)
	d.write = kvrpcpb.WriteDetail{
		ProposeSendWaitNanos: nanos(t.Write.Propose), PersistLogNanos: nanos(t.Write.Persist), CommitLogNanos: nanos(t.Write.Commit),
		ApplyBatchWaitNanos: nanos(t.Write.ApplyWait), ApplyLogNanos: nanos(t.Write.Apply),
		LatchWaitNanos: nanos(t.Spent(tracker.Latch)), ProcessNanos: nanos(t.Spent(tracker.Process)),
		ThrottleNanos: nanos(t.Spent(tracker.Throttle)), PessimisticLockWaitNanos: nanos(t.Spent(tracker.LockWait)),
	}
	d.exec.WriteDetail = &d.write
	return &d.exec
}

func (d *readDetails) fill(t *tracker.Tracker, took time.Duration) {
	process, read := t.Spent(tracker.Process), t.Spent(tracker.Process)+t.Spent(tracker.Snapshot)
	wait := took - process
	d.time = kvrpcpb.TimeDetail{
		WaitWallTimeMs: uint64(wait.Milliseconds()), ProcessWallTimeMs: uint64(process.Milliseconds()),
		KvReadWallTimeMs: uint64(read.Milliseconds()), TotalRpcWallTimeNs: nanos(took),
	}
	d.time2 = kvrpcpb.TimeDetailV2{
		WaitWallTimeNs: nanos(wait), ProcessWallTimeNs: nanos(process), KvReadWallTimeNs: nanos(read),
		TotalRpcWallTimeNs: nanos(took), KvGrpcWaitTimeNs: nanos(t.Spent(tracker.Queue)),
	}
	s := &t.Scan
	d.scan = kvrpcpb.ScanDetailV2{
		ProcessedVersions: uint64(t.Rows), ProcessedVersionsSize: uint64(t.RowBytes), TotalVersions: max(s.Keys, uint64(t.Rows)),
		RocksdbDeleteSkippedCount: s.Tombstones, RocksdbKeySkippedCount: s.Skipped,
		RocksdbBlockReadByte: s.BlockBytes - s.CachedBytes, RocksdbBlockReadNanos: nanos(s.BlockTime),
		GetSnapshotNanos: nanos(t.Spent(tracker.Snapshot)), ReadIndexConfirmWaitNanos: nanos(t.ReadIndex),
	}
	d.exec = kvrpcpb.ExecDetailsV2{TimeDetail: &d.time, TimeDetailV2: &d.time2, ScanDetailV2: &d.scan}
}

func nanos(d time.Duration) uint64 { return uint64(max(d, 0)) }
