package raftstore

import (
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/copradb/copra/raftstore/raftlog"
)

// The slow score says how fast the Raft log's disk is, from 1 to 100, as TiKV's:
// it grows with the share of commits that take too long and falls back slowly
// when none does.
const (
	slowScoreMin          = 1
	slowScoreMax          = 100
	slowInspectInterval   = 500 * time.Millisecond
	slowCommitDuration    = 500 * time.Millisecond // a commit that takes longer is slow
	slowRoundInspections  = 10                     // the score moves every so many inspections
	slowRatioFull         = 0.1                    // with this share of slow commits the score doubles
	slowRecoverDuration   = 5 * time.Minute        // from 100 to 1 without a slow commit
	slowShedDuration      = 2 * time.Second        // a commit that takes longer sends the leaders away
	slowTopDuration       = 5 * time.Second        // and this long is the highest score at once
	slowProbeKey          = "~probe"               // a meta key of the log that nobody reads
	diskStallDurationMax  = 20 * time.Second
	slowTrendShortPeriods = 20  // inspections that the short mean is over
	slowTrendLongPeriods  = 600 // and the long one
)

// SlowTrend compares the commits of the last seconds with those of the last
// minutes, as pdpb.SlowTrend has it.
type SlowTrend struct {
	// CauseMicros is the mean duration of a commit, CauseRate by how much of the
	// long mean it is above it. Result is the same for commits a second.
	CauseMicros, CauseRate, ResultPerSecond, ResultRate float64
}

// slowDisk watches the commits of the log writer, which calls begin and end.
type slowDisk struct {
	base    time.Time
	started atomic.Int64 // of the commit under way, nanoseconds since base; 0: none
	total   atomic.Int64
	slow    atomic.Int64
	nanos   atomic.Int64 // of all commits
	score   atomic.Uint64
	trend   atomic.Pointer[SlowTrend]

	// Owned by the watcher.
	round, roundTotal, roundSlow int64
	lastTotal, lastNanos         int64
	cause, result                [2]float64 // short and long mean
	shed                         bool       // for the commit under way
}

func newSlowDisk() *slowDisk {
	d := &slowDisk{base: time.Now()}
	d.score.Store(math.Float64bits(slowScoreMin))
	d.trend.Store(&SlowTrend{})
	return d
}

func (d *slowDisk) now() int64 { return int64(time.Since(d.base)) + 1 }

func (d *slowDisk) begin() { d.started.Store(d.now()) }

func (d *slowDisk) end() {
	took := d.now() - d.started.Swap(0)
	d.total.Add(1)
	d.nanos.Add(took)
	if took > int64(slowCommitDuration) {
		d.slow.Add(1)
	}
}

// stuck is how long the commit under way has taken; 0 if there is none.
func (d *slowDisk) stuck() time.Duration {
	started := d.started.Load()
	if started == 0 {
		return 0
	}
	return time.Duration(d.now() - started)
}

func (d *slowDisk) value() float64 { return math.Float64frombits(d.score.Load()) }

// inspect takes stock and reports whether the log should be probed: a score
// that nothing is written under would fall without a proof.
func (d *slowDisk) inspect() (probe bool) {
	total, slow, nanos := d.total.Load(), d.slow.Swap(0), d.nanos.Load()
	commits := total - d.lastTotal
	stuck := d.stuck()
	if stuck > slowCommitDuration {
		commits, slow = commits+1, slow+1
	}
	d.observeTrend(float64(total-d.lastTotal), float64(nanos-d.lastNanos))
	d.lastTotal, d.lastNanos = total, nanos
	d.roundTotal, d.roundSlow = d.roundTotal+commits, d.roundSlow+slow
	if stuck > slowTopDuration {
		d.score.Store(math.Float64bits(slowScoreMax))
	}
	if d.round++; d.round >= slowRoundInspections {
		d.score.Store(math.Float64bits(nextScore(d.value(), d.roundSlow, d.roundTotal)))
		d.round, d.roundSlow, d.roundTotal = 0, 0, 0
	}
	return commits == 0 && stuck == 0 && d.value() > slowScoreMin
}

// nextScore is the score behind a round.
func nextScore(score float64, slow, total int64) float64 {
	if slow == 0 {
		const perRound = float64(slowScoreMax) * float64(slowRoundInspections*slowInspectInterval) / float64(slowRecoverDuration)
		return max(slowScoreMin, score-perRound)
	}
	ratio := min(float64(slow)/float64(max(total, slow)), slowRatioFull) / slowRatioFull
	return min(slowScoreMax, score*(1+ratio))
}

func (d *slowDisk) observeTrend(commits, nanos float64) {
	mean := func(m *[2]float64, v float64) {
		for i, periods := range [...]float64{slowTrendShortPeriods, slowTrendLongPeriods} {
			m[i] += (v - m[i]) / periods
		}
	}
	if commits > 0 {
		mean(&d.cause, nanos/commits/1e3)
	}
	mean(&d.result, commits/slowInspectInterval.Seconds())
	rate := func(m [2]float64) float64 {
		if m[1] == 0 {
			return 0
		}
		return (m[0] - m[1]) / m[1]
	}
	d.trend.Store(&SlowTrend{CauseMicros: d.cause[0], CauseRate: rate(d.cause), ResultPerSecond: d.result[0], ResultRate: rate(d.result)})
}

// SlowScore is the store's slow score: 1 is good health, 100 the worst.
func (s *Store) SlowScore() uint64 { return uint64(s.logWriter.disk.value()) }

// SlowTrend is how the store's commits develop.
func (s *Store) SlowTrend() SlowTrend { return *s.logWriter.disk.trend.Load() }

// watchSlowDisk keeps the slow score. A commit that hangs sends the leaders
// away, to stores that can still commit, and in the end stops the process: what
// a disk has not written for so long it may never write.
func (s *Store) watchSlowDisk() {
	t := time.NewTicker(slowInspectInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stopped:
			return
		case <-t.C:
		}
		d := s.logWriter.disk
		if d.inspect() {
			s.logWriter.submit(&logTask{sync: true, extra: func(b *raftlog.Batch) { b.PutMeta([]byte(slowProbeKey), nil) }})
		}
		stuck := d.stuck()
		switch {
		case stuck <= slowShedDuration:
			d.shed = false
		case stuck > diskStallDurationMax:
			s.fatal(fmt.Errorf("raftstore: the disk is stuck: a commit of the Raft log has not ended for %s; the process stops so that others take over, see to the disk of store %d",
				stuck.Round(time.Second), s.id))
			return
		case !d.shed:
			d.shed = true
			s.log.Error("the disk is stuck: leaders are handed over", slog.Duration("for", stuck), slog.Duration("process_stops_after", diskStallDurationMax))
			s.shedLeaders("the disk is stuck")
		}
	}
}

// shedLeaders hands over the leadership of all regions that are awake.
func (s *Store) shedLeaders(why string) {
	s.awake.each(func(p *peer) {
		if p.role.Load().leader {
			p.shedLeader(why, false)
		}
	})
}
