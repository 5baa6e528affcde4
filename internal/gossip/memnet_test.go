package gossip

import (
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// memNet is a network in memory that can be divided.
type memNet struct {
	mu    sync.Mutex
	nodes map[string]*memTransport // by address
	cut   map[[2]string]bool       // one way, by address
}

func newMemNet() *memNet {
	return &memNet{nodes: map[string]*memTransport{}, cut: map[[2]string]bool{}}
}

// memTransport is one node's place in it.
type memTransport struct {
	*transport
	net *memNet
}

func (n *memNet) reach(from *memTransport, name string) (*memTransport, error) {
	addr, ok := from.routes.find(name)
	n.mu.Lock()
	defer n.mu.Unlock()
	to := n.nodes[addr]
	if !ok || to == nil {
		return nil, unreachable("dial", name, errors.New("nobody is there"))
	}
	if n.cut[[2]string{from.address, addr}] {
		return nil, nil
	}
	return to, nil
}

// divide cuts all ways between the two groups, or mends them.
func (n *memNet) divide(a, b []string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a {
		for _, y := range b {
			n.cut[[2]string{x, y}], n.cut[[2]string{y, x}] = cut, cut
		}
	}
}

func (t *memTransport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	now := time.Now()
	to, err := t.net.reach(t, a.Name)
	if err != nil || to == nil {
		return now, err
	}
	to.routes.learn(t.name, t.address)
	return now, to.ingest(b, netAddr(t.address), now)
}

func (t *memTransport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	to, err := t.net.reach(t, a.Name)
	if err != nil {
		return nil, err
	}
	if to == nil {
		time.Sleep(timeout)
		return nil, unreachable("dial", a.Name, errors.New("time-out"))
	}
	ours, theirs := net.Pipe()
	select {
	case to.streams <- &conn{Conn: theirs, local: netAddr(to.address), remote: netAddr(t.address)}:
		return &conn{Conn: ours, local: netAddr(t.address), remote: netAddr(to.address)}, nil
	case <-to.ctx.Done():
		return nil, unreachable("dial", a.Name, errors.New("reset"))
	case <-t.ctx.Done():
		return nil, unreachable("dial", a.Name, errors.New("stopping"))
	}
}

func (t *memTransport) Shutdown() error {
	t.net.mu.Lock()
	delete(t.net.nodes, t.address)
	t.net.mu.Unlock()
	return t.transport.Shutdown()
}

// watcher remembers what OnChange was told.
type watcher struct {
	mu     sync.Mutex
	events []string
	last   map[string]EventType
	at     map[string]time.Time // of the last event
}

func (w *watcher) take(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		w.last, w.at = map[string]EventType{}, map[string]time.Time{}
	}
	w.events = append(w.events, e.Member.Name+" "+e.Type.String())
	w.last[e.Member.Name], w.at[e.Member.Name] = e.Type, time.Now()
}

func (w *watcher) told() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.events, ", ")
}

func (w *watcher) lastOf(name string) (EventType, time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[name], w.at[name]
}

type memNode struct {
	*Node
	watcher
	addr string
}

const testCluster = 7

// start starts store id of a cluster at its usual address.
func (n *memNet) start(t *testing.T, clusterID, id uint64, addr string, seeds ...string) *memNode {
	t.Helper()
	m := &memNode{addr: addr}
	o := Options{
		ClusterID: clusterID, Kind: KindStore, ID: id, Address: addr, Service: &Service{},
		Seeds: func() []string { return seeds }, OnChange: m.take, Logger: slog.New(slog.DiscardHandler),
	}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	metrics, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	mt := &memTransport{transport: newTransport(&o, nameOf(o.Kind, id), metrics), net: n}
	n.mu.Lock()
	n.nodes[addr] = mt
	n.mu.Unlock()
	if m.Node, err = start(o, metrics, mt, mt.routes); err != nil {
		t.Fatal(err)
	}
	return m
}
