package gc

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/txn"
)

const (
	// PollIntervalDefault is how often PD is asked for the safe points, and the
	// store's regions are looked through.
	PollIntervalDefault = 10 * time.Second
	// ScanBytesPerSecondDefault bounds the bytes of commit records that are read.
	ScanBytesPerSecondDefault = 64 << 20
	// WriteBytesPerSecondDefault bounds the entries that go into the Raft log; a
	// dropped record is some fifty bytes of them.
	WriteBytesPerSecondDefault = 4 << 20

	scanChunkBytesMax = 1 << 20 // read under one snapshot of the engine
	fetchTimeout      = 5 * time.Second
	busyBackoff       = time.Second
	busyTriesMax      = 5
	// lateCommits is how old a commit may be when it is written, as far as the
	// collector cares: what is later still is found by a later visit.
	lateCommits = time.Minute
	// smallRegionBytesMax: a region whose commit records are no more is scanned
	// whenever there may be garbage. A larger one waits until one record in
	// garbageShare is garbage, or for visitDelayPolls polls: what is left of a few
	// updates is not worth the reading of all the rest.
	smallRegionBytesMax = 1 << 20
	garbageShare        = 10
	visitDelayPolls     = 30
)

// Regions is the replicated store: *raftstore.Store.
type Regions interface {
	Leaders() []raftstore.LeaderState
	Region(id uint64) (raftstore.RegionInfo, bool)
	RangeDestroyed(start, end []byte)
}

// Txn is the transactional store: *txn.Store.
type Txn interface {
	Collect(ctx context.Context, rc *kvrpcpb.Context, safePoint uint64, encoded [][]byte) (txn.Collected, error)
}

