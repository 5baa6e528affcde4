package txn

import (
	"context"
	"github.com/copradb/copra/internal/answers"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/txn/latch"
	"github.com/copradb/copra/txn/lockwait"
	"github.com/copradb/copra/txn/memlock"
	"github.com/copradb/copra/txn/mvcc"
)

// Store serves the transactional requests of one storage node over all its
// regions. Safe for concurrent use.
type Store struct {
	engine     kv.Engine
	log        *slog.Logger
	limits     Limits
	answers    answers.Budget
	now        func() time.Time
	latches    *latch.Latches
	mem        *memlock.Table
	waiters    *lockwait.Queue
	detector   Detector
	status     statusCache
	statusOf   func(startTS uint64) (mvcc.TxnStatus, bool) // status.get, made once
	metrics    *metrics
	safePoints *SafePoints

	// ctx ends with Close. Writes run under it and not under their request's
	// context: a write that was proposed is waited for, see command.write.
	ctx    context.Context
	cancel context.CancelCauseFunc

	pendingBytes atomic.Int64
	commands     sync.Pool
	getReaders   sync.Pool

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// NewStore returns a store over e. Close it before the engine.
func NewStore(e kv.Engine, o Options) *Store {
	o.fill()
	slots := o.LatchSlots
	if slots <= 0 {
		slots = latch.SlotsDefault
	}
	s := &Store{
		engine: e, log: o.Logger, limits: o.Limits, answers: o.Answers, now: o.Clock, detector: o.Detector,
		latches:    latch.New(slots),
		mem:        memlock.New(),
		safePoints: o.SafePoints,
		waiters:    lockwait.New(o.Clock, o.Limits.WaitersMax, o.WakeDelay),
	}
	s.statusOf = s.status.get
	s.commands.New = func() any { return &command{s: s} }
	s.getReaders.New = func() any { return &Reader{} }
	s.ctx, s.cancel = context.WithCancelCause(context.Background())
	s.metrics = newMetrics(o.Registerer, s)
	return s
}

// Close refuses new requests, wakes the waiting ones and returns when all have
// been answered.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.waiters.Close()
	s.cancel(ErrClosed)
	s.running.Wait()
	s.metrics.unregister()
}

// enter counts a request in; it fails once the store is closing.
func (s *Store) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.running.Add(1)
	return nil
}

func (s *Store) leave() { s.running.Done() }

// MaxTS is the largest timestamp the store was read at.
func (s *Store) MaxTS() uint64 { return s.mem.MaxTS() }

// UpdateMaxTS raises max_ts, with a timestamp from PD. Raftstore's owner calls
// it when a region's leadership begins, before it reports max_ts as synchronised.
func (s *Store) UpdateMaxTS(ts uint64) { s.mem.UpdateMaxTS(ts) }

// ResolveFloor raises max_ts to ts, a timestamp of PD's, and returns a timestamp
// at or below it that no transaction commits at or below whose writes are on
// their way into the log of a region of this store, or will be. What is already
// in the logs is for the caller to look at.
func (s *Store) ResolveFloor(ts uint64) uint64 {
	s.mem.UpdateMaxTS(ts)
	return min(ts, s.mem.Floor())
}

// TxnStatus returns what was broadcast about a large transaction.
func (s *Store) TxnStatus(startTS uint64) (mvcc.TxnStatus, bool) { return s.status.get(startTS) }

// raiseMaxTS is UpdateMaxTS for timestamps of clients: MaxUint64 ("the newest")
// is no timestamp, and one far in the future is refused.
func (s *Store) raiseMaxTS(ts uint64) error {
	if ts == math.MaxUint64 || ts <= s.mem.MaxTS() {
		return nil
	}
	if ms := mvcc.PhysicalMs(ts); ms > uint64(s.now().UnixMilli())+MaxTSAheadMsMax {
		return invalid("timestamp %d is more than %d ms ahead of this store's clock; timestamps come from PD", ts, MaxTSAheadMsMax)
	}
	s.mem.UpdateMaxTS(ts)
	return nil
}

// CheckMemoryLocks is the leader's half of a follower read (hazard 20): it
// raises max_ts to ts and returns a lock on its way into the log that a read of
// the encoded ranges at ts would have to wait for, or nil.
func (s *Store) CheckMemoryLocks(ranges []kv.KeyRange, ts uint64) *kvrpcpb.LockInfo {
	if ts != math.MaxUint64 {
		s.mem.UpdateMaxTS(ts)
	}
	o := mvcc.ReadOptions{TS: ts, ReplicaRead: true}
	for _, r := range ranges {
		if key, l := s.mem.CheckRange(r.Start, r.End, o.Conflicts); l != nil {
			return l.Info(plainKey(key))
		}
	}
	return nil
}

// OnRoleChange tells the store that this peer of the region became leader or
// ceased to be. Requests waiting for locks of a lost region are sent back to
// their clients, who find the new leader.
func (s *Store) OnRoleChange(regionID uint64, isLeader bool) {
	if !isLeader {
		s.waiters.WakeRegion(regionID)
	}
}
