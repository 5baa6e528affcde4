package pdclient

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// regionQueueMax is how many region reports wait for the stream.
const regionQueueMax = 8192

// askAllEvery is how often, at most, all regions report because some reports
// were dropped: if PD is too slow for them all, it must not get them all the time.
const askAllEvery = 2 * time.Second

// regionReporter sends region heartbeats on one stream to the leader and passes
// what comes back to the handler.
type regionReporter struct {
	c       *Client
	queue   chan *pdpb.RegionHeartbeatRequest
	missed  atomic.Bool // a report was dropped since the last call of OnHeartbeatStream
	asked   time.Time   // when that was
	handler atomic.Pointer[func(*pdpb.RegionHeartbeatResponse)]
}

func newRegionReporter(c *Client) *regionReporter {
	return &regionReporter{c: c, queue: make(chan *pdpb.RegionHeartbeatRequest, regionQueueMax)}
}

// HandleRegionHeartbeatResponse sets the function that gets what PD wants from
// regions. It is called from one goroutine and must not block for long.
func (c *Client) HandleRegionHeartbeatResponse(fn func(*pdpb.RegionHeartbeatResponse)) {
	c.regions.handler.Store(&fn)
}

// ReportRegion queues a heartbeat. It never blocks; false says that the queue
// was full and the report was dropped; OnHeartbeatStream is called when there is
// room. The client sets the header and keeps the message.
func (c *Client) ReportRegion(hb *pdpb.RegionHeartbeatRequest) bool {
	select {
	case c.regions.queue <- hb:
		return true
	default:
		c.regions.missed.Store(true)
		c.dropped.Inc()
		return false
	}
}

func (r *regionReporter) run() {
	var pause retryPause
	for r.c.ctx.Err() == nil {
		m, err := r.c.waitLeader(r.c.ctx)
		if err != nil {
			return
		}
		answered, err := r.serve(m)
		if r.c.ctx.Err() != nil {
			return
		}
		r.c.forget(m)
		if answered {
			pause = retryPause{}
		}
		r.c.log.Info("pdclient: the heartbeat stream ended, opening another", "pd", m.url, "err", err)
		if pause.wait(r.c.ctx, r.c.ctx) != nil {
			return
		}
	}
}

// serve runs one stream until it ends. answered says that the other side was
// alive.
func (r *regionReporter) serve(m *member) (answered bool, err error) {
	ctx, cancel := context.WithCancel(r.c.ctx)
	stream, err := m.pd.RegionHeartbeat(ctx)
	if err != nil {
		cancel()
		return false, err
	}
	received := make(chan error, 1)
	var alive atomic.Bool
	go func() {
		defer cancel() // frees the sender
		received <- r.receive(stream, &alive)
	}()
	r.askAll()
	r.send(ctx, stream)
	cancel()
	return alive.Load(), <-received
}

// askAll asks for reports of all regions.
func (r *regionReporter) askAll() {
	r.asked = time.Now()
	if r.c.opts.OnHeartbeatStream != nil {
		r.c.opts.OnHeartbeatStream()
	}
}

func (r *regionReporter) send(ctx context.Context, stream pdpb.PD_RegionHeartbeatClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case hb := <-r.queue:
			hb.Header = r.c.header()
			if err := stream.Send(hb); err != nil {
				return // the reason comes from receive
			}
			// What was dropped may be what PD waits for, and a region that sleeps
			// would not say it again for a minute.
			if len(r.queue) < regionQueueMax/2 && r.missed.Load() && time.Since(r.asked) >= askAllEvery {
				r.missed.Store(false)
				r.askAll()
			}
		}
	}
}

func (r *regionReporter) receive(stream pdpb.PD_RegionHeartbeatClient, alive *atomic.Bool) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return errors.New("PD ended it")
		}
		if err != nil {
			return err
		}
		alive.Store(true)
		if e := m.GetHeader().GetError(); e != nil {
			r.c.log.Warn("pdclient: PD refused a region heartbeat", "region", m.RegionId, "err", e.Message)
			continue
		}
		if fn := r.handler.Load(); fn != nil {
			(*fn)(m)
		}
	}
}