// Options of New. All but the limits, Logger and Registerer are required.
type Options struct {
	Regions Regions
	Txn     Txn
	Data    *engine.Engine
	Applied *Applied
	// Fetch asks PD: the shared safe point and those of keyspaces with their own.
	Fetch func(ctx context.Context) (shared uint64, own map[uint32]uint64, err error)

	// PollInterval is PollIntervalDefault if 0.
	PollInterval time.Duration
	// ScanBytesPerSecond and WriteBytesPerSecond are the defaults if 0; negative
	// is no limit.
	ScanBytesPerSecond, WriteBytesPerSecond int64

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Collector drops the garbage of the regions that a store leads.
type Collector struct {
	o          Options
	metrics    *metrics
	scanLimit  *rate.Limiter
	writeLimit *rate.Limiter
	ctx        context.Context
	cancel     context.CancelFunc
	wg         sync.WaitGroup
	wake       chan struct{} // holds a token when a round is wanted

	asked atomic.Bool // for a round

	mu    sync.Mutex
	known map[uint64]visit // by region; what the last full visit found
	round Round
}

// visit is what a full scan of a region has found.
type visit struct {
	term, version uint64
	applied       uint64 // before the scan
	next          uint64 // safe point at which there is garbage again
	enough        uint64 // and at which it is worth a scan of its own
	at            time.Time
	small         bool
	asOf          uint64 // timestamp up to which all commits were seen, nearly always
}

// Round is what a pass over the store's regions did.
type Round struct {
	SafePoint uint64        `json:"safe_point"`
	Ended     time.Time     `json:"ended"` // zero: it runs
	Took      time.Duration `json:"took_ns"`
	Scanned   int           `json:"regions_scanned"`
	Skipped   int           `json:"regions_skipped"`
	Failed    int           `json:"regions_failed"`
	Keys      uint64        `json:"keys_scanned"`
	Records   uint64        `json:"records_dropped"`
	Values    uint64        `json:"values_dropped"`
	Locked    uint64        `json:"keys_locked"`
	LogBytes  uint64        `json:"log_bytes"`

	asked bool
}

// New returns a collector that does nothing before Start.
func New(o Options) (*Collector, error) {
	if o.Regions == nil || o.Txn == nil || o.Data == nil || o.Applied == nil || o.Applied.SafePoints == nil || o.Fetch == nil {
		return nil, errors.New("gc: Regions, Txn, Data, Applied and Fetch are required")
	}
	if o.PollInterval <= 0 {
		o.PollInterval = PollIntervalDefault
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Collector{
		o: o, wake: make(chan struct{}, 1), known: map[uint64]visit{},
		scanLimit:  limiter(o.ScanBytesPerSecond, ScanBytesPerSecondDefault, 2*scanChunkBytesMax),
		writeLimit: limiter(o.WriteBytesPerSecond, WriteBytesPerSecondDefault, 2*txn.CollectBatchBytesMax),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	var err error
	if c.metrics, err = newMetrics(o.Registerer, o.Applied.SafePoints); err != nil {
		return nil, err
	}
	return c, nil
}

func limiter(bytes, def int64, burst int) *rate.Limiter {
	switch {
	case bytes < 0:
		return rate.NewLimiter(rate.Inf, burst)
	case bytes == 0:
		bytes = def
	}
	return rate.NewLimiter(rate.Limit(bytes), burst)
}

// FetchOnce asks PD for the safe points. A store does so before it serves: it
// may have missed much.
func (c *Collector) FetchOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	shared, own, err := c.o.Fetch(ctx)
	if err != nil {
		return err
	}
	c.o.Applied.SafePoints.Raise(shared, own)
	return nil
}

// Start begins to collect.
func (c *Collector) Start() {
	c.wg.Go(c.run)
	c.wg.Go(c.sweep)
}

// Close ends all work. It is called before the store stops.
func (c *Collector) Close() {
	c.cancel()
	c.wg.Wait()
	c.metrics.unregister()
}

// Trigger starts a round soon, which looks at every region that may have garbage,
// however little.
func (c *Collector) Trigger() {
	c.asked.Store(true)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// LastRound is the round that runs, or the last one.
func (c *Collector) LastRound() Round {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.round
}

func (c *Collector) run() {
	timer := time.NewTimer(c.o.PollInterval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.wake:
		case <-c.ctx.Done():
			return
		}
		if err := c.FetchOnce(c.ctx); err != nil && c.ctx.Err() == nil {
			c.o.Logger.Warn("GC safe points are not known from PD", "err", err)
		}
		c.Collect(c.ctx)
		timer.Reset(c.o.PollInterval)
	}
}

// Collect passes over the regions that the store leads, once.
func (c *Collector) Collect(ctx context.Context) Round {
	safe := c.o.Applied.SafePoints.Shared()
	if safe == 0 && len(c.o.Applied.SafePoints.Own()) == 0 {
		return Round{}
	}
	began := time.Now()
	r := Round{SafePoint: safe, asked: c.asked.Swap(false)}
	leaders := c.o.Regions.Leaders()
	slices.SortFunc(leaders, func(a, b raftstore.LeaderState) int { return slices.Compare(a.Region.StartKey, b.Region.StartKey) })
	c.forget(leaders)
	for _, l := range leaders {
		if ctx.Err() != nil {
			break
		}
		c.visit(ctx, l, &r)
	}
	r.Ended, r.Took = time.Now(), time.Since(began)
	c.mu.Lock()
	if r.Scanned > 0 || c.round.SafePoint != r.SafePoint { // else the last one that did something stays
		c.round = r
	}
	c.mu.Unlock()
	if r.Records > 0 {
		c.o.Logger.Info("garbage collected", "safe_point", safe, "records", r.Records, "values", r.Values,
			"regions", r.Scanned, "skipped", r.Skipped, "failed", r.Failed, "took", r.Took)
	}
	return r
}

// forget drops what is known of regions that are led elsewhere.
func (c *Collector) forget(leaders []raftstore.LeaderState) {
	led := make(map[uint64]struct{}, len(leaders))
	for _, l := range leaders {
		led[l.Region.GetId()] = struct{}{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.known, func(id uint64, _ visit) bool { _, ok := led[id]; return !ok })
}

// due reports whether a region may have garbage.
func (c *Collector) due(l raftstore.LeaderState, applied uint64, asked bool) bool {
	c.mu.Lock()
	v, ok := c.known[l.Region.GetId()]
	c.mu.Unlock()
	if !ok || v.term != l.Term || v.version != l.Region.GetRegionEpoch().GetVersion() {
		return true
	}
	safe := c.newest(l)
	if safe >= v.enough {
		return true
	}
	may := safe >= v.next || applied != v.applied && safe >= v.asOf
	return may && (v.small || asked || time.Since(v.at) >= visitDelayPolls*c.o.PollInterval)
}

// newest is the largest safe point that may matter in a region.
func (c *Collector) newest(l raftstore.LeaderState) uint64 {
	own := c.o.Applied.SafePoints.Own()
	if len(own) == 0 {
		return c.o.Applied.SafePoints.Shared()
	}
	safe := max(c.o.Applied.SafePoints.At(l.Region.GetStartKey()), c.o.Applied.SafePoints.Shared())
	for _, ts := range own {
		safe = max(safe, ts) // keyspaces with their own are few
	}
	return safe
}

func (c *Collector) visit(ctx context.Context, l raftstore.LeaderState, r *Round) {
	info, ok := c.o.Regions.Region(l.Region.GetId())
	if !ok {
		return
	}
	if !c.due(l, info.AppliedIndex, r.asked) {
		r.Skipped++
		c.metrics.regions.WithLabelValues("skipped").Inc()
		return
	}
	v := visit{
		term: l.Term, version: l.Region.GetRegionEpoch().GetVersion(), applied: info.AppliedIndex,
		asOf: uint64(time.Now().Add(-lateCommits).UnixMilli()) << 18,
	}
	r.Scanned++
	s, err := c.region(ctx, l, r)
	if err != nil {
		r.Failed++
		c.metrics.regions.WithLabelValues("failed").Inc()
		if ctx.Err() == nil {
			// A leader that changed, or a split: it is visited again, by whom it concerns.
			c.o.Logger.Debug("region not collected", "region", l.Region.GetId(), "err", err)
		}
		return
	}
	c.metrics.regions.WithLabelValues("collected").Inc()
	v.next, v.at, v.small = s.next, time.Now(), s.bytesAll <= smallRegionBytesMax
	v.enough = max(v.next, s.later.reaches(s.records/garbageShare+1))
	c.mu.Lock()
	c.known[l.Region.GetId()] = v
	c.mu.Unlock()
}

// region scans a region and drops its garbage. It returns what it saw.
func (c *Collector) region(ctx context.Context, l raftstore.LeaderState, r *Round) (s *scan, err error) {
	s = &scan{safePoints: c.o.Applied.SafePoints, next: math.MaxUint64, cursor: l.Region.GetStartKey()}
	s.later = newForecast(c.newest(l), uint64(time.Now().UnixMilli())<<18)
	s.g.Later = s.later.add
	for done := false; !done; {
		if done, err = s.chunk(c.o.Data, l.Region.GetEndKey()); err != nil {
			return nil, err
		}
		s.bytesAll += s.bytes
		r.Keys += s.keysSeen
		c.metrics.scannedKeys.Add(float64(s.keysSeen))
		if err := c.scanLimit.WaitN(ctx, min(s.bytes, c.scanLimit.Burst())); err != nil {
			return nil, err
		}
		if err := c.drop(ctx, l, s, r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// drop has the found keys collected, those of one safe point at a time.
func (c *Collector) drop(ctx context.Context, l raftstore.LeaderState, s *scan, r *Round) error {
	rc := &kvrpcpb.Context{
		RegionId: l.Region.GetId(), RegionEpoch: l.Region.GetRegionEpoch(), Peer: findPeer(l), Term: l.Term,
		ApiVersion: kvrpcpb.APIVersion_V2,
	}
	for keys := s.found; len(keys) > 0; {
		safe, n := c.o.Applied.SafePoints.At(keys[0]), 1
		for n < min(len(keys), txn.CollectKeysMax) && c.o.Applied.SafePoints.At(keys[n]) == safe {
			n++
		}
		got, err := c.try(ctx, rc, safe, keys[:n])
		if err != nil {
			c.metrics.failures.WithLabelValues("gc").Inc()
			return err
		}
		c.metrics.collected(&got)
		r.Records, r.Values, r.LogBytes, r.Locked = r.Records+got.Records, r.Values+got.Values, r.LogBytes+got.Bytes, r.Locked+uint64(got.Locked)
		if got.Locked > 0 {
			s.next = min(s.next, safe) // look again
		}
		keys = keys[got.Done:]
		if err := c.writeLimit.WaitN(ctx, min(int(got.Bytes), c.writeLimit.Burst())); err != nil {
			return err
		}
	}
	return nil
}

// try waits a little where the store is busy.
func (c *Collector) try(ctx context.Context, rc *kvrpcpb.Context, safe uint64, keys [][]byte) (txn.Collected, error) {
	for n := 1; ; n++ {
		c.metrics.tasks.WithLabelValues("gc").Inc()
		got, err := c.o.Txn.Collect(ctx, rc, safe, keys)
		if re := kv.AsRegionError(err); re.GetServerIsBusy() == nil || n >= busyTriesMax {
			return got, err
		}
		c.metrics.busy.Inc()
		timer := time.NewTimer(busyBackoff)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return got, ctx.Err()
		}
	}
}
