package pd

import (
	"errors"
	"sync"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/pd/core"
)

// streamQueueMax is how many messages wait for one store. More are dropped: an
// operator's step is sent again with the region's next heartbeat.
const streamQueueMax = 1024

// heartbeatStreams are the ways to the stores: what PD wants from a region goes
// back on the stream that its leader's store reports on.
type heartbeatStreams struct {
	clusterID uint64

	mu      sync.Mutex
	byStore map[uint64]chan *pdpb.RegionHeartbeatResponse
}

func newHeartbeatStreams(clusterID uint64) *heartbeatStreams {
	return &heartbeatStreams{clusterID: clusterID, byStore: make(map[uint64]chan *pdpb.RegionHeartbeatResponse)}
}

// bind makes q the way to the store; a store that opened a new stream has given
// up the old one.
func (h *heartbeatStreams) bind(store uint64, q chan *pdpb.RegionHeartbeatResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byStore[store] = q
}

// superseded reports whether the store has opened a stream after that of q.
func (h *heartbeatStreams) superseded(store uint64, q chan *pdpb.RegionHeartbeatResponse) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.byStore[store]
	return now != nil && now != q
}

func (h *heartbeatStreams) unbind(store uint64, q chan *pdpb.RegionHeartbeatResponse) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.byStore[store] == q {
		delete(h.byStore, store)
	}
}

// Send implements schedule.Cluster.
func (c *cluster) Send(r *core.Region, m *pdpb.RegionHeartbeatResponse) {
	if r.Leader == nil {
		return
	}
	m.Header = c.s.header()
	m.RegionId, m.RegionEpoch, m.TargetPeer = r.ID(), r.Epoch(), r.Leader
	c.streams.send(r.Leader.StoreId, m)
}

func (h *heartbeatStreams) send(store uint64, m *pdpb.RegionHeartbeatResponse) {
	h.mu.Lock()
	q := h.byStore[store]
	h.mu.Unlock()
	select {
	case q <- m: // a nil queue never takes it
	default:
	}
}

// RegionHeartbeat implements pdpb.PDServer. The handler sends, a goroutine of
// its own receives, and whichever ends first ends the stream; so does the term.
func (p *service) RegionHeartbeat(stream pdpb.PD_RegionHeartbeatServer) error {
	if err := p.s.started(); err != nil {
		return err
	}
	t, err := p.s.leading()
	if err != nil {
		return rpcError(err)
	}
	markStore(stream.Context())
	q := make(chan *pdpb.RegionHeartbeatResponse, streamQueueMax)
	received := make(chan error, 1)
	// It ends when the handler returns: that ends the stream's Recv.
	go func() { received <- p.receiveHeartbeats(t, stream, q) }()
	for {
		select {
		case m := <-q:
			if err := stream.Send(m); err != nil {
				return err
			}
		case err := <-received:
			return err
		case <-t.ctx.Done():
			return rpcError(errNoTerm)
		}
	}
}

func (p *service) receiveHeartbeats(t *term, stream pdpb.PD_RegionHeartbeatServer, q chan *pdpb.RegionHeartbeatResponse) error {
	bound := uint64(0)
	defer func() {
		if bound != 0 {
			t.cluster.streams.unbind(bound, q)
		}
	}()
	for {
		hb, err := stream.Recv()
		if err != nil {
			return endOfStream(err)
		}
		now, h, err := p.s.serveRegions(hb.GetHeader())
		if err != nil {
			return err
		}
		if now == nil {
			return status.Error(codes.FailedPrecondition, h.Error.Message)
		}
		if now != t {
			return rpcError(errNoTerm)
		}
		if store := hb.GetLeader().GetStoreId(); store != bound && store != 0 {
			if t.cluster.stores.Get(store) == nil {
				return rpcError(storeNotFound(store))
			}
			bound = store
			t.cluster.streams.bind(store, q)
		}
		// What is left of a stream that the store gave up is older than what came
		// on the next one: it would bring back peers that are pending no longer.
		if bound != 0 && t.cluster.streams.superseded(bound, q) {
			return status.Errorf(codes.Aborted, "store %d has opened another heartbeat stream", bound)
		}
		p.s.metrics.regionHeartbeat.WithLabelValues(p.takeHeartbeat(t, hb, q)).Inc()
	}
}

// takeHeartbeat returns the outcome's name. An error goes back on the stream; it
// concerns one region only.
func (p *service) takeHeartbeat(t *term, hb *pdpb.RegionHeartbeatRequest, q chan *pdpb.RegionHeartbeatResponse) string {
	err := t.cluster.regionHeartbeat(hb)
	if err == nil {
		return "ok"
	}
	if errors.Is(err, core.ErrStale) {
		p.s.log.Debug("pd: stale region heartbeat", "err", err)
		return "stale"
	}
	p.s.log.Warn("pd: region heartbeat refused", "region", hb.GetRegion().GetId(), "err", err)
	select {
	case q <- &pdpb.RegionHeartbeatResponse{
		Header: p.s.headerError(err), RegionId: hb.GetRegion().GetId(),
		RegionEpoch: hb.GetRegion().GetRegionEpoch(), TargetPeer: hb.GetLeader(),
	}:
	default:
	}
	return "err"
}
