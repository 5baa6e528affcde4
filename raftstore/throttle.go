package raftstore

import (
	"context"
	"sync"
	"time"

	"github.com/copradb/copra/raftstore/engine/disk"
)

// Foreground writes are slowed down by how far flushes and compactions of the
// data engine are behind, long before Pebble would stop all writes, those that
// other leaders send included. Below the soft limits nothing happens; between
// them and the hard limits a rate that shrinks with the pressure; above the
// hard limits writes are refused.
const (
	throttleInterval        = time.Second
	throttleSublevelsSoft   = 20 // of level 0
	throttleSublevelsHard   = 80
	throttleDebtBytesSoft   = 64 << 30 // that compactions have still to rewrite
	throttleDebtBytesHard   = 256 << 30
	throttleMemTablesSoft   = 0.75 // of what memtables may hold before writes stop
	throttleMemTablesHard   = 1.5  // never reached: Pebble stops at 1
	throttleBytesPerSecMin  = 1 << 20
	throttleWaitMax         = 2 * time.Second // a write that would wait longer is refused
	throttleReleaseFactor   = 4               // the limit ends when it is so much above what is written
	throttleBackoffDuration = time.Second     // what a client is told above the hard limits
)

// throttle is a rate limit that follows the engine's pressure.
type throttle struct {
	mu       sync.Mutex
	rate     float64   // bytes a second; 0: no limit
	pressure float64   // 0: below the soft limits, 1: at a hard one
	next     time.Time // when the bytes that were let through are paid for
	written  int64     // bytes let through since the last update
}

// pressureOf is 0 below the soft limits and 1 at the first hard one.
func pressureOf(p disk.Pressure, memTableBytesMax uint64) float64 {
	over := func(v, soft, hard float64) float64 { return max(0, (v-soft)/(hard-soft)) }
	limit := float64(max(memTableBytesMax, 1))
	return max(
		over(float64(p.L0Sublevels), throttleSublevelsSoft, throttleSublevelsHard),
		over(float64(p.CompactionDebtBytes), throttleDebtBytesSoft, throttleDebtBytesHard),
		over(float64(p.MemTableBytes), throttleMemTablesSoft*limit, throttleMemTablesHard*limit))
}

// update sets the rate for the next interval from the pressure and from what was
// written in the last one.
func (t *throttle) update(pressure float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was, written := t.pressure, float64(t.written)/throttleInterval.Seconds()
	t.pressure, t.written = pressure, 0
	switch {
	case pressure == 0 && t.rate == 0:
	case pressure == 0: // recovered: let go step by step
		if t.rate *= 1.5; t.rate > throttleReleaseFactor*max(written, throttleBytesPerSecMin) {
			t.rate = 0
		}
	case t.rate == 0:
		t.rate = max(written*(1-pressure/2), throttleBytesPerSecMin)
	case pressure > was:
		t.rate = max(t.rate*(1-pressure/2), throttleBytesPerSecMin)
	case pressure < was:
		t.rate *= 1.1
	}
}

// admit takes bytes from the limit. It returns how long the write has to wait,
// or how long it would have had to if that is too long.
func (t *throttle) admit(bytes int64, now time.Time) (wait time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pressure >= 1 {
		return throttleBackoffDuration, false
	}
	if t.rate == 0 {
		t.written += bytes
		return 0, true
	}
	if t.next.Before(now) {
		t.next = now
	}
	if wait = t.next.Sub(now); wait > throttleWaitMax {
		return wait, false
	}
	t.written += bytes
	t.next = t.next.Add(time.Duration(float64(bytes) / t.rate * float64(time.Second)))
	return wait, true
}

// Rate is the limit in bytes a second, 0 for none.
func (t *throttle) Rate() float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rate
}

// watchPressure keeps the throttle.
func (s *Store) watchPressure() {
	ticker := time.NewTicker(throttleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-ticker.C:
			s.throttle.update(pressureOf(s.engine.Pressure(), s.engine.MemTableBytesMax()))
		}
	}
}

// slowDown holds a write up as long as the engine's pressure asks for, or
// refuses it.
func (s *Store) slowDown(ctx context.Context, bytes int64) error {
	wait, ok := s.throttle.admit(bytes, time.Now())
	if !ok {
		s.throttled.WithLabelValues("refused").Inc()
		return errServerIsBusyFor("writes are slowed down: flushes and compactions of the data engine are behind", wait)
	}
	if wait <= 0 {
		return nil
	}
	s.throttled.WithLabelValues("delayed").Inc()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return ErrStopped
	}
}
