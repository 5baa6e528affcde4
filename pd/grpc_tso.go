package pd

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/tso"
)

// globalDC is the only timestamp location there is: clients send it or nothing.
const globalDC = "global"

// Tso implements pdpb.PDServer. One stream is answered in order, with one
// request and one answer message for its whole life.
func (p *service) Tso(stream pdpb.PD_TsoServer) error {
	var req pdpb.TsoRequest
	resp := &pdpb.TsoResponse{Header: &pdpb.ResponseHeader{}, Timestamp: &pdpb.Timestamp{}}
	for first := true; ; first = false {
		req.Reset()
		if err := stream.RecvMsg(&req); err != nil {
			return endOfStream(err)
		}
		if first { // raw clients open the stream, but ask for nothing
			markTransactional(stream.Context())
		}
		t, err := p.s.serve(req.Header)
		if err != nil {
			return err
		}
		if req.DcLocation != "" && req.DcLocation != globalDC {
			return status.Errorf(codes.InvalidArgument, "pd: there are no timestamps of location %q", req.DcLocation)
		}
		if req.Count == 0 || req.Count > tso.CountMax {
			return status.Errorf(codes.InvalidArgument, "pd: tso count should be positive and at most %d, not %d", tso.CountMax, req.Count)
		}
		physical, logical, err := t.tso.Grant(stream.Context(), req.Count)
		if err != nil {
			return rpcError(err)
		}
		resp.Header.ClusterId = p.s.clusterID
		resp.Count = req.Count
		resp.Timestamp.Physical, resp.Timestamp.Logical = physical, logical
		if err := stream.Send(resp); err != nil {
			return err
		}
		p.s.metrics.tsoRequests.Inc()
		p.s.metrics.tsoGranted.Add(float64(req.Count))
	}
}

// endOfStream is nil where the client closed the stream.
func endOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// GetMinTS implements pdpb.PDServer: there is one source of timestamps, so the
// smallest of all is the next.
func (p *service) GetMinTS(ctx context.Context, req *pdpb.GetMinTSRequest) (*pdpb.GetMinTSResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	physical, logical, err := t.tso.Grant(ctx, 1)
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.GetMinTSResponse{
		Header: p.s.header(), Timestamp: &pdpb.Timestamp{Physical: physical, Logical: logical},
	}, nil
}

// SetExternalTimestamp implements pdpb.PDServer: it keeps a timestamp for
// external consistency, which may grow up to now.
func (p *service) SetExternalTimestamp(ctx context.Context, req *pdpb.SetExternalTimestampRequest) (*pdpb.SetExternalTimestampResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	physical, logical, err := t.tso.Grant(ctx, 1)
	if err != nil {
		return nil, rpcError(err)
	}
	t.cluster.metaMu.Lock()
	defer t.cluster.metaMu.Unlock()
	old, err := p.externalTS(ctx, t)
	if err != nil {
		return nil, rpcError(err)
	}
	h := p.s.header()
	if ts := req.GetTimestamp(); ts < old || ts > tso.Compose(physical, logical) {
		h.Error = &pdpb.Error{Type: pdpb.ErrorType_INVALID_VALUE,
			Message: "the external timestamp may not go back or be in the future"}
	} else if err := t.put(ctx, p.externalKey(), strconv.AppendUint(nil, ts, 10)); err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.SetExternalTimestampResponse{Header: h}, nil
}

// GetExternalTimestamp implements pdpb.PDServer.
func (p *service) GetExternalTimestamp(ctx context.Context, req *pdpb.GetExternalTimestampRequest) (*pdpb.GetExternalTimestampResponse, error) {
	t, err := p.s.serve(req.GetHeader())
	if err != nil {
		return nil, err
	}
	ts, err := p.externalTS(ctx, t)
	if err != nil {
		return nil, rpcError(err)
	}
	return &pdpb.GetExternalTimestampResponse{Header: p.s.header(), Timestamp: ts}, nil
}

func (p *service) externalKey() string { return p.s.root + "/external_timestamp" }

func (p *service) externalTS(ctx context.Context, t *term) (uint64, error) {
	raw, ok, err := t.fence.Get(ctx, p.externalKey())
	if err != nil || !ok {
		return 0, err
	}
	return strconv.ParseUint(string(raw), 10, 64)
}

// Timestamp grants one timestamp to a caller in this process; ok is false where
// this member does not lead.
func (s *Server) Timestamp(ctx context.Context) (physical, logical int64, ok bool) {
	t, err := s.leading()
	if err != nil {
		return 0, 0, false
	}
	if physical, logical, err = t.tso.Grant(ctx, 1); err != nil {
		return 0, 0, false
	}
	s.metrics.tsoRequests.Inc()
	s.metrics.tsoGranted.Inc()
	return physical, logical, true
}
