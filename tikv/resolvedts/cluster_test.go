package resolvedts_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/codec"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/copradb/copra/tikv/resolvedts"
	"github.com/copradb/copra/txn"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// world is a cluster with transactions and resolved timestamps, in a bubble of
// its own time.
type world struct {
	*rafttest.Cluster
	t *testing.T

	mu    sync.Mutex
	nodes map[uint64]*node
	last  uint64          // timestamp
	cut   map[uint64]bool // stores whose CheckLeaders are lost, in both directions
}

func (w *world) node(id uint64) *node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[id]
}

type node struct {
	raftstore.NoObserver
	w    *world
	id   uint64
	txn  *txn.Store
	m    *resolvedts.Manager
	stop func()

	using sync.RWMutex // by reads: a snapshot must not outlive its engine
	down  bool
}

// restart ends a store, in order or as a power cut does, and starts it again.
func (w *world) restart(id uint64, end func(id uint64)) {
	n := w.node(id)
	n.using.Lock()
	n.down = true
	n.using.Unlock()
	n.stop()
	end(id)
	w.Restart(id)
	w.attach(id)
}

func inWorld(t *testing.T, stores, voters int, config raftstore.Config, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{Cluster: rafttest.NewCluster(t, stores, voters, config), t: t, nodes: map[uint64]*node{}, cut: map[uint64]bool{}}
		for _, id := range w.IDs() {
			w.attach(id)
		}
		defer func() { // also when the test has failed
			for _, n := range w.nodes {
				n.stop()
			}
			w.Close()
		}()
		test(t, w)
	})
}

// attach gives a store that was just started its transactions.
func (w *world) attach(id uint64) {
	rn := w.Node(id)
	n := &node{w: w, id: id, txn: txn.NewStore(rn.Store, txn.Options{})}
	var err error
	n.m, err = resolvedts.New(resolvedts.Options{
		StoreID: id, Regions: rn.Store, Txn: n.txn, Interval: 200 * time.Millisecond,
		Timestamp: func(context.Context) (uint64, error) { return w.tso(), nil },
		CheckLeader: func(_ context.Context, to uint64, req *kvrpcpb.CheckLeaderRequest) (*kvrpcpb.CheckLeaderResponse, error) {
			if peer := w.Node(to); !w.reaches(id, to) || !peer.Up.Load() {
				return nil, errors.New("unreachable")
			} else {
				return &kvrpcpb.CheckLeaderResponse{Regions: peer.Store.CheckLeaders(req.Regions)}, nil
			}
		},
	})
	require.NoError(w.t, err)
	n.stop = sync.OnceFunc(func() { n.m.Close(); n.txn.Close() })
	rn.Events.Also(n)
	for _, r := range rn.Store.Regions() {
		if r.Leader {
			n.RoleChanged(r.Region.Id, true, r.Term)
		}
	}
	n.m.Start()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[id] = n
}

// RoleChanged synchronises max_ts, as the storage node does (hazard 18).
func (n *node) RoleChanged(region uint64, leader bool, term uint64) {
	if leader {
		go func() {
			store := n.w.Node(n.id).Store
			r, _ := store.Region(region)
			n.txn.UpdateMaxTS(n.w.tso())
			store.SetMaxTSSynced(region, term, r.Region.GetRegionEpoch().GetVersion())
		}()
	}
}

func (n *node) Applied(region uint64, entries []*raftpb.Entry) { n.m.Applied(region, entries) }

func (w *world) tso() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = max(w.last+1, uint64(time.Now().UnixMilli())<<18)
	return w.last
}

func (w *world) reaches(a, b uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cut[a] == w.cut[b]
}

// isolate cuts stores off from the others' CheckLeaders; none heals.
func (w *world) isolate(stores ...uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cut)
	for _, s := range stores {
		w.cut[s] = true
	}
}

func enc(key string) string { return string(codec.EncodeBytes(nil, []byte(key))) }

// atLeader runs a request at the leader of the key's region until it is
// answered.
func (w *world) atLeader(key string, do func(n *node, rc *kvrpcpb.Context) (*errorpb.Error, error)) bool {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		region := w.RegionAt(enc(key))
		if region == nil {
			continue
		}
		lead := w.LeaderOf(region.Id)
		if lead == 0 {
			continue
		}
		rc := w.Context(lead, region.Id)
		if re, err := do(w.node(lead), rc); re == nil && err == nil {
			return true
		}
	}
	return false
}

