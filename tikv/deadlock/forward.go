package deadlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	graph "github.com/copradb/copra/txn/deadlock"
	"github.com/pingcap/kvproto/pkg/deadlock"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc"
)

// errUnreachable is what waiting detections get when the stream breaks.
var errUnreachable = errors.New("the deadlock detector cannot be reached")

// forwarder keeps a stream to the store that leads the graph.
type forwarder struct {
	o      Options
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	queue  chan call
	start  sync.Once
}

// call is one request; a Detect has a channel for its answer.
type call struct {
	req  *deadlock.DeadlockRequest
	done chan result
}

type result struct {
	resp *deadlock.DeadlockResponse
	err  error
}

func newForwarder(o Options) *forwarder {
	f := &forwarder{o: o, queue: make(chan call, forwardQueueMax)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

func (f *forwarder) close() {
	f.cancel()
	f.start.Do(func() {}) // no run after this
	f.wg.Wait()
}

// push queues a request, or says that the queue is full.
func (f *forwarder) push(c call) bool {
	f.start.Do(func() {
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			f.run()
		}()
	})
	select {
	case f.queue <- c:
		return true
	default:
		return false
	}
}

// send forwards a clean-up; it may be lost: edges expire.
func (f *forwarder) send(req *deadlock.DeadlockRequest) { f.push(call{req: req}) }

func (f *forwarder) detect(ctx context.Context, w graph.WaitFor) (*kvrpcpb.Deadlock, error) {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	c := call{
		req:  &deadlock.DeadlockRequest{Tp: deadlock.DeadlockRequestType_Detect, Entry: entryOf(w)},
		done: make(chan result, 1),
	}
	if !f.push(c) {
		return nil, fmt.Errorf("%w: %d requests are waiting", errUnreachable, forwardQueueMax)
	}
	select {
	case r := <-c.done:
		if r.err != nil || len(r.resp.GetWaitChain()) == 0 {
			return nil, r.err
		}
		return &kvrpcpb.Deadlock{
			LockTs: w.HolderTxn, LockKey: append([]byte(nil), w.Key...),
			DeadlockKeyHash: r.resp.GetDeadlockKeyHash(), DeadlockKey: r.resp.GetDeadlockKey(), WaitChain: r.resp.GetWaitChain(),
		}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.ctx.Done():
		return nil, errUnreachable
	}
}

// run holds a stream while there is something to send.
func (f *forwarder) run() {
	for {
		select {
		case c := <-f.queue:
			err := f.stream(c)
			if f.ctx.Err() != nil {
				return
			}
			f.o.Logger.Info("stream to the deadlock detector broke", "err", err)
			timer := time.NewTimer(retryDelay)
			select {
			case <-timer.C:
			case <-f.ctx.Done():
				timer.Stop()
				return
			}
		case <-f.ctx.Done():
			return
		}
	}
}

// inflight matches answers to requests: the leader answers in order.
type inflight struct {
	mu     sync.Mutex
	calls  []call
	broken bool
}

func (i *inflight) add(c call) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.broken {
		return false
	}
	i.calls = append(i.calls, c)
	return true
}

func (i *inflight) next() (call, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.calls) == 0 {
		return call{}, false
	}
	c := i.calls[0]
	i.calls = i.calls[1:]
	return c, true
}

func (i *inflight) fail(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.broken = true
	for _, c := range i.calls {
		c.done <- result{err: err}
	}
	i.calls = nil
}

// stream sends first and what follows it to the leader of now, until the stream
// breaks or it is time to ask PD for the leader again.
func (f *forwarder) stream(first call) (err error) {
	var waiting inflight
	defer func() {
		failure := fmt.Errorf("%w: %w", errUnreachable, err)
		waiting.fail(failure)
	}()
	fail := func(c call, err error) error {
		if c.done != nil {
			c.done <- result{err: fmt.Errorf("%w: %w", errUnreachable, err)}
		}
		return err
	}
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	lookup, cancelLookup := context.WithTimeout(ctx, detectTimeout)
	storeID, addr, err := f.o.Leader(lookup)
	cancelLookup()
	if err != nil {
		return fail(first, fmt.Errorf("ask PD for the detector's store: %w", err))
	}
	if storeID == f.o.StoreID {
		return fail(first, errors.New("PD names this very store, which does not lead yet"))
	}
	cc, err := grpc.NewClient(addr, f.o.DialOptions...)
	if err != nil {
		return fail(first, err)
	}
	defer cc.Close()
	stream, err := deadlock.NewDeadlockClient(cc).Detect(ctx)
	if err != nil {
		return fail(first, err)
	}
	received := make(chan error, 1)
	go func() { received <- receive(stream, &waiting) }()
	defer func() {
		cancel()
		<-received
	}()
	expired := time.NewTimer(leaderCacheTime)
	defer expired.Stop()
	for c := first; ; {
		if c.done != nil && !waiting.add(c) {
			return fail(c, errUnreachable)
		}
		if err := stream.Send(c.req); err != nil {
			return fmt.Errorf("send to store %d at %s: %w", storeID, addr, err)
		}
		select {
		case c = <-f.queue:
		case err := <-received:
			received <- err
			return fmt.Errorf("store %d at %s: %w", storeID, addr, err)
		case <-expired.C:
			if f.stillLeads(ctx, storeID) {
				expired.Reset(leaderCacheTime)
				select {
				case c = <-f.queue:
					continue
				case err := <-received:
					received <- err
					return fmt.Errorf("store %d at %s: %w", storeID, addr, err)
				}
			}
			return fmt.Errorf("store %d leads no more", storeID)
		}
	}
}

func (f *forwarder) stillLeads(ctx context.Context, storeID uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, detectTimeout)
	defer cancel()
	now, _, err := f.o.Leader(ctx)
	return err == nil && now == storeID
}

func receive(stream deadlock.Deadlock_DetectClient, waiting *inflight) error {
	for {
		resp, err := stream.Recv()
		if err != nil {
			waiting.fail(fmt.Errorf("%w: %w", errUnreachable, err))
			return err
		}
		c, ok := waiting.next()
		if !ok {
			return errors.New("the detector answered without a question")
		}
		c.done <- result{resp: resp}
	}
}
