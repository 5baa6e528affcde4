package gossip

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/proto/gossippb"
)

// Metadata of each call.
const (
	clusterKey = "copra-gossip-cluster"
	fromKey    = "copra-gossip-from"    // the caller's name
	addressKey = "copra-gossip-address" // where the caller serves
)

// Service is the gRPC side of gossip. It is registered before its server
// serves, and refuses calls until a Node uses it.
type Service struct {
	gossippb.UnimplementedGossipServer
	transport atomic.Pointer[transport]
}

// NewService returns a service that no Node uses yet.
func NewService() *Service { return &Service{} }

// Register adds the service to a gRPC server. Whoever may call it may tell
// everybody that any node is dead or alive.
func (s *Service) Register(r grpc.ServiceRegistrar) { gossippb.RegisterGossipServer(r, s) }

// netAddr is a caller as memberlist logs it, and answers to where it must.
type netAddr string

func (a netAddr) Network() string { return "grpc" }
func (a netAddr) String() string  { return string(a) }

// accept checks who calls.
func (s *Service) accept(ctx context.Context) (*transport, netAddr, error) {
	t := s.transport.Load()
	if t == nil {
		return nil, "", status.Error(codes.Unavailable, "gossip: this node is starting or stopping")
	}
	md, _ := metadata.FromIncomingContext(ctx)
	get := func(key string) string {
		if v := md.Get(key); len(v) == 1 {
			return v[0]
		}
		return ""
	}
	from, addr := get(fromKey), get(addressKey)
	if id := get(clusterKey); id != strconv.FormatUint(t.clusterID, 10) {
		t.metrics.refused.Inc()
		t.logRefused(from, addr, "it belongs to cluster "+strconv.Quote(truncate(id)))
		return nil, "", status.Errorf(codes.FailedPrecondition,
			"gossip of cluster %s reached %s of cluster %d; check the addresses of %s", truncate(id), t.name, t.clusterID, truncate(from))
	}
	if len(from) == 0 || len(from) > nameBytesMax {
		return nil, "", status.Error(codes.InvalidArgument, "gossip: the caller gives no usable name")
	}
	if err := checkAddress(addr); err != nil {
		return nil, "", status.Errorf(codes.InvalidArgument, "gossip: the address of %s: %v", from, err)
	}
	t.routes.learn(from, addr)
	return t, netAddr(addr), nil
}

// truncate shortens what a stranger sent for a log line.
func truncate(s string) string { return s[:min(len(s), nameBytesMax)] }

// Packets implements gossippb.GossipServer. A goroutine of its own receives, so
// that the call ends with the node, too.
func (s *Service) Packets(stream grpc.ClientStreamingServer[gossippb.Packet, gossippb.PacketsEnd]) error {
	t, from, err := s.accept(stream.Context())
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { received <- receivePackets(t, from, stream) }()
	select {
	case err := <-received:
		return err
	case <-t.ctx.Done():
		return status.Error(codes.Unavailable, "gossip: this node is stopping")
	}
}

func receivePackets(t *transport, from netAddr, stream grpc.ClientStreamingServer[gossippb.Packet, gossippb.PacketsEnd]) error {
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&gossippb.PacketsEnd{})
		}
		if err != nil {
			return err
		}
		if err := t.ingest(p.GetData(), from, time.Now()); err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
	}
}

// ingest gives a packet to memberlist. A full queue drops it.
func (t *transport) ingest(b []byte, from netAddr, at time.Time) error {
	if err := checkPacket(b); err != nil {
		t.metrics.refused.Inc()
		return err
	}
	select {
	case t.packets <- &memberlist.Packet{Buf: b, From: from, Timestamp: at}:
		t.metrics.received.Inc()
	default:
		t.metrics.dropped.Inc()
	}
	return nil
}

// firstChunk receives what a stream starts with. A caller that sends nothing
// must not keep its place from others.
func firstChunk(t *transport, stream grpc.BidiStreamingServer[gossippb.Chunk, gossippb.Chunk]) (*gossippb.Chunk, error) {
	type received struct {
		chunk *gossippb.Chunk
		err   error
	}
	first := make(chan received, 1)
	// It ends with the call, which ends when its handler returns.
	go func() {
		c, err := stream.Recv()
		first <- received{c, err}
	}()
	timer := time.NewTimer(streamTimeout)
	defer timer.Stop()
	select {
	case r := <-first:
		return r.chunk, r.err
	case <-timer.C:
		t.metrics.refused.Inc()
		return nil, status.Errorf(codes.DeadlineExceeded, "gossip: nothing came on the stream for %v", streamTimeout)
	case <-t.ctx.Done():
		return nil, status.Error(codes.Unavailable, "gossip: this node is stopping")
	}
}

// Stream implements gossippb.GossipServer.
func (s *Service) Stream(stream grpc.BidiStreamingServer[gossippb.Chunk, gossippb.Chunk]) error {
	t, from, err := s.accept(stream.Context())
	if err != nil {
		return err
	}
	select {
	case t.streamSlots <- struct{}{}:
		defer func() { <-t.streamSlots }()
	default:
		return status.Errorf(codes.ResourceExhausted, "gossip: %d streams are open, as many as there may be", streamsMax)
	}
	first, err := firstChunk(t, stream)
	if err != nil {
		return err
	}
	if err := checkStreamStart(first.GetData()); err != nil {
		t.metrics.refused.Inc()
		return status.Error(codes.InvalidArgument, err.Error())
	}
	conn, pump := newConn(stream.Context(), stream, netAddr(t.address), from)
	select {
	case t.streams <- conn:
	case <-t.ctx.Done():
		_ = conn.Close()
		return status.Error(codes.Unavailable, "gossip: this node is stopping")
	}
	pump.run(t.ctx, first.GetData())
	return nil
}
