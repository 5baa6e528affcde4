package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/copr/columnar"
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/cpusched"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/slowlog"
	"github.com/copradb/copra/internal/tracker"
)

// Limits, where Options has none.
const (
	RequestsMax        = 256       // at a time
	MemBytesMax        = 1 << 30   // of all requests
	RequestMemBytesMax = 256 << 20 // of one
	// BusyBackoffMs is what a client is told to wait when the store is busy.
	BusyBackoffMs = 100
)

// ReaderSource opens regions for reading; TxnSource makes one of a txn.Store.
// A *kv.RegionError and a *txn.LockedError, of any of these methods, go back
// to the client; other errors fail the statement.
type ReaderSource interface {
	OpenReader(ctx context.Context, rc *kvrpcpb.Context, ts uint64, ranges []kv.KeyRange) (Reader, error)
}

// Reader reads one region at one timestamp.
type Reader interface {
	// Rows walks the rows of a range, backwards with desc; keyOnly promises that
	// values are not looked at.
	Rows(r kv.KeyRange, desc, keyOnly bool) (Rows, error)
	Close() error
}

// Rows walks rows. Key and value are valid until the next call.
type Rows interface {
	Next() (key, value []byte, ok bool, err error)
	Close() error
}

// Options of a Service. Only Source is needed.
type Options struct {
	Source ReaderSource
	// Columns, if not nil, keeps the columns of tables that are scanned. The
	// readers of Source must have a snapshot (as those of TxnSource) for it to be used.
	Columns *columnar.Cache
	// ClusterID, if not 0, is what requests must carry.
	ClusterID uint64
	// CPU shares the cores with all that computes in the process; nil = cpusched.Default.
	CPU                *cpusched.Scheduler
	RequestsMax        int
	MemBytesMax        int64
	RequestMemBytesMax int64
	// ResultCacheBytesMax is the memory of the answers that are kept; -1 = none is.
	ResultCacheBytesMax int64
	Logger              *slog.Logger
	Slow                *slowlog.Log // takes requests that took too long; may be nil
	Registerer          prometheus.Registerer
}

func (o *Options) fill() {
	if o.CPU == nil {
		o.CPU = cpusched.Default()
	}
	if o.RequestsMax <= 0 {
		o.RequestsMax = RequestsMax
	}
	if o.MemBytesMax <= 0 {
		o.MemBytesMax = MemBytesMax
	}
	if o.RequestMemBytesMax <= 0 {
		o.RequestMemBytesMax = RequestMemBytesMax
	}
	if o.ResultCacheBytesMax == 0 {
		o.ResultCacheBytesMax = ResultCacheBytesMax
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// Service runs plans over the regions of a store. Safe for concurrent use.
type Service struct {
	flight.BaseFlightServer
	o       Options
	mem     *exec.MemAccount
	results *resultCache // nil: answers are not kept
	running atomic.Int64
	m       *metrics

	mu     sync.Mutex
	closed bool
	active sync.WaitGroup
	cancel map[*int]context.CancelFunc
}

// ErrClosed is returned by a service that is closed.
var ErrClosed = errors.New("copr: the coprocessor is shutting down")

// New makes a service.
func New(o Options) *Service {
	o.fill()
	s := &Service{
		o: o, mem: exec.NewMemAccount(o.MemBytesMax, nil),
		cancel: map[*int]context.CancelFunc{},
	}
	if o.Columns != nil && o.ResultCacheBytesMax > 0 {
		s.results = newResultCache(o.ResultCacheBytesMax, o.Registerer)
	}
	s.m = newMetrics(o.Registerer, s)
	return s
}

// Close cancels what runs, waits for it, and refuses more.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	for _, c := range s.cancel {
		c()
	}
	s.mu.Unlock()
	s.active.Wait()
}

// enter registers a request; leave must be called at its end.
func (s *Service) enter(ctx context.Context) (rctx context.Context, leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, ErrClosed
	}
	rctx, cancel := context.WithCancel(ctx)
	id := new(int)
	s.cancel[id] = cancel
	s.active.Add(1)
	return rctx, func() {
		cancel()
		s.mu.Lock()
		delete(s.cancel, id)
		s.mu.Unlock()
		s.active.Done()
	}, nil
}

// Run runs a request and hands each piece of the answer to emit, one at a
// time; every region ends with a Done event. It returns plan.ErrInvalid for a
// request that makes no sense, emit's error, ctx's, or ErrClosed. The batches
// are shared, not copied: they are read-only.
func (s *Service) Run(ctx context.Context, r *plan.Request, emit func(*plan.Event) error) (err error) {
	if err := s.check(r); err != nil {
		return err
	}
	ctx, leave, err := s.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	start, total := time.Now(), &costs{}
	defer func() {
		took := time.Since(start)
		s.m.duration.Observe(took.Seconds())
		s.m.wait.Observe(total.all.Spent(tracker.Queue).Seconds())
		s.m.scanned.Observe(float64(total.scanned.RowsScanned))
		s.logSlow(ctx, r, took, total, err)
	}()
	if n := s.running.Add(1); n > int64(s.o.RequestsMax) {
		s.running.Add(-1)
		return s.busy(r, emit)
	}
	defer s.running.Add(-1)
	return s.runTasks(ctx, r, emit, total)
}

func (s *Service) check(r *plan.Request) error {
	if err := r.Check(); err != nil {
		return err
	}
	if s.o.ClusterID != 0 && r.ClusterID != s.o.ClusterID {
		return fmt.Errorf("%w: it is for cluster %d, this is %d", plan.ErrInvalid, r.ClusterID, s.o.ClusterID)
	}
	_, err := r.Plan.OutputTypes()
	return err
}

// busy refuses every region.
func (s *Service) busy(r *plan.Request, emit func(*plan.Event) error) error {
	s.m.tasks.WithLabelValues("busy").Add(float64(len(r.Regions)))
	for i := range r.Regions {
		if err := emit(&plan.Event{Task: i, Done: true, RegionError: &errorpb.Error{
			Message: "the coprocessor has too many requests",
			ServerIsBusy: &errorpb.ServerIsBusy{
				Reason: fmt.Sprintf("%d coprocessor requests are running", s.o.RequestsMax), BackoffMs: BusyBackoffMs,
			},
		}}); err != nil {
			return err
		}
	}
	return nil
}
