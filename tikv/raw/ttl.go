package raw

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"
)

// The sweep removes what has expired, so that the space comes back.
const (
	// TTLPollIntervalDefault is TiKV's; TTLPollIntervalMin the shortest possible.
	TTLPollIntervalDefault = 12 * time.Hour
	TTLPollIntervalMin     = time.Second
	// ttlFirstFraction of the interval passes before the first sweep: a store may
	// be restarted more often than it sweeps.
	ttlFirstFraction = 12
	// ttlGrace is how long a value stays after it has expired: clocks of stores
	// may differ, and a leader with a slow one must not miss what it still shows.
	ttlGrace = time.Minute
	// A step reads this much under one snapshot; a write deletes this much.
	ttlStepEntriesMax  = 4096
	ttlStepBytesMax    = 8 << 20
	ttlWriteEntriesMax = 256
	ttlWriteBytesMax   = 1 << 20
	// ttlBytesPerSecondMax bounds what the sweep of a store reads; an expired
	// entry counts for ttlDeleteBytes more.
	ttlBytesPerSecondMax = 32 << 20
	ttlDeleteBytes       = 4 << 10
)

// LedRegion is a region that this store leads.
type LedRegion struct {
	Context    *kvrpcpb.Context
	Start, End []byte
}

// LocalReader is one state of this store's data.
type LocalReader interface {
	NewIter(cf kv.CF, o kv.IterOptions) (kv.Iterator, error)
	Close() error
}

// TTLOptions are what a TTLChecker needs. Clock is time.Now if nil.
type TTLOptions struct {
	// Regions lists the regions that the store leads.
	Regions func() []LedRegion
	// Local is the store's data as it is. It wakes no region, and needs no lease:
	// what it shows is checked again when a delete is applied.
	Local        func() LocalReader
	Write        func(ctx context.Context, rc *kvrpcpb.Context, b *kv.Batch) error
	PollInterval time.Duration
	Clock        func() time.Time
	Logger       *slog.Logger
	Registerer   prometheus.Registerer
}

// TTLChecker removes expired values in the background, region by region, by
// deletes through Raft that take effect only where the value is still the
// expired one (kv.OpDeleteIf).
type TTLChecker struct {
	o       TTLOptions
	cancel  context.CancelFunc
	ctx     context.Context
	wg      sync.WaitGroup
	metrics *ttlMetrics
}

