package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
)

// How fast a death is noticed. A node that answers nothing is probed by
// somebody within about one probeInterval, is suspected at the end of the next,
// and has suspicionMult intervals (times log10 of the cluster's size, if that is
// above 1) to object: 1 to 2 s in all. A pause shorter than about three
// intervals is forgiven.
const (
	probeInterval = 300 * time.Millisecond
	probeTimeout  = 150 * time.Millisecond
	suspicionMult = 2
	// suspicionMaxMult and awarenessMax bound how much more patient a node gets
	// that has reasons to doubt itself.
	suspicionMaxMult = 2
	awarenessMax     = 2
	indirectChecks   = 3
	gossipInterval   = 50 * time.Millisecond
	gossipNodes      = 3
	// retransmitMult is high enough that news is told for half a second: a
	// suspicion that was only told into a network that is cut for that long
	// becomes a death to which the suspect could not object.
	retransmitMult = 30
	// toTheDead is how long a dead node is still gossiped to, so that it can
	// object; after that joining finds it.
	toTheDead        = 30 * time.Second
	pushPullInterval = 10 * time.Second
	streamTimeout    = 2 * time.Second
	// joinAloneEvery and joinEvery are how often addresses are tried at which
	// no living member is: while nobody is known, and otherwise. joinsMax are
	// tried at a time.
	joinAloneEvery = 250 * time.Millisecond
	joinEvery      = 3 * time.Second
	joinsMax       = 4
	// leaveTimeout is how long Close waits for the others to be told.
	leaveTimeout  = 150 * time.Millisecond
	updateTimeout = time.Second
)

