package tikv

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/tracker"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Transactional clients of API V2 keep their data in plain keys that begin with
// 'x' and the three bytes of a keyspace, SQL in keyspace 1. Transactional clients
// of API V1, whose keys are arbitrary, must not meet them: to them there is
// nothing in [v2Start, v2End), the keyspaces below 65536 (as for raw clients,
// package raw).
var (
	v2Start = []byte{'x', 0x00}
	v2End   = []byte{'x', 0x01}
)

const v2Refusal = "keys that begin with 7800 (hexadecimal) belong to the keyspaces of API V2 (7800 0001 is the SQL keyspace); a client of API V1 cannot use them"

func inV2(key []byte) bool { return bytes.HasPrefix(key, v2Start) }

func anyInV2(keys [][]byte) bool {
	for _, k := range keys {
		if inV2(k) {
			return true
		}
	}
	return false
}

func anyMutationInV2(ms []*kvrpcpb.Mutation) bool {
	for _, m := range ms {
		if inV2(m.GetKey()) {
			return true
		}
	}
	return false
}

// meetsV2 reports whether [start, end), end empty = unbounded, has keys of
// API V2's keyspaces.
func meetsV2(start, end []byte) bool {
	return bytes.Compare(start, v2End) < 0 && (len(end) == 0 || bytes.Compare(end, v2Start) > 0)
}

func isV1(rc *kvrpcpb.Context) bool { return rc.GetApiVersion() != kvrpcpb.APIVersion_V2 }

// request is what kvproto's requests have in common.
type request interface {
	GetContext() *kvrpcpb.Context
	Size() int
}

// command describes one method of the Tikv service: what it is called in
// metrics, whether a V1 client may send it, who serves it, and how a refusal
// looks in its response.
type command[Q request, R any] struct {
	name string // as TiKV's metrics name it
	// forbidden reports whether a V1 request touches V2's keyspaces; nil: it
	// has no keys, or looks after itself.
	forbidden func(Q) bool
	run       func(*Service, context.Context, Q) (R, error)
	// ending: it ends transactions, or lets them live; see inflight.go.
	ending bool
	// refuse makes a response that says why there is no other; it is final for
	// the client.
	refuse func(why string) R
	// regionError makes a response with a region error: the client tries again.
	regionError func(*errorpb.Error) R
}

// serve answers a unary request.
func (c *command[Q, R]) serve(ctx context.Context, s *Service, req Q) (resp R, err error) {
	cpusched.Default().Touch()
	t := tracker.From(ctx)
	if t != nil { // it came with others and waited
		t.Enter(tracker.Process)
	} else {
		t = tracker.Begin(ctx)
		defer t.Free()
	}
	rc := req.GetContext()
	if rc == nil {
		return resp, status.Errorf(codes.InvalidArgument, "%s has no context: which region is it for?", c.name)
	}
	if id := rc.GetClusterId(); id != 0 && id != s.clusterID {
		return resp, status.Errorf(codes.InvalidArgument, "request of cluster %d reached store %d of cluster %d; check the client's PD addresses", id, s.storeID, s.clusterID)
	}
	if c.forbidden != nil && isV1(rc) && c.forbidden(req) {
		return c.refuse(v2Refusal), nil
	}
	size := int64(req.Size())
	why, wait, err := s.inFlight.admitted(ctx, c.name, size, c.ending)
	if err != nil {
		return resp, toStatus(c.name, err)
	}
	if why != "" {
		s.metrics.refusals.WithLabelValues(c.name).Inc()
		return c.busy(why, wait)
	}
	defer s.inFlight.done(size)
	resp, err = c.run(s, t.Context(), req)
	if err == nil {
		s.inFlight.answered(c.name, resp)
	}
	s.tracked(t, c.name, req, resp, err)
	if err != nil {
		return resp, toStatus(c.name, err)
	}
	return resp, nil
}

// serveBatched answers one request of a BatchCommands stream, where an error
// would end the stream for all. It returns nil if nobody wants the answer any
// more.
func (c *command[Q, R]) serveBatched(ctx context.Context, s *Service, req Q) (resp R, ok bool) {
	resp, err := c.serve(ctx, s, req)
	if err == nil {
		return resp, true
	}
	if ctx.Err() != nil {
		return resp, false
	}
	text := status.Convert(err).Message()
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unimplemented, codes.ResourceExhausted:
		if c.refuse != nil {
			return c.refuse(text), true
		}
		// A response without room for a text. Of the region errors this is the one
		// after which clients don't try again.
		return c.regionError(&errorpb.Error{Message: text, RaftEntryTooLarge: &errorpb.RaftEntryTooLarge{RegionId: req.GetContext().GetRegionId()}}), true
	case codes.Unknown:
		return resp, true // no answer: the call has failed, whatever it did
	case codes.DeadlineExceeded:
		// The client knows the words.
		text = "deadline is exceeded"
	}
	return c.regionError(&errorpb.Error{Message: text, ServerIsBusy: &errorpb.ServerIsBusy{Reason: text}}), true
}

// toStatus gives an error of the packages below its gRPC code.
func toStatus(method string, err error) error {
	code := codes.Internal
	switch {
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, txn.ErrInvalidArgument):
		code = codes.InvalidArgument
	case errors.Is(err, txn.ErrUnimplemented):
		code = codes.Unimplemented
	case errors.Is(err, txn.ErrUndetermined):
		code = codes.Unknown
	case errors.Is(err, txn.ErrClosed):
		code = codes.Unavailable
	default:
		if _, ok := status.FromError(err); ok {
			return err
		}
	}
	return status.Error(code, fmt.Sprintf("%s: %v", method, err))
}

func abort(why string) *kvrpcpb.KeyError { return &kvrpcpb.KeyError{Abort: why} }
