package txnsim_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/tikv/gc"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"go.etcd.io/raft/v3/raftpb"
)

// stores has what is built on the stores of the simulation, by their ids.
type stores struct {
	r *run

	mu  sync.Mutex
	all map[uint64]*store
}

// store is one life of one store.
type store struct {
	raftstore.Observer // that of the simulation
	r                  *run
	id                 uint64
	node               *rafttest.Node
	txn                *txn.Store
	resolved           *resolvedts.Manager
	applied            gc.Applied
	collector          *gc.Collector
	wake               chan struct{}
	ctx                context.Context
	cancel             context.CancelFunc
	ready              atomic.Bool // node and txn are set
	wg                 sync.WaitGroup

	mu       sync.Mutex
	unsynced map[uint64]uint64 // as in package tikv's observer
}

var (
	_ raftstore.Observer    = (*store)(nil)
	_ raftstore.LockChecker = (*store)(nil)
)

func (s *stores) get(id uint64) *store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[id]
}

// options are called when a life begins.
func (s *stores) options(o *raftstore.Options) {
	st := &store{applied: gc.Applied{SafePoints: &txn.SafePoints{}}, Observer: o.Observer, r: s.r, id: o.StoreID, wake: make(chan struct{}, 1), unsynced: map[uint64]uint64{}}
	st.ctx, st.cancel = context.WithCancel(context.Background())
	o.Observer, o.LockChecker, o.Collected = st, st, st.applied.Note
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[o.StoreID] = st
}

func (s *stores) attach(n *rafttest.Node) {
	st := s.get(n.ID)
	st.node = n
	st.txn = txn.NewStore(n.Store, txn.Options{SafePoints: st.applied.SafePoints})
	var err error
	st.resolved, err = resolvedts.New(resolvedts.Options{
		StoreID: n.ID, Regions: n.Store, Txn: st.txn, Interval: 300 * time.Millisecond,
		Timestamp:   st.timestamp,
		CheckLeader: st.checkLeader,
	})
	if err != nil {
		s.r.s.Fail("resolvedts: %v", err)
		return
	}
	st.collector, err = gc.New(gc.Options{
		Regions: n.Store, Txn: st.txn, Data: n.Engine, Applied: &st.applied, PollInterval: time.Second, Fetch: st.safePoints,
	})
	if err != nil {
		s.r.s.Fail("gc: %v", err)
		return
	}
	if err := st.collector.FetchOnce(st.ctx); err != nil {
		s.r.s.Fail("gc: %v", err)
		return
	}
	st.collector.Start()
	st.ready.Store(true)
	st.wg.Go(st.syncMaxTS)
	st.resolved.Start()
}

func (s *stores) detach(n *rafttest.Node) {
	st := s.get(n.ID)
	st.cancel()
	st.wg.Wait()
	st.resolved.Close()
	st.collector.Close()
	st.txn.Close()
}

// timestamp takes the time of a way to PD and back.
func (st *store) timestamp(ctx context.Context) (uint64, error) {
	st.r.s.Wait(st.id)
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	ts := st.r.tso.next()
	st.r.s.Wait(st.id)
	return ts, nil
}

// safePoints asks PD.
func (st *store) safePoints(ctx context.Context) (uint64, map[uint32]uint64, error) {
	_, err := st.timestamp(ctx)
	return st.r.garbage.Load(), nil, err
}

var errUnreachable = errors.New("unreachable")

func (st *store) checkLeader(ctx context.Context, to uint64, req *kvrpcpb.CheckLeaderRequest) (*kvrpcpb.CheckLeaderResponse, error) {
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	st.r.s.Wait(st.id)
	if st.r.s.Cut(st.id, to) || !st.node.Up.Load() {
		return nil, errUnreachable
	}
	st.r.s.Wait(to)
	peer := st.r.s.Node(to)
	if !peer.Up.Load() {
		return nil, errUnreachable
	}
	resp := &kvrpcpb.CheckLeaderResponse{Regions: peer.Store.CheckLeaders(req.Regions), Ts: req.Ts}
	if st.r.s.Cut(to, st.id) || !peer.Up.Load() {
		return nil, errUnreachable
	}
	return resp, nil
}

// CheckLocks implements raftstore.LockChecker.
func (st *store) CheckLocks(_, readTS uint64, ranges []kv.KeyRange) *kvrpcpb.LockInfo {
	return st.txn.CheckMemoryLocks(ranges, readTS)
}

// RoleChanged implements raftstore.Observer.
func (st *store) RoleChanged(region uint64, leader bool, term uint64) {
	st.txn.OnRoleChange(region, leader)
	st.mu.Lock()
	if leader {
		st.unsynced[region] = term
	} else {
		delete(st.unsynced, region)
	}
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
	st.Observer.RoleChanged(region, leader, term)
}

// Applied implements raftstore.Observer.
func (st *store) Applied(region uint64, entries []*raftpb.Entry) {
	st.resolved.Applied(region, entries)
	st.Observer.Applied(region, entries)
}

// syncMaxTS is package tikv's observer.syncMaxTS.
func (st *store) syncMaxTS() {
	for {
		select {
		case <-st.wake:
		case <-st.ctx.Done():
			return
		}
		st.mu.Lock()
		todo := st.unsynced
		st.unsynced = map[uint64]uint64{}
		st.mu.Unlock()
		versions := map[uint64]uint64{} // before PD is asked: a merge may come in between
		for region := range todo {
			if r, ok := st.node.Store.Region(region); ok {
				versions[region] = r.Region.GetRegionEpoch().GetVersion()
			}
		}
		ts, err := st.timestamp(st.ctx)
		if err != nil {
			return // it ends
		}
		st.txn.UpdateMaxTS(ts)
		for region, term := range todo {
			st.node.Store.SetMaxTSSynced(region, term, versions[region])
		}
	}
}
