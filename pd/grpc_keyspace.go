package pd

import (
	"context"

	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// keyspaceListMax is how many keyspaces one answer holds.
const keyspaceListMax = 10_000

// keyspaceService answers keyspacepb's RPCs.
type keyspaceService struct{ s *Server }

// LoadKeyspace implements keyspacepb.KeyspaceServer.
func (k *keyspaceService) LoadKeyspace(_ context.Context, req *keyspacepb.LoadKeyspaceRequest) (*keyspacepb.LoadKeyspaceResponse, error) {
	t, err := k.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	ks, err := t.keyspaces.ByName(req.GetName())
	if err != nil {
		h, err := k.s.refuse(err)
		return &keyspacepb.LoadKeyspaceResponse{Header: h}, err
	}
	return &keyspacepb.LoadKeyspaceResponse{Header: k.s.header(), Keyspace: ks}, nil
}

// LoadKeyspaceByID implements keyspacepb.KeyspaceServer.
func (k *keyspaceService) LoadKeyspaceByID(_ context.Context, req *keyspacepb.LoadKeyspaceByIDRequest) (*keyspacepb.LoadKeyspaceResponse, error) {
	t, err := k.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	ks, err := t.keyspaces.ByID(req.GetId())
	if err != nil {
		h, err := k.s.refuse(err)
		return &keyspacepb.LoadKeyspaceResponse{Header: h}, err
	}
	return &keyspacepb.LoadKeyspaceResponse{Header: k.s.header(), Keyspace: ks}, nil
}

// WatchKeyspaces implements keyspacepb.KeyspaceServer.
func (k *keyspaceService) WatchKeyspaces(req *keyspacepb.WatchKeyspacesRequest, stream keyspacepb.Keyspace_WatchKeyspacesServer) error {
	t, err := k.s.serve(req.GetHeader())
	if err != nil {
		return err
	}
	all, changes, cancel := t.keyspaces.Watch()
	defer cancel()
	resp := &keyspacepb.WatchKeyspacesResponse{Header: k.s.header(), Keyspaces: all}
	for {
		if err := stream.Send(resp); err != nil {
			return err
		}
		select {
		case ks, ok := <-changes:
			if !ok {
				return status.Error(codes.ResourceExhausted, "pd: the watcher fell behind; start over")
			}
			resp = &keyspacepb.WatchKeyspacesResponse{Header: k.s.header(), Keyspaces: []*keyspacepb.KeyspaceMeta{ks}}
		case <-t.ctx.Done():
			return rpcError(errNoTerm)
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// UpdateKeyspaceState implements keyspacepb.KeyspaceServer.
func (k *keyspaceService) UpdateKeyspaceState(ctx context.Context, req *keyspacepb.UpdateKeyspaceStateRequest) (*keyspacepb.UpdateKeyspaceStateResponse, error) {
	t, err := k.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	ks, err := t.keyspaces.SetState(ctx, req.GetId(), req.GetState())
	if err != nil {
		h, err := k.s.refuse(err)
		return &keyspacepb.UpdateKeyspaceStateResponse{Header: h}, err
	}
	return &keyspacepb.UpdateKeyspaceStateResponse{Header: k.s.header(), Keyspace: ks}, nil
}

// GetAllKeyspaces implements keyspacepb.KeyspaceServer.
func (k *keyspaceService) GetAllKeyspaces(_ context.Context, req *keyspacepb.GetAllKeyspacesRequest) (*keyspacepb.GetAllKeyspacesResponse, error) {
	t, err := k.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	limit := int(req.GetLimit())
	if limit <= 0 || limit > keyspaceListMax {
		limit = keyspaceListMax
	}
	return &keyspacepb.GetAllKeyspacesResponse{
		Header: k.s.header(), Keyspaces: t.keyspaces.List(req.GetStartId(), limit),
	}, nil
}
