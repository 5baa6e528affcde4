package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/copradb/copra/raftstore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	reconnectDelayMin = 50 * time.Millisecond
	reconnectDelayMax = 2 * time.Second
	// A peer that vanished without a reset is noticed after the sum.
	keepaliveTime    = 5 * time.Second
	keepaliveTimeout = 3 * time.Second
)

// sender owns the stream of one class to one store.
type sender struct {
	t   *Transport
	key senderKey

	wake chan struct{} // holds a token if the queue is not empty

	mu    sync.Mutex
	queue []*raftstore.RaftMessage
	bytes int
	down  bool // no stream: refuse at once instead of queueing in vain

	// sentTo are peers that got messages on the present stream. When it breaks
	// nobody knows what arrived, so they count as unreachable. Only run uses it.
	sentTo map[peerKey]*raftstore.RaftMessage
}

type peerKey struct{ region, peer uint64 }

// sentToMax bounds sentTo; peers beyond it find out by themselves.
const sentToMax = 16 << 10

func newSender(t *Transport, key senderKey) *sender {
	return &sender{t: t, key: key, wake: make(chan struct{}, 1), sentTo: map[peerKey]*raftstore.RaftMessage{}}
}

// push queues m unless the queue is full or the store cannot be reached.
func (s *sender) push(m *raftstore.RaftMessage) bool {
	size := messageBytes(m)
	s.mu.Lock()
	if s.down || len(s.queue) >= queueCountMax || s.bytes+size > queueBytesMax && len(s.queue) > 0 || !s.t.reserve(s.key.class, size) {
		s.mu.Unlock()
		return false
	}
	s.queue = append(s.queue, m)
	s.bytes += size
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// messageBytes estimates the memory a queued message holds.
func messageBytes(m *raftstore.RaftMessage) int {
	n := 256 + len(m.StartKey) + len(m.EndKey)
	if m.Msg != nil {
		for _, e := range m.Msg.Entries {
			n += 64 + len(e.GetData())
		}
	}
	return n
}

// take empties the queue into buf.
func (s *sender) take(buf []*raftstore.RaftMessage) []*raftstore.RaftMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	buf = append(buf[:0], s.queue...)
	clear(s.queue)
	s.queue, s.bytes = s.queue[:0], 0
	return buf
}

// run connects when there is something to send, sends until the stream breaks,
// reports what got lost, and waits before it tries again.
func (s *sender) run() {
	delay := reconnectDelayMin
	for {
		select {
		case <-s.wake:
		case <-s.t.ctx.Done():
			return
		}
		sent, err := s.stream()
		if s.t.ctx.Err() != nil {
			return
		}
		if sent {
			delay = reconnectDelayMin
		}
		s.t.o.Logger.Warn("raft stream broke", "to_store", s.key.store, "retry_in", delay, "err", err)
		s.setDown(true)
		timer := time.NewTimer(delay/2 + rand.N(delay/2))
		select {
		case <-timer.C:
		case <-s.t.ctx.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, reconnectDelayMax)
		s.setDown(false)
	}
}

// setDown drops and reports the queue when the stream has broken.
func (s *sender) setDown(down bool) {
	s.mu.Lock()
	s.down = down
	s.mu.Unlock()
	if !down {
		return
	}
	lost := s.take(nil)
	s.t.release(lost)
	s.drop(lost)
	for _, m := range s.sentTo {
		s.t.unreachable(m)
	}
	clear(s.sentTo)
}

func (s *sender) drop(messages []*raftstore.RaftMessage) {
	s.t.metrics.dropped.Add(float64(len(messages)))
	told := map[peerKey]bool{}
	for _, m := range messages {
		if p := (peerKey{m.RegionID, m.To.Id}); !told[p] {
			told[p] = true
			s.t.unreachable(m)
		}
	}
}

// stream sends what is queued, and what comes, over one gRPC stream until that
// fails. sent says whether a frame was written at all.
func (s *sender) stream() (sent bool, err error) {
	ctx, cancel := context.WithCancel(s.t.ctx)
	defer cancel()
	cc, err := s.t.dial(ctx, s.key.store)
	if err != nil {
		return false, err
	}
	defer cc.Close()
	ctx = WithTarget(ctx, s.t.o.ClusterID, s.t.o.StoreID, s.key.store)
	stream, err := cc.NewStream(ctx, batchStream, batchMethod, grpc.MaxCallSendMsgSize(frameBytesMax), frameCodecOption())
	if err != nil {
		return false, fmt.Errorf("open raft stream to store %d at %s: %w", s.key.store, cc.Target(), err)
	}
	// The server never answers: a received result is the end of the stream.
	broken := make(chan error, 1)
	go func() { broken <- stream.RecvMsg(new(wrapperspb.BytesValue)) }()
	var pending []*raftstore.RaftMessage
	for {
		pending = s.take(pending)
		for rest := pending; len(rest) > 0; {
			frame, n := s.encode(rest)
			// A failed SendMsg says only EOF; the cause comes from RecvMsg.
			if frame.empty() {
				frame.free()
			} else if stream.SendMsg(frame) != nil {
				s.t.release(rest)
				s.drop(rest)
				cancel()
				return sent, <-broken
			}
			sent = true
			s.t.release(rest[:n])
			rest = rest[n:]
		}
		clear(pending)
		select {
		case <-s.wake:
		case err := <-broken:
			if err == nil {
				err = errors.New("the receiver answered on a one-way stream")
			}
			return sent, err
		}
	}
}

// encode makes a frame of the first n messages. A message that cannot be encoded
// is reported and left out.
func (s *sender) encode(messages []*raftstore.RaftMessage) (frame outFrame, n int) {
	bytes := 0
	for _, m := range messages {
		if bytes += messageBytes(m); bytes >= frameBytesTarget {
			break
		}
	}
	frame = newFrame(bytes)
	for n < len(messages) && frame.bytes() < frameBytesTarget {
		out, err := appendMessage(*frame.buf, messages[n])
		if err != nil {
			s.t.o.Logger.Error("raft message cannot be sent", "region", messages[n].RegionID, "err", err)
			s.drop(messages[n : n+1])
		} else if len(s.sentTo) < sentToMax {
			key := peerKey{messages[n].RegionID, messages[n].To.Id}
			if s.sentTo[key] == nil {
				s.sentTo[key] = &raftstore.RaftMessage{RegionID: key.region, To: messages[n].To}
			}
		}
		*frame.buf = out
		n++
	}
	frame.seal()
	s.t.metrics.sent.Add(float64(n))
	s.t.metrics.flushed.Inc()
	return frame, n
}

// KeepaliveOption makes broken connections show within seconds; it belongs
// into Options.DialOptions.
func KeepaliveOption() grpc.DialOption {
	return grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout})
}
