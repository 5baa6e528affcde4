package gc_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/tikv/gc"
	"github.com/copradb/copra/txn"
)

const pollInterval = 200 * time.Millisecond

// world is a cluster with transactions and collectors, in a bubble of its own
// time. Its replicas are compared every few seconds, as always in rafttest.
type world struct {
	*rafttest.Cluster
	t    *testing.T
	safe atomic.Uint64 // what PD says
	noPD atomic.Uint64 // a store that does not reach it

	own map[uint32]uint64 // of keyspaces with their own; under mu

	mu    sync.Mutex
	nodes map[uint64]*node
	last  uint64
	// restarted attaches to a store that was started again.
	restarted func(id uint64)
}

type node struct {
	txn  *txn.Store
	gc   *gc.Collector
	safe *txn.SafePoints
	reg  *prometheus.Registry

	using sync.RWMutex // by reads: a snapshot must not outlive its engine
	down  bool
}

func (n *node) stop() {
	n.using.Lock()
	n.down = true
	n.using.Unlock()
	n.gc.Close()
	n.txn.Close()
}

func inWorld(t *testing.T, test func(w *world), configure ...func(*raftstore.Config)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, nodes: map[uint64]*node{}}
		safe := map[uint64]*gc.Applied{}
		var config raftstore.Config
		for _, f := range configure {
			f(&config)
		}
		w.Cluster = rafttest.NewCluster(t, 3, 3, config, func(c *rafttest.Cluster) {
			c.Customize = func(o *raftstore.Options) {
				safe[o.StoreID] = &gc.Applied{SafePoints: &txn.SafePoints{}}
				o.Collected, o.SafePoints = safe[o.StoreID].Note, safe[o.StoreID].SafePoints.In
			}
		})
		for _, id := range w.IDs() {
			w.attach(id, safe)
		}
		w.Cluster.Customize = func(o *raftstore.Options) {
			safe[o.StoreID] = &gc.Applied{SafePoints: &txn.SafePoints{}}
			o.Collected, o.SafePoints = safe[o.StoreID].Note, safe[o.StoreID].SafePoints.In
		}
		defer func() { // also when the test has failed
			for _, n := range w.nodes {
				n.stop()
			}
			w.Close()
		}()
		w.t = t
		w.restarted = func(id uint64) { w.attach(id, safe) }
		test(w)
	})
}

// attach gives a store that was just started its transactions.
func (w *world) attach(id uint64, safe map[uint64]*gc.Applied) {
	rn := w.Node(id)
	n := &node{safe: safe[id].SafePoints, reg: prometheus.NewRegistry()}
	n.txn = txn.NewStore(rn.Store, txn.Options{SafePoints: n.safe})
	var err error
	n.gc, err = gc.New(gc.Options{
		Regions: rn.Store, Txn: n.txn, Data: rn.Engine, Applied: safe[id], PollInterval: pollInterval, Registerer: n.reg,
		Fetch: func(context.Context) (uint64, map[uint32]uint64, error) {
			if id == w.noPD.Load() {
				return 0, nil, errors.New("PD is not reachable")
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.safe.Load(), w.own, nil
		},
	})
	require.NoError(w.t, err)
	n.gc.Start()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[id] = n
}

func (w *world) node(id uint64) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

func (w *world) tso() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = max(w.last+1, uint64(time.Now().UnixMilli())<<18)
	return w.last
}

func enc(key string) []byte { return codec.EncodeBytes(nil, []byte(key)) }

// atLeader runs a request at the leader of the key's region until it is answered.
func (w *world) atLeader(key string, do func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error)) {
	w.t.Helper()
	var last any
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		region := w.RegionAt(string(enc(key)))
		if region == nil {
			continue
		}
		lead := w.LeaderOf(region.Id)
		if lead == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		re, err := do(ctx, w.node(lead), w.Context(lead, region.Id))
		cancel()
		if re == nil && err == nil {
			return
		}
		last = fmt.Sprint(re, err)
	}
	w.t.Fatalf("no answer about %s: %v", key, last)
}