func call(f func(ctx context.Context) (*errorpb.Error, error)) (*errorpb.Error, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return f(ctx)
}

type way int

const (
	twoPhases way = iota
	asyncCommit
	onePhase
)

// put commits a value; 0: it isn't known whether it did. hold is how long the
// lock stays.
func (w *world) put(key, value string, how way, hold time.Duration) (commitTS uint64) {
	startTS := w.tso()
	var one, least uint64
	failed := false
	retry := false
	if !w.atLeader(key, func(n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		return call(func(ctx context.Context) (*errorpb.Error, error) {
			rc.IsRetryRequest = retry
			resp, err := n.txn.KvPrewrite(ctx, &kvrpcpb.PrewriteRequest{
				Context: rc, PrimaryLock: []byte(key), StartVersion: startTS, LockTtl: 100_000, TxnSize: 1,
				Mutations:      []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte(key), Value: []byte(value)}},
				UseAsyncCommit: how != twoPhases, TryOnePc: how == onePhase,
			})
			retry = true
			if err != nil || resp.RegionError != nil {
				return resp.GetRegionError(), err
			}
			failed, one, least = len(resp.Errors) > 0, resp.OnePcCommitTs, resp.MinCommitTs
			return nil, nil
		})
	}) || failed {
		w.rollback(key, startTS)
		return 0
	}
	if one != 0 {
		return one
	}
	time.Sleep(hold)
	if commitTS = least; how == twoPhases || least == 0 {
		commitTS = w.tso()
	}
	done := w.atLeader(key, func(n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		return call(func(ctx context.Context) (*errorpb.Error, error) {
			resp, err := n.txn.KvCommit(ctx, &kvrpcpb.CommitRequest{Context: rc, StartVersion: startTS, CommitVersion: commitTS, Keys: [][]byte{[]byte(key)}})
			if err == nil && resp.Error != nil {
				w.t.Errorf("commit of %s at %d: %v", key, commitTS, resp.Error)
			}
			return resp.GetRegionError(), err
		})
	})
	if !done {
		return 0
	}
	return commitTS
}

func (w *world) rollback(key string, startTS uint64) {
	w.atLeader(key, func(n *node, rc *kvrpcpb.Context) (*errorpb.Error, error) {
		return call(func(ctx context.Context) (*errorpb.Error, error) {
			resp, err := n.txn.KvBatchRollback(ctx, &kvrpcpb.BatchRollbackRequest{Context: rc, StartVersion: startTS, Keys: [][]byte{[]byte(key)}})
			return resp.GetRegionError(), err
		})
	})
}

// staleGet reads a key from a store's own peer.
func (w *world) staleGet(store, region uint64, key string, ts uint64) (string, error) {
	rc := w.Context(store, region)
	rc.StaleRead = true
	return w.node(store).get(rc, key, ts)
}

func (n *node) get(rc *kvrpcpb.Context, key string, ts uint64) (value string, err error) {
	n.using.RLock()
	defer n.using.RUnlock()
	if n.down {
		return "", errors.New("the store is down")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := n.txn.OpenReader(ctx, rc, txn.ReaderOptions{TS: ts, Ranges: []kv.KeyRange{{Start: []byte(key), End: []byte(key + "\x00")}}})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	v, _, _, err := r.Get([]byte(key))
	return string(v), err
}

func (w *world) safe(store, region uint64) uint64 { return w.Node(store).Store.SafeTS(region) }

// passes waits until n passes must be over.
func passes(n int) { time.Sleep(time.Duration(n) * 200 * time.Millisecond) }

const first = rafttest.FirstRegion

func TestSafeTSFollowsTheClock(t *testing.T) {
	inWorld(t, 4, 3, raftstore.Config{}, func(t *testing.T, w *world) {
		w.WaitLeader(first)
		learner := w.PD.AllocID()
		w.PD.ChangePeers(first, func(r *metapb.Region) bool { return rafttest.RoleOf(r, learner) == metapb.PeerRole_Learner },
			rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, learner, 4))
		for range 5 {
			ts := w.tso()
			passes(4)
			for _, id := range w.IDs() {
				require.Greater(t, w.safe(id, first), ts, "store %d", id)
				require.Less(t, w.safe(id, first), w.tso(), "store %d", id)
			}
			c := w.put("k", fmt.Sprint(ts), twoPhases, 0)
			require.NotZero(t, c)
			passes(4)
			for _, id := range w.IDs() {
				got, err := w.staleGet(id, first, "k", c)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(ts), got)
				_, err = w.staleGet(id, first, "k", w.tso())
				require.NotNil(t, kv.AsRegionError(err).GetDataIsNotReady(), "%v", err)
				require.Equal(t, w.safe(id, first), kv.AsRegionError(err).DataIsNotReady.SafeTs)
			}
		}
		// Leaders come and go.
		for to := uint64(1); to <= 3; to++ {
			w.PD.TransferLeader(first, to)
			ts := w.tso()
			passes(6)
			for _, id := range w.IDs() {
				require.Greater(t, w.safe(id, first), ts, "store %d", id)
			}
		}
		require.Equal(t, w.safe(2, first), w.Node(2).Store.MinSafeTS(nil, nil))
	})
}

