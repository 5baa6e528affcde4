package pd

import (
	"context"
	"errors"

	"github.com/pingcap/kvproto/pkg/keyspacepb"
	"github.com/pingcap/kvproto/pkg/meta_storagepb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/etcdkv"
	"github.com/copradb/copra/pd/keyspace"
)

// service answers pdpb's RPCs. What it lacks is refused as Unimplemented by the
// embedded type.
type service struct {
	pdpb.UnimplementedPDServer
	s *Server
}

func (s *Server) registerGRPC(g *grpc.Server) {
	pdpb.RegisterPDServer(g, &service{s: s})
	keyspacepb.RegisterKeyspaceServer(g, &keyspaceService{s: s})
	meta_storagepb.RegisterMetaStorageServer(g, &metaService{s: s})
	s.gossiping.Register(g)
	s.grpc.Store(g)
}

// started refuses calls that come before the member knows its cluster.
func (s *Server) started() error {
	select {
	case <-s.ready:
		return nil
	default:
		return status.Error(codes.Unavailable, "pd: not leader: this member is starting")
	}
}

// checkCluster refuses calls for another cluster.
func (s *Server) checkCluster(id uint64) error {
	if err := s.started(); err != nil {
		return err
	}
	if id != s.clusterID {
		return status.Errorf(codes.FailedPrecondition,
			"mismatch cluster id, need %d but got %d", s.clusterID, id)
	}
	return nil
}

// serve checks a call's header and returns the term to serve it in.
func (s *Server) serve(h *pdpb.RequestHeader) (*term, error) {
	if err := s.checkCluster(h.GetClusterId()); err != nil {
		return nil, err
	}
	t, err := s.leading()
	if err != nil {
		return nil, rpcError(err)
	}
	return t, nil
}

// serveRegions is serve for calls that need a bootstrapped cluster. Where there
// is none, the header says so and the term is nil.
func (s *Server) serveRegions(h *pdpb.RequestHeader) (*term, *pdpb.ResponseHeader, error) {
	t, err := s.serve(h)
	if err != nil {
		return nil, nil, err
	}
	if err := t.cluster.bootstrapped(); err != nil {
		return nil, s.headerError(err), nil
	}
	return t, s.header(), nil
}

func (s *Server) header() *pdpb.ResponseHeader { return &pdpb.ResponseHeader{ClusterId: s.clusterID} }

// headerError is the answer's header for an error that the caller can act on.
func (s *Server) headerError(err error) *pdpb.ResponseHeader {
	h := s.header()
	h.Error = &pdpb.Error{Type: errorType(err), Message: err.Error()}
	return h
}

func errorType(err error) pdpb.ErrorType {
	switch {
	case errors.Is(err, errNotBootstrapped):
		return pdpb.ErrorType_NOT_BOOTSTRAPPED
	case errors.Is(err, errAlreadyBootstrapped):
		return pdpb.ErrorType_ALREADY_BOOTSTRAPPED
	case errors.Is(err, errStoreTombstone):
		return pdpb.ErrorType_STORE_TOMBSTONE
	case errors.Is(err, keyspace.ErrNotFound):
		return pdpb.ErrorType_ENTRY_NOT_FOUND
	}
	return pdpb.ErrorType_UNKNOWN
}

// refuse sorts an error: what concerns this member (no leader, etcd) becomes a
// gRPC error, on which clients look for another member; what concerns the
// request goes into the header.
func (s *Server) refuse(err error) (*pdpb.ResponseHeader, error) {
	if isServerError(err) {
		return nil, rpcError(err)
	}
	return s.headerError(err), nil
}

func isServerError(err error) bool {
	return errors.Is(err, etcdkv.ErrNotLeader) || errors.Is(err, errNoTerm) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func rpcError(err error) error {
	switch {
	case errors.Is(err, etcdkv.ErrNotLeader) || errors.Is(err, errNoTerm):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, core.ErrStale):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return status.Error(codes.Unknown, err.Error())
}
