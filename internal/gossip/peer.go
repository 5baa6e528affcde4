package gossip

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/copradb/copra/proto/gossippb"
)

// peer sends packets to one address, on one stream that is opened when there is
// something to send.
type peer struct {
	t      *transport
	addr   string
	cc     *grpc.ClientConn
	client gossippb.GossipClient
	queue  chan []byte
	// down says that the last attempt to connect failed.
	down atomic.Bool

	stream grpc.ClientStreamingClient[gossippb.Packet, gossippb.PacketsEnd]
	cancel context.CancelFunc // of the stream
}

func newPeer(t *transport, addr string) (*peer, error) {
	cc, err := grpc.NewClient(addr, t.dialOptions...)
	if err != nil {
		return nil, fmt.Errorf("gossip: connect to %s: %w", addr, err)
	}
	return &peer{t: t, addr: addr, cc: cc, client: gossippb.NewGossipClient(cc), queue: make(chan []byte, sendQueueMax)}, nil
}

// push queues a packet; false says that the queue is full. memberlist does not
// use the bytes again.
func (p *peer) push(b []byte) bool {
	select {
	case p.queue <- b:
		return true
	default:
		return false
	}
}

func (p *peer) run() {
	defer func() {
		p.close()
		_ = p.cc.Close()
	}()
	idle := time.NewTimer(peerIdle)
	defer idle.Stop()
	for {
		var ended <-chan struct{}
		if p.stream != nil {
			ended = p.stream.Context().Done()
		}
		select {
		case b := <-p.queue:
			idle.Reset(peerIdle)
			p.send(b)
		case <-ended:
			p.close()
		case <-idle.C:
			if p.t.retire(p) {
				return
			}
			idle.Reset(peerIdle)
		case <-p.t.ctx.Done():
			p.t.retire(p)
			return
		}
	}
}

func (p *peer) send(b []byte) {
	if p.stream == nil && !p.open() {
		return
	}
	if err := p.stream.Send(&gossippb.Packet{Data: b}); err != nil {
		p.close()
		p.t.metrics.dropped.Inc()
		return
	}
	p.t.metrics.sent.Inc()
}

// open opens the stream. Where that fails, what is queued is dropped: it would
// be late.
func (p *peer) open() bool {
	ctx, cancel := context.WithCancel(p.t.outgoing())
	stream, err := p.client.Packets(ctx)
	if err != nil {
		cancel()
		p.down.Store(true)
		p.t.metrics.dropped.Add(float64(1 + p.drain()))
		return false
	}
	p.down.Store(false)
	p.stream, p.cancel = stream, cancel
	// Its end is what the other side says on this stream; gRPC cancels the
	// stream's context with it.
	go func() {
		_ = stream.RecvMsg(&gossippb.PacketsEnd{})
		cancel()
	}()
	return true
}

func (p *peer) drain() (n int) {
	for {
		select {
		case <-p.queue:
			n++
		default:
			return n
		}
	}
}

func (p *peer) close() {
	if p.stream != nil {
		p.cancel()
		p.stream = nil
	}
}
