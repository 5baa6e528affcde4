package tikv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/copradb/copra/internal/answers"
	"github.com/pingcap/kvproto/pkg/metapb"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// forwardHostKey is the metadata key by which a client that cannot reach a
// store asks another one to pass a call on to it (client-go's EnableForwarding).
// The value is the address that PD tells of the store.
const forwardHostKey = "tikv-forwarded-host"

// Limits of what is passed on for clients.
const (
	// forwardCallsMax calls and streams are open at a time; more are refused.
	forwardCallsMax = 4096
	// forwardBytesMax of messages are on their way from one side to the other;
	// further ones wait, one a stream and direction, in gRPC's windows.
	forwardBytesMax = 128 << 20
	// forwardConnsMax connections are kept, one a store that is asked for.
	forwardConnsMax = 1024
	// forwardStoresTTL is how long PD's list of stores is believed, and
	// forwardStoresPause how often it is read at most for an unknown address.
	forwardStoresTTL   = 10 * time.Second
	forwardStoresPause = time.Second
	// forwardStoresTimeout bounds one reading of the list.
	forwardStoresTimeout = 3 * time.Second
)

// forwardedService is what is passed on; notForwarded are its methods that
// stores call, not clients.
const forwardedService = "/tikvpb.Tikv/"

var notForwarded = map[string]bool{"Raft": true, "BatchRaft": true, "Snapshot": true, "TabletSnapshot": true, "CheckLeader": true}

// forwarder passes calls of clients on to other stores of the cluster: a client
// that is cut off from a leader, alone or with others, reaches it that way.
type forwarder struct {
	self    string // the address that PD tells of this store
	stores  func(context.Context) ([]*metapb.Store, error)
	dial    []grpc.DialOption
	metrics *metrics
	answers *answerBudget // those that wait for their clients, in all

	bytes *semaphore.Weighted
	calls *semaphore.Weighted

	mu     sync.Mutex
	closed bool
	conns  map[string]*grpc.ClientConn
	known  map[string]bool // addresses of the cluster's stores
	read   time.Time       // when PD was asked for them last
	failed error           // why it did not answer then
	// reading is closed when the reading of PD's list under way has ended.
	reading chan struct{}
}

func newForwarder(self string, stores func(context.Context) ([]*metapb.Store, error), dial []grpc.DialOption, m *metrics, answers *answerBudget) *forwarder {
	return &forwarder{
		self: self, stores: stores, dial: dial, metrics: m, answers: answers,
		bytes: semaphore.NewWeighted(forwardBytesMax), calls: semaphore.NewWeighted(forwardCallsMax),
		conns: map[string]*grpc.ClientConn{},
	}
}

// serverOptions are the interceptors of the store's gRPC server.
func (f *forwarder) serverOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(f.unary), grpc.ChainStreamInterceptor(f.stream)}
}

// host returns to which other store a call is to be passed on, "" if it is for
// this one.
func (f *forwarder) host(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, forwardHostKey)
	if len(values) == 0 || values[0] == f.self {
		return ""
	}
	return values[0]
}

func (f *forwarder) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	host := f.host(ctx)
	if host == "" {
		return handler(ctx, req)
	}
	conn, done, err := f.open(ctx, host, info.FullMethod)
	if err != nil {
		return nil, f.count(info.FullMethod, err)
	}
	defer done()
	var size int64
	if m, ok := req.(gogoMessage); ok {
		size = int64(m.Size())
	}
	release, err := f.hold(ctx, size)
	if err != nil {
		return nil, f.count(info.FullMethod, err)
	}
	answer := &frame{}
	err = conn.Invoke(ctx, info.FullMethod, req, answer, callOptions()...)
	release()
	return answer, f.count(info.FullMethod, err)
}

func (f *forwarder) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	host := f.host(ss.Context())
	if host == "" {
		return handler(srv, ss)
	}
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	conn, done, err := f.open(ctx, host, info.FullMethod)
	if err != nil {
		return f.count(info.FullMethod, err)
	}
	defer done()
	cs, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, info.FullMethod, callOptions()...)
	if err != nil {
		return f.count(info.FullMethod, err)
	}
	// What the client sends travels on its own; the call ends with the answers.
	// When this function returns gRPC ends the client's side, on which alone the
	// goroutine can still wait.
	go func() {
		if err := f.pump(ctx, ss.RecvMsg, cs.SendMsg); err == nil || errors.Is(err, io.EOF) {
			_ = cs.CloseSend() // what failed comes with the answers
			return
		}
		cancel() // the client is gone
	}()
	err = f.pump(ctx, cs.RecvMsg, ss.SendMsg)
	ss.SetTrailer(cs.Trailer())
	return f.count(info.FullMethod, err)
}

