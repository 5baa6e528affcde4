package clientsuite

import (
	"fmt"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestBatchStream sends many commands in one message: each is answered once, with
// its own answer, whatever became of the others.
func TestBatchStream(t *testing.T) {
	c := sharedCluster(t)
	w := newWire(t, c, fresh("batch"), true)
	const n = 600
	for i := range n {
		if i%3 == 0 {
			w.must(w.raw().Put(w.ctx, w.key("%d", i), fmt.Append(nil, i)))
		}
	}
	p := w.mustFind(t, []byte(w.prefix))
	stream, err := w.at(p.node.Addr()).cl.BatchCommands(w.ctx)
	w.must(err)
	msg := &tikvpb.BatchCommandsRequest{}
	add := func(id uint64, one *tikvpb.BatchCommandsRequest_Request) {
		msg.RequestIds, msg.Requests = append(msg.RequestIds, id), append(msg.Requests, one)
	}
	for i := range n {
		var one tikvpb.BatchCommandsRequest_Request
		switch i % 3 {
		case 0: // there
			one.Cmd = &tikvpb.BatchCommandsRequest_Request_RawGet{RawGet: &kvrpcpb.RawGetRequest{Context: w.contextOf(p), Key: w.key("%d", i)}}
		case 1: // another region's
			rc := w.contextOf(p)
			rc.RegionId = 1 << 40
			one.Cmd = &tikvpb.BatchCommandsRequest_Request_RawGet{RawGet: &kvrpcpb.RawGetRequest{Context: rc, Key: w.key("%d", i)}}
		case 2:
			one.Cmd = &tikvpb.BatchCommandsRequest_Request_Empty{Empty: &tikvpb.BatchCommandsEmptyRequest{TestId: uint64(i)}}
		}
		add(uint64(1000+i), &one)
	}
	add(1, &tikvpb.BatchCommandsRequest_Request{}) // none at all
	w.must(stream.Send(msg))
	got := map[uint64]*tikvpb.BatchCommandsResponse_Response{}
	for len(got) < n+1 {
		r, err := stream.Recv()
		w.must(err)
		for i, id := range r.RequestIds {
			if got[id] != nil {
				t.Fatalf("request %d is answered twice", id)
			}
			got[id] = r.Responses[i]
		}
	}
	for i := range n {
		r := got[uint64(1000+i)]
		switch i % 3 {
		case 0:
			if g := r.GetRawGet(); string(g.GetValue()) != fmt.Sprint(i) && g.GetRegionError() == nil {
				t.Errorf("request %d: %v", i, r)
			}
		case 1:
			if r.GetRawGet().GetRegionError().GetRegionNotFound() == nil {
				t.Errorf("request %d: %v", i, r)
			}
		case 2:
			if r.GetEmpty().GetTestId() != uint64(i) {
				t.Errorf("request %d: %v", i, r)
			}
		}
	}
	if got[1].Cmd != nil {
		t.Errorf("no command is answered with %v", got[1])
	}
	// A message that says nothing sensible ends its stream, and no other.
	w.must(stream.Send(&tikvpb.BatchCommandsRequest{RequestIds: []uint64{1, 2}, Requests: msg.Requests[:1]}))
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("two ids for one request: %v", err)
	}
	w.alive()
}