// TestHazard07_CutOffLeaderDoesNotResolve: a leader whose Raft messages are lost
// goes on to believe that it leads, and CheckLeader, which goes other ways,
// still reaches it.
func TestHazard07_CutOffLeaderDoesNotResolve(t *testing.T) {
	for _, calls := range []bool{true, false} {
		t.Run(fmt.Sprintf("calls=%v", calls), func(t *testing.T) {
			inWorld(t, 3, 3, raftstore.Config{}, func(t *testing.T, w *world) {
				old := w.WaitLeader(first)
				passes(5)
				w.Partition(old)
				if !calls {
					w.isolate(old)
				}
				var lead uint64
				w.Eventually("another leader", func() bool {
					lead = w.LeaderOf(first)
					return lead != old && lead != 0
				})
				c := w.put("k", "new", onePhase, 0)
				require.NotZero(t, c)
				ts := w.safe(old, first)
				passes(10)
				require.Less(t, w.safe(old, first), c, "store %d has not seen the write", old)
				if !calls {
					require.Equal(t, ts, w.safe(old, first))
				}
				require.Greater(t, w.safe(lead, first), c)
				w.Heal()
				w.isolate()
				passes(10)
				got, err := w.staleGet(old, first, "k", c)
				require.NoError(t, err)
				require.Equal(t, "new", got)
			})
		})
	}
}

// TestHazard09_PeerBeforeASplit: a peer that has not come to a split yet shows
// the child's range, too, where another store leads and commits. What the
// parent's leader resolves says nothing of that.
func TestHazard09_PeerBeforeASplit(t *testing.T) {
	inWorld(t, 3, 3, raftstore.Config{}, func(t *testing.T, w *world) {
		w.PD.TransferLeader(first, 1)
		require.NotZero(t, w.put("a", "1", twoPhases, 0))
		require.NotZero(t, w.put("z", "1", twoPhases, 0))
		passes(5)
		// Raft doesn't reach store 3, CheckLeader does.
		w.Partition(3)
		child := w.split("m")
		w.PD.TransferLeader(child, 2)
		var c uint64
		for range 10 {
			c = w.put("a", "2", onePhase, 0)
			require.NotZero(t, c)
			passes(2)
			require.Less(t, w.safe(3, first), c, "it shows the child's range as of before")
		}
		require.Greater(t, w.safe(1, first), c-1<<18*1000)
		w.Heal()
		w.Eventually("safe timestamps behind the split", func() bool { return w.safe(3, child) > c && w.safe(3, first) > c })
		got, err := w.staleGet(3, child, "a", c)
		require.NoError(t, err)
		require.Equal(t, "2", got)
	})
}

