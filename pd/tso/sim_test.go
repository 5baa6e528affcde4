package tso

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/pd/election"
	"github.com/copradb/copra/pd/etcdkv"
)

// The simulation runs the election and the oracle of several members as they
// are, over an etcd in memory, with clocks that drift and step, requests that
// come late or whose answers are lost, members that are cut off, paused (also in
// the middle of a grant), crashed and stopped. Every grant to every client is
// recorded with its beginning and end: one that begins after another has ended
// must be larger, and no two may share a timestamp (hazard 17).

const (
	simMembers    = 3
	simClients    = 4
	simLease      = 2 * time.Second
	simFor        = 5 * time.Minute // of simulated time, a seed
	simDriftPerMi = 20              // monotonic clocks are off by up to so many per mille
)

// simEtcd is what etcd holds. Operations are atomic; what is slow is the way.
type simEtcd struct {
	mu     sync.Mutex
	rev    int64
	record election.Record
	window int64
	leads  int // which member etcd's leader is
}

// simMember is one process after the other of one member.
type simMember struct {
	id   int
	s    *sim
	rate float64 // of its monotonic clock

	mu          sync.Mutex
	rng         *rand.Rand
	wallOff     int64 // milliseconds
	cutUntil    time.Time
	pausedUntil time.Time
	inside      int           // calls inside the oracle
	frozen      chan struct{} // closed when a pause within the oracle is over
	oracle      *Oracle
	stop        context.CancelFunc
	crashed     bool
}

type sim struct {
	etcd    simEtcd
	members []*simMember
	start   time.Time

	mu        sync.Mutex
	floor     uint64 // the largest timestamp of a grant that has ended
	grants    [][2]uint64
	events    []string
	failovers int
}

func (s *sim) log(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf("%9.3f ", time.Since(s.start).Seconds())+fmt.Sprintf(format, args...))
}

func (m *simMember) rand(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rng.IntN(n)
}

// Mono and WallMS implement Clock. A member may be paused right after it has
// read the clock: what it does with that comes much later.
func (m *simMember) Mono() time.Duration {
	d := time.Duration(float64(time.Since(m.s.start)) * m.rate)
	m.pausePoint()
	return d
}

func (m *simMember) WallMS() int64 {
	m.mu.Lock()
	ms := time.Now().UnixMilli() + m.wallOff
	m.mu.Unlock()
	m.pausePoint()
	return ms
}

// pausePoint waits while the member is paused. Inside the oracle, whose lock
// others may want, it does so only where nobody else is inside, and keeps them
// out meanwhile.
func (m *simMember) pausePoint() {
	m.mu.Lock()
	d := time.Until(m.pausedUntil)
	if d <= 0 || m.inside > 1 || m.frozen != nil {
		m.mu.Unlock()
		return
	}
	frozen := make(chan struct{})
	m.frozen = frozen
	m.mu.Unlock()
	time.Sleep(d)
	m.mu.Lock()
	m.frozen = nil
	m.mu.Unlock()
	close(frozen)
}

