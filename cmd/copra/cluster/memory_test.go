package cluster

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGuestLimit(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct{ live, total, want int64 }{
		{0, 24 * gib, 3 * gib},
		{2 * gib, 24 * gib, 3 * gib},
		{4 * gib, 24 * gib, 6 * gib},
		{0, 2 * gib, gib * 3 / 2},
		{20 * gib, 24 * gib, 18 * gib},
	} {
		if got := guestLimit(c.live, c.total); got > c.want || got < c.want-c.want/1000 {
			t.Errorf("guestLimit(%d, %d) = %d, want about %d", c.live, c.total, got, c.want)
		}
	}
	runtime.GC()
	if n := liveBytes(); n <= 0 {
		t.Errorf("%d bytes are alive", n)
	}
}

func TestTuneGuestGC(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	t.Setenv("GOGC", "")
	oldLimit, oldPercent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	defer debug.SetMemoryLimit(oldLimit)
	defer debug.SetGCPercent(oldPercent)
	total, err := memoryBytes()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	TuneGuestGC(ctx)
	if got, want := debug.SetMemoryLimit(-1), guestLimit(0, total); got != want {
		t.Errorf("memory limit %d, want %d", got, want)
	}
	if got := debug.SetGCPercent(100); got != gcPercent {
		t.Errorf("GC percent %d, want %d", got, gcPercent)
	}
}
