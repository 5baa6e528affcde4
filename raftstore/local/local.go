// Package local carries messages between the stores of one process: the
// playground's transport, and the tests' with a Filter between the stores.
//
// Messages are handed over as they are; nothing is encoded. Delivery is a call
// of the receiver on the sender's goroutine, which never blocks.
package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/raftstore"
)

// chunkBytesMax is how much of a snapshot file is handed over at once.
const chunkBytesMax = 1 << 20

// Filter decides about a message on its way: it returns false to drop it, or
// after it has arranged for a later call of deliver.
type Filter func(m *raftstore.RaftMessage, deliver func()) bool

// Network connects the stores that are registered with it.
type Network struct {
	mu     sync.RWMutex
	stores map[uint64]raftstore.Handler
	filter atomic.Pointer[Filter]
}

// NewNetwork returns a network without stores.
func NewNetwork() *Network { return &Network{stores: map[uint64]raftstore.Handler{}} }

// Register connects a store; a later call replaces it.
func (n *Network) Register(storeID uint64, h raftstore.Handler) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stores[storeID] = h
}

// Unregister disconnects a store: what is sent to it or by it from here on is
// lost.
func (n *Network) Unregister(storeID uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.stores, storeID)
}

// SetFilter puts a filter between the stores; nil takes it away.
func (n *Network) SetFilter(f Filter) {
	if f == nil {
		n.filter.Store(nil)
		return
	}
	n.filter.Store(&f)
}

func (n *Network) handler(storeID uint64) raftstore.Handler {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.stores[storeID]
}

// Transport returns the network as the store storeID sees it.
func (n *Network) Transport(storeID uint64) raftstore.Transport {
	return &transport{n: n, storeID: storeID}
}

type transport struct {
	n       *Network
	storeID uint64
}

// Send implements raftstore.Transport.
func (t *transport) Send(m *raftstore.RaftMessage) {
	if t.n.handler(t.storeID) == nil {
		return
	}
	if f := t.n.filter.Load(); f != nil && !(*f)(m, func() { t.deliver(m) }) {
		return
	}
	t.deliver(m)
}

func (t *transport) deliver(m *raftstore.RaftMessage) {
	if h := t.n.handler(m.To.StoreId); h != nil && h.Step(m) == nil {
		return
	}
	if h := t.n.handler(t.storeID); h != nil {
		h.ReportUnreachable(m.RegionID, m.To.Id)
	}
}

// SendSnapshot implements raftstore.Transport.
func (t *transport) SendSnapshot(ctx context.Context, m *raftstore.RaftMessage, files []raftstore.SnapshotFile) error {
	if f := t.n.filter.Load(); f != nil && !(*f)(m, func() {}) {
		return fmt.Errorf("snapshot to store %d was lost", m.To.StoreId)
	}
	h := t.n.handler(m.To.StoreId)
	if h == nil || t.n.handler(t.storeID) == nil {
		return fmt.Errorf("store %d is not in this process", m.To.StoreId)
	}
	r, err := h.BeginSnapshot(m)
	if err != nil {
		return err
	}
	buf := make([]byte, chunkBytesMax)
	for _, f := range files {
		if err := copyFile(ctx, r, f, buf); err != nil {
			r.Abort()
			return fmt.Errorf("send %s: %w", f.Name, err)
		}
	}
	return r.Finish()
}

func copyFile(ctx context.Context, r raftstore.SnapshotReceiver, f raftstore.SnapshotFile, buf []byte) (err error) {
	in, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buf)
		if n > 0 {
			if err := r.Write(f.Name, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