// NewTTLChecker returns a checker that sleeps until Start.
func NewTTLChecker(o TTLOptions) (*TTLChecker, error) {
	if o.PollInterval == 0 {
		o.PollInterval = TTLPollIntervalDefault
	}
	if o.PollInterval < TTLPollIntervalMin {
		return nil, fmt.Errorf("raw: expired values cannot be removed every %s: at least %s", o.PollInterval, TTLPollIntervalMin)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &TTLChecker{o: o}
	var err error
	if c.metrics, err = newTTLMetrics(o.Registerer); err != nil {
		return nil, err
	}
	c.metrics.interval.Set(float64(o.PollInterval.Milliseconds()))
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Start begins to sweep, once an interval.
func (c *TTLChecker) Start() { c.wg.Go(c.run) }

// Close ends the sweep under way and waits for it.
func (c *TTLChecker) Close() {
	c.cancel()
	c.wg.Wait()
	c.metrics.unregister()
}

func (c *TTLChecker) run() {
	wait := max(c.o.PollInterval/ttlFirstFraction, TTLPollIntervalMin)
	for c.pause(c.ctx, wait) == nil {
		start := time.Now()
		n, err := c.Sweep(c.ctx)
		switch {
		case c.ctx.Err() != nil:
			return
		case err != nil:
			c.o.Logger.Warn("expired raw values were not removed everywhere; the next sweep tries again", "removed", n, "err", err)
		case n > 0:
			c.o.Logger.Info("expired raw values removed", "count", n, "duration", time.Since(start))
		}
		wait = c.o.PollInterval
	}
}

func (c *TTLChecker) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Sweep goes once over the regions that the store leads and removes what has
// expired. It returns how many values it asked to remove, and the last error: a
// region that fails, because it has moved, say, does not hold up the others.
func (c *TTLChecker) Sweep(ctx context.Context) (removed int, err error) {
	for _, r := range c.o.Regions() {
		n, regionErr := c.sweepRegion(ctx, r)
		removed += n
		c.metrics.regions.Inc()
		if ctx.Err() != nil {
			return removed, ctx.Err()
		}
		if regionErr != nil {
			c.metrics.actions.WithLabelValues("error").Inc()
			err = fmt.Errorf("region %d: %w", r.Context.GetRegionId(), regionErr)
		}
	}
	return removed, err
}

func (c *TTLChecker) sweepRegion(ctx context.Context, r LedRegion) (removed int, err error) {
	from := r.Start
	for {
		step, err := c.read(from, r.End)
		if err != nil {
			return removed, err
		}
		for _, b := range step.deletes {
			if err := c.o.Write(ctx, r.Context, b); err != nil {
				return removed, err
			}
			removed += b.Len()
			c.metrics.actions.WithLabelValues("delete").Inc()
			c.metrics.count.Add(float64(b.Len()))
		}
		c.metrics.bytes.Add(float64(step.expiredBytes))
		if step.next == nil {
			return removed, ctx.Err()
		}
		cost := step.readBytes + step.expired*ttlDeleteBytes
		if err := c.pause(ctx, time.Duration(float64(cost)/ttlBytesPerSecondMax*float64(time.Second))); err != nil {
			return removed, err
		}
		from = step.next
	}
}

// ttlStep is what one step has found.
type ttlStep struct {
	deletes                          []*kv.Batch
	readBytes, expired, expiredBytes int
	next                             []byte // where the next one begins; nil: the region's end
}

// read looks for expired values in [from, end) of the local data.
func (c *TTLChecker) read(from, end []byte) (step ttlStep, err error) {
	local := c.o.Local()
	defer func() { err = errors.Join(err, local.Close()) }()
	it, err := local.NewIter(kv.CFRaw, kv.IterOptions{Lower: orNil(from), Upper: orNil(end)})
	if err != nil {
		return step, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	deadline := uint64(c.o.Clock().Add(-ttlGrace).Unix())
	entries := 0
	for ok := it.First(); ok; ok = it.Next() {
		if entries++; entries > ttlStepEntriesMax || step.readBytes > ttlStepBytesMax {
			step.next = bytes.Clone(it.Key())
			return step, nil
		}
		value, err := it.Value()
		if err != nil {
			return step, err
		}
		step.readBytes += len(it.Key()) + len(value)
		if len(value) >= expireHeadBytes && value[0] == expireValue && binary.BigEndian.Uint64(value[1:]) <= deadline {
			step.expired++
			step.expiredBytes += len(it.Key()) + len(value)
			step.add(it.Key(), value[:expireHeadBytes])
		}
	}
	return step, it.Error()
}

func (s *ttlStep) add(key, head []byte) {
	n := len(s.deletes)
	if n == 0 || s.deletes[n-1].Len() >= ttlWriteEntriesMax || s.deletes[n-1].Size() >= ttlWriteBytesMax {
		s.deletes = append(s.deletes, &kv.Batch{})
		n++
	}
	s.deletes[n-1].DeleteIf(kv.CFRaw, key, head)
}

// ttlMetrics have TiKV's names.
type ttlMetrics struct {
	reg                   prometheus.Registerer
	regions, count, bytes prometheus.Counter
	actions               *prometheus.CounterVec
	interval              prometheus.Gauge
}

func newTTLMetrics(reg prometheus.Registerer) (*ttlMetrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &ttlMetrics{
		reg:      reg,
		regions:  counter("tikv_ttl_checker_processed_regions", "Regions that were searched for expired raw values."),
		count:    counter("tikv_ttl_expire_kv_count_total", "Expired raw values removed."),
		bytes:    counter("tikv_ttl_expire_kv_size_total", "Bytes of expired raw keys and values removed."),
		actions:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "tikv_ttl_checker_actions", Help: "What the sweep did: delete (a batch), error (a region that failed)."}, []string{"type"}),
		interval: prometheus.NewGauge(prometheus.GaugeOpts{Name: "tikv_ttl_checker_poll_interval", Help: "Milliseconds between two sweeps."}),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, fmt.Errorf("raw: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *ttlMetrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.regions, m.count, m.bytes, m.actions, m.interval}
}

func (m *ttlMetrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all() {
		m.reg.Unregister(c)
	}
}
