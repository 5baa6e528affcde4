package election

import (
	"sync/atomic"
	"time"
)

// marginPercent is how much longer a follower waits than the leader believes,
// for clocks that do not run equally fast.
const marginPercent = 5

// Clock measures time since some fixed start, and is not set by anybody.
type Clock interface{ Mono() time.Duration }

// Lease is the leader's belief in itself: from the moment before the renewal was
// sent, on the monotonic clock.
type Lease struct {
	ttl      time.Duration
	clock    Clock
	expiryNS atomic.Int64
	revoked  atomic.Bool
}

// NewLease returns a lease that is not valid yet.
func NewLease(ttl time.Duration, clock Clock) *Lease { return &Lease{ttl: ttl, clock: clock} }

// RenewedAt extends the lease by a renewal that was sent at that time.
func (l *Lease) RenewedAt(sent time.Duration) { l.expiryNS.Store(int64(sent + l.ttl)) }

// Revoke ends the belief for good.
func (l *Lease) Revoke() { l.revoked.Store(true) }

// Valid reports whether the lease holds now.
func (l *Lease) Valid() bool {
	return !l.revoked.Load() && int64(l.clock.Mono()) < l.expiryNS.Load()
}

// Doubt is a follower's view of the leader's lease.
type Doubt struct {
	clock Clock
	seen  Record
	since time.Duration
}

// NewDoubt returns the view of a follower that has seen nothing.
func NewDoubt(clock Clock) *Doubt { return &Doubt{clock: clock} }

// Observe takes note of what a linearizable read returned.
func (d *Doubt) Observe(r Record) {
	if r.CreateRev != d.seen.CreateRev || r.RenewRev != d.seen.RenewRev || d.since == 0 {
		d.seen, d.since = r, d.clock.Mono()
	}
}

// Over reports whether the leader that was observed last has ceased to believe
// in itself, unless it was renewed since.
func (d *Doubt) Over() bool {
	if d.seen.CreateRev == 0 || d.seen.TTL <= 0 {
		return false
	}
	return d.clock.Mono()-d.since > d.seen.TTL+d.seen.TTL*marginPercent/100
}
