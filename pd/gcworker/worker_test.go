package gcworker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/pd/gcstate"
)

// fakeCluster is everything around a worker: safe points with one barrier, a
// store of records, a clock and a resolver that notes what it was asked.
type fakeCluster struct {
	maxTS uint64 // of the last ResolveLocks

	states  map[uint32]gcstate.State
	barrier uint64 // 0: none
	saved   map[string][]byte
	now     time.Time
	own     []uint32
	ready   bool

	resolved []string
	fail     error
	closed   int
}

func (f *fakeCluster) Get(_ context.Context, ks uint32) (gcstate.State, error) {
	return f.states[ks], nil
}

func (f *fakeCluster) AdvanceTxn(_ context.Context, ks uint32, target uint64) (before, after uint64, blocker string, err error) {
	st := f.states[ks]
	before = st.TxnSafePoint
	if target < before {
		return before, before, "", gcstate.ErrDecreasing
	}
	after = target
	if f.barrier != 0 && f.barrier < after {
		after, blocker = max(before, f.barrier), "a barrier"
	}
	st.TxnSafePoint = after
	f.states[ks] = st
	return before, after, blocker, nil
}

func (f *fakeCluster) AdvanceGC(_ context.Context, ks uint32, target uint64) (before, after uint64, err error) {
	st := f.states[ks]
	if target > st.TxnSafePoint {
		return 0, 0, gcstate.ErrBeyondTxn
	}
	before, st.GCSafePoint = st.GCSafePoint, target
	f.states[ks] = st
	return before, target, nil
}

func (f *fakeCluster) Load(_ context.Context, key string) ([]byte, bool, error) {
	v, ok := f.saved[key]
	return v, ok, nil
}

func (f *fakeCluster) Save(_ context.Context, key string, value []byte) error {
	f.saved[key] = value
	return nil
}

func (f *fakeCluster) ResolveLocks(_ context.Context, maxTS uint64, ranges []Range) (Resolved, error) {
	f.resolved = append(f.resolved, fmt.Sprintf("%d %x", (maxTS+1)>>18, ranges))
	f.maxTS = maxTS
	return Resolved{Regions: 2, Locks: 3}, f.fail
}

func (f *fakeCluster) Close() error { f.closed++; return nil }

