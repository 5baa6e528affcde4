package kvclient

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

const (
	// diskFullPatience is how long a region may refuse writes for want of room
	// before statements fail: its leader may move to a store that has some.
	// client-go by itself tries for more than a minute.
	diskFullPatience = 3 * time.Second
	// diskFullMemory is after how long without a refusal a region gets that time
	// again; client-go's pauses are shorter.
	diskFullMemory = 10 * time.Second
	// diskFullRegionsMax regions are remembered.
	diskFullRegionsMax = 4096
)

// diskFullMark begins the text of the error by which a write is given up.
const diskFullMark = "disk full: "

// DiskFull reports whether a write failed because stores have no room, and
// where.
func DiskFull(err error) (reason string, ok bool) {
	_, reason, ok = strings.Cut(err.Error(), diskFullMark)
	return reason, ok
}

// roomClient ends writes to regions that have had no room for a while. It turns
// the region error, for which client-go tries again and again, into a key error,
// which is final: the request certainly wrote nothing. What is uncertain of
// earlier attempts client-go knows, and says.
type roomClient struct {
	tikv.Client
	now func() time.Time

	count atomic.Int64 // of regions
	mu    sync.Mutex
	full  map[uint64]refusals // by region
}

// refusals are a region's since it had room.
type refusals struct{ first, last time.Time }

// FailWithoutRoom returns a client whose writes fail soon where stores have no
// room for them.
func FailWithoutRoom(c tikv.Client) tikv.Client { return newRoomClient(c) }

func newRoomClient(c tikv.Client) *roomClient {
	return &roomClient{Client: c, now: time.Now, full: make(map[uint64]refusals)}
}

// SendRequest implements tikv.Client.
func (c *roomClient) SendRequest(ctx context.Context, addr string, req *tikvrpc.Request, timeout time.Duration) (*tikvrpc.Response, error) {
	resp, err := c.Client.SendRequest(ctx, addr, req, timeout)
	if err != nil {
		return resp, err
	}
	// What is marked to be let through, and locks in memory, say nothing of room.
	takesRoom := req.DiskFullOpt == kvrpcpb.DiskFullOpt_NotAllowedOnFull
	switch out := resp.Resp.(type) {
	case *kvrpcpb.PrewriteResponse:
		if why := c.giveUp(req.RegionId, out.RegionError, takesRoom); why != nil {
			resp.Resp = &kvrpcpb.PrewriteResponse{Errors: why}
		}
	case *kvrpcpb.FlushResponse:
		if why := c.giveUp(req.RegionId, out.RegionError, takesRoom); why != nil {
			resp.Resp = &kvrpcpb.FlushResponse{Errors: why}
		}
	case *kvrpcpb.PessimisticLockResponse:
		if why := c.giveUp(req.RegionId, out.RegionError, false); why != nil {
			resp.Resp = &kvrpcpb.PessimisticLockResponse{Errors: why}
		}
	}
	return resp, nil
}

// giveUp notes how a write ended and returns the error in whose place it is to
// end, nil to leave it as it is. Where a write that takesRoom succeeds, there is
// room again.
func (c *roomClient) giveUp(region uint64, e *errorpb.Error, takesRoom bool) []*kvrpcpb.KeyError {
	if e.GetDiskFull() == nil {
		if e == nil && takesRoom && c.count.Load() > 0 {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.full, region)
			c.count.Store(int64(len(c.full)))
		}
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	f, ok := c.full[region]
	if !ok || now.Sub(f.last) > diskFullMemory {
		if !ok && len(c.full) >= diskFullRegionsMax {
			clear(c.full) // they only have to be patient once more
		}
		f.first = now
	}
	f.last = now
	c.full[region] = f
	c.count.Store(int64(len(c.full)))
	if now.Sub(f.first) < diskFullPatience {
		return nil
	}
	return []*kvrpcpb.KeyError{{Abort: diskFullMark + e.GetDiskFull().GetReason()}}
}
