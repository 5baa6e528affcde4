package tikv

import (
	"context"
	"sync"
	"time"
)

// Quotas bound what clients read and write in a second, as TiKV's quota limiter
// does; nothing is bounded unless it is configured. A request that comes too
// early waits; one that would wait longer than quotaDelayMax is refused as
// "server is busy", with the time to wait.
const (
	quotaDelayMax    = 500 * time.Millisecond // TiKV's max-delay-duration
	quotaBurst       = 100 * time.Millisecond // what may be used ahead
	quotaReadReason  = "the quota of reads (foreground-read-bandwidth) is used up"
	quotaWriteReason = "the quota of writes (foreground-write-bandwidth) is used up"
)

// QuotaConfig says how many bytes clients may read and write in a second; 0 is
// as many as they like.
type QuotaConfig struct {
	ForegroundReadBandwidth, ForegroundWriteBandwidth int64
}

// bandwidth is one quota; nil is none.
type bandwidth struct {
	bytesPerSecond int64

	mu   sync.Mutex
	next time.Time // when what was used is paid for
}

func newBandwidth(bytesPerSecond int64) *bandwidth {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &bandwidth{bytesPerSecond: bytesPerSecond}
}

// admit takes bytes and returns how long to wait for them; or takes nothing, if
// that is too long.
func (b *bandwidth) admit(bytes int64, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if due := b.next.Add(-quotaBurst); due.After(now) {
		if wait = due.Sub(now); wait > quotaDelayMax {
			return wait, false
		}
	}
	b.charge(bytes, now)
	return wait, true
}

// use takes bytes that are used already.
func (b *bandwidth) use(bytes int64, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.charge(bytes, now)
}

func (b *bandwidth) charge(bytes int64, now time.Time) {
	if b.next.Before(now) {
		b.next = now
	}
	b.next = b.next.Add(time.Duration(float64(bytes) / float64(b.bytesPerSecond) * float64(time.Second)))
}

// quotas are a store's.
type quotas struct{ read, write *bandwidth }

func newQuotas(c QuotaConfig) quotas {
	return quotas{read: newBandwidth(c.ForegroundReadBandwidth), write: newBandwidth(c.ForegroundWriteBandwidth)}
}

// admit holds a request up for as long as the quotas ask for, or says why it is
// refused and for how long.
func (q *quotas) admit(ctx context.Context, method string, bytes int64) (why string, wait time.Duration, err error) {
	var ok bool
	switch {
	case q.write != nil && writeMethods[method]:
		if wait, ok = q.write.admit(bytes, time.Now()); !ok {
			return quotaWriteReason, wait, nil
		}
	case q.read != nil && readMethods[method]: // its bytes are known afterwards
		if wait, ok = q.read.admit(0, time.Now()); !ok {
			return quotaReadReason, wait, nil
		}
	}
	if wait <= 0 {
		return "", 0, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return "", 0, nil
	case <-ctx.Done():
		return "", 0, ctx.Err()
	}
}