// enter waits until nobody is paused inside the oracle.
func (m *simMember) enter() {
	for {
		m.mu.Lock()
		f := m.frozen
		if f == nil {
			m.inside++
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		<-f
	}
}

func (m *simMember) leave() {
	m.mu.Lock()
	m.inside--
	m.mu.Unlock()
}

// errSim is what the way to etcd may answer, whatever happened there.
var errSim = errors.New("simulated: the answer is lost")

// op does fn in etcd, some time later, whether the caller still waits or not.
func (m *simMember) op(ctx context.Context, fn func(e *simEtcd) error) error {
	m.pausePoint()
	there, back := m.delay(), m.delay()
	lost := m.rand(50) == 0
	answer := make(chan error, 1)
	go func() {
		time.Sleep(there)
		m.awaitLink()
		e := &m.s.etcd
		e.mu.Lock()
		err := fn(e)
		e.mu.Unlock()
		time.Sleep(back)
		m.awaitLink()
		if lost {
			err = errSim
		}
		answer <- err
	}()
	select {
	case err := <-answer:
		m.pausePoint()
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *simMember) delay() time.Duration {
	switch m.rand(40) {
	case 0:
		return time.Duration(m.rand(4000)) * time.Millisecond
	case 1, 2, 3:
		return time.Duration(m.rand(300)) * time.Millisecond
	}
	return time.Duration(m.rand(4000)) * time.Microsecond
}

// awaitLink waits while the member is cut off.
func (m *simMember) awaitLink() {
	for {
		m.mu.Lock()
		d := time.Until(m.cutUntil)
		m.mu.Unlock()
		if d <= 0 {
			return
		}
		time.Sleep(d)
	}
}

// The methods below are election.Store.

func (m *simMember) Read(ctx context.Context) (r election.Record, err error) {
	var got election.Record
	err = m.op(ctx, func(e *simEtcd) error { got = e.record; return nil })
	if err == nil {
		r = got // only now: a late answer must not be written to what was returned
	}
	return r, err
}

func (m *simMember) Create(ctx context.Context, ttl time.Duration) (int64, error) {
	got := make(chan int64, 1)
	err := m.op(ctx, func(e *simEtcd) error {
		e.rev++
		if e.record.Leader != nil {
			got <- 0
			return nil
		}
		e.record = election.Record{Leader: []byte{byte(m.id)}, CreateRev: e.rev, RenewRev: e.rev, TTL: ttl}
		got <- e.rev
		return nil
	})
	if err != nil {
		return 0, err
	}
	return <-got, nil
}

func (m *simMember) fenced(ctx context.Context, rev int64, fn func(e *simEtcd)) error {
	return m.op(ctx, func(e *simEtcd) error {
		if e.record.CreateRev != rev {
			return election.ErrLost
		}
		e.rev++
		fn(e)
		return nil
	})
}

func (m *simMember) Renew(ctx context.Context, rev int64, ttl time.Duration) error {
	return m.fenced(ctx, rev, func(e *simEtcd) { e.record.RenewRev, e.record.TTL = e.rev, ttl })
}

func (m *simMember) Resign(ctx context.Context, rev int64) error {
	return m.fenced(ctx, rev, (*simEtcd).dropLeader)
}

func (e *simEtcd) dropLeader() {
	e.record = election.Record{RenewRev: e.record.RenewRev, TTL: e.record.TTL}
}

func (m *simMember) Depose(ctx context.Context, r election.Record) error {
	return m.op(ctx, func(e *simEtcd) error {
		if e.record.CreateRev == r.CreateRev && e.record.RenewRev == r.RenewRev {
			e.rev++
			e.dropLeader()
		}
		return nil
	})
}

// life runs the member's processes until ctx ends.
func (m *simMember) life(ctx context.Context) {
	for ctx.Err() == nil {
		pctx, cancel := context.WithCancel(ctx)
		m.mu.Lock()
		m.stop, m.crashed = cancel, false
		m.mu.Unlock()
		(&election.Elector{
			Store: m, Clock: m, TTL: simLease, Log: slog.New(slog.DiscardHandler),
			IsMine: func(leader []byte) bool { return int(leader[0]) == m.id },
			// Now and then a member takes itself for etcd's leader.
			Eligible: func() bool {
				m.s.etcd.mu.Lock()
				leads := m.s.etcd.leads == m.id
				m.s.etcd.mu.Unlock()
				return leads || m.rand(20) == 0
			},
			Follow: func([]byte) {}, Lead: m.lead,
		}).Run(pctx)
		cancel()
		select {
		case <-time.After(time.Duration(m.rand(2000)) * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (m *simMember) lead(ctx context.Context, lease *election.Lease, rev int64) error {
	var saved int64
	got := make(chan int64, 1)
	if err := m.op(ctx, func(e *simEtcd) error { got <- e.window; return nil }); err != nil {
		return err
	}
	saved = <-got
	save := func(ctx context.Context, end int64) error {
		err := m.fenced(ctx, rev, func(e *simEtcd) {
			e.window = max(e.window, end) // as etcdkv.Fence.PutLarger does
		})
		if errors.Is(err, election.ErrLost) {
			return etcdkv.ErrNotLeader
		}
		return err
	}
	m.enter()
	o, err := New(ctx, m, saved, lease.Valid, save)
	m.leave()
	if err != nil {
		return err
	}
	m.s.mu.Lock()
	m.s.failovers++
	m.s.mu.Unlock()
	m.s.log("member %d leads from %d", m.id, saved)
	m.mu.Lock()
	m.oracle = o
	m.mu.Unlock()
	for ctx.Err() == nil && lease.Valid() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
		m.enter()
		_ = o.extend(ctx)
		m.leave()
	}
	// A crashed process does nothing more; its oracle's calls may be under way.
	m.mu.Lock()
	m.oracle = nil
	m.mu.Unlock()
	m.s.log("member %d no longer leads", m.id)
	return nil
}

// client asks members, any of them, for timestamps.
func (s *sim) client(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rng.IntN(40_000)) * time.Microsecond)
		m := s.members[rng.IntN(len(s.members))]
		m.mu.Lock()
		o := m.oracle
		m.mu.Unlock()
		if o == nil {
			continue
		}
		count := []uint32{1, 1, 1, 100, 100_000, CountMax}[rng.IntN(6)]
		s.mu.Lock()
		floor := s.floor
		s.mu.Unlock()
		gctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		m.enter()
		physical, logical, err := o.Grant(gctx, count)
		m.leave()
		cancel()
		if err != nil {
			continue
		}
		last := Compose(physical, logical)
		first := last - uint64(count) + 1
		s.mu.Lock()
		if first <= floor {
			s.events = append(s.events, fmt.Sprintf("VIOLATION: member %d granted %d, and %d had been granted before the call", m.id, first, floor))
		}
		s.floor = max(s.floor, last)
		s.grants = append(s.grants, [2]uint64{first, last})
		s.mu.Unlock()
	}
}

// chaos does things to the members.
func (s *sim) chaos(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond)
		m := s.members[rng.IntN(len(s.members))]
		if rng.IntN(2) == 0 { // the leader most of all
			for _, x := range s.members {
				x.mu.Lock()
				if x.oracle != nil {
					m = x
				}
				x.mu.Unlock()
			}
		}
		d := time.Duration(rng.IntN(5000)) * time.Millisecond
		switch what := rng.IntN(6); what {
		case 0:
			step := int64(rng.IntN(40_000) - 20_000)
			m.mu.Lock()
			m.wallOff += step
			m.mu.Unlock()
			s.log("member %d: the clock steps by %d ms", m.id, step)
		case 1:
			m.mu.Lock()
			m.cutUntil = time.Now().Add(d)
			m.mu.Unlock()
			s.log("member %d is cut off for %v", m.id, d)
		case 2:
			m.mu.Lock()
			m.pausedUntil = time.Now().Add(d)
			m.mu.Unlock()
			s.log("member %d is paused for %v", m.id, d)
		case 3:
			m.mu.Lock()
			m.stop()
			m.mu.Unlock()
			s.log("member %d stops", m.id)
		default:
			s.etcd.mu.Lock()
			s.etcd.leads = rng.IntN(len(s.members))
			s.etcd.mu.Unlock()
		}
	}
}

