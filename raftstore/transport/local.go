package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/copradb/copra/raftstore"
)

// Local connects the stores of one process. The zero value is ready to use.
type Local struct {
	mu     sync.RWMutex
	stores map[uint64]raftstore.Handler
}

// Attach makes the store reachable; Detach ends that.
func (l *Local) Attach(storeID uint64, h raftstore.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stores == nil {
		l.stores = map[uint64]raftstore.Handler{}
	}
	l.stores[storeID] = h
}

// Detach makes the store unreachable.
func (l *Local) Detach(storeID uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.stores, storeID)
}

func (l *Local) handler(storeID uint64) raftstore.Handler {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.stores[storeID]
}

// Node is the transport of one store.
func (l *Local) Node(storeID uint64) raftstore.Transport { return &localNode{l, storeID} }

type localNode struct {
	net *Local
	id  uint64
}

// Send implements raftstore.Transport.
func (n *localNode) Send(m *raftstore.RaftMessage) {
	if h := n.net.handler(m.To.StoreId); h != nil {
		// The receiver drops what it has no room for; Raft sends again.
		_ = h.Step(m)
		return
	}
	if h := n.net.handler(n.id); h != nil && !m.Tombstone {
		h.ReportUnreachable(m.RegionID, m.To.Id)
	}
}

// SendSnapshot implements raftstore.Transport.
func (n *localNode) SendSnapshot(ctx context.Context, m *raftstore.RaftMessage, files []raftstore.SnapshotFile) error {
	h := n.net.handler(m.To.StoreId)
	if h == nil {
		return fmt.Errorf("send snapshot of region %d: store %d is not in this process", m.RegionID, m.To.StoreId)
	}
	r, err := h.BeginSnapshot(m)
	if err != nil {
		return fmt.Errorf("send snapshot of region %d to store %d: %w", m.RegionID, m.To.StoreId, err)
	}
	for _, f := range files {
		if err := copyFile(ctx, f, r); err != nil {
			r.Abort()
			return fmt.Errorf("send snapshot of region %d to store %d: %w", m.RegionID, m.To.StoreId, err)
		}
	}
	return r.Finish()
}

func copyFile(ctx context.Context, f raftstore.SnapshotFile, r raftstore.SnapshotReceiver) (err error) {
	src, err := f.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	buf := make([]byte, min(max(f.Size, 1), snapshotChunkBytes))
	for offset := int64(0); ; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		part := buf[:min(f.Size-offset, snapshotChunkBytes)]
		if _, err := io.ReadFull(src, part); err != nil {
			return fmt.Errorf("read %s at %d of %d bytes: %w", f.Name, offset, f.Size, unexpected(err))
		}
		if err := r.Write(f.Name, part); err != nil {
			return err
		}
		if offset += int64(len(part)); offset >= f.Size {
			return nil
		}
	}
}
