package raftstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/prometheus/client_golang/prometheus"
)

// Options of New.
type Options struct {
	StoreID   uint64
	Engine    *engine.Engine
	Log       *raftlog.Log
	Transport Transport
	PD        PD
	// SnapDir holds snapshots on their way; it is emptied at start. It must be
	// on FS and on the same file system as the engine's directory. Beside it is
	// "import", for ingestion; what is there must be kept.
	SnapDir string
	FS      vfs.FS // the operating system's if nil
	Config  Config
	// Clock is the system's if nil.
	Clock Clock
	// Space watches the disk; nil means that it is never full.
	Space *disk.Space
	// Observer, LockChecker, Logger and Registerer may be nil.
	Observer    Observer
	LockChecker LockChecker
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	// ReplayOnly makes a store that applies what its log knows to be committed,
	// and takes part in nothing: it neither ticks nor campaigns.
	ReplayOnly bool
	// Inconsistent, if not nil, hears of a replica here that differs from its leader's.
	Inconsistent func(Inconsistency)
	// Collected, if not nil, hears of garbage collection at a safe point near a key,
	// before its effect is visible here. It must not block.
	Collected func(key []byte, safePoint uint64, batchBytes int)
	// SafePoints, if not nil, are the safe points in a range that Collected was
	// told, or later ones; snapshots carry them to other stores' Collected.
	SafePoints func(start, end []byte) []kv.CollectedAt
	// Fatal ends the process after an error that leaves the store's state
	// unknown (hazard 2). Without it the store panics.
	Fatal func(error)
}

// Store is the replicas of one storage node. All methods may be called
// concurrently.
type Store struct {
	id          uint64
	cfg         Config
	engine      *engine.Engine
	raftLog     *raftlog.Log
	transport   Transport
	pd          PD
	fs          vfs.FS
	snapDir     string
	observer    Observer
	follower    DataObserver  // observer, if it is one; or nil
	rangeChange RangeObserver // likewise
	lockChecker LockChecker
	log         *slog.Logger
	onFatal     func(error)
	metrics     *metrics
	clock       Clock
	start       time.Duration // on clock
	replayOnly  bool

	inconsistent func(Inconsistency)
	collected    func(key []byte, safePoint uint64, batchBytes int)
	safePoints   func(start, end []byte) []kv.CollectedAt
	hashing      hashJobs

	peers     sync.Map // region id → *peer
	failed    sync.Map // region id → []uint64, the stores it has to do without (recover.go)
	readIDs   atomic.Uint64
	snapSeq   atomic.Uint64
	lastFlush atomic.Int64
	// lastStagedSweep is when staged tables were last looked through.
	lastStagedSweep atomic.Int64
	received        atomic.Int64 // bytes of messages not yet stepped
	awake           awakeSet
	live            *liveness
	patrol          patrol // owned by the ticker
	reportAll       atomic.Bool
	stopping        atomic.Uint64 // 1: HandOver was called
	// incarnation tells one start of the store from the next.
	incarnation uint64
	// proposalBytes are the writes that wait for consensus.
	proposalBytes atomic.Int64
	applyBytes    atomic.Int64 // of committed entries that are not applied, see backlog.go
	caches        cacheBudget
	flowState

	raftSched, applySched *scheduler[peer]
	logWriter             *logWriter
	background            *taskPool // snapshots, destroys
	snapSends             *taskPool
	measures              *taskPool    // of regions: it reads all of them
	splits                *taskPool    // it asks PD
	validating            atomic.Int64 // peers that ask PD whether they are members

	ctx     context.Context // ends with the store
	cancel  context.CancelFunc
	stopped chan struct{}
	state   atomic.Int32
	workers sync.WaitGroup
	logDone sync.WaitGroup

	// mu guards the map of ranges: what is where, and what is about to be.
	mu         sync.Mutex
	ranges     rangeMap
	reserved   map[uint64]*receivedSnapshot // ranges of snapshots on their way
	tombstones map[uint64]uint64            // region → highest peer id that ended
	unborn     map[uint64]bool              // children whose data is being deleted
	held       []*RaftMessage
	mergedLogs map[uint64]*peer // merged regions whose logs a crash might still need
	wanted     map[uint64]*peer // sources that are not here yet → who waits for them
	lastBury   int64            // of the ticker: when it last looked at them
}

var (
	_ kv.Engine = (*Store)(nil)
	_ Handler   = (*Store)(nil)
)

const (
	stateNew int32 = iota
	stateRunning
	stateStopped
)