// split cuts the key's region and returns the id of the left one, which is new.
func (w *world) split(key string) (left uint64) {
	w.t.Helper()
	w.Eventually("split at "+key, func() bool {
		region := w.RegionAt(enc(key))
		if region == nil {
			return false
		}
		if string(region.StartKey) == enc(key) {
			return true
		}
		lead := w.LeaderOf(region.Id)
		if lead == 0 {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		regions, err := w.Node(lead).Store.SplitRegion(ctx, w.Context(lead, region.Id), [][]byte{[]byte(enc(key))})
		if err == nil {
			left = regions[0].Id
		}
		return err == nil
	})
	return left
}

// TestHazard08_MergingRegionDoesNotResolve: once a region is about to be merged,
// its target may commit in its range at timestamps of its own. Until it has,
// nobody resolves the range; then the target does, for all of it.
func TestHazard08_MergingRegionDoesNotResolve(t *testing.T) {
	inWorld(t, 3, 3, raftstore.Config{}, func(t *testing.T, w *world) {
		w.WaitLeader(first)
		source := w.split("m")
		w.PD.TransferLeader(source, 1)
		w.PD.TransferLeader(first, 2)
		require.NotZero(t, w.put("a", "1", twoPhases, 0))
		passes(8)
		// Store 3 has the entries, but takes long to apply them.
		w.Node(3).Events.SlowApply(20 * time.Second)
		require.NotZero(t, w.put("a", "1", twoPhases, 0))
		require.NotZero(t, w.put("z", "1", twoPhases, 0))
		w.Eventually("the merge, but for store 3", func() bool {
			w.PD.TryMerge(source, first)
			_, one := w.Node(1).Store.Region(source)
			_, two := w.Node(2).Store.Region(source)
			return !one && !two
		})
		var c uint64
		for range 10 {
			c = w.put("a", "2", onePhase, 0)
			require.NotZero(t, c)
			passes(2)
			_, behind := w.Node(3).Store.Region(source)
			require.True(t, behind)
			require.Less(t, w.safe(3, source), c, "it shows the range as of before")
		}
		w.Node(3).Events.SlowApply(0)
		require.Greater(t, w.safe(2, first), c-1<<18*1000)
		w.Eventually("a safe timestamp behind the merge", func() bool { return w.safe(3, first) > c })
		got, err := w.staleGet(3, first, "a", c)
		require.NoError(t, err)
		require.Equal(t, "2", got)
	})
}

// TestSleepingRegionsResolve: regions at rest advance without a message of
// Raft's and without waking, and so do those of a store that has restarted.
func TestSleepingRegionsResolve(t *testing.T) {
	inWorld(t, 3, 3, raftstore.Config{}, func(t *testing.T, w *world) {
		child := w.split("m")
		w.PD.TransferLeader(first, 1)
		w.PD.TransferLeader(child, 2)
		asleep := func(id uint64) bool {
			for _, r := range w.Node(id).Store.Regions() {
				if !r.Asleep {
					return false
				}
			}
			return true
		}
		w.Eventually("sleep", func() bool { return asleep(1) && asleep(2) && asleep(3) })
		var messages atomic.Int64
		w.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Msg != nil {
				messages.Add(1)
			}
			return true
		})
		advances := func() {
			t.Helper()
			ts := w.tso()
			passes(10)
			for _, id := range w.IDs() {
				require.Greater(t, w.safe(id, first), ts, "store %d", id)
				require.Greater(t, w.safe(id, child), ts, "store %d", id)
			}
		}
		advances()
		w.restart(3, w.Stop)
		advances()
		require.Zero(t, messages.Load(), "messages of Raft")
		for _, id := range w.IDs() {
			require.True(t, asleep(id), "store %d", id)
		}
	})
}

func TestSplitKeepsSafeTS(t *testing.T) {
	inWorld(t, 3, 3, raftstore.Config{}, func(t *testing.T, w *world) {
		w.WaitLeader(first)
		passes(5)
		ts := w.safe(1, first)
		require.NotZero(t, ts)
		child := w.split("m")
		w.Eventually("the split on all stores", func() bool {
			for _, id := range w.IDs() {
				if _, ok := w.Node(id).Store.Region(child); !ok {
					return false
				}
			}
			return true
		})
		for _, id := range w.IDs() {
			require.NotZero(t, w.safe(id, child), "store %d", id)
			require.NotZero(t, w.safe(id, first), "store %d", id)
		}
		ts = w.tso()
		passes(8)
		for _, id := range w.IDs() {
			require.Greater(t, w.safe(id, child), ts)
			require.Greater(t, w.safe(id, first), ts)
		}
	})
}

// staleSeen is one stale read.
type staleSeen struct {
	store uint64
	key   string
	ts    uint64
	value string
}

// TestStaleReadsUnderFaults writes in all ways while leaders move, regions
// split, messages and CheckLeaders are lost, apply lags and stores crash, and reads
// what every peer thinks is safe. When all is over, every read must have seen
// exactly what the history says.
func TestStaleReadsUnderFaults(t *testing.T) {
	seeds, duration := 2, 12*time.Second
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds, duration = 60, time.Minute
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inWorld(t, 3, 3, raftstore.Config{}, func(t *testing.T, w *world) { w.underFaults(uint64(seed), duration) })
		})
	}
}