// runSim returns how often the leader changed, how many grants there were, and
// what went wrong.
func runSim(seed uint64) (failovers, grants int, failed string) {
	s := &sim{start: time.Now()}
	ctx, cancel := context.WithTimeout(context.Background(), simFor)
	defer cancel()
	var wg sync.WaitGroup
	for i := range simMembers {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		m := &simMember{id: i, s: s, rng: rng, rate: 1 + float64(rng.IntN(2*simDriftPerMi+1)-simDriftPerMi)/1000,
			wallOff: int64(rng.IntN(2000)), stop: func() {}}
		s.members = append(s.members, m)
	}
	for _, m := range s.members {
		wg.Go(func() { m.life(ctx) })
	}
	for i := range simClients {
		wg.Go(func() { s.client(ctx, rand.New(rand.NewPCG(seed, 100+uint64(i)))) })
	}
	wg.Go(func() { s.chaos(ctx, rand.New(rand.NewPCG(seed, 200))) })
	wg.Wait()
	time.Sleep(time.Minute) // what is still on its way to etcd
	slices.SortFunc(s.grants, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	var wrong []string
	for i := 1; i < len(s.grants); i++ {
		if s.grants[i][0] <= s.grants[i-1][1] {
			wrong = append(wrong, fmt.Sprintf("%v and %v were both granted", s.grants[i-1], s.grants[i]))
		}
	}
	for _, e := range s.events {
		if strings.HasPrefix(e, "VIOLATION") {
			wrong = append(wrong, e)
		}
	}
	if len(wrong) > 0 {
		failed = strings.Join(wrong, "\n") + "\n" + strings.Join(s.events, "\n")
	}
	return s.failovers, len(s.grants), failed
}

// TestHazard17_SimulatedFailovers runs one seed after the other;
// COPRA_TEST_SEED picks one.
func TestHazard17_SimulatedFailovers(t *testing.T) {
	first, seeds := uint64(1), uint64(30)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds = 2000
	}
	if v := os.Getenv("COPRA_TEST_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first, seeds = n, 1
	}
	failovers, grants := 0, 0
	for seed := first; seed < first+seeds; seed++ {
		synctest.Test(t, func(t *testing.T) {
			f, g, failed := runSim(seed)
			if failed != "" {
				t.Fatalf("COPRA_TEST_SEED=%d:\n%s", seed, failed)
			}
			failovers += f
			grants += g
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d seeds, %d changes of the leader, %d grants", seeds, failovers, grants)
	if seeds > 1 && (failovers < int(seeds)*20 || grants < int(seeds)*1000) {
		t.Fatalf("%d changes of the leader and %d grants in %d seeds are too few to show anything", failovers, grants, seeds)
	}
}