// write commits mutations of one region and returns its commit timestamp.
func (w *world) write(ms ...*kvrpcpb.Mutation) uint64 {
	w.t.Helper()
	start, key := w.tso(), string(ms[0].Key)
	keys := make([][]byte, len(ms))
	for i, m := range ms {
		keys[i] = m.Key
	}
	w.atLeader(key, func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		r, err := n.txn.KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{Context: rc, PrimaryLock: keys[0], StartVersion: start, LockTtl: 100_000, Mutations: ms})
		if err == nil && len(r.Errors) > 0 {
			w.t.Fatalf("prewrite of %s: %v", key, r.Errors)
		}
		return r.GetRegionError(), err
	})
	commit := w.tso()
	w.atLeader(key, func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		r, err := n.txn.KvCommit(ctx, &kvrpcpb.CommitRequest{Context: rc, StartVersion: start, CommitVersion: commit, Keys: keys})
		if err == nil && r.Error != nil {
			w.t.Fatalf("commit of %s: %v", key, r.Error)
		}
		return r.GetRegionError(), err
	})
	return commit
}

func (w *world) rollback(key string) {
	start := w.tso()
	w.atLeader(key, func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		r, err := n.txn.KvCleanup(ctx, &kvrpcpb.CleanupRequest{Context: rc, Key: []byte(key), StartVersion: start})
		return r.GetRegionError(), err
	})
}

// read returns a key's value at ts, "" for none; tooOld is what a store says
// below its safe point.
func (w *world) read(key string, ts uint64) (value string, tooOld bool) {
	w.t.Helper()
	w.atLeader(key, func(ctx context.Context, n *node, rc *kvrpcpb.Context) (_ *errorpb.Error, err error) {
		n.using.RLock()
		defer n.using.RUnlock()
		if n.down {
			return nil, errors.New("the store is down")
		}
		r, err := n.txn.OpenReader(ctx, rc, txn.ReaderOptions{TS: ts, Ranges: []kv.KeyRange{{Start: []byte(key), End: []byte(key + "\x00")}}})
		var old *txn.SafePointError
		if tooOld = errors.As(err, &old); tooOld {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		v, _, ok, err := r.Get([]byte(key))
		if value = ""; ok {
			value = string(v)
		}
		return nil, err
	})
	return value, tooOld
}

// records counts the commit records and long values that a store has of a key.
func (w *world) records(store uint64, key string) (writes, values int) {
	n := w.Node(store)
	s := n.Engine.NewSnapshot()
	defer s.Close()
	for _, cf := range []kv.CF{kv.CFWrite, kv.CFDefault} {
		it, err := s.NewIter(cf, kv.IterOptions{Lower: enc(key), Upper: enc(key + "\x00")})
		require.NoError(w.t, err)
		for ok := it.First(); ok; ok = it.Next() {
			if cf == kv.CFWrite {
				writes++
			} else {
				values++
			}
		}
		require.NoError(w.t, it.Close())
	}
	return writes, values
}

func put(key, value string) *kvrpcpb.Mutation {
	return &kvrpcpb.Mutation{Op: kvrpcpb.Op_Put, Key: []byte(key), Value: []byte(value)}
}

func TestCollectorDropsAndThenSkips(t *testing.T) {
	inWorld(t, func(w *world) {
		w.WaitLeader(rafttest.FirstRegion)
		for i := range 20 {
			w.write(put("a", strings.Repeat("a", 300)+fmt.Sprint(i)))
			w.write(put("b", fmt.Sprint(i)))
		}
		w.write(&kvrpcpb.Mutation{Op: kvrpcpb.Op_Del, Key: []byte("b")})
		last := w.write(put("c", "1"))
		w.safe.Store(last + 1)
		time.Sleep(5 * pollInterval)
		w.alike("a", 1, 1)
		w.alike("b", 0, 0)
		w.alike("c", 1, 0)
		if v, _ := w.read("a", last+1); v != strings.Repeat("a", 300)+"19" {
			t.Errorf("a is %q", v)
		}
		if _, old := w.read("a", last); !old {
			t.Error("a read below the safe point was answered")
		}
		lead := w.WaitLeader(rafttest.FirstRegion)
		scanned := func() float64 { return metric(t, w.node(lead).reg, "tikv_gcworker_gc_keys", "scanned") }
		// The collector looks again for what it may have missed, and no more.
		time.Sleep(10 * pollInterval)
		w.safe.Store(w.tso())
		time.Sleep(3 * time.Minute)
		w.safe.Store(w.tso())
		time.Sleep(10 * pollInterval)
		before := scanned()
		for range 20 {
			w.safe.Store(w.tso())
			time.Sleep(3 * pollInterval)
		}
		if n := scanned() - before; n != 0 {
			t.Errorf("%v keys scanned in a region with nothing to collect", n)
		}
		// And what is to be collected later is known.
		at := w.write(put("c", "2"))
		w.safe.Store(at)
		time.Sleep(3*time.Minute + 10*pollInterval)
		w.safe.Store(w.tso())
		time.Sleep(10 * pollInterval)
		w.alike("c", 1, 0)
	})
}

// A large region with little garbage is not scanned for it whenever the safe
// point moves, but now and then; one that is known to have much is.
func TestCollectorWaitsForGarbage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.WaitLeader(rafttest.FirstRegion)
		fill := func(from, to int, value string) {
			for ; from < to; from += 500 {
				var ms []*kvrpcpb.Mutation
				for k := from; k < min(to, from+500); k++ {
					ms = append(ms, put(fmt.Sprintf("key%05d", k), value+strings.Repeat("v", 200)))
				}
				w.write(ms...)
			}
		}
		records := func() (n int) {
			for k := range 6000 {
				writes, _ := w.records(1, fmt.Sprintf("key%05d", k))
				n += writes
			}
			return n
		}
		fill(0, 6000, "a")
		w.safe.Store(w.tso())
		time.Sleep(5 * pollInterval) // seen
		fill(0, 100, "b")
		time.Sleep(lateCommits)
		w.safe.Store(w.tso())
		time.Sleep(5 * pollInterval)
		if n := records(); n != 6000 {
			t.Errorf("%d records when the garbage of the first minutes had been due for long", n)
		}
		fill(0, 100, "c")
		w.safe.Store(w.tso())
		time.Sleep(5 * pollInterval)
		if n := records(); n != 6100 {
			t.Errorf("%d records: the region was scanned for little", n)
		}
		time.Sleep(30 * pollInterval)
		if n := records(); n != 6000 {
			t.Errorf("%d records: the region was not scanned in a while", n)
		}
		// What is seen to become garbage is dropped when it does.
		hold := w.tso()
		fill(0, 3000, "d")
		time.Sleep(40 * pollInterval)
		w.safe.Store(hold)
		time.Sleep(40 * pollInterval)
		if n := records(); n != 9000 {
			t.Errorf("%d records above the safe point", n)
		}
		fill(5999, 6000, "d")
		w.safe.Store(w.tso())
		time.Sleep(5 * pollInterval)
		if n := records(); n > 6001 {
			t.Errorf("%d records are left of half a region of garbage", n)
		}
	})
}

