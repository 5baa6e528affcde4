package transport

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/copradb/copra/raftstore"
)

// All queues share a limit: entries above it are refused whatever store they are
// for, heartbeats are not, and with the queues gone entries go out again.
func TestHazard16_AllQueuesShareALimit(t *testing.T) {
	n := newNetwork(t)
	a := n.start(1, 1)
	release := make(chan struct{})
	// Nobody finds an address until release: the messages stay queued.
	a.o.Resolve = func(ctx context.Context, id uint64) (string, error) {
		select {
		case <-release:
		case <-ctx.Done():
		}
		return n.resolve(ctx, id)
	}
	const limit = 1 << 20
	a.queuesBytesMax = limit
	data := strings.Repeat("x", 64<<10)
	for i := range uint64(60) { // three stores, far below their own limits
		a.Send(message(7, 20+i%3, 2+i%3, i+1, data))
	}
	refused := 0
	for _, count := range a.store.unreachable {
		refused += count
	}
	if queued := a.queued.Load(); queued > limit || queued < limit-66<<10 {
		t.Fatalf("%d bytes are queued", queued)
	}
	if refused != 60-limit/(65<<10) {
		t.Fatalf("%d of 60 messages were refused", refused)
	}
	a.Send(message(7, 20, 2, 99, "")) // a heartbeat
	if len(a.store.unreachable) != 3 || a.store.unreachable[20]+a.store.unreachable[21]+a.store.unreachable[22] != refused {
		t.Fatalf("the heartbeat was refused: %v", a.store.unreachable)
	}
	b, c, d := n.start(1, 2), n.start(1, 3), n.start(1, 4)
	close(release)
	nodes := []*node{b, c, d}
	for _, nd := range nodes { // what was taken arrives
		nd.store.wait(func() bool { return len(nd.store.messages) >= limit/(65<<10)/3 })
	}
	for a.queued.Load() != 0 { // the last frames are on their way
		runtime.Gosched()
	}
	for i, nd := range nodes {
		a.Send(message(7, uint64(20+i), uint64(2+i), 1000, data))
		nd.store.wait(func() bool {
			return slices.ContainsFunc(nd.store.messages, func(m *raftstore.RaftMessage) bool { return m.Msg.GetCommit() == 1000 })
		})
	}
}