// Options of Start.
type Options struct {
	ClusterID uint64
	Kind      Kind
	ID        uint64 // of the store, or of the PD member
	Address   string // where others reach Service, host:port
	Status    Status
	// Service is registered on the gRPC server at Address.
	Service *Service
	// Seeds returns addresses to join, whenever it is asked: of PD members and
	// of stores. It must not block. This node's own may be among them.
	Seeds func() []string
	// OnChange is told what changes, one call at a time, from a goroutine of
	// its own. A slow one misses what came and went meanwhile, but never the
	// present state, nor that a node was dead for a moment.
	OnChange func(Event)
	// DialOptions must include transport credentials.
	DialOptions []grpc.DialOption
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

func (o *Options) check() error {
	switch {
	case o.ClusterID == 0 || o.ID == 0:
		return errors.New("gossip: a node needs the ids of its cluster and of itself")
	case o.Kind != KindStore && o.Kind != KindPD:
		return fmt.Errorf("gossip: there is no %v", o.Kind)
	case o.Service == nil:
		return errors.New("gossip: a node needs a Service")
	}
	if err := checkAddress(o.Address); err != nil {
		return fmt.Errorf("gossip: the address of this node: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Seeds == nil {
		o.Seeds = func() []string { return nil }
	}
	return o.Status.check()
}

// Node is this node's part in the gossip. Its methods may be called
// concurrently.
type Node struct {
	o       Options
	log     *slog.Logger
	metrics *metrics
	service *Service
	ml      *memberlist.Memberlist
	net     memberlist.NodeAwareTransport
	table   *table

	statusMu sync.Mutex
	self     Member // Status guarded by statusMu
	meta     []byte

	update chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	once   sync.Once
}

// Start joins the gossip, as soon as somebody can be reached, and goes on until
// Close.
func Start(o Options) (*Node, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	t := newTransport(&o, nameOf(o.Kind, o.ID), m)
	n, err := start(o, m, t, t.routes)
	if err != nil {
		_ = t.Shutdown()
		m.unregister()
		return nil, err
	}
	n.service = o.Service
	n.service.transport.Store(t)
	return n, nil
}

// start runs a node over any network.
func start(o Options, m *metrics, net memberlist.NodeAwareTransport, r *routes) (*Node, error) {
	n := &Node{
		o: o, log: o.Logger, metrics: m, net: net, update: make(chan struct{}, 1),
		self: Member{
			Name: nameOf(o.Kind, o.ID), Kind: o.Kind, ID: o.ID, Address: o.Address,
			Started: time.Now().Truncate(time.Millisecond), Status: o.Status,
		},
	}
	var err error
	if n.meta, err = encodeMeta(o.ClusterID, n.self); err != nil {
		return nil, err
	}
	n.table = newTable(n, r)
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if n.ml, err = memberlist.Create(n.config()); err != nil {
		n.cancel()
		return nil, fmt.Errorf("gossip: start: %w", err)
	}
	n.wg.Go(n.joinLoop)
	n.wg.Go(n.updateLoop)
	n.wg.Go(func() { n.table.deliver(n.ctx, o.OnChange) })
	return n, nil
}

func (n *Node) config() *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.RequireNodeNames = n.self.Name, true
	c.Transport = n.net
	c.ProtocolVersion = memberlist.ProtocolVersionMax
	c.TCPTimeout = streamTimeout
	c.IndirectChecks, c.RetransmitMult = indirectChecks, retransmitMult
	c.SuspicionMult, c.SuspicionMaxTimeoutMult, c.AwarenessMaxMultiplier = suspicionMult, suspicionMaxMult, awarenessMax
	c.ProbeInterval, c.ProbeTimeout = probeInterval, probeTimeout
	c.GossipInterval, c.GossipNodes, c.GossipToTheDeadTime = gossipInterval, gossipNodes, toTheDead
	c.PushPullInterval = pushPullInterval
	c.UDPBufferSize = packetBytes
	c.EnableCompression = false
	c.Delegate, c.Events, c.Alive, c.Merge = delegate{n}, n.table, n.table, n.table
	c.Logger = newLogger(n.log)
	return c
}

// Close tells the others that this node leaves, and ends everything. It may be
// called more than once.
func (n *Node) Close() {
	n.once.Do(func() {
		n.cancel()
		if err := n.ml.Leave(leaveTimeout); err != nil {
			n.log.Debug("gossip: the others find out by themselves that this node stops", "err", err)
		}
		n.shutdown()
	})
}

// shutdown is Close without telling anybody, as a crash is.
func (n *Node) shutdown() {
	n.cancel()
	if n.service != nil {
		n.service.transport.Store(nil)
	}
	_ = n.ml.Shutdown() // it has no errors but the transport's, which has none
	n.wg.Wait()
	n.metrics.unregister()
}

// Name is this node's name in the gossip.
func (n *Node) Name() string { return n.self.Name }

// Members lists all nodes that were heard of, the dead ones too, in the order
// of kinds and ids.
func (n *Node) Members() []Member { return n.table.list() }

// StoreAlive reports what is believed of a store; known is false where nothing
// was ever heard of it.
func (n *Node) StoreAlive(id uint64) (alive, known bool) {
	m, known := n.table.get(nameOf(KindStore, id))
	return m.Alive, known
}

// StoreMember returns what is known of a store; ok is false where nothing was
// ever heard of it.
func (n *Node) StoreMember(id uint64) (m Member, ok bool) {
	return n.table.get(nameOf(KindStore, id))
}

// UpdateStatus says something new about this node. It does not block.
func (n *Node) UpdateStatus(s Status) error {
	if err := s.check(); err != nil {
		return err
	}
	n.statusMu.Lock()
	defer n.statusMu.Unlock()
	if n.self.Status == s {
		return nil
	}
	self := n.self
	self.Status = s
	meta, err := encodeMeta(n.o.ClusterID, self)
	if err != nil {
		return err
	}
	n.self.Status, n.meta = s, meta // the rest is read without the lock
	select {
	case n.update <- struct{}{}:
	default:
	}
	return nil
}

// updateLoop tells the others what UpdateStatus was given last.
func (n *Node) updateLoop() {
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-n.update:
		}
		if err := n.ml.UpdateNode(updateTimeout); err != nil {
			n.log.Debug("gossip: the new status takes longer to spread", "err", err)
		}
	}
}

// joinLoop looks for members at the addresses where none is known to live: at
// the start, and after a network that was divided is whole again.
func (n *Node) joinLoop() {
	for {
		every := joinEvery
		if n.ml.NumMembers() <= 1 {
			every = joinAloneEvery
		}
		if list := n.toJoin(); len(list) > 0 {
			if _, err := n.ml.Join(list); err != nil {
				n.log.Debug("gossip: found nobody yet", "tried", list, "err", err)
			}
		}
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// toJoin picks addresses in the form "name/ip:port" that memberlist wants;
// routes.find takes the address out of it.
func (n *Node) toJoin() []string {
	candidates := append(n.o.Seeds(), n.table.deadAddresses()...)
	living := n.table.livingAddresses()
	living[n.o.Address] = true
	var list []string
	for _, addr := range candidates {
		if !living[addr] && checkAddress(addr) == nil {
			living[addr] = true // once
			list = append(list, addr+"/127.0.0.1:1")
		}
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:min(len(list), joinsMax)]
}

// delegate is what memberlist asks this node.
type delegate struct{ n *Node }

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte {
	d.n.statusMu.Lock()
	defer d.n.statusMu.Unlock()
	return d.n.meta
}

// NotifyMsg implements memberlist.Delegate: nobody sends such messages.
func (delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (delegate) MergeRemoteState([]byte, bool) {}
