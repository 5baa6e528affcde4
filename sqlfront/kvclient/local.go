package kvclient

import (
	"context"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
	"github.com/tikv/client-go/v2/util/async"
)

// localClient sends requests for stores of this process straight to their
// service and everything else to the client it embeds.
type localClient struct {
	tikv.Client
	local *Local
	codec tikv.Codec
}

// SendRequest implements tikv.Client.
func (c *localClient) SendRequest(ctx context.Context, addr string, req *tikvrpc.Request, timeout time.Duration) (*tikvrpc.Response, error) {
	server := c.local.get(addr)
	if server == nil {
		return c.Client.SendRequest(ctx, addr, req, timeout)
	}
	encoded, err := c.codec.EncodeRequest(req)
	if err != nil {
		return nil, err
	}
	tikvrpc.AttachContext(encoded, encoded.Context)
	if timeout > 0 {
		limited := newDeadline(ctx, timeout)
		defer limited.stop()
		ctx = limited
	}
	resp, err := call(ctx, server, encoded)
	if err != nil {
		return nil, err
	}
	return c.codec.DecodeResponse(encoded, resp)
}

// SendRequestAsync implements tikv.Client; the callback runs on its executor.
func (c *localClient) SendRequestAsync(ctx context.Context, addr string, req *tikvrpc.Request, cb async.Callback[*tikvrpc.Response]) {
	if c.local.get(addr) == nil {
		c.Client.SendRequestAsync(ctx, addr, req, cb)
		return
	}
	cb.Executor().Go(func() {
		cb.Schedule(c.SendRequest(ctx, addr, req, 0))
	})
}

// call dispatches to the method that tikvrpc.CallRPC would call over gRPC.
// The commands are those of a transactional client.
func call(ctx context.Context, s tikvpb.TikvServer, req *tikvrpc.Request) (*tikvrpc.Response, error) {
	var (
		out any
		err error
	)
	switch req.Type {
	case tikvrpc.CmdGet:
		out, err = s.KvGet(ctx, req.Get())
	case tikvrpc.CmdBatchGet:
		out, err = s.KvBatchGet(ctx, req.BatchGet())
	case tikvrpc.CmdScan:
		out, err = s.KvScan(ctx, req.Scan())
	case tikvrpc.CmdPrewrite:
		out, err = s.KvPrewrite(ctx, req.Prewrite())
	case tikvrpc.CmdCommit:
		out, err = s.KvCommit(ctx, req.Commit())
	case tikvrpc.CmdPessimisticLock:
		out, err = s.KvPessimisticLock(ctx, req.PessimisticLock())
	case tikvrpc.CmdPessimisticRollback:
		out, err = s.KVPessimisticRollback(ctx, req.PessimisticRollback())
	case tikvrpc.CmdBatchRollback:
		out, err = s.KvBatchRollback(ctx, req.BatchRollback())
	case tikvrpc.CmdCleanup:
		out, err = s.KvCleanup(ctx, req.Cleanup())
	case tikvrpc.CmdTxnHeartBeat:
		out, err = s.KvTxnHeartBeat(ctx, req.TxnHeartBeat())
	case tikvrpc.CmdCheckTxnStatus:
		out, err = s.KvCheckTxnStatus(ctx, req.CheckTxnStatus())
	case tikvrpc.CmdCheckSecondaryLocks:
		out, err = s.KvCheckSecondaryLocks(ctx, req.CheckSecondaryLocks())
	case tikvrpc.CmdResolveLock:
		out, err = s.KvResolveLock(ctx, req.ResolveLock())
	case tikvrpc.CmdScanLock:
		out, err = s.KvScanLock(ctx, req.ScanLock())
	case tikvrpc.CmdFlush:
		out, err = s.KvFlush(ctx, req.Flush())
	case tikvrpc.CmdBufferBatchGet:
		out, err = s.KvBufferBatchGet(ctx, req.BufferBatchGet())
	case tikvrpc.CmdBroadcastTxnStatus:
		out, err = s.BroadcastTxnStatus(ctx, req.BroadcastTxnStatus())
	case tikvrpc.CmdDeleteRange:
		out, err = s.KvDeleteRange(ctx, req.DeleteRange())
	case tikvrpc.CmdUnsafeDestroyRange:
		out, err = s.UnsafeDestroyRange(ctx, req.UnsafeDestroyRange())
	case tikvrpc.CmdSplitRegion:
		out, err = s.SplitRegion(ctx, req.SplitRegion())
	case tikvrpc.CmdStoreSafeTS:
		out, err = s.GetStoreSafeTS(ctx, req.StoreSafeTS())
	case tikvrpc.CmdGetHealthFeedback:
		out, err = s.GetHealthFeedback(ctx, req.GetHealthFeedback())
	case tikvrpc.CmdMvccGetByKey:
		out, err = s.MvccGetByKey(ctx, req.MvccGetByKey())
	case tikvrpc.CmdMvccGetByStartTs:
		out, err = s.MvccGetByStartTs(ctx, req.MvccGetByStartTs())
	case tikvrpc.CmdLockWaitInfo:
		out, err = s.GetLockWaitInfo(ctx, req.LockWaitInfo())
	case tikvrpc.CmdEmpty:
		out = &tikvpb.BatchCommandsEmptyResponse{}
	default:
		return nil, fmt.Errorf("kvclient: command %v has no place in a transactional client", req.Type)
	}
	if err != nil {
		return nil, err
	}
	if out, err = detach(out); err != nil {
		return nil, err
	}
	return &tikvrpc.Response{Resp: out}, nil
}
