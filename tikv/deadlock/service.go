package deadlock

import (
	"context"
	"errors"
	"io"

	graph "github.com/copradb/copra/txn/deadlock"
	"github.com/pingcap/kvproto/pkg/deadlock"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var _ deadlock.DeadlockServer = (*server)(nil)

// server is the gRPC face of a Detector.
type server struct{ d *Detector }

// Server returns the service that other stores forward to.
func (d *Detector) Server() deadlock.DeadlockServer { return &server{d} }

// GetWaitForEntries lists the lock waits of this store.
func (s *server) GetWaitForEntries(context.Context, *deadlock.WaitForEntriesRequest) (*deadlock.WaitForEntriesResponse, error) {
	resp := &deadlock.WaitForEntriesResponse{}
	for _, e := range s.d.Waits() {
		resp.Entries = append(resp.Entries, *e)
	}
	return resp, nil
}

// Detect works on the graph of this store's leadership and refuses when there
// is none.
func (s *server) Detect(stream deadlock.Deadlock_DetectServer) error {
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		g := s.d.local.Load()
		if g == nil {
			return status.Errorf(codes.FailedPrecondition, "store %d does not lead the region with the empty start key, so it has no deadlock graph", s.d.o.StoreID)
		}
		resp, err := handle(stream.Context(), g, req)
		if err != nil {
			return err
		}
		if resp == nil {
			continue
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

// handle answers a Detect; clean-ups have no answer.
func handle(ctx context.Context, g *graph.Local, req *deadlock.DeadlockRequest) (*deadlock.DeadlockResponse, error) {
	e := &req.Entry
	w := graph.WaitFor{Txn: e.Txn, HolderTxn: e.WaitForTxn, KeyHash: e.KeyHash, Key: e.Key, Tag: e.ResourceGroupTag}
	switch req.Tp {
	case deadlock.DeadlockRequestType_CleanUp:
		g.CleanUp(w.Txn)
		return nil, nil
	case deadlock.DeadlockRequestType_CleanUpWaitFor:
		g.CleanUpWaitFor(w)
		return nil, nil
	case deadlock.DeadlockRequestType_Detect:
		cycle, err := g.Detect(ctx, w)
		if err != nil {
			return nil, status.Error(codes.Internal, err.Error())
		}
		resp := &deadlock.DeadlockResponse{Entry: req.Entry}
		if cycle != nil {
			resp.DeadlockKeyHash, resp.DeadlockKey, resp.WaitChain = cycle.DeadlockKeyHash, cycle.DeadlockKey, cycle.WaitChain
		}
		return resp, nil
	}
	return nil, status.Errorf(codes.Unimplemented, "deadlock request of type %s is not supported", req.Tp)
}