func (f *fakeCluster) worker(t *testing.T) *Worker {
	t.Helper()
	w, err := New(context.Background(), Options{
		State: f, Storage: f, Metrics: NewMetrics(), Now: func() time.Time { return f.now },
		Timestamp:   func(context.Context) (uint64, error) { return uint64(f.now.UnixMilli()) << 18, nil },
		Keyspaces:   func() []uint32 { return f.own },
		Ready:       func() bool { return f.ready },
		NewResolver: func(context.Context) (Resolver, error) { return f, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func newFake() *fakeCluster {
	return &fakeCluster{states: map[uint32]gcstate.State{}, saved: map[string][]byte{}, now: time.UnixMilli(100_000_000), ready: true}
}

// round makes a round and returns what it did with the shared safe points.
func (f *fakeCluster) round(t *testing.T, w *Worker, asked bool) Round {
	t.Helper()
	w.Rounds(context.Background(), 0, asked)
	return w.Status().Rounds[0]
}

func ms(ts uint64) uint64 { return ts >> 18 }

func TestRoundsMoveTheSafePoints(t *testing.T) {
	f := newFake()
	w := f.worker(t)
	r := f.round(t, w, false)
	const behind = uint64(LifeTimeDefault / time.Millisecond)
	if ms(r.GCSafePoint) != 100_000_000-behind || ms(r.TxnSafePoint) != ms(r.GCSafePoint) || r.Locks != 3 || r.Regions != 2 || r.Error != "" {
		t.Fatalf("%+v", r)
	}
	// A barrier holds it; what is held back where it was has nothing to resolve.
	f.barrier = r.GCSafePoint + 5<<18
	f.now = f.now.Add(time.Minute)
	if r = f.round(t, w, false); ms(r.GCSafePoint) != 100_000_005-behind || r.Blocker == "" {
		t.Errorf("%+v", r)
	}
	// Who holds it may have begun there, and have locks.
	if f.maxTS != f.barrier-1 {
		t.Errorf("locks are resolved up to %d, of transactions that began at %d too", f.maxTS, f.barrier)
	}
	n := len(f.resolved)
	f.now = f.now.Add(time.Minute)
	if r = f.round(t, w, false); r.Blocker == "" || len(f.resolved) != n {
		t.Errorf("%+v, resolved %v", r, f.resolved)
	}
	// A longer life time does not move anything back.
	f.barrier = 0
	if err := w.Change(context.Background(), map[string]any{"gc-life-time": "24h"}); err != nil {
		t.Fatal(err)
	}
	if r = f.round(t, w, false); ms(r.GCSafePoint) != 100_000_005-behind || r.Error != "" {
		t.Errorf("%+v", r)
	}
	// The next leader has the settings.
	if got := f.worker(t).Settings().LifeTime; got != 24*time.Hour {
		t.Errorf("life time %v", got)
	}
}

// The GC safe point never passes locks that were not resolved.
func TestFailedResolveStopsTheRound(t *testing.T) {
	f := newFake()
	w := f.worker(t)
	f.fail = errors.New("no leader of region 7")
	if r := f.round(t, w, false); r.GCSafePoint != 0 || r.TxnSafePoint == 0 || !strings.Contains(r.Error, "region 7") {
		t.Fatalf("%+v", r)
	}
	// The same safe point is resolved again, even if it cannot move on.
	f.fail, f.barrier = nil, 1
	if r := f.round(t, w, false); r.GCSafePoint != r.TxnSafePoint || r.GCSafePoint == 0 || len(f.resolved) != 2 || f.resolved[0] != f.resolved[1] {
		t.Fatalf("%+v %v", r, f.resolved)
	}
}

func TestStandsBackForOthers(t *testing.T) {
	f := newFake()
	w := f.worker(t)
	f.round(t, w, false)
	// A leader that dies between the record and the safe point, or after, has said whose it was.
	if r := f.round(t, f.worker(t), false); r.Skipped != "" {
		t.Fatalf("its own safe point is taken for others': %+v", r)
	}
	f.states[gcstate.NullKeyspace] = gcstate.State{TxnSafePoint: (100_000_000 - 1) << 18, GCSafePoint: f.states[gcstate.NullKeyspace].GCSafePoint}
	f.now = f.now.Add(time.Minute)
	r := f.round(t, w, false)
	if r.Skipped == "" || len(f.resolved) != 1 {
		t.Fatalf("%+v", r)
	}
	if r = f.round(t, f.worker(t), false); r.Skipped == "" {
		t.Errorf("the next leader has forgotten: %+v", r)
	}
	if r = f.round(t, w, true); r.Skipped != "" || r.GCSafePoint != (100_000_000-1)<<18 {
		t.Errorf("asked for: %+v", r)
	}
	f.now = f.now.Add(standBackDuration)
	if r = f.round(t, w, false); r.Skipped != "" || r.Error != "" {
		t.Errorf("the others are gone: %+v", r)
	}
}

func TestSwitchedOffOrEarly(t *testing.T) {
	f := newFake()
	f.ready = false
	w := f.worker(t)
	if r := f.round(t, w, false); r.Skipped == "" {
		t.Errorf("%+v", r)
	}
	f.ready = true
	if err := w.Change(context.Background(), map[string]any{"gc-enable": "false"}); err != nil {
		t.Fatal(err)
	}
	if r := f.round(t, w, false); r.Skipped == "" || len(f.states) != 0 {
		t.Errorf("%+v", r)
	}
	if r := f.round(t, w, true); r.Skipped != "" {
		t.Errorf("asked for: %+v", r)
	}
	for _, bad := range []map[string]any{{"gc-life-time": "1s"}, {"gc-life-time": "x"}, {"gc-enable": "perhaps"}, {"gc-run-interval": "0s"}, {"gc": 1}} {
		if err := w.Change(context.Background(), bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// Keyspaces with safe points of their own get rounds of their own; their locks
// are none of the others' business.
func TestKeyspacesWithTheirOwn(t *testing.T) {
	f := newFake()
	f.own = []uint32{7, 2, 1<<24 - 1}
	w := f.worker(t)
	w.Rounds(context.Background(), time.Minute, false)
	if st := w.Status(); len(st.Rounds) != 4 {
		t.Fatalf("%+v", st)
	}
	const at = "99940000 "
	want := []string{
		at + "[{ 78000002} {78000003 78000007} {78000008 78ffffff} {79 }]",
		at + "[{78000007 78000008}]", at + "[{78000002 78000003}]", at + "[{78ffffff 79}]",
	}
	if !slices.Equal(f.resolved, want) {
		t.Errorf("resolved\n%s\nwant\n%s", strings.Join(f.resolved, "\n"), strings.Join(want, "\n"))
	}
	if got := Ranges(math.MaxUint32, nil); len(got) != 1 || got[0].Start != nil || got[0].End != nil {
		t.Errorf("%v", got)
	}
}

func TestRunEndsWithItsTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		w := f.worker(t)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); w.Run(ctx) }()
		time.Sleep(RunIntervalDefault + time.Second)
		synctest.Wait()
		if n := len(f.resolved); n != 1 {
			t.Errorf("%d rounds in the first interval", n)
		}
		f.now = f.now.Add(time.Hour)
		if !w.Trigger(time.Minute) {
			t.Error("not triggered")
		}
		synctest.Wait()
		if n := len(f.resolved); n != 2 {
			t.Errorf("%d rounds, one of them asked for", n)
		}
		cancel()
		<-done
		if f.closed != 1 {
			t.Errorf("the resolver was closed %d times", f.closed)
		}
	})
}