// New makes a store from what its databases hold. It neither sends nor serves
// before Start.
func New(o Options) (*Store, error) {
	o.Config.setDefaults()
	if err := o.Config.validate(); err != nil {
		return nil, err
	}
	if o.StoreID == 0 || o.Engine == nil || o.Log == nil || o.Transport == nil || o.PD == nil || o.SnapDir == "" {
		return nil, errors.New("raftstore: StoreID, Engine, Log, Transport, PD and SnapDir are required")
	}
	s := &Store{
		id: o.StoreID, cfg: o.Config, engine: o.Engine, raftLog: o.Log, transport: o.Transport, pd: o.PD,
		fs: o.FS, snapDir: o.SnapDir, observer: o.Observer, lockChecker: o.LockChecker, log: o.Logger, onFatal: o.Fatal,
		clock:      o.Clock,
		replayOnly: o.ReplayOnly, inconsistent: o.Inconsistent, collected: o.Collected, safePoints: o.SafePoints,
		raftSched:  newScheduler(func(p *peer) *atomic.Int32 { return &p.sched }),
		applySched: newScheduler(func(p *peer) *atomic.Int32 { return &p.applySched }),
		background: newTaskPool(backgroundCountMax), snapSends: newTaskPool(backgroundCountMax),
		measures: newTaskPool(backgroundCountMax), splits: newTaskPool(backgroundCountMax),
		stopped:  make(chan struct{}),
		reserved: map[uint64]*receivedSnapshot{}, tombstones: map[uint64]uint64{}, unborn: map[uint64]bool{}, mergedLogs: map[uint64]*peer{}, wanted: map[uint64]*peer{},
	}
	if s.fs == nil {
		s.fs = vfs.Default
	}
	if s.clock == nil {
		s.clock = systemClock{time.Now()}
	}
	s.start = s.clock.Now()
	s.caches.bytesMax = s.cfg.EntryCacheBytesMax
	if s.observer == nil {
		s.observer = NoObserver{}
	}
	s.follower, _ = s.observer.(DataObserver)
	s.rangeChange, _ = s.observer.(RangeObserver)
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.log = s.log.With(slog.Uint64("store", s.id))
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("raftstore: random numbers: %w", err)
	}
	s.readIDs.Store(binary.BigEndian.Uint64(seed[:]))
	s.incarnation = binary.BigEndian.Uint64(seed[:]) | 1
	s.live = newLiveness(2 * int64(s.cfg.electionTimeout()))
	var err error
	if s.metrics, err = newMetrics(o.Registerer, s.countRegions, s.countLeaders,
		func() float64 { return float64(s.AwakeCount()) }); err != nil {
		return nil, err
	}
	if err = s.flowState.init(&o); err != nil {
		s.metrics.close()
		return nil, err
	}
	s.logWriter = newLogWriter(s.raftLog, s.transport, s.fatal, s.metrics)
	if err := errors.Join(s.registerQueues(o.Registerer), s.load()); err != nil {
		s.metrics.close()
		s.flowState.close()
		return nil, err
	}
	return s, nil
}

// fatal ends the process, or at least this store.
func (s *Store) fatal(err error) {
	s.log.Error("fatal error", slog.Any("error", err))
	if s.onFatal == nil {
		panic(err)
	}
	s.onFatal(err)
}

// Start begins to serve. Votes are refused for an election timeout from here.
func (s *Store) Start() error {
	if !s.state.CompareAndSwap(stateNew, stateRunning) {
		return errors.New("raftstore: the store was started before")
	}
	s.start = s.clock.Now()
	s.logDone.Go(s.logWriter.run)
	for range s.cfg.RaftWorkers {
		s.workers.Go(s.raftWorker)
	}
	for range s.cfg.ApplyWorkers {
		s.workers.Go(s.applyWorker)
	}
	s.patrol.hurry()
	if !s.replayOnly {
		s.workers.Go(s.ticker)
	}
	s.startFlow()
	s.background.start(s.cfg.BackgroundWorkers)
	s.snapSends.start(snapshotSendCountMax)
	s.measures.start(1)
	s.splits.start(splitWorkerCount)
	s.eachPeer(func(p *peer) {
		s.observer.RegionChanged(p.region.Load(), false)
		if s.replayOnly || len(p.failed) > 0 || p.merging.Load() != nil {
			p.send(mailWake{})
		}
	})
	return nil
}

// lone reports whether a region has one voter, who need not wait for others.
func lone(r *metapb.Region) bool {
	cs := confState(r)
	return len(cs.Voters) == 1 && len(cs.VotersOutgoing) == 0
}

// ticker is the one clock of all regions.
func (s *Store) ticker() {
	ticks, stop := s.clock.NewTicker(s.cfg.TickInterval)
	defer stop()
	s.beat()
	for n := 1; ; n++ {
		select {
		case <-s.stopped:
			return
		case <-ticks:
			s.tick(n)
		}
	}
}

