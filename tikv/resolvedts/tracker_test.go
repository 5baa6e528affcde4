package resolvedts

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/txn/mvcc"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
)

func record(typ mvcc.LockType, startTS, generation uint64) []byte {
	return mvcc.AppendLock(nil, &mvcc.Lock{
		Type: typ, StartTS: startTS, TTL: 3000, ForUpdateTS: 7, MinCommitTS: startTS + 1, TxnSize: 300,
		Generation: generation, Primary: []byte("primary"),
	})
}

func noStatus(uint64) (mvcc.TxnStatus, bool) { return mvcc.TxnStatus{}, false }

func mustPut(t *testing.T, l *locks, key string, rec []byte) (rescan bool) {
	t.Helper()
	rescan, ok, err := l.put([]byte(key), rec)
	require.NoError(t, err)
	require.True(t, ok)
	return rescan
}

func TestLocksHoldBack(t *testing.T) {
	q := &quota{max: 1 << 20}
	l := newLocks(q)
	require.Equal(t, uint64(math.MaxUint64), l.floor(noStatus))
	mustPut(t, l, "a", record(mvcc.LockPut, 30, 0))
	mustPut(t, l, "b", record(mvcc.LockDelete, 20, 0))
	mustPut(t, l, "c", record(mvcc.LockPut, 20, 0))
	// Neither commits anything that could be read.
	mustPut(t, l, "d", record(mvcc.LockPessimistic, 5, 0))
	mustPut(t, l, "e", record(mvcc.LockLock, 5, 0))
	require.EqualValues(t, 19, l.floor(noStatus))
	require.False(t, l.unlock([]byte("b")))
	require.EqualValues(t, 19, l.floor(noStatus))
	// Written again, as a heartbeat or a pushed min_commit_ts does.
	mustPut(t, l, "c", record(mvcc.LockPut, 20, 0))
	require.False(t, l.unlock([]byte("c")))
	require.EqualValues(t, 29, l.floor(noStatus))
	require.False(t, l.unlock([]byte("nobody's")))
	// A pessimistic lock that becomes one with a value, and the other way round.
	mustPut(t, l, "d", record(mvcc.LockPut, 5, 0))
	require.EqualValues(t, 4, l.floor(noStatus))
	mustPut(t, l, "d", record(mvcc.LockPessimistic, 5, 0))
	require.EqualValues(t, 29, l.floor(noStatus))
	require.False(t, l.unlockRange([]byte("a"), []byte("b")))
	require.Equal(t, uint64(math.MaxUint64), l.floor(noStatus))
	require.Zero(t, q.used.Load())
	_, _, err := l.put([]byte("x"), []byte("not a lock"))
	require.ErrorIs(t, err, mvcc.ErrCorrupt)
}

func TestLargeTransactionIsOneKey(t *testing.T) {
	q := &quota{max: 1000}
	l := newLocks(q)
	for i := range 1000 { // more than there is room for
		mustPut(t, l, fmt.Sprintf("k%04d", i), record(mvcc.LockPut, 50, uint64(1+i)))
	}
	mustPut(t, l, "k0000", record(mvcc.LockPut, 50, 1001))
	require.Len(t, l.keys, 1)
	require.EqualValues(t, 49, l.floor(noStatus))
	status := func(st mvcc.TxnStatus) func(uint64) (mvcc.TxnStatus, bool) {
		return func(ts uint64) (mvcc.TxnStatus, bool) { return st, ts == 50 }
	}
	require.EqualValues(t, 99, l.floor(status(mvcc.TxnStatus{MinCommitTS: 100})))
	require.EqualValues(t, 89, l.floor(status(mvcc.TxnStatus{CommitTS: 90})))
	require.Equal(t, uint64(math.MaxUint64), l.floor(status(mvcc.TxnStatus{RolledBack: true})))
	require.False(t, l.unlock([]byte("k0500")), "not the one that stands for it")
	require.True(t, l.unlock([]byte("k0999")), "others may be left")
	require.Zero(t, q.used.Load())
}

func TestLocksAreBounded(t *testing.T) {
	q := &quota{max: 3 * (lockOverheadBytes + 1)}
	l := newLocks(q)
	for _, k := range []string{"a", "b", "c"} {
		mustPut(t, l, k, record(mvcc.LockPut, 10, 0))
	}
	_, ok, err := l.put([]byte("d"), record(mvcc.LockPut, 10, 0))
	require.NoError(t, err)
	require.False(t, ok)
	l.release()
	require.Zero(t, q.used.Load())
}

func leaderState(region, term, version uint64) *raftstore.LeaderState {
	return &raftstore.LeaderState{Term: term, Region: &metapb.Region{Id: region, RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: version}}}
}