// pump carries messages until the source ends, which is no error.
func (f *forwarder) pump(ctx context.Context, recv, send func(any) error) error {
	for {
		var m frame
		if err := recv(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		release, err := f.hold(ctx, int64(len(m.data)))
		if err != nil {
			return err
		}
		err = send(&m)
		release()
		if err != nil {
			return err
		}
	}
}

// hold waits for room for a message on its way.
func (f *forwarder) hold(ctx context.Context, size int64) (release func(), err error) {
	size = min(size, forwardBytesMax)
	if err := f.bytes.Acquire(ctx, size); err != nil {
		return nil, status.FromContextError(err).Err()
	}
	return func() { f.bytes.Release(size) }, nil
}

// open finds the connection for a call, which ends with done.
func (f *forwarder) open(ctx context.Context, host, method string) (conn *grpc.ClientConn, done func(), err error) {
	name, ours := strings.CutPrefix(method, forwardedService)
	if !ours || notForwarded[name] {
		return nil, nil, status.Errorf(codes.Unimplemented, "%s is not passed on to other stores; only what clients call of %s is", method, strings.Trim(forwardedService, "/"))
	}
	if f.answers.full() {
		return nil, nil, status.Error(codes.ResourceExhausted, "server is busy: "+answers.BusyReason)
	}
	if !f.calls.TryAcquire(1) {
		return nil, nil, status.Errorf(codes.ResourceExhausted, "%d calls are being passed on to other stores already, for %s no more are; try again or through another store", forwardCallsMax, host)
	}
	done = func() { f.calls.Release(1) }
	if conn, err = f.connect(ctx, host); err != nil {
		done()
		return nil, nil, err
	}
	return conn, done, nil
}

// callOptions pass messages on as they are, whatever their size.
func callOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.ForceCodecV2(serverCodec{}), grpc.MaxCallRecvMsgSize(sendBytesMax), grpc.MaxCallSendMsgSize(sendBytesMax)}
}

// connect returns the connection to a store of this cluster: nobody makes a
// store dial what PD does not know.
func (f *forwarder) connect(ctx context.Context, host string) (*grpc.ClientConn, error) {
	if err := f.check(ctx, host); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if conn := f.conns[host]; conn != nil {
		return conn, nil
	}
	if f.closed {
		return nil, status.Error(codes.Unavailable, "the store is stopping")
	}
	if len(f.conns) >= forwardConnsMax {
		return nil, status.Errorf(codes.ResourceExhausted, "calls are passed on to %d stores already, none to %s", forwardConnsMax, host)
	}
	conn, err := grpc.NewClient(host, f.dial...)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "connect to %s: %v", host, err)
	}
	f.conns[host] = conn
	return conn, nil
}

// check refuses addresses that are none of the cluster's stores.
func (f *forwarder) check(ctx context.Context, host string) error {
	for {
		f.mu.Lock()
		age, known, reading := time.Since(f.read), f.known[host], f.reading
		switch {
		case known && (age < forwardStoresTTL || reading != nil):
			f.mu.Unlock()
			return nil
		case !known && !f.read.IsZero() && age < forwardStoresPause:
			err := f.failed
			f.mu.Unlock()
			if err != nil {
				return status.Errorf(codes.Unavailable, "whether %s is a store of this cluster is not known: ask PD for its stores: %v", host, err)
			}
			return status.Errorf(codes.InvalidArgument, "PD knows no store of this cluster at %s: calls are passed on only to the addresses that it tells (%s in the call's metadata)", host, forwardHostKey)
		case reading == nil:
			f.reading = make(chan struct{})
			f.mu.Unlock()
			f.readStores(ctx)
			if known {
				return nil // forwarding is for times of trouble: PD may not answer
			}
		default:
			f.mu.Unlock()
			select {
			case <-reading:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// readStores asks PD. While it does not answer, what is known stays known.
func (f *forwarder) readStores(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, forwardStoresTimeout)
	defer cancel()
	stores, err := f.stores(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.reading)
	f.reading, f.read, f.failed = nil, time.Now(), err
	if err != nil {
		return
	}
	f.known = map[string]bool{}
	for _, s := range stores {
		if s.GetNodeState() != metapb.NodeState_Removed {
			f.known[s.GetAddress()] = true
		}
	}
	for host, conn := range f.conns {
		if !f.known[host] {
			_ = conn.Close()
			delete(f.conns, host)
		}
	}
}

// count notes how a call ended.
func (f *forwarder) count(method string, err error) error {
	f.metrics.forwarded.WithLabelValues(method[strings.LastIndexByte(method, '/')+1:], status.Code(err).String()).Inc()
	return err
}

func (f *forwarder) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	clear(f.conns)
}

// frame is a message that is passed on undecoded.
type frame struct{ data []byte }

// String implements fmt.Stringer, for gRPC's errors.
func (m *frame) String() string { return fmt.Sprintf("a message of %d bytes", len(m.data)) }
