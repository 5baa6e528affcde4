package resolvedts

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/txn/mvcc"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/prometheus/client_golang/prometheus"
	"go.etcd.io/raft/v3/raftpb"
)

const (
	// IntervalDefault is how often resolved timestamps advance. It can't be less
	// than IntervalMin.
	IntervalDefault = time.Second
	IntervalMin     = 10 * time.Millisecond
	// intervalRegionCount is how many regions a store advances in an interval.
	intervalRegionCount = 8192
	// lockBytesMax is the memory for the locks of all regions of a store.
	lockBytesMax = 128 << 20
	// scanWorkers read the locks of regions that this store began to lead.
	scanWorkers = 2
	// scanQueueMax is how many regions wait for them; others are queued by the
	// next pass.
	scanQueueMax = 1024
	// scanTimeout bounds one region's scan.
	scanTimeout = 30 * time.Second
)

// Regions is the replicated store: *raftstore.Store.
type Regions interface {
	Leaders() []raftstore.LeaderState
	LearnReadState(regionID uint64, st raftstore.ReadState)
	SafeTS(regionID uint64) uint64
	MinSafeTS(start, end []byte) uint64
	Snapshot(ctx context.Context, rc *kvrpcpb.Context, o kv.SnapshotOptions) (kv.Snapshot, error)
}

// Txn is what the transactional store knows: *txn.Store.
type Txn interface {
	ResolveFloor(ts uint64) uint64
	TxnStatus(startTS uint64) (mvcc.TxnStatus, bool)
}

// Options of New. StoreID, Regions, Txn, Timestamp and CheckLeader are required.
type Options struct {
	StoreID uint64
	Regions Regions
	Txn     Txn
	// Timestamp returns a new timestamp of PD's.
	Timestamp func(context.Context) (uint64, error)
	// CheckLeader asks another store. It may be called concurrently.
	CheckLeader func(ctx context.Context, store uint64, req *kvrpcpb.CheckLeaderRequest) (*kvrpcpb.CheckLeaderResponse, error)
	// Report, if set, is told the store's least safe timestamp after every pass;
	// 0: a region has none.
	Report func(ctx context.Context, minTS uint64)
	// Interval is IntervalDefault if 0.
	Interval time.Duration
	// LockBytesMax is lockBytesMax if 0.
	LockBytesMax int64
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// Manager advances the resolved timestamps of a store. Its Applied must be told
// what raftstore tells an Observer, from before the store starts.
type Manager struct {
	o       Options
	quota   quota
	metrics *metrics

	trackers sync.Map // region id → *tracker
	scans    chan scanTask

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	asking map[uint64]bool // stores that have not answered yet
}

type scanTask struct {
	l raftstore.LeaderState
	t *tracker
}

// New returns a manager that does nothing before Start.
func New(o Options) (*Manager, error) {
	if o.StoreID == 0 || o.Regions == nil || o.Txn == nil || o.Timestamp == nil || o.CheckLeader == nil {
		return nil, errors.New("resolvedts: StoreID, Regions, Txn, Timestamp and CheckLeader are required")
	}
	if o.Interval <= 0 {
		o.Interval = IntervalDefault
	}
	if o.LockBytesMax <= 0 {
		o.LockBytesMax = lockBytesMax
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{o: o, quota: quota{max: o.LockBytesMax}, scans: make(chan scanTask, scanQueueMax), asking: map[uint64]bool{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	var err error
	if m.metrics, err = newMetrics(o.Registerer, m); err != nil {
		return nil, err
	}
	return m, nil
}

// Start begins to advance.
func (m *Manager) Start() {
	m.wg.Go(m.run)
	for range scanWorkers {
		m.wg.Go(m.scanner)
	}
}

// Close ends all work. It is called before the store stops.
func (m *Manager) Close() {
	m.cancel()
	m.wg.Wait()
	m.trackers.Range(func(_, v any) bool {
		v.(*tracker).stop()
		return true
	})
	m.metrics.unregister()
}

func (m *Manager) run() {
	timer := time.NewTimer(m.o.Interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			regions := m.pass(m.ctx)
			timer.Reset(pause(m.o.Interval, regions))
		case <-m.ctx.Done():
			return
		}
	}
}

// pause is how long to wait behind a pass over so many regions. A region costs
// the same in every pass, so a store with many has fewer passes: its timestamps
// lag an interval more for every intervalRegionCount.
func pause(interval time.Duration, regions int) time.Duration {
	return interval * time.Duration(1+regions/intervalRegionCount)
}

func (m *Manager) tracker(regionID uint64) *tracker {
	if v, ok := m.trackers.Load(regionID); ok {
		return v.(*tracker)
	}
	return nil
}

// Applied is raftstore.Observer's. It does not block.
func (m *Manager) Applied(regionID uint64, entries []*raftpb.Entry) {
	t := m.tracker(regionID)
	if t == nil {
		return
	}
	if err := t.applied(entries); err != nil {
		// A lock record that cannot be read is for the reader of the key to
		// complain about; here the region stops to advance.
		m.o.Logger.Error("a region's locks are not tracked any longer", "region", regionID, "err", err)
		t.scanFailed(true)
	}
}

// Reset reads the locks of all regions again: data was deleted past the log.
func (m *Manager) Reset() {
	m.trackers.Range(func(_, v any) bool {
		v.(*tracker).askRestart()
		return true
	})
}

// wantScan queues a scan unless one is on its way.
func (m *Manager) wantScan(l raftstore.LeaderState, t *tracker) {
	t.mu.Lock()
	waiting := t.state == stateWaiting
	t.mu.Unlock()
	if !waiting {
		return
	}
	select {
	case m.scans <- scanTask{l, t}:
	default: // the next pass comes soon
	}
}

func (m *Manager) scanner() {
	for {
		select {
		case task := <-m.scans:
			if task.t.begin() {
				m.scan(task)
			}
		case <-m.ctx.Done():
			return
		}
	}
}

// scan reads the locks that a region has. The snapshot is a leader's read: it
// has all that former leaders acknowledged.
func (m *Manager) scan(task scanTask) {
	ctx, cancel := context.WithTimeout(m.ctx, scanTimeout)
	defer cancel()
	start := time.Now()
	found := newLocks(&m.quota)
	index, full, err := m.readLocks(ctx, task, found)
	if err == nil && !full {
		err = task.t.scanned(found, index)
		m.metrics.scan.Observe(time.Since(start).Seconds())
	} else {
		found.release()
	}
	if err != nil || full {
		m.o.Logger.Debug("locks of a region were not read", "region", task.t.region, "full", full, "err", err)
		task.t.scanFailed(full)
	}
}

func (m *Manager) readLocks(ctx context.Context, task scanTask, found *locks) (index uint64, full bool, err error) {
	r := task.l.Region
	snap, err := m.o.Regions.Snapshot(ctx, &kvrpcpb.Context{
		RegionId: r.GetId(), RegionEpoch: r.GetRegionEpoch(), Term: task.l.Term,
		Peer: &metapb.Peer{Id: task.l.PeerID, StoreId: m.o.StoreID},
	}, kv.SnapshotOptions{})
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if snap.Term() != task.t.term {
		return 0, false, errors.New("the term has changed")
	}
	it, err := snap.NewIter(kv.CFLock, kv.IterOptions{})
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.Value()
		if err != nil {
			return 0, false, err
		}
		if _, room, err := found.put(it.Key(), value); err != nil || !room {
			return 0, !room && err == nil, err
		}
		if n++; n%1024 == 0 && ctx.Err() != nil {
			return 0, false, ctx.Err()
		}
	}
	return snap.AppliedIndex(), false, it.Error()
}
