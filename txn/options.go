package txn

import (
	"context"
	"github.com/copradb/copra/internal/answers"
	"log/slog"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/txn/deadlock"
)

// The limits of a Store, used where Options has none.
const (
	// KeyBytesMax is the longest plain user key that can be written.
	KeyBytesMax = 8 << 10
	// ValueBytesMax is the longest value that can be written.
	ValueBytesMax = 6 << 20
	// EntryBytesMax is the largest batch that is proposed in one go; a request
	// above it is answered RaftEntryTooLarge.
	EntryBytesMax = 8 << 20
	// PendingWriteBytesMax is how much may be on its way into the Raft logs of
	// this store before writes are answered ServerIsBusy.
	PendingWriteBytesMax = 100 << 20
	// ResponseBytesMax bounds the keys and values of one scan answer.
	ResponseBytesMax = 128 << 20
	// ScanLocksMax bounds the locks of one KvScanLock answer.
	ScanLocksMax = 100_000
	// LockWaitMsMax is the ceiling of, and the default for, the wait of one
	// pessimistic lock request; clients ask again.
	LockWaitMsMax = 1000
	// ResolveKeysMax is how many locks one batch of a region-wide resolve takes.
	ResolveKeysMax = 256
	// ResolveBytesMax is the size from which on a batch of a region-wide resolve
	// takes no further key.
	ResolveBytesMax = 256 << 10
	// LockStepsMax is how many locks are read from one snapshot by a walk over a
	// region's locks.
	LockStepsMax = 16_384
	// MaxTSAheadMsMax is how far ahead of the clock a read timestamp may be. A
	// timestamp from nowhere would raise max_ts for good.
	MaxTSAheadMsMax = 3600_000
	// MemoryLockWaitMs is how long KvScanLock waits for locks that are on their
	// way into the log.
	MemoryLockWaitMs = 1000
)

// Limits of a Store; a zero field means the constant of that name.
type Limits struct {
	KeyBytesMax          int
	ValueBytesMax        int
	EntryBytesMax        int
	PendingWriteBytesMax int
	ResponseBytesMax     int
	ScanLocksMax         int
	WaitersMax           int // requests waiting for locks; lockwait.WaitersMax
	LockWaitMsMax        int
}

func (l *Limits) fill() {
	for _, f := range [...]struct {
		v *int
		d int
	}{
		{&l.KeyBytesMax, KeyBytesMax}, {&l.ValueBytesMax, ValueBytesMax}, {&l.EntryBytesMax, EntryBytesMax},
		{&l.PendingWriteBytesMax, PendingWriteBytesMax}, {&l.ResponseBytesMax, ResponseBytesMax},
		{&l.ScanLocksMax, ScanLocksMax}, {&l.LockWaitMsMax, LockWaitMsMax},
	} {
		if *f.v <= 0 {
			*f.v = f.d
		}
	}
}

// Detector finds deadlocks among pessimistic transactions. deadlock.Local is
// one; a storage node's forwards to the cluster's detector leader.
type Detector interface {
	// Detect records that w.Txn waits for w.HolderTxn, or returns the cycle that
	// this would close. An error means that nothing is known: the wait goes on
	// and ends by its timeout at the latest.
	Detect(ctx context.Context, w deadlock.WaitFor) (*kvrpcpb.Deadlock, error)
	// AddWait notes a wait that can't close a cycle, for those who list waits.
	// CleanUpWaitFor ends it, too. It must not block.
	AddWait(w deadlock.WaitFor)
	// CleanUpWaitFor takes back one edge; CleanUp all edges of a transaction
	// that has ended. Both must not block.
	CleanUpWaitFor(w deadlock.WaitFor)
	CleanUp(txn uint64)
}

// Options of a Store. The zero value works.
type Options struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Limits     Limits
	// Clock tells the time for timestamps' plausibility, lock ages and edges of
	// the local deadlock detector.
	Clock func() time.Time
	// Detector; nil means a deadlock.Local.
	Detector Detector
	// WakeDelay is how long waiters behind the first are held back after a lock
	// is released; 0 means lockwait.WakeDelayMs.
	WakeDelay time.Duration
	// LatchSlots; 0 means latch.SlotsDefault.
	LatchSlots int
	// Answers is what all answers together may occupy while they are made; nil
	// means as much as they need.
	Answers answers.Budget
	// SafePoints are shared with whoever learns of them; nil means new ones.
	SafePoints *SafePoints
}

func (o *Options) fill() {
	o.Limits.fill()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.SafePoints == nil {
		o.SafePoints = &SafePoints{}
	}
	if o.Detector == nil {
		o.Detector = deadlock.NewLocal(o.Clock, 0)
	}
}
