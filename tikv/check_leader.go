package tikv

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/raftstore/transport"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// CheckLeader answers which of the regions have the leader here that asks, and
// takes in up to where they are resolved. Only stores may call it: who could
// make up a safe timestamp could make reads wrong.
func (s *Service) CheckLeader(ctx context.Context, req *kvrpcpb.CheckLeaderRequest) (*kvrpcpb.CheckLeaderResponse, error) {
	start := time.Now()
	resp, err := s.checkLeader(ctx, req)
	s.metrics.observe("check_leader", time.Since(start), err)
	return resp, err
}

func (s *Service) checkLeader(ctx context.Context, req *kvrpcpb.CheckLeaderRequest) (*kvrpcpb.CheckLeaderResponse, error) {
	if err := transport.CheckTarget(ctx, s.clusterID, s.storeID); err != nil {
		return nil, err
	}
	if n := len(req.GetRegions()); n > resolvedts.CheckRegionsMax {
		return nil, status.Errorf(codes.InvalidArgument, "check_leader of %d regions: at most %d are possible", n, resolvedts.CheckRegionsMax)
	}
	return &kvrpcpb.CheckLeaderResponse{Regions: s.safe.CheckLeaders(req.GetRegions()), Ts: req.GetTs()}, nil
}

// GetStoreSafeTS returns the timestamp up to which every replica of the store
// that has keys in the range can be read without asking its leader. 0: one of
// them has none; clients then read from leaders. The range is of plain keys.
func (s *Service) GetStoreSafeTS(_ context.Context, req *kvrpcpb.StoreSafeTSRequest) (*kvrpcpb.StoreSafeTSResponse, error) {
	var start, end []byte
	if r := req.GetKeyRange(); len(r.GetStartKey()) > 0 {
		start = codec.EncodeBytes(nil, r.GetStartKey())
	}
	if r := req.GetKeyRange(); len(r.GetEndKey()) > 0 {
		end = codec.EncodeBytes(nil, r.GetEndKey())
	}
	return &kvrpcpb.StoreSafeTSResponse{SafeTs: s.safe.MinSafeTS(start, end)}, nil
}

// storeConns are the connections for calls between stores that are no Raft
// messages.
type storeConns struct {
	clusterID, storeID uint64
	resolve            func(ctx context.Context, storeID uint64) (string, error)
	dial               []grpc.DialOption

	mu     sync.Mutex
	closed bool
	conns  map[uint64]*grpc.ClientConn // at most one a store of the cluster
}

func (c *storeConns) get(ctx context.Context, store uint64) (*grpc.ClientConn, error) {
	c.mu.Lock()
	conn := c.conns[store]
	c.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	addr, err := c.resolve(ctx, store)
	if err != nil {
		return nil, fmt.Errorf("find store %d: %w", store, err)
	}
	conn, err = grpc.NewClient(addr, c.dial...)
	if err != nil {
		return nil, fmt.Errorf("store %d at %s: %w", store, addr, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.conns[store]; old != nil || c.closed {
		_ = conn.Close()
		if c.closed {
			return nil, context.Canceled
		}
		return old, nil
	}
	c.conns[store] = conn
	return conn, nil
}

// drop forgets a connection that failed: the store may have moved.
func (c *storeConns) drop(store uint64, conn *grpc.ClientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conns[store] == conn {
		delete(c.conns, store)
		_ = conn.Close()
	}
}

func (c *storeConns) checkLeader(ctx context.Context, store uint64, req *kvrpcpb.CheckLeaderRequest) (*kvrpcpb.CheckLeaderResponse, error) {
	conn, err := c.get(ctx, store)
	if err != nil {
		return nil, err
	}
	resp, err := tikvpb.NewTikvClient(conn).CheckLeader(transport.WithTarget(ctx, c.clusterID, c.storeID, store), req)
	if err != nil {
		c.drop(store, conn)
	}
	return resp, err
}

func (c *storeConns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	clear(c.conns)
}

// reportMinResolvedTS tells PD. It is repeated with every pass: a new leader of
// PD knows nothing of it.
func (n *Node) reportMinResolvedTS(ctx context.Context, ts uint64) {
	if ts == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.ResolvedTSInterval+time.Second)
	defer cancel()
	if err := n.pd.ReportMinResolvedTS(ctx, n.storeID, ts); err != nil && n.ctx.Err() == nil {
		n.log.Warn("the least resolved timestamp was not reported to PD", "err", err)
	}
}
