package tso

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/copradb/copra/pd/etcdkv"
)

const (
	// LogicalBits is the width of a timestamp's counter.
	LogicalBits = 18
	// CountMax is how many timestamps one request may ask for: a batch lies in
	// one millisecond.
	CountMax = 1<<LogicalBits - 1
	// WindowMS is how far ahead of the clock the saved window reaches.
	WindowMS = 3000
	// refreshInterval is how often Run looks at the window. With the renewal
	// below half a window, a grant never has to wait for etcd in a healthy
	// cluster, and an idle one saves about every second.
	refreshInterval = 500 * time.Millisecond
	// overflowPoll is how long a full millisecond is waited for.
	overflowPoll = 200 * time.Microsecond
)

// Clock is where the time comes from.
type Clock interface {
	// WallMS is the Unix time in milliseconds; it may step either way.
	WallMS() int64
	// Mono is time since some fixed start, on the monotonic clock.
	Mono() time.Duration
}

// SaveFunc stores the window's end (exclusive, milliseconds) under the leader's
// fence, unless a larger one is stored. After an error, whether it was stored,
// or will yet be, is unknown: a smaller one that arrives late must not replace a
// larger one under which timestamps were granted (hazard 17).
type SaveFunc func(ctx context.Context, endMS int64) error

// Compose makes the 64-bit form of a timestamp.
func Compose(physical, logical int64) uint64 {
	return uint64(physical)<<LogicalBits | uint64(logical)
}

// Oracle grants timestamps for one term of one leader. Safe for concurrent use.
type Oracle struct {
	clock Clock
	valid func() bool
	save  SaveFunc

	// saving holds a token while a save is under way: saves come one by one, so
	// that the stored window only grows. It is taken before mu.
	saving chan struct{}

	mu       sync.Mutex
	physical int64 // of the last grant, milliseconds
	logical  int64 // of the last grant
	window   int64 // end of the saved window: physical < window
}

// New starts an oracle above savedMS, the window's end that the previous leader
// saved (0 if none ever was), and saves the first window of its own. valid says
// whether the leader's lease holds now.
func New(ctx context.Context, clock Clock, savedMS int64, valid func() bool, save SaveFunc) (*Oracle, error) {
	o := &Oracle{clock: clock, valid: valid, save: save, saving: make(chan struct{}, 1)}
	o.physical = max(clock.WallMS(), savedMS)
	if err := o.extend(ctx); err != nil {
		return nil, fmt.Errorf("pd: save the first timestamp window: %w", err)
	}
	return o, nil
}

// Grant returns the physical part and the *last* counter of a batch of count
// timestamps: (physical, logical-count+1) to (physical, logical).
func (o *Oracle) Grant(ctx context.Context, count uint32) (physical, logical int64, err error) {
	if count == 0 || count > CountMax {
		return 0, 0, fmt.Errorf("pd: a timestamp request of %d is outside of 1 to %d", count, CountMax)
	}
	for {
		physical, logical, state := o.try(int64(count))
		switch state {
		case granted:
			return physical, logical, nil
		case leaseLost:
			return 0, 0, etcdkv.ErrNotLeader
		case windowEnd:
			if err := o.extend(ctx); err != nil {
				return 0, 0, err
			}
		case logicalFull:
			if err := sleep(ctx, overflowPoll); err != nil {
				return 0, 0, err
			}
		}
	}
}

type outcome int

const (
	granted outcome = iota
	leaseLost
	windowEnd
	logicalFull
)

func (o *Oracle) try(count int64) (int64, int64, outcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.valid() {
		return 0, 0, leaseLost
	}
	physical, logical := o.physical, o.logical
	now := o.clock.WallMS()
	if now > physical {
		physical, logical = now, 0
	}
	if logical+count > CountMax {
		if now >= physical {
			return 0, 0, logicalFull
		}
		// The clock is behind (it stepped back, or the last leader's was
		// ahead): waiting for it could take hours, so take the next one.
		physical, logical = physical+1, 0
	}
	if physical >= o.window {
		return 0, 0, windowEnd
	}
	o.physical, o.logical = physical, logical+count
	return o.physical, o.logical, granted
}

// extend saves a window that covers now and the last grant, unless another
// caller has just done so.
func (o *Oracle) extend(ctx context.Context) error {
	select {
	case o.saving <- struct{}{}:
		defer func() { <-o.saving }()
	case <-ctx.Done():
		return fmt.Errorf("pd: wait for the timestamp window: %w", ctx.Err())
	}
	if !o.valid() {
		return etcdkv.ErrNotLeader
	}
	o.mu.Lock()
	base := max(o.clock.WallMS(), o.physical)
	need, end := o.window-base < WindowMS/2, base+WindowMS
	o.mu.Unlock()
	if !need {
		return nil
	}
	if err := o.save(ctx, end); err != nil {
		return fmt.Errorf("pd: save the timestamp window: %w", err)
	}
	o.mu.Lock()
	o.window = end
	o.mu.Unlock()
	return nil
}

// Run keeps the window ahead of the clock until ctx ends or the fence fails.
// Other errors are passed to report and tried again.
func (o *Oracle) Run(ctx context.Context, report func(error)) {
	t := time.NewTicker(refreshInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := o.extend(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, etcdkv.ErrNotLeader):
			return
		default:
			report(err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// SystemClock is the machine's clock.
type SystemClock struct{ start time.Time }

// NewSystemClock returns the machine's clock.
func NewSystemClock() *SystemClock { return &SystemClock{start: time.Now()} }

// WallMS implements Clock.
func (c *SystemClock) WallMS() int64 { return time.Now().UnixMilli() }

// Mono implements Clock.
func (c *SystemClock) Mono() time.Duration { return time.Since(c.start) }
