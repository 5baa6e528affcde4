package kvclient

import (
	"context"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikv"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// answers is a client that gives the same region error to everybody.
type answers struct {
	tikv.Client
	err *errorpb.Error
}

func (a *answers) SendRequest(_ context.Context, _ string, req *tikvrpc.Request, _ time.Duration) (*tikvrpc.Response, error) {
	return tikvrpc.GenRegionErrorResp(req, a.err)
}

// TestNoRoomIsFinal: a region may refuse writes for a moment, while its leader
// moves; after that they fail at once, until one succeeds.
func TestNoRoomIsFinal(t *testing.T) {
	a := &answers{}
	c := newRoomClient(a)
	now := time.Unix(1, 0)
	c.now = func() time.Time { return now }
	full := &errorpb.Error{DiskFull: &errorpb.DiskFull{StoreId: []uint64{3}, Reason: "why"}}
	send := func(region uint64, typ tikvrpc.CmdType, msg any, err *errorpb.Error) (final bool) {
		t.Helper()
		a.err = err
		req := tikvrpc.NewRequest(typ, msg)
		req.RegionId = region
		resp, e := c.SendRequest(context.Background(), "", req, 0)
		if e != nil {
			t.Fatal(e)
		}
		re, e := resp.GetRegionError()
		if e != nil {
			t.Fatal(e)
		}
		var keys []*kvrpcpb.KeyError
		switch out := resp.Resp.(type) {
		case *kvrpcpb.PrewriteResponse:
			keys = out.Errors
		case *kvrpcpb.FlushResponse:
			keys = out.Errors
		case *kvrpcpb.PessimisticLockResponse:
			keys = out.Errors
		}
		switch {
		case len(keys) == 1 && re == nil && keys[0].Abort == "disk full: why":
			return true
		case len(keys) != 0 || re != err:
			t.Fatalf("%v, %v", keys, re)
		}
		return false
	}
	prewrite := func(region uint64, err *errorpb.Error) bool {
		return send(region, tikvrpc.CmdPrewrite, &kvrpcpb.PrewriteRequest{}, err)
	}
	want := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Fatalf("%s: final is %v", what, got)
		}
	}
	want("first", prewrite(1, full), false)
	now = now.Add(diskFullPatience)
	want("another region", prewrite(2, full), false)
	want("after a while", prewrite(1, full), true)
	want("a flush", send(1, tikvrpc.CmdFlush, &kvrpcpb.FlushRequest{}, full), true)
	want("a lock", send(1, tikvrpc.CmdPessimisticLock, &kvrpcpb.PessimisticLockRequest{}, full), true)
	want("the end of a transaction", send(1, tikvrpc.CmdCommit, &kvrpcpb.CommitRequest{}, full), false)
	want("another error", prewrite(1, &errorpb.Error{NotLeader: &errorpb.NotLeader{}}), false)
	want("still", prewrite(1, full), true)
	want("room", prewrite(1, nil), false)
	want("full again", prewrite(1, full), false)
	now = now.Add(diskFullMemory + diskFullPatience)
	want("long after", prewrite(2, full), false)
	for region := range uint64(2 * diskFullRegionsMax) {
		prewrite(region, full)
	}
	if len(c.full) > diskFullRegionsMax {
		t.Fatalf("%d regions are remembered", len(c.full))
	}
}
