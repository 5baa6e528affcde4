package cpusched

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// SliceMax is how long a worker computes while others wait for its core.
	SliceMax = 4 * time.Millisecond
	// LookMin is how often a worker looks whether a core is to be left to short
	// requests; Yield is cheap in between.
	LookMin = 500 * time.Microsecond
	// ExpressMax is how long the workers of a group compute, all together, without
	// waiting for a core.
	ExpressMax = 2 * time.Millisecond
	// TouchesMin of LookMin in TouchedFor must have seen short requests for a core
	// to be left free to them, for as long again: a query has some itself, to begin.
	TouchesMin = 6
	TouchedFor = 100 * time.Millisecond
	// StallMax is how long after its last look a worker is taken for one that waits
	// for something with a core in its hands: others get the core.
	StallMax = 100 * time.Millisecond
)

// Scheduler shares a number of cores. Safe for concurrent use.
type Scheduler struct {
	touched atomic.Bool // a short request since somebody looked

	mu        sync.Mutex
	cores     int
	looked    time.Time // the last look at touched
	from      time.Time // of the touches that are counted
	touches   int
	shortTill time.Time            // a core is left free
	running   int                  // workers with a core, but for express ones
	express   int                  // workers that did not wait for theirs
	holders   map[*Worker]struct{} // of cores
	groups    map[uint64]*Group
	waiting   []*Group      // with waiters
	clock     time.Duration // the time of the group that had a turn last
}

// New makes a scheduler of so many cores.
func New(cores int) *Scheduler {
	return &Scheduler{cores: max(cores, 1), groups: map[uint64]*Group{}, holders: map[*Worker]struct{}{}}
}

// Default is the scheduler of the process: of its cores, or of GOMAXPROCS if
// those are fewer.
var Default = sync.OnceValue(func() *Scheduler { return New(min(runtime.GOMAXPROCS(0), runtime.NumCPU())) })

// Cores is how many workers compute at a time.
func (s *Scheduler) Cores() int { return s.cores }

// Touch says that there is a short request, for which a core is to be free.
func (s *Scheduler) Touch() {
	if !s.touched.Load() {
		s.touched.Store(true)
	}
}

// limit is how many workers may compute now. The caller has the lock.
func (s *Scheduler) limit(now time.Time) int {
	if now.Sub(s.looked) >= LookMin && s.touched.Load() {
		s.touched.Store(false)
		s.looked = now
		if now.Sub(s.from) >= TouchedFor {
			s.from, s.touches = now, 0
		}
		if s.touches++; s.touches >= TouchesMin {
			s.shortTill = now.Add(TouchedFor)
		}
	}
	if s.cores > 1 && now.Before(s.shortTill) {
		return s.cores - 1
	}
	return s.cores
}

// Stats are how many workers compute, those of them that did not wait for a
// core, and how many wait.
func (s *Scheduler) Stats() (running, express, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.waiting {
		waiting += len(g.waiters)
	}
	return s.running + s.express, s.express, waiting
}

// grant gives free cores to who waits. The caller has the lock.
func (s *Scheduler) grant(now time.Time) {
	for len(s.waiting) > 0 && s.running < s.limit(now) {
		next := 0
		for i, g := range s.waiting {
			if g.time < s.waiting[next].time {
				next = i
			}
		}
		g := s.waiting[next]
		s.clock = max(s.clock, g.time)
		w := g.waiters[0]
		if g.waiters = g.waiters[1:]; len(g.waiters) == 0 {
			s.waiting = append(s.waiting[:next], s.waiting[next+1:]...)
		}
		s.running++
		g.running++
		w.granted, w.express = true, false
		w.take(now)
		close(w.turn)
	}
}

// unstall takes cores from workers that do not look any more. The caller has the
// lock.
func (s *Scheduler) unstall(now time.Time) {
	for w := range s.holders {
		if now.Sub(w.looked) >= StallMax {
			w.drop()
			w.stalled = true
		}
	}
	s.grant(now)
}

// Group is the work of one query. Safe for concurrent use.
type Group struct {
	s   *Scheduler
	key uint64

	// Guarded by s.mu.
	refs    int
	used    time.Duration
	time    time.Duration // used, and what it let pass without asking
	running int           // of s.running
	waiters []*Worker
}

// Group returns the group with this key (say, a statement's timestamp), which
// all of a process that work for the query share. Close must be called.
func (s *Scheduler) Group(key uint64) *Group {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[key]
	if g == nil {
		g = &Group{s: s, key: key}
		s.groups[key] = g
	}
	g.refs++
	return g
}

// Close ends one use of the group; its workers must have paused.
func (g *Group) Close() {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	if g.refs--; g.refs == 0 {
		delete(g.s.groups, g.key)
	}
}

// Used is how long the group's workers have computed.
func (g *Group) Used() time.Duration {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	return g.used
}

// SpareProcs gives Go twice as many processors as there are cores, unless the
// environment's GOMAXPROCS says how many. For servers: it is called at the start.
//
// As long as all of Go's processors are busy, what becomes ready waits for the
// end of a slice of up to 10 ms, and the network is polled as rarely. With idle
// ones it starts at once on a thread of its own, and the kernel, which prefers
// threads that have slept, makes room for it.
func SpareProcs() {
	cores := Default().Cores()
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * cores)
	}
}