// tick is one step of the clock: it costs what the peers that are awake cost,
// and a bounded number of sleepers.
func (s *Store) tick(n int) {
	s.buryMerged()
	busy := s.raftSched.len() > patrolBacklogCountMax
	ticked := s.awake.each(func(p *peer) {
		if !p.tickDue.Swap(true) {
			s.raftSched.enqueue(p)
		}
	})
	s.metrics.peerTicks.Add(float64(ticked))
	s.trimCaches()
	if n%max(s.cfg.ElectionTicks/2, 1) == 0 {
		s.beat()
	}
	now := s.now()
	if s.watchStores(now) {
		s.patrol.hurry()
	}
	if !busy || n%patrolBusyTicks == 0 {
		s.patrolTick(now)
	}
}

// Stop ends all work and flushes the data engine, so that the next start has
// little to replay. Requests that wait get ErrStopped. The databases stay open.
func (s *Store) Stop() {
	old := s.state.Swap(stateStopped)
	if old == stateStopped {
		return
	}
	s.cancel()
	close(s.stopped)
	s.raftSched.close()
	s.applySched.close()
	s.workers.Wait()
	s.measures.close()
	s.splits.close()
	s.snapSends.close()
	s.background.close()
	if err := s.hashing.endAll(); err != nil {
		s.log.Warn("snapshots not closed at stop", slog.Any("error", err))
	}
	s.logWriter.close()
	s.logDone.Wait()
	s.mu.Lock()
	reserved := s.reserved
	s.reserved = map[uint64]*receivedSnapshot{}
	s.mu.Unlock()
	for _, r := range reserved {
		s.removeDir(r.dir)
	}
	if old == stateRunning {
		ctx, cancel := context.WithTimeout(context.Background(), stopFlushMax)
		defer cancel()
		if err := s.engine.Flush(ctx); err != nil {
			s.log.Warn("data engine not flushed at stop", slog.Any("error", err))
		}
	}
	s.metrics.close()
	s.flowState.close()
}

func (s *Store) peer(regionID uint64) *peer {
	v, ok := s.peers.Load(regionID)
	if !ok {
		return nil
	}
	return v.(*peer)
}

func (s *Store) eachPeer(fn func(*peer)) {
	s.peers.Range(func(_, v any) bool {
		fn(v.(*peer))
		return true
	})
}

func (s *Store) countRegions() (n float64) {
	s.eachPeer(func(*peer) { n++ })
	return n
}

// RegionCount is how many regions the store has.
func (s *Store) RegionCount() int { return int(s.countRegions()) }

func (s *Store) countLeaders() (n float64) {
	s.eachPeer(func(p *peer) {
		if p.role.Load().leader {
			n++
		}
	})
	return n
}

// RegionInfo is what a status page shows of a region.
type RegionInfo struct {
	Region       *metapb.Region
	PeerID       uint64
	Leader       bool
	LeaderPeer   *metapb.Peer // nil if unknown
	Term         uint64
	AppliedIndex uint64
	ApproxBytes  uint64
	Asleep       bool          // no ticks, no heartbeats
	LeaseLeft    time.Duration // 0: reads need a read index
	Merging      bool          // into a neighbour: it serves nothing
}

// Regions lists the regions of the store, in no order.
func (s *Store) Regions() []RegionInfo {
	var out []RegionInfo
	s.eachPeer(func(p *peer) { out = append(out, p.info()) })
	return out
}

// Region returns one region.
func (s *Store) Region(id uint64) (RegionInfo, bool) {
	p := s.peer(id)
	if p == nil {
		return RegionInfo{}, false
	}
	return p.info(), true
}

func (p *peer) info() RegionInfo {
	r := p.role.Load()
	return RegionInfo{
		Region: p.region.Load(), PeerID: p.id, Asleep: p.isAsleep(), Leader: r.leader, LeaderPeer: r.lead, Term: r.term,
		AppliedIndex: p.applied.Load(), ApproxBytes: p.stats.sizeBytes.Load() + p.stats.sizeDelta.Load(),
		LeaseLeft: max(0, time.Duration(p.lease.Load()-p.store.now())), Merging: p.merging.Load() != nil,
	}
}

// SetMaxTSSynced says that the store's max_ts was synchronised with PD while
// this peer led in term, and that it had this version before PD was asked
// (hazard 18): reads of what a merge has added since may be newer.
func (s *Store) SetMaxTSSynced(regionID, term, version uint64) {
	if p := s.peer(regionID); p != nil {
		p.maxTS.Store(&maxTSMark{term: term, version: version})
	}
}

type maxTSMark struct{ term, version uint64 }

func (p *peer) maxTSSynced(term uint64) bool {
	m := p.maxTS.Load()
	return m != nil && m.term == term && m.version >= p.mergedAt.Load()
}
