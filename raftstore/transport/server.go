package transport

import (
	"context"
	"errors"
	"io"
	"strconv"

	"github.com/copradb/copra/raftstore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// service is what gRPC checks the registered implementation against.
type service interface{ Close() }

// Register adds the service to the store's gRPC server, which must accept
// messages of MaxRecvBytes.
func (t *Transport) Register(s grpc.ServiceRegistrar) {
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: serviceName,
		HandlerType: (*service)(nil),
		Streams: []grpc.StreamDesc{
			{StreamName: batchStream.StreamName, ServerStreams: true, ClientStreams: true,
				Handler: func(_ any, stream grpc.ServerStream) error { return t.serveBatch(stream) }},
			{StreamName: snapshotStream.StreamName, ClientStreams: true,
				Handler: func(_ any, stream grpc.ServerStream) error { return t.serveSnapshot(stream) }},
		},
	}, t)
}

// MaxRecvBytes is the size of the largest message that another store may send.
const MaxRecvBytes = frameBytesMax

// accept checks that the stream means this store.
func (t *Transport) accept(stream grpc.ServerStream) (raftstore.Handler, error) {
	if err := CheckTarget(stream.Context(), t.o.ClusterID, t.o.StoreID); err != nil {
		return nil, err
	}
	h := t.handler.Load()
	if h == nil {
		return nil, status.Errorf(codes.Unavailable, "store %d is starting", t.o.StoreID)
	}
	return *h, nil
}

// CheckTarget checks that a call of another store means this one: its metadata
// is that of WithTarget.
func CheckTarget(ctx context.Context, clusterID, storeID uint64) error {
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(key string) uint64 {
		if v := md.Get(key); len(v) == 1 {
			if n, err := strconv.ParseUint(v[0], 10, 64); err == nil {
				return n
			}
		}
		return 0
	}
	if id := get(clusterKey); id != clusterID {
		return status.Errorf(codes.InvalidArgument, "a call between stores of cluster %d reached store %d of cluster %d; check the addresses of store %d",
			id, storeID, clusterID, get(fromKey))
	}
	if id := get(toKey); id != storeID {
		return status.Errorf(codes.FailedPrecondition, "a call for store %d reached store %d: the address changed hands", id, storeID)
	}
	return nil
}

func (t *Transport) serveBatch(stream grpc.ServerStream) error {
	h, err := t.accept(stream)
	if err != nil {
		return err
	}
	for {
		var frame wrapperspb.BytesValue
		if err := t.recv(stream, &frame); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		err := readMessages(frame.GetValue(), func(m *raftstore.RaftMessage) {
			t.metrics.received.Inc()
			if err := h.Step(m); err != nil {
				// Raft repeats what matters; the reason is in the store's log and
				// metrics.
				t.metrics.refused.Inc()
			}
		})
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

// recv is RecvMsg that ends with the transport, too. gRPC's own Stop cancels
// the stream, so this is only for a transport that is closed before the server.
func (t *Transport) recv(stream grpc.ServerStream, frame *wrapperspb.BytesValue) error {
	if t.ctx.Err() != nil {
		return status.Errorf(codes.Unavailable, "store %d is stopping", t.o.StoreID)
	}
	return stream.RecvMsg(frame)
}
