package raftstore

import "time"

// Clock is a store's clock. Leases, ticks and time-outs run on it, so it must be
// monotonic: it never falls, and it goes on while the process is stopped
// (hazard 7). It may run a little faster or slower than those of other stores;
// see Config.leaseDuration for how much.
type Clock interface {
	// Now is the time since some fixed moment.
	Now() time.Duration
	// NewTicker ticks every d of this clock until stop is called. Ticks that
	// nobody takes are dropped.
	NewTicker(d time.Duration) (c <-chan time.Time, stop func())
}

// systemClock is Go's monotonic clock.
type systemClock struct{ start time.Time }

func (c systemClock) Now() time.Duration { return time.Since(c.start) }

func (c systemClock) NewTicker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// now is the store's clock in nanoseconds since it was started.
func (s *Store) now() int64 { return int64(s.clock.Now() - s.start) }
