package raftstore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/stretchr/testify/require"
)

// inspections runs n of them, with a commit of this duration before each.
func inspections(d *slowDisk, n int, commit time.Duration) (probes int) {
	for range n {
		if commit > 0 {
			d.begin()
			time.Sleep(commit)
			d.end()
		}
		if d.inspect() {
			probes++
		}
	}
	return probes
}

// Slow commits raise the score up to 100, fast ones let it fall; without any
// the disk is probed.
func TestSlowScore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSlowDisk()
		require.Zero(t, inspections(d, 5*slowRoundInspections, time.Millisecond))
		require.EqualValues(t, 1, d.value())
		require.Zero(t, inspections(d, 10, 0), "a healthy disk is not probed")
		inspections(d, slowRoundInspections, time.Second)
		require.EqualValues(t, 2, d.value())
		inspections(d, 7*slowRoundInspections, time.Second)
		require.EqualValues(t, 100, d.value())
		require.Greater(t, d.trend.Load().CauseRate, 0.5)
		require.Equal(t, 5, inspections(d, 5, 0))
		inspections(d, slowRoundInspections, time.Millisecond)
		require.Less(t, d.value(), 100.0)
		inspections(d, int(slowRecoverDuration/slowInspectInterval), time.Millisecond)
		require.EqualValues(t, 1, d.value())
	})
}

// A commit that hangs counts before it has ended.
func TestSlowScoreOfStuckDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSlowDisk()
		d.begin()
		time.Sleep(slowTopDuration + time.Second)
		require.False(t, d.inspect())
		require.EqualValues(t, 100, d.value())
		require.Equal(t, slowTopDuration+time.Second, d.stuck())
		d.end()
		require.Zero(t, d.stuck())
	})
}

// The rate falls while the pressure grows and is let go when it is over; above
// the hard limits nothing is let through.
func TestThrottle(t *testing.T) {
	require.Zero(t, pressureOf(disk.Pressure{L0Sublevels: throttleSublevelsSoft, CompactionDebtBytes: throttleDebtBytesSoft, MemTableBytes: 75}, 100))
	require.EqualValues(t, 1, pressureOf(disk.Pressure{L0Sublevels: throttleSublevelsHard}, 100))
	require.EqualValues(t, 1, pressureOf(disk.Pressure{CompactionDebtBytes: throttleDebtBytesHard}, 100))
	require.InDelta(t, 1.0/3, pressureOf(disk.Pressure{MemTableBytes: 100}, 100), 0.01)

	now := time.Unix(0, 0)
	var l throttle
	admit := func(bytes int64) (time.Duration, bool) { return l.admit(bytes, now) }
	wait, ok := admit(100 << 20)
	require.True(t, ok)
	require.Zero(t, wait)
	l.update(0.2)
	require.EqualValues(t, 90<<20, l.Rate(), "what was written, less the pressure")
	l.update(0.4)
	require.EqualValues(t, 72<<20, l.Rate())
	_, ok = admit(72 << 20)
	require.True(t, ok)
	wait, ok = admit(72 << 20)
	require.True(t, ok)
	require.Equal(t, time.Second, wait)
	_, ok = admit(72 << 20)
	require.True(t, ok)
	wait, ok = admit(1)
	require.False(t, ok, "it would wait too long")
	require.Equal(t, 3*time.Second, wait)
	now = now.Add(3 * time.Second)
	_, ok = admit(1)
	require.True(t, ok)
	l.update(1)
	_, ok = admit(1)
	require.False(t, ok)
	for range 100 {
		l.update(0.9)
	}
	require.GreaterOrEqual(t, l.Rate(), float64(throttleBytesPerSecMin))
	for range 20 {
		l.update(0)
	}
	require.Zero(t, l.Rate())
}