// TestTrackerFollowsTheLog writes random batches, begins to track at a random
// one and scans at a later one: from then on the tracker must know the locks
// that there are, whatever came in between.
func TestTrackerFollowsTheLog(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		q := &quota{max: 1 << 20}
		truth := map[string]uint64{}
		var tr *tracker
		begin, scan := rng.IntN(40), 0
		for i := range 100 {
			if i == begin {
				tr = newTracker(leaderState(1, 5, 3), q)
				require.True(t, tr.begin())
				require.False(t, tr.begin())
				scan = i + rng.IntN(20)
			}
			var b kv.Batch
			for range 1 + rng.IntN(4) {
				key := fmt.Sprintf("k%d", rng.IntN(10))
				switch n := rng.IntN(10); {
				case n < 5:
					ts := uint64(2 + rng.IntN(1000))
					if old, held := truth[key]; held {
						ts = old // a key's lock changes hands only when it is free
					}
					truth[key] = ts
					b.Put(kv.CFLock, []byte(key), record(mvcc.LockPut, ts, 0))
				case n < 9:
					delete(truth, key)
					b.Delete(kv.CFLock, []byte(key))
				default:
					b.DeleteRange(kv.CFLock, []byte("k3"), []byte("k6"))
					for _, k := range []string{"k3", "k4", "k5"} {
						delete(truth, k)
					}
				}
				b.Put(kv.CFWrite, []byte(key), []byte("a commit record"))
			}
			index := uint64(10 + i)
			if tr == nil {
				continue
			}
			// A snapshot may show the entry a moment before Applied is called.
			early := rng.IntN(2) == 0
			if i != scan || !early {
				require.NoError(t, tr.entry(index, b.Bytes()))
			}
			if i == scan {
				found := newLocks(q)
				for k, ts := range truth {
					mustPut(t, found, k, record(mvcc.LockPut, ts, 0))
				}
				require.NoError(t, tr.scanned(found, index))
				if early {
					require.NoError(t, tr.entry(index, b.Bytes()))
				}
			}
			st, _, ok := tr.resolve(uint64(5000+i), noStatus)
			if i < scan {
				require.False(t, ok)
				continue
			}
			want := uint64(5000 + i)
			for _, ts := range truth {
				want = min(want, ts-1)
			}
			floor := min(tr.locks.floor(noStatus), uint64(5000+i))
			require.Equal(t, want, floor, "seed %d, entry %d", seed, i)
			if st.SafeTS == want {
				require.LessOrEqual(t, st.Index, index)
			}
			require.Equal(t, index, tr.index)
			require.GreaterOrEqual(t, st.SafeTS, want, "it only grows")
			require.EqualValues(t, 3, st.Version)
		}
		tr.stop()
		require.Zero(t, q.used.Load(), "seed %d", seed)
	}
}

// A region whose changes do not fit, before or after its scan, gives its memory
// back and asks for another try.
func TestTrackerOverflows(t *testing.T) {
	var b kv.Batch
	for i := range 10 {
		b.Put(kv.CFLock, fmt.Appendf(nil, "key%d", i), record(mvcc.LockPut, 5, 0))
	}
	for _, scanned := range []bool{false, true} {
		q := &quota{max: 5 * lockOverheadBytes}
		tr := newTracker(leaderState(1, 5, 3), q)
		require.True(t, tr.begin())
		if scanned {
			require.NoError(t, tr.scanned(newLocks(q), 3))
		}
		require.NoError(t, tr.entry(4, b.Bytes()))
		require.Zero(t, q.used.Load())
		_, _, ok := tr.resolve(100, noStatus)
		require.False(t, ok)
		require.False(t, tr.wantsRestart(tr.retryAt.Add(-1)))
		require.True(t, tr.wantsRestart(tr.retryAt))
		late := newLocks(q)
		mustPut(t, late, "k", record(mvcc.LockPut, 5, 0))
		require.NoError(t, tr.scanned(late, 5))
		require.Zero(t, q.used.Load(), "a scan that ends late keeps nothing")
	}
}

func TestQuorum(t *testing.T) {
	const v, l, in, out = metapb.PeerRole_Voter, metapb.PeerRole_Learner, metapb.PeerRole_IncomingVoter, metapb.PeerRole_DemotingVoter
	for _, c := range []struct {
		roles  []metapb.PeerRole // of the stores 1, 2, …
		agreed []uint64
		want   bool
	}{
		{[]metapb.PeerRole{v}, []uint64{1}, true},
		{[]metapb.PeerRole{v, v}, []uint64{1}, false},
		{[]metapb.PeerRole{v, v, v}, []uint64{1}, false},
		{[]metapb.PeerRole{v, v, v}, []uint64{1, 3}, true},
		{[]metapb.PeerRole{v, v, v}, []uint64{1, 1, 1}, false},
		{[]metapb.PeerRole{v, v, v, l, l}, []uint64{1, 4, 5}, false},
		{[]metapb.PeerRole{v, l}, []uint64{1}, true},
		{[]metapb.PeerRole{v, v, v, v}, []uint64{1, 2}, false},
		// From {1, 2, 3} to {1, 4, 5}: a majority of both.
		{[]metapb.PeerRole{v, out, out, in, in}, []uint64{1, 2}, false},
		{[]metapb.PeerRole{v, out, out, in, in}, []uint64{1, 4}, false},
		{[]metapb.PeerRole{v, out, out, in, in}, []uint64{1, 2, 4}, true},
		{[]metapb.PeerRole{v, out, out, in, in}, []uint64{4, 5, 2, 3}, true},
	} {
		region := &metapb.Region{}
		for i, r := range c.roles {
			region.Peers = append(region.Peers, &metapb.Peer{Id: uint64(100 + i), StoreId: uint64(1 + i), Role: r})
		}
		require.Equal(t, c.want, quorum(region, c.agreed), "%v %v", c.roles, c.agreed)
	}
}

func TestPauseGrowsWithRegions(t *testing.T) {
	for regions, want := range map[int]time.Duration{0: time.Second, 8191: time.Second, 8192: 2 * time.Second, 100_000: 13 * time.Second} {
		if got := pause(time.Second, regions); got != want {
			t.Errorf("%d regions: pause of %s, want %s", regions, got, want)
		}
	}
}