const lateCommits = 2 * time.Minute

// A store that does not reach PD learns the safe point with what it lets go: by
// the log, or by a snapshot that replaces it.
// In a region of several keyspaces each has the one that it has at PD.
func TestSafePointComesWithTheData(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%t", snapshot), func(t *testing.T) {
			inWorld(t, func(w *world) {
				lead := w.WaitLeader(rafttest.FirstRegion)
				far := lead%3 + 1
				w.noPD.Store(far)
				w.write(put("a", "1"))
				if snapshot {
					w.Partition(far)
				}
				w.write(put("a", "2"))
				w.safe.Store(w.tso())
				w.write(put("x\x00\x00\x07k", "1"))
				w.write(put("x\x00\x00\x07k", "2"))
				own := w.tso()
				w.mu.Lock()
				w.own = map[uint32]uint64{7: own}
				w.mu.Unlock()
				defer func() {
					for key, want := range map[string]uint64{"a": w.safe.Load(), "x\x00\x00\x07k": own, "x\x00\x00\x08k": w.safe.Load()} {
						if got := w.node(far).safe.At([]byte(key)); got != want {
							t.Errorf("it has the safe point %d at %q, want %d", got, key, want)
						}
					}
				}()
				w.Eventually("collection", func() bool { n, _ := w.records(lead, "x\x00\x00\x07k"); return n == 1 })
				for _, id := range w.IDs() {
					if id != far || !snapshot {
						w.Eventually("collection", func() bool { n, _ := w.records(id, "a"); return n == 1 })
					}
				}
				if snapshot {
					if got := w.node(far).safe.Shared(); got != 0 {
						t.Fatalf("it has the safe point %d already", got)
					}
					for range 40 { // more than the log keeps for it
						w.write(put("big", strings.Repeat("x", 100<<10)))
					}
					time.Sleep(30 * time.Second)
					w.Heal()
					w.Eventually("the snapshot", func() bool { n, _ := w.records(far, "big"); return n > 0 })
				}
				for _, key := range []string{"a", "x\x00\x00\x07k"} {
					w.Eventually("the data", func() bool { n, _ := w.records(far, key); return n == 1 })
				}
			}, func(c *raftstore.Config) {
				c.LogTruncateEntries, c.LogKeepEntriesMax, c.LogCheckInterval = 8, 16, time.Second
			})
		})
	}
}

