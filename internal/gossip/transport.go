package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

const (
	// packetQueueMax is how many packets wait for memberlist; sendQueueMax how
	// many for one peer's stream. More are dropped, as a network does.
	packetQueueMax = 1024
	sendQueueMax   = 128
	// streamsMax is how many calls of Stream others may have open here.
	streamsMax = 128
	// peersMax is how many peers may have a stream of packets from here.
	peersMax = 4096
	// peerIdle is after how long without a packet a peer's stream is closed.
	peerIdle = 2 * time.Minute
	// connectTimeout bounds one attempt to reach a peer; between attempts it
	// pauses from redialMin to redialMax.
	connectTimeout = time.Second
	redialMin      = 50 * time.Millisecond
	redialMax      = 500 * time.Millisecond
	keepaliveEvery = 10 * time.Second
	keepaliveWait  = 3 * time.Second
)

// transport is memberlist's network: packets over one stream a peer, streams
// over one call each.
type transport struct {
	clusterID     uint64
	name, address string // of this node
	log           *slog.Logger
	metrics       *metrics
	dialOptions   []grpc.DialOption
	routes        *routes

	packets     chan *memberlist.Packet
	streams     chan net.Conn
	streamSlots chan struct{}

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex // guards the fields below
	peers      map[string]*peer
	refusedLog time.Time // when a refused caller was last logged
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(o *Options, name string, m *metrics) *transport {
	t := &transport{
		clusterID: o.ClusterID, name: name, address: o.Address, log: o.Logger, metrics: m, routes: newRoutes(),
		dialOptions: append([]grpc.DialOption{
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveWait, PermitWithoutStream: true}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: redialMin, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMax},
				MinConnectTimeout: connectTimeout,
			}),
		}, o.DialOptions...),
		packets: make(chan *memberlist.Packet, packetQueueMax), streams: make(chan net.Conn),
		streamSlots: make(chan struct{}, streamsMax), peers: make(map[string]*peer),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// FinalAdvertiseAddr implements memberlist.Transport. Nodes are found by name,
// and their addresses may be host names, which memberlist has no room for: to it
// all have the same.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 1).To4(), 1, nil
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo implements memberlist.Transport. Nodes have names; this is for what
// names none.
func (t *transport) WriteTo(_ []byte, addr string) (time.Time, error) {
	return time.Time{}, unreachable("write", addr, errors.New("the node is not named"))
}

// DialTimeout implements memberlist.Transport, like WriteTo.
func (t *transport) DialTimeout(addr string, _ time.Duration) (net.Conn, error) {
	return nil, unreachable("dial", addr, errors.New("the node is not named"))
}

// unreachable is an error by which memberlist knows that it is the other node
// that failed, and need not wait for an answer.
func unreachable(op, addr string, why error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: netAddr(addr), Err: why}
}

// WriteToAddress implements memberlist.NodeAwareTransport. It never blocks.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	addr, ok := t.routes.find(a.Name)
	if !ok {
		return now, unreachable("write", a.Name, errors.New("its address is not known"))
	}
	p := t.peer(addr)
	if p == nil {
		return now, unreachable("write", addr, fmt.Errorf("there are %d peers already, or gossip is ending", peersMax))
	}
	if !p.push(b) {
		t.metrics.dropped.Inc()
	}
	if p.down.Load() {
		return now, unreachable("write", addr, errors.New("it cannot be connected to"))
	}
	return now, nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	addr, ok := t.routes.find(a.Name)
	if !ok {
		return nil, unreachable("dial", a.Name, errors.New("its address is not known"))
	}
	p := t.peer(addr)
	if p == nil {
		return nil, unreachable("dial", addr, fmt.Errorf("there are %d peers already, or gossip is ending", peersMax))
	}
	ctx, cancel := context.WithCancel(t.outgoing())
	timer := time.AfterFunc(timeout, cancel)
	stream, err := p.client.Stream(ctx)
	if err != nil || !timer.Stop() {
		cancel()
		if err == nil {
			err = context.DeadlineExceeded
		}
		return nil, unreachable("dial", addr, err)
	}
	conn, pump := newConn(ctx, stream, netAddr(t.address), netAddr(addr))
	if !t.spawn(func() {
		defer cancel()
		pump.run(t.ctx, nil)
	}) {
		cancel()
		return nil, unreachable("dial", addr, net.ErrClosed)
	}
	return conn, nil
}

// spawn runs fn in a goroutine that Shutdown waits for; false after Shutdown.
func (t *transport) spawn(fn func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	t.wg.Go(fn)
	return true
}

// outgoing is the context of calls to others.
func (t *transport) outgoing() context.Context {
	return metadata.AppendToOutgoingContext(t.ctx,
		clusterKey, strconv.FormatUint(t.clusterID, 10), fromKey, t.name, addressKey, t.address)
}

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	t.cancel()
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// peer returns the way to an address, which it makes if there is none; nil where
// there may be none.
func (t *transport) peer(addr string) *peer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[addr]; p != nil {
		return p
	}
	if t.ctx.Err() != nil || len(t.peers) >= peersMax {
		return nil
	}
	p, err := newPeer(t, addr)
	if err != nil {
		t.log.Warn("gossip: an address cannot be used", "addr", addr, "err", err)
		return nil
	}
	t.peers[addr] = p
	t.wg.Go(p.run)
	return p
}

// retire takes a peer that has nothing to do out of the map.
func (t *transport) retire(p *peer) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p.queue) > 0 && t.ctx.Err() == nil {
		return false
	}
	delete(t.peers, p.addr)
	return true
}

// refusedLogEvery is how often refused callers are logged.
const refusedLogEvery = 10 * time.Second

func (t *transport) logRefused(from, addr, why string) {
	t.mu.Lock()
	quiet := time.Since(t.refusedLog) < refusedLogEvery
	if !quiet {
		t.refusedLog = time.Now()
	}
	t.mu.Unlock()
	if !quiet {
		t.log.Warn("gossip: a caller was refused", "from", truncate(from), "addr", truncate(addr), "why", why)
	}
}

// routes are the addresses of nodes by name.
type routes struct {
	mu     sync.RWMutex
	byName map[string]string
}

func newRoutes() *routes { return &routes{byName: make(map[string]string)} }

// find returns where a node is. A name with a colon is an address itself: one
// to join, whose name is not known yet.
func (r *routes) find(name string) (string, bool) {
	if strings.Contains(name, ":") {
		return name, true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	addr, ok := r.byName[name]
	return addr, ok
}

// learn takes an address from a source that may be outdated: it counts only
// where none is known.
func (r *routes) learn(name, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.byName[name]; !known && len(r.byName) < peersMax {
		r.byName[name] = addr
	}
}

// set takes the address that the node itself has told last.
func (r *routes) set(name, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byName[name] = addr
}

func (r *routes) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byName, name)
}