func (w *world) underFaults(seed uint64, duration time.Duration) {
	w.WaitLeader(first)
	keys := make([]string, 12)
	for i := range keys {
		keys[i] = fmt.Sprintf("k%02d", i)
	}
	var stop atomic.Bool
	var writers, reader sync.WaitGroup
	var commits atomic.Int64
	for wr := range 3 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(wr)))
			for i := 0; !stop.Load(); i++ {
				key := keys[rng.IntN(4)*3+wr]
				if w.put(key, fmt.Sprintf("%d-%d", wr, i), way(rng.IntN(3)), time.Duration(rng.IntN(60))*time.Millisecond) != 0 {
					commits.Add(1)
				}
				time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			}
		})
	}
	var seen []staleSeen
	locked := 0
	reader.Go(func() {
		rng := rand.New(rand.NewPCG(seed, 99))
		for !stop.Load() {
			time.Sleep(time.Duration(10+rng.IntN(40)) * time.Millisecond)
			got, l := w.readStale(rng, keys)
			seen, locked = append(seen, got...), locked+l
		}
	})
	w.faults(rand.New(rand.NewPCG(seed, 7)), duration)
	stop.Store(true)
	writers.Wait()
	reader.Wait()
	w.t.Logf("%d commits, %d stale reads, %d met locks", commits.Load(), len(seen), locked)
	require.Greater(w.t, commits.Load(), int64(20))
	require.Greater(w.t, len(seen), 200)
	for _, s := range seen {
		var want string
		ok := w.atLeader(s.key, func(n *node, rc *kvrpcpb.Context) (re *errorpb.Error, err error) {
			want, err = n.get(rc, s.key, s.ts)
			return nil, err
		})
		require.True(w.t, ok)
		require.Equal(w.t, want, s.value, "store %d, %s at %d", s.store, s.key, s.ts)
	}
}

// readStale reads from every peer, at or just below its safe timestamp.
func (w *world) readStale(rng *rand.Rand, keys []string) (seen []staleSeen, locked int) {
	for _, id := range w.IDs() {
		if !w.Node(id).Up.Load() {
			continue
		}
		for _, r := range w.Node(id).Store.Regions() {
			ts := w.safe(id, r.Region.Id)
			if ts == 0 {
				continue
			}
			ts -= uint64(rng.IntN(3)) * uint64(rng.IntN(200)) << 18
			for _, key := range keys {
				if k := enc(key); k < string(r.Region.StartKey) || len(r.Region.EndKey) > 0 && k >= string(r.Region.EndKey) {
					continue
				}
				value, err := w.staleGet(id, r.Region.Id, key, ts)
				var lock *txn.LockedError
				switch {
				case err == nil:
					seen = append(seen, staleSeen{id, key, ts, value})
				case errors.As(err, &lock):
					locked++
				}
			}
		}
	}
	return seen, locked
}

// faults makes them, for as long as that; then all is well again.
func (w *world) faults(rng *rand.Rand, duration time.Duration) {
	splits := []string{"k03", "k06", "k09"}
	for end := time.Now().Add(duration); time.Now().Before(end); time.Sleep(time.Duration(200+rng.IntN(800)) * time.Millisecond) {
		store := uint64(1 + rng.IntN(3))
		switch rng.IntN(10) {
		case 0:
			w.Partition(store)
		case 1:
			w.isolate(store)
		case 2:
			w.Partition(store)
			w.isolate(store)
		case 3:
			w.Node(store).Events.SlowApply(time.Duration(rng.IntN(300)) * time.Millisecond)
		case 4:
			w.calm()
			w.split(splits[rng.IntN(len(splits))])
		case 5, 6:
			w.calm()
			for _, r := range w.Node(store).Store.Regions() {
				to := r.Region.Peers[rng.IntN(len(r.Region.Peers))]
				w.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: r.Region.Id, TransferLeader: &pdpb.TransferLeader{Peer: to}})
			}
		case 7:
			w.calm()
		case 8:
			w.calm()
			w.mergeSome(rng)
		case 9:
			w.calm()
			w.restart(store, func(id uint64) { w.Crash(id, rng.IntN(101)) })
		}
	}
	w.calm()
}

// mergeSome asks once that the first region is merged into its neighbour.
func (w *world) mergeSome(rng *rand.Rand) {
	region := w.RegionAt(enc("k00"))
	if region == nil || len(region.EndKey) == 0 {
		return
	}
	next := w.RegionAt(string(region.EndKey))
	if next == nil {
		return
	}
	if rng.IntN(2) == 0 {
		region, next = next, region
	}
	w.PD.TryMerge(region.Id, next.Id)
}

func (w *world) calm() {
	w.Heal()
	w.isolate()
	for _, id := range w.IDs() {
		w.Node(id).Events.SlowApply(0)
	}
}