// A range that is destroyed on one store after the other stays away, over power
// cuts, too, and is no difference between replicas; what is beside it stays.
func TestHazard10_DestroyedRangesStayAway(t *testing.T) {
	inWorld(t, func(w *world) {
		w.WaitLeader(rafttest.FirstRegion)
		for i := range 30 {
			w.write(put(fmt.Sprintf("a%02d", i), "v"), put(fmt.Sprintf("b%02d", i), strings.Repeat("v", 400)), put(fmt.Sprintf("c%02d", i), "v"))
		}
		w.atLeader("b", func(ctx context.Context, n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
			r, err := n.txn.KvDeleteRange(ctx, &kvrpcpb.DeleteRangeRequest{Context: rc, StartKey: []byte("b"), EndKey: []byte("c")})
			return r.GetRegionError(), err
		})
		for _, id := range w.IDs() {
			require.NoError(t, w.node(id).gc.DestroyRange(context.Background(), enc("b"), enc("c")))
			time.Sleep(5 * time.Second) // the replicas would be compared
			w.write(put("a00", fmt.Sprint(id)))
		}
		for _, id := range w.IDs() {
			w.node(id).stop()
			w.Crash(id, 50)
			w.Restart(id)
			w.restarted(id)
			w.WaitLeader(rafttest.FirstRegion)
		}
		at := w.tso()
		for i := range 30 {
			for _, k := range []string{"a", "b", "c"} {
				if v, _ := w.read(fmt.Sprintf("%s%02d", k, i), at); (v == "") != (k == "b") {
					t.Errorf("%s%02d is %q", k, i, v)
				}
			}
			w.alike(fmt.Sprintf("b%02d", i), 0, 0)
		}
	})
}

// One store that is told alone differs from the others, and that is no alarm.
func TestDestroyedRangeIsNoInconsistency(t *testing.T) {
	inWorld(t, func(w *world) {
		lead := w.WaitLeader(rafttest.FirstRegion)
		w.write(put("a", "v"), put("b", "v"))
		require.NoError(t, w.node(lead%3+1).gc.DestroyRange(context.Background(), enc("b"), enc("c")))
		for i := range 10 {
			w.write(put("a", fmt.Sprint(i)))
			time.Sleep(2 * time.Second)
		}
		w.alike("a", 11, 0)
	})
}

// A region that sleeps and has nothing to collect is not woken.
func TestCollectorLetsSleep(t *testing.T) {
	inWorld(t, func(w *world) {
		w.WaitLeader(rafttest.FirstRegion)
		w.write(put("a", "1"))
		w.Eventually("sleep", func() bool {
			return w.Node(1).Store.AwakeCount()+w.Node(2).Store.AwakeCount()+w.Node(3).Store.AwakeCount() == 0
		})
		w.safe.Store(w.tso())
		for range 50 {
			time.Sleep(pollInterval / 2)
			for _, id := range w.IDs() {
				if w.Node(id).Store.AwakeCount() != 0 {
					t.Fatalf("store %d woke", id)
				}
			}
		}
		for _, id := range w.IDs() {
			if n := w.node(id); n.safe.Shared() != w.safe.Load() {
				t.Errorf("store %d has the safe point %d, want %d", id, n.safe.Shared(), w.safe.Load())
			}
		}
	})
}

// alike waits until all stores have that many records of a key.
func (w *world) alike(key string, writes, values int) {
	w.t.Helper()
	for _, id := range w.IDs() {
		w.Eventually(fmt.Sprintf("%d records and %d values of %s on store %d", writes, values, key, id), func() bool {
			a, b := w.records(id, key)
			return a == writes && b == values
		})
	}
}

