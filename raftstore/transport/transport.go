package transport

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/internal/grpcbuf"
	"github.com/copradb/copra/raftstore"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
)

// SnapshotBytesPerSecondDefault leaves a disk and a network of today room for
// the clients, and moves a region of 96 MiB in a second.
const SnapshotBytesPerSecondDefault = 100 << 20

// Resolver returns the address of a store, as PD knows it now.
type Resolver func(ctx context.Context, storeID uint64) (addr string, err error)

// Options of New.
type Options struct {
	ClusterID, StoreID uint64 // of this store
	Resolve            Resolver
	// DialOptions must include transport credentials.
	DialOptions []grpc.DialOption
	// SnapshotBytesPerSecond bounds what this store sends of snapshots, over all
	// that it sends at a time. 0 is SnapshotBytesPerSecondDefault, negative none.
	SnapshotBytesPerSecond int64
	Logger                 *slog.Logger
	Registerer             prometheus.Registerer
}

// Transport is the raftstore.Transport over gRPC. Its methods may be called
// concurrently.
type Transport struct {
	o       Options
	handler atomic.Pointer[raftstore.Handler]
	metrics *metrics

	queued         atomic.Int64 // bytes of messages that are not with gRPC yet
	queuesBytesMax int64        // queuesBytesMax, less in tests

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.RWMutex
	closed  bool
	senders map[senderKey]*sender

	sendSem  chan struct{} // snapshots being sent
	sendRate *rate.Limiter // of their bytes
	recvSem  chan struct{} // snapshots being received
}

type senderKey struct {
	store uint64
	class class
}

// class separates bulk data from what elections and leases depend on.
type class byte

const (
	control class = iota
	bulk
)

func classOf(m *raftstore.RaftMessage) class {
	if m.Msg != nil && m.Msg.GetType() == raftpb.MessageType_MsgApp && len(m.Msg.Entries) > 0 {
		return bulk
	}
	return control
}

var _ raftstore.Transport = (*Transport)(nil)

// New returns a transport; SetHandler makes it deliver. It must be closed.
func New(o Options) (*Transport, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	limit := rate.Limit(o.SnapshotBytesPerSecond)
	switch {
	case o.SnapshotBytesPerSecond == 0:
		limit = SnapshotBytesPerSecondDefault
	case o.SnapshotBytesPerSecond < 0:
		limit = rate.Inf
	}
	t := &Transport{
		o: o, queuesBytesMax: queuesBytesMax,
		senders: map[senderKey]*sender{},
		sendSem: make(chan struct{}, snapshotSendCountMax), sendRate: rate.NewLimiter(limit, snapshotChunkBytes),
		recvSem: make(chan struct{}, snapshotRecvCountMax),
	}
	var err error
	if t.metrics, err = newMetrics(o.Registerer, t.queued.Load); err != nil {
		return nil, fmt.Errorf("raft transport: register metrics: %w", err)
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t, nil
}

// SetHandler sets who gets the messages. Before, they are refused.
func (t *Transport) SetHandler(h raftstore.Handler) { t.handler.Store(&h) }

// Close stops all streams and waits for them.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
	t.metrics.unregister()
}

// Send implements raftstore.Transport.
func (t *Transport) Send(m *raftstore.RaftMessage) {
	s := t.sender(senderKey{store: m.To.StoreId, class: classOf(m)})
	if s == nil || !s.push(m) {
		t.metrics.dropped.Inc()
		t.unreachable(m)
	}
}

// reserve takes room in all queues for a message of this class.
func (t *Transport) reserve(c class, bytes int) bool {
	limit := t.queuesBytesMax
	if c == control {
		limit += queuesControlBytesMax
	}
	if t.queued.Add(int64(bytes)) > limit {
		t.queued.Add(-int64(bytes))
		return false
	}
	return true
}

// release gives the room of messages back.
func (t *Transport) release(messages []*raftstore.RaftMessage) {
	n := 0
	for _, m := range messages {
		n += messageBytes(m)
	}
	t.queued.Add(-int64(n))
}

// sender returns the sender of key, which it starts if there is none; nil
// after Close.
func (t *Transport) sender(key senderKey) *sender {
	t.mu.RLock()
	s, closed := t.senders[key], t.closed
	t.mu.RUnlock()
	if s != nil || closed {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	if s = t.senders[key]; s == nil {
		s = newSender(t, key)
		t.senders[key] = s
		t.wg.Add(1)
		go func() {
			defer t.wg.Done()
			s.run()
		}()
	}
	return s
}

func (t *Transport) unreachable(m *raftstore.RaftMessage) {
	if h := t.handler.Load(); h != nil && !m.Tombstone {
		(*h).ReportUnreachable(m.RegionID, m.To.Id)
	}
}

// dial connects to a store, or fails with its address in the error.
func (t *Transport) dial(ctx context.Context, storeID uint64) (*grpc.ClientConn, error) {
	addr, err := t.o.Resolve(ctx, storeID)
	if err != nil {
		return nil, fmt.Errorf("resolve address of store %d: %w", storeID, err)
	}
	cc, err := grpc.NewClient(addr, append(t.o.DialOptions[:len(t.o.DialOptions):len(t.o.DialOptions)], grpcbuf.DialOption())...)
	if err != nil {
		return nil, fmt.Errorf("connect to store %d at %s: %w", storeID, addr, err)
	}
	return cc, nil
}
