package pd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A client that reaches this member but not the leader may ask it, by this key
// in a call's metadata, to pass the call on to the member at that client URL.
const (
	forwardKey    = "pd-forwarded-host"
	pdServicePath = "/pdpb.PD/"
)

// forwarder passes calls on to other members.
type forwarder struct {
	s *Server

	mu     sync.Mutex
	conns  map[string]*grpc.ClientConn // by host:port; members only
	closed bool
}

func newForwarder(s *Server) *forwarder {
	return &forwarder{s: s, conns: make(map[string]*grpc.ClientConn)}
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, cc := range f.conns {
		_ = cc.Close()
	}
}

// target is the connection on which a call goes on, nil where it is for this
// member; ctx is for the call there.
func (f *forwarder) target(ctx context.Context, method string) (context.Context, *grpc.ClientConn, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	hosts := md.Get(forwardKey)
	if len(hosts) == 0 || hosts[0] == "" || !strings.HasPrefix(method, pdServicePath) || strings.HasSuffix(method, "/GetMembers") {
		return ctx, nil, nil
	}
	if err := f.s.started(); err != nil {
		return ctx, nil, err
	}
	if hosts[0] == f.s.clientURL || slices.Contains(f.s.self().ClientUrls, hosts[0]) {
		return ctx, nil, nil
	}
	if !slices.ContainsFunc(f.s.members(), func(m *pdpb.Member) bool { return slices.Contains(m.ClientUrls, hosts[0]) }) {
		return ctx, nil, status.Errorf(codes.InvalidArgument, "pd: a call is to be passed on to %q, which is no member of this cluster", hosts[0])
	}
	cc, err := f.connect(hostPort(hosts[0]))
	// The metadata ends here: the call goes one hop.
	return metadata.NewOutgoingContext(ctx, metadata.Pairs(passedOnKey, "1")), cc, err
}

func (f *forwarder) connect(addr string) (*grpc.ClientConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cc := f.conns[addr]; cc != nil {
		return cc, nil
	}
	if f.closed {
		return nil, status.Error(codes.Unavailable, "pd: this member is stopping")
	}
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(recvMessageBytesMax)))
	if err != nil {
		return nil, fmt.Errorf("pd: connect to member %s: %w", addr, err)
	}
	f.conns[addr] = cc
	return cc, nil
}

// unary is the interceptor of single calls.
func (f *forwarder) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	out, cc, err := f.target(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if cc == nil {
		return handler(ctx, req)
	}
	m, err := pdMethod(info.FullMethod)
	if err != nil {
		return nil, err
	}
	reply := newMessage(m.Out(0))
	return reply, cc.Invoke(out, info.FullMethod, req, reply)
}

// stream is the interceptor of streams, of which PD's go both ways.
func (f *forwarder) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	out, cc, err := f.target(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if cc == nil {
		return handler(srv, ss)
	}
	m, err := pdMethod(info.FullMethod)
	if err != nil {
		return err
	}
	recv, okRecv := m.In(m.NumIn() - 1).MethodByName("Recv")
	send, okSend := m.In(m.NumIn() - 1).MethodByName("Send")
	if !okRecv || !okSend {
		return status.Errorf(codes.Unimplemented, "pd: %s is not passed on to other members", info.FullMethod)
	}
	cs, err := cc.NewStream(out, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, info.FullMethod)
	if err != nil {
		return err
	}
	// It ends with the call, as its Recv does.
	go pipe(ss.RecvMsg, cs.SendMsg, recv.Type.Out(0), func(error) { _ = cs.CloseSend() })
	pipe(cs.RecvMsg, ss.SendMsg, send.Type.In(0), func(e error) { err = e })
	return err
}

// pipe moves messages of a type until either side ends; nil is a regular end.
func pipe(recv, send func(any) error, t reflect.Type, end func(error)) {
	for {
		m := newMessage(t)
		err := recv(m)
		if err == nil {
			err = send(m)
		}
		if errors.Is(err, io.EOF) {
			end(nil)
			return
		}
		if err != nil {
			end(err)
			return
		}
	}
}

// pdMethod is the type of one of PD's methods.
func pdMethod(full string) (reflect.Type, error) {
	m, ok := reflect.TypeFor[pdpb.PDServer]().MethodByName(strings.TrimPrefix(full, pdServicePath))
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "pd: there is no %s", full)
	}
	return m.Type, nil
}

// newMessage makes a message of a pointer type.
func newMessage(t reflect.Type) any { return reflect.New(t.Elem()).Interface() }
