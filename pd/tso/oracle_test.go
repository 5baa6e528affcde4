package tso

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/copradb/copra/pd/etcdkv"
)

// fakeClock is a clock that only the test moves.
type fakeClock struct {
	mu   sync.Mutex
	wall int64
	mono time.Duration
}

func (c *fakeClock) WallMS() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall
}

func (c *fakeClock) Mono() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mono
}

func (c *fakeClock) move(wallMS int64, mono time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall += wallMS
	c.mono += mono
}

// fakeEtcd is the saved window and the leader key.
type fakeEtcd struct {
	saved  int64
	leader int
	fail   error // of the next save
	lost   bool  // the failed save was stored nevertheless
}

type fakeLeader struct {
	id     int
	expiry time.Duration
	oracle *Oracle
}

const testLease = 3 * time.Second

func (e *fakeEtcd) elect(clock *fakeClock) (*fakeLeader, error) {
	e.leader++
	l := &fakeLeader{id: e.leader, expiry: clock.Mono() + testLease}
	save := func(_ context.Context, end int64) error {
		if e.leader != l.id {
			return etcdkv.ErrNotLeader
		}
		if err := e.fail; err != nil {
			e.fail = nil
			if e.lost {
				e.saved = end
			}
			return err
		}
		if end < e.saved {
			return errors.New("the saved window went back")
		}
		e.saved = end
		return nil
	}
	var err error
	l.oracle, err = New(context.Background(), clock, e.saved, func() bool { return clock.Mono() < l.expiry }, save)
	return l, err
}

// TestHazard17_NeverGoesBack changes leaders, steps the clock, loses saves and
// lets deposed leaders go on asking; all grants in order must increase.
func TestHazard17_NeverGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := &fakeClock{wall: 1_700_000_000_000}
		etcd := &fakeEtcd{}
		var leaders []*fakeLeader
		last := uint64(0)
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "do") {
			case 0: // the wall clock steps, either way
				clock.move(int64(rapid.IntRange(-20_000, 20_000).Draw(t, "step")), 0)
			case 1, 2: // time passes
				d := rapid.IntRange(0, 4000).Draw(t, "pass")
				clock.move(int64(d), time.Duration(d)*time.Millisecond)
			case 3: // another leader, once the lease of the last one is over
				if n := len(leaders); n > 0 && clock.Mono() < leaders[n-1].expiry {
					clock.move(0, leaders[n-1].expiry-clock.Mono())
				}
				l, err := etcd.elect(clock)
				if err != nil {
					continue
				}
				leaders = append(leaders, l)
			case 4: // the next save fails, stored or not
				etcd.fail, etcd.lost = errors.New("timeout"), rapid.Bool().Draw(t, "lost")
			case 5: // the leader renews its lease
				if n := len(leaders); n > 0 && leaders[n-1].expiry > clock.Mono() {
					leaders[n-1].expiry = clock.Mono() + testLease
				}
			default: // any leader, deposed ones too, is asked
				if len(leaders) == 0 {
					continue
				}
				l := leaders[rapid.IntRange(0, len(leaders)-1).Draw(t, "leader")]
				count := uint32(rapid.SampledFrom([]int{1, 2, 1000, 100_000, CountMax}).Draw(t, "count"))
				ctx, cancel := context.WithCancel(context.Background())
				// A full millisecond waits for the clock, which stands still.
				stop := time.AfterFunc(5*time.Millisecond, func() { clock.move(1, time.Millisecond) })
				physical, logical, err := l.oracle.Grant(ctx, count)
				stop.Stop()
				cancel()
				if err != nil {
					continue
				}
				if l != leaders[len(leaders)-1] {
					t.Fatalf("leader %d granted after leader %d was elected", l.id, etcd.leader)
				}
				if physical >= etcd.saved {
					t.Fatalf("granted %d, saved is %d", physical, etcd.saved)
				}
				if first := Compose(physical, logical-int64(count)+1); first <= last {
					t.Fatalf("granted %d after %d", first, last)
				}
				last = Compose(physical, logical)
			}
		}
	})
}

func TestGrantRefusesBadCounts(t *testing.T) {
	l, err := (&fakeEtcd{}).elect(&fakeClock{wall: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint32{0, CountMax + 1, 1 << 31} {
		if _, _, err := l.oracle.Grant(context.Background(), n); err == nil {
			t.Errorf("count %d was granted", n)
		}
	}
}

func TestOverflowWaitsForTheNextMillisecond(t *testing.T) {
	clock := &fakeClock{wall: 1000}
	l, err := (&fakeEtcd{}).elect(clock)
	if err != nil {
		t.Fatal(err)
	}
	if _, logical, err := l.oracle.Grant(context.Background(), CountMax); err != nil || logical != CountMax {
		t.Fatal(logical, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := l.oracle.Grant(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Fatalf("a full millisecond did not wait: %v", err)
	}
	clock.move(1, time.Millisecond)
	if p, logical, err := l.oracle.Grant(ctx, 1); err != nil || p != 1001 || logical != 1 {
		t.Fatal(p, logical, err)
	}
	// Behind the last grant, milliseconds are taken ahead of the clock.
	clock.move(-500, 0)
	if _, _, err := l.oracle.Grant(ctx, CountMax-1); err != nil {
		t.Fatal(err)
	}
	if p, _, err := l.oracle.Grant(ctx, 1); err != nil || p != 1002 {
		t.Fatal(p, err)
	}
}

func TestGrantAllocatesNothing(t *testing.T) {
	l, err := (&fakeEtcd{}).elect(&fakeClock{wall: 1000})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := l.oracle.Grant(ctx, 1); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("a grant allocates %v times", n)
	}
}