func metric(t *testing.T, reg *prometheus.Registry, name, label string) (sum float64) {
	t.Helper()
	all, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range all {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if l.GetValue() == label {
					sum += m.Counter.GetValue()
				}
			}
		}
	}
	return sum
}

type version struct {
	commitTS uint64
	value    string
}

func visible(vs []version, ts uint64) string {
	for i := len(vs) - 1; i >= 0; i-- {
		if vs[i].commitTS <= ts {
			return vs[i].value
		}
	}
	return ""
}

// Collection under splits, merges, leader changes, restarts and power cuts:
// what can be read stays, all replicas stay alike, and in the end nothing is
// left that could go.
func TestCollectionUnderChange(t *testing.T) {
	seeds := uint64(3)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds = 100
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, func(w *world) { w.change(rand.New(rand.NewPCG(seed, 23))) })
		})
	}
}

func (w *world) change(r *rand.Rand) {
	w.WaitLeader(rafttest.FirstRegion)
	m := map[string][]version{}
	key := func() string { return string(rune('a'+r.IntN(12))) + "key" }
	for range 250 {
		k := key()
		switch r.IntN(14) {
		case 0:
			m[k] = append(m[k], version{commitTS: w.write(&kvrpcpb.Mutation{Op: kvrpcpb.Op_Del, Key: []byte(k)})})
		case 1:
			w.rollback(k)
		case 2:
			w.write(&kvrpcpb.Mutation{Op: kvrpcpb.Op_Lock, Key: []byte(k)})
		case 3:
			w.nemesis(r, k)
		case 4:
			w.safe.Store(w.tso())
		case 5:
			at := max(w.safe.Load(), w.tso()-r.Uint64N(2000)<<18)
			for range 3 {
				k := key()
				if v, old := w.read(k, at); old && at >= w.safe.Load() || !old && at >= w.safe.Load() && v != visible(m[k], at) {
					w.t.Fatalf("%s at %d: %q (too old: %t), want %q; safe point %d", k, at, v, old, visible(m[k], at), w.safe.Load())
				}
			}
		default:
			v := strings.Repeat("v", r.IntN(2)*300) + fmt.Sprint(w.last)
			m[k] = append(m[k], version{w.write(put(k, v)), v})
		}
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
	}
	at := w.tso()
	for k, vs := range m {
		if v, old := w.read(k, at); old || v != visible(vs, at) {
			w.t.Fatalf("%s in the end: %q (%t), want %q", k, v, old, visible(vs, at))
		}
	}
	// Whatever the collectors did not get at is found once the safe point has
	// passed all of it.
	time.Sleep(2 * time.Minute)
	w.safe.Store(at)
	for k, vs := range m {
		writes, values := 0, 0
		if v := visible(vs, at); v != "" {
			writes = 1
			if len(v) > 255 {
				values = 1
			}
		}
		w.alike(k, writes, values)
		if v, old := w.read(k, at); old || v != visible(vs, at) {
			w.t.Fatalf("%s after all: %q (%t), want %q", k, v, old, visible(vs, at))
		}
	}
	time.Sleep(10 * time.Second) // the replicas are compared
}

func (w *world) nemesis(r *rand.Rand, key string) {
	region := w.RegionAt(string(enc(key)))
	if region == nil {
		return
	}
	lead := w.LeaderOf(region.Id)
	if lead == 0 {
		return
	}
	switch r.IntN(4) {
	case 0:
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = w.Node(lead).Store.SplitRegion(ctx, w.Context(lead, region.Id), [][]byte{enc(key)}) // at its start already, or a leader that changes
	case 1:
		if right := w.RegionAt(string(region.EndKey)); len(region.EndKey) > 0 && right != nil {
			w.PD.TryMerge(right.Id, region.Id)
		}
	case 2:
		w.PD.TransferLeader(region.Id, lead%3+1)
	case 3:
		id := uint64(r.IntN(3) + 1)
		w.node(id).stop()
		if r.IntN(2) == 0 {
			w.Stop(id)
		} else {
			w.Crash(id, 50)
		}
		w.Restart(id)
		w.restarted(id)
	}
}
