package sim

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// gate holds whoever comes to it while a process is stopped as by SIGSTOP.
type gate struct{ closed atomic.Pointer[chan struct{}] }

func (g *gate) wait() {
	for {
		ch := g.closed.Load()
		if ch == nil {
			return
		}
		<-*ch
	}
}

func (g *gate) shut() {
	ch := make(chan struct{})
	g.closed.CompareAndSwap(nil, &ch)
}

func (g *gate) open() {
	if ch := g.closed.Swap(nil); ch != nil {
		close(*ch)
	}
}

func (g *gate) isShut() bool { return g.closed.Load() != nil }

// node is what the simulation knows of one store, whatever its incarnation.
type node struct {
	id    uint64
	w     *world
	gate  gate
	disk  disk
	rate  float64 // of its clock, to everybody's
	start time.Time
	// busy is held by whoever breaks or mends the store.
	busy chan struct{}
	// died is sent to when the store has ended itself.
	died chan string

	mu    sync.Mutex
	inbox []func() // what arrives while the gate is shut
}

func (n *node) lock()   { n.busy <- struct{}{} }
func (n *node) unlock() { <-n.busy }

// arrive delivers now, or when the store goes on.
func (n *node) arrive(deliver func()) {
	n.mu.Lock()
	if n.gate.isShut() {
		n.inbox = append(n.inbox, deliver)
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	deliver()
}

func (n *node) pause() {
	n.mu.Lock()
	n.gate.shut()
	n.mu.Unlock()
}

func (n *node) resume() {
	n.mu.Lock()
	inbox := n.inbox
	n.inbox = nil
	n.gate.open()
	n.mu.Unlock()
	for _, deliver := range inbox {
		deliver()
	}
}

// forgetInbox drops what a process that ended had not read.
func (n *node) forgetInbox() {
	n.mu.Lock()
	n.inbox = nil
	n.mu.Unlock()
}

// customize makes a store part of the simulation.
func (n *node) customize(o *raftstore.Options) {
	o.Clock = clock{n}
	o.Transport = transport{o.Transport, n}
	o.Observer = observer{NoObserver: raftstore.NoObserver{}, n: n}
	if n.w.load != nil {
		n.w.load.Options(o)
	}
	o.Logger = n.w.logger(n.id)
	o.Inconsistent = func(i raftstore.Inconsistency) {
		n.w.fail("store %d: peer %d of region %d differs from its leader at index %d", n.id, i.PeerID, i.Region.Id, i.Index)
	}
}

// clock runs at its own rate, and whoever looks at it while the process is
// stopped sees the time of its continuation.
type clock struct{ n *node }

var _ raftstore.Clock = clock{}

func (c clock) Now() time.Duration {
	c.n.gate.wait()
	return time.Duration(float64(time.Since(c.n.start)) * c.n.rate)
}

func (c clock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(time.Duration(float64(d) / c.n.rate))
	return t.C, t.Stop
}

// transport stops sending while the process is stopped.
type transport struct {
	raftstore.Transport
	n *node
}

func (t transport) Send(m *raftstore.RaftMessage) {
	t.n.gate.wait()
	t.Transport.Send(m)
}

func (t transport) SendSnapshot(ctx context.Context, m *raftstore.RaftMessage, files []raftstore.SnapshotFile) error {
	t.n.gate.wait()
	breakAt := t.n.w.net.snapshotBreak(m)
	if breakAt >= 0 && breakAt < len(files) {
		open := files[breakAt].Open
		files[breakAt].Open = func() (io.ReadCloser, error) {
			r, err := open()
			return brokenReader{r}, err
		}
	}
	return t.Transport.SendSnapshot(ctx, m, files)
}

// brokenReader is a stream that ends too early.
type brokenReader struct{ io.Closer }

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// observer watches the roles, and holds apply while the process is stopped.
type observer struct {
	raftstore.NoObserver
	n *node
}

func (o observer) Applied(uint64, []*raftpb.Entry) { o.n.gate.wait() }

func (o observer) RoleChanged(region uint64, leader bool, term uint64) {
	o.n.w.roleChanged(o.n.id, region, leader, term)
}

func (o observer) RegionChanged(region *metapb.Region, removed bool) {
	if removed {
		o.n.w.log.add(o.n.id, region.GetId(), "left the store")
		return
	}
	o.n.w.log.add(o.n.id, region.GetId(), "%s", describe(region))
}
