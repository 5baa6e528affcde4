package tikv

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"go.etcd.io/raft/v3/raftpb"
)

// observer hears from raftstore what happens to regions and passes it on: to
// txn (waiters of lost regions), to the deadlock detector (who leads the first
// region), to max_ts (which must be synchronised in every new term), to the
// resolved timestamps (locks), and to Config.Observers.
//
// Its methods are called by raftstore's workers and never block: what needs
// PD happens in run.
type observer struct {
	n     *Node
	store atomic.Pointer[raftstore.Store]
	txn   atomic.Pointer[txn.Store]
	locks atomic.Pointer[resolvedts.Manager]
	wake  chan struct{}

	mu sync.Mutex
	// unsynced are the regions that were won and whose max_ts is not known to be
	// recent, with their terms. Its size is bounded by the number of regions.
	unsynced map[uint64]uint64
	// firstMoved says that the leader of the first region may have changed.
	firstMoved bool
	// first is the region with the empty start key, if it is here.
	first uint64
}

var (
	_ raftstore.RangeObserver = (*observer)(nil)
	_ raftstore.LockChecker   = (*observer)(nil)
)

func newObserver(n *Node) *observer {
	return &observer{n: n, wake: make(chan struct{}, 1), unsynced: map[uint64]uint64{}}
}

// ready gives the observer the stores that did not exist when it was made.
func (o *observer) ready(s *raftstore.Store, t *txn.Store, locks *resolvedts.Manager) {
	o.store.Store(s)
	o.txn.Store(t)
	o.locks.Store(locks)
}

func (o *observer) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// CheckLocks implements raftstore.LockChecker (hazard 20).
func (o *observer) CheckLocks(_, readTS uint64, ranges []kv.KeyRange) *kvrpcpb.LockInfo {
	t := o.txn.Load()
	if t == nil {
		return nil
	}
	return t.CheckMemoryLocks(ranges, readTS)
}

// RoleChanged implements raftstore.Observer.
func (o *observer) RoleChanged(regionID uint64, leader bool, term uint64) {
	if t := o.txn.Load(); t != nil {
		t.OnRoleChange(regionID, leader)
	}
	o.mu.Lock()
	if leader {
		o.unsynced[regionID] = term
	} else {
		delete(o.unsynced, regionID)
	}
	if regionID == o.first {
		o.firstMoved = true
	}
	o.mu.Unlock()
	o.signal()
	for _, e := range o.n.cfg.Observers {
		e.RoleChanged(regionID, leader, term)
	}
}

// RegionChanged implements raftstore.Observer.
func (o *observer) RegionChanged(region *metapb.Region, removed bool) {
	leftmost := len(region.GetStartKey()) == 0 && len(region.GetPeers()) > 0
	if leftmost || removed {
		o.mu.Lock()
		o.firstMoved = true
		if leftmost && !removed {
			o.first = region.GetId()
		}
		if removed {
			delete(o.unsynced, region.GetId())
		}
		o.mu.Unlock()
		o.signal()
	}
	if c := o.n.cfg.Columns; c != nil {
		if removed {
			c.Drop(region.GetId())
		} else {
			c.RegionChanged(region.GetId(), region.GetRegionEpoch().GetVersion())
		}
	}
	for _, e := range o.n.cfg.Observers {
		e.RegionChanged(region, removed)
	}
}

// Applied implements raftstore.Observer.
func (o *observer) Applied(regionID uint64, entries []*raftpb.Entry) {
	if l := o.locks.Load(); l != nil {
		l.Applied(regionID, entries)
	}
	for _, e := range o.n.cfg.Observers {
		e.Applied(regionID, entries)
	}
}

// Advanced implements raftstore.DataObserver.
func (o *observer) Advanced(regionID, from, to uint64, entries []*raftpb.Entry) {
	if c := o.n.cfg.Columns; c != nil {
		if err := c.Advanced(regionID, from, to, raftstore.Writes(entries)); err != nil {
			panic(err.Error()) // the engine has just applied it
		}
	}
}

// Ingested implements raftstore.DataObserver.
func (o *observer) Ingested(r kv.KeyRange) {
	if c := o.n.cfg.Columns; c != nil {
		c.DropRange(r.Start, r.End)
	}
}

// Split implements raftstore.RangeObserver.
func (o *observer) Split(region *metapb.Region, at uint64, children []*metapb.Region, index uint64) {
	if c := o.n.cfg.Columns; c != nil {
		c.Split(region, at, children, index)
	}
}

// Merged implements raftstore.RangeObserver.
func (o *observer) Merged(region *metapb.Region, at uint64, source *metapb.Region, sourceAt uint64) {
	if c := o.n.cfg.Columns; c != nil {
		c.Merged(region, at, source, sourceAt)
	}
}

// maxTSRetry is the pause after a failed synchronisation.
const maxTSRetry = 100 * time.Millisecond

// run does what RoleChanged asked for until the node stops.
func (o *observer) run() {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-o.wake:
		case <-retry.C:
		case <-o.n.ctx.Done():
			return
		}
		o.checkFirst()
		if !o.syncMaxTS() {
			retry.Reset(maxTSRetry)
		}
	}
}

// checkFirst tells the deadlock detector whether this store leads the region
// with the empty start key.
func (o *observer) checkFirst() {
	o.mu.Lock()
	moved := o.firstMoved
	o.firstMoved = false
	first := o.first
	o.mu.Unlock()
	if !moved {
		return
	}
	leads := false
	// A split or a merge may just have given the start to another region; then
	// that one's change is the next.
	if r, ok := o.store.Load().Region(first); ok {
		leads = r.Leader && len(r.Region.GetPeers()) > 0 && len(r.Region.GetStartKey()) == 0
	}
	o.n.detector.SetLeader(leads)
}

// syncMaxTS raises max_ts to a timestamp from PD that is newer than everything
// the former leaders may have served, one for all regions that were won
// (hazard 18). It reports whether nothing is left to do.
func (o *observer) syncMaxTS() bool {
	o.mu.Lock()
	todo := o.unsynced
	o.unsynced = map[uint64]uint64{}
	o.mu.Unlock()
	if len(todo) == 0 {
		return true
	}
	store := o.store.Load()
	versions := make(map[uint64]uint64, len(todo)) // before PD is asked: a merge may come in between
	for region := range todo {
		if r, ok := store.Region(region); ok {
			versions[region] = r.Region.GetRegionEpoch().GetVersion()
		}
	}
	ts, err := o.n.pd.GetTS(o.n.ctx)
	if err == nil {
		o.txn.Load().UpdateMaxTS(ts)
		for region, term := range todo {
			store.SetMaxTSSynced(region, term, versions[region])
		}
		return true
	}
	if o.n.ctx.Err() != nil {
		return true
	}
	o.n.log.Warn("max_ts is not synchronised with PD: no async commit in these regions yet", "regions", len(todo), "err", err)
	o.mu.Lock()
	defer o.mu.Unlock()
	for region, term := range todo {
		if _, newer := o.unsynced[region]; !newer {
			o.unsynced[region] = term
		}
	}
	return false
}
