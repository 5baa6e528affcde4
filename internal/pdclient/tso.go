package pdclient

import (
	"context"
	"fmt"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

const (
	// tsBatchMax is how many timestamps one request asks for; tsQueueMax how
	// many callers wait before the next one has to wait to wait.
	tsBatchMax = 4096
	tsQueueMax = 2 * tsBatchMax
	// logicalBits is the width of a timestamp's counter.
	logicalBits = 18
)

// tsRequest is one caller's wait for a timestamp.
type tsRequest struct {
	done chan struct{}
	ts   uint64
	err  error
}

// tsoBatcher asks for timestamps, one batch at a time: who comes while a batch
// is under way goes into the next, so batches grow with the load by themselves.
type tsoBatcher struct {
	c     *Client
	queue chan *tsRequest
	batch []*tsRequest
	last  uint64

	stream pdpb.PD_TsoClient
	member *member
	cancel context.CancelFunc // of the stream
}

func newTSOBatcher(c *Client) *tsoBatcher {
	return &tsoBatcher{c: c, queue: make(chan *tsRequest, tsQueueMax)}
}

// GetTS returns a timestamp larger than any that this client returned before.
func (c *Client) GetTS(ctx context.Context) (uint64, error) {
	r := &tsRequest{done: make(chan struct{})}
	select {
	case c.ts.queue <- r:
	case <-ctx.Done():
		return 0, fmt.Errorf("pdclient: wait for a timestamp: %w", ctx.Err())
	case <-c.ctx.Done():
		return 0, errClosed
	}
	select {
	case <-r.done:
		return r.ts, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("pdclient: wait for a timestamp: %w", ctx.Err())
	case <-c.ctx.Done():
		return 0, errClosed
	}
}

func (b *tsoBatcher) run() {
	defer b.closeStream()
	for b.collect() {
		var pause retryPause
		for {
			err := b.round()
			if err == nil {
				break
			}
			b.closeStream()
			if !retryable(err) {
				b.finish(func(r *tsRequest, _ int) { r.err = fmt.Errorf("pdclient: Tso: %w", err) })
				break
			}
			b.c.log.Info("pdclient: timestamp request failed, trying again", "err", err)
			if pause.wait(b.c.ctx, b.c.ctx) != nil {
				return
			}
		}
	}
}

// collect waits for a request and takes all that are there. It returns false
// when the client is closed.
func (b *tsoBatcher) collect() bool {
	select {
	case r := <-b.queue:
		b.batch = append(b.batch[:0], r)
	case <-b.c.ctx.Done():
		return false
	}
	for len(b.batch) < tsBatchMax {
		select {
		case r := <-b.queue:
			b.batch = append(b.batch, r)
		default:
			return true
		}
	}
	return true
}

func (b *tsoBatcher) round() error {
	if err := b.openStream(); err != nil {
		return err
	}
	// A member that hangs must not hold up the batch.
	watchdog := time.AfterFunc(callTimeout, b.cancel)
	defer watchdog.Stop()
	n := len(b.batch)
	if err := b.stream.Send(&pdpb.TsoRequest{Header: b.c.header(), Count: uint32(n)}); err != nil {
		// The reason comes with Recv.
		if _, rerr := b.stream.Recv(); rerr != nil {
			return rerr
		}
		return err
	}
	resp, err := b.stream.Recv()
	if err != nil {
		return err
	}
	if e := resp.GetHeader().GetError(); e != nil {
		return &Error{Call: "Tso", Type: e.Type, Message: e.Message}
	}
	t := resp.GetTimestamp()
	if int(resp.GetCount()) != n || t.GetLogical() < int64(n)-1 {
		return fmt.Errorf("asked for %d timestamps, got %d that end at %v", n, resp.GetCount(), t)
	}
	first := uint64(t.Physical)<<logicalBits + uint64(t.Logical) - uint64(n) + 1
	if first <= b.last {
		panic(fmt.Sprintf("pdclient: PD at %s went back in time: it granted %d after %d; the data is not safe any more",
			b.member.url, first, b.last))
	}
	b.last = first + uint64(n) - 1
	b.finish(func(r *tsRequest, i int) { r.ts = first + uint64(i) })
	return nil
}

func (b *tsoBatcher) finish(set func(r *tsRequest, i int)) {
	for i, r := range b.batch {
		set(r, i)
		close(r.done)
	}
	clear(b.batch)
	b.batch = b.batch[:0]
}

func (b *tsoBatcher) openStream() error {
	if b.stream != nil {
		return nil
	}
	m, err := b.c.waitLeader(b.c.ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(b.c.ctx)
	stream, err := m.pd.Tso(ctx)
	if err != nil {
		cancel()
		b.c.forget(m)
		return err
	}
	b.stream, b.member, b.cancel = stream, m, cancel
	return nil
}

func (b *tsoBatcher) closeStream() {
	if b.stream == nil {
		return
	}
	b.cancel()
	b.c.forget(b.member)
	b.stream = nil
}
