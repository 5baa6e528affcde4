package raftstore_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// stuckApply is an observer whose store applies nothing while it is shut.
type stuckApply struct {
	raftstore.Observer
	mu  sync.Mutex
	off chan struct{}
}

func (s *stuckApply) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off = make(chan struct{})
}

func (s *stuckApply) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off != nil {
		close(s.off)
		s.off = nil
	}
}

func (s *stuckApply) Applied(regionID uint64, entries []*raftpb.Entry) {
	s.Observer.Applied(regionID, entries)
	s.mu.Lock()
	off := s.off
	s.mu.Unlock()
	if off != nil {
		<-off
	}
}

// stuckCluster is three stores that can be kept from applying.
func stuckCluster(t *testing.T, config raftstore.Config, test func(t *testing.T, c *rafttest.Cluster, stuck map[uint64]*stuckApply)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		stuck := map[uint64]*stuckApply{}
		c := rafttest.NewCluster(t, 3, 3, config, func(c *rafttest.Cluster) {
			c.Customize = func(o *raftstore.Options) {
				stuck[o.StoreID] = &stuckApply{Observer: o.Observer}
				o.Observer = stuck[o.StoreID]
			}
		})
		defer func() { // a store that cannot apply cannot stop, either
			for _, s := range stuck {
				s.open()
			}
		}()
		test(t, c, stuck)
		for _, id := range c.IDs() { // nothing is counted that is not there
			c.Eventually("the backlog to be gone", func() bool { return gauge(t, c, id, "tikv_raftstore_pending_bytes", "apply") == 0 })
		}
		c.Close()
	})
}

// gauge reads a metric of a store, that with a label of this value if it is not "".
func gauge(t *testing.T, c *rafttest.Cluster, store uint64, name, label string) (sum float64) {
	t.Helper()
	families, err := c.Node(store).Registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

const backlogValueBytes = 4 << 10

// What a store has committed and not applied is bounded over all regions: a
// leader above the limit refuses writes, applies what it took, and takes more.
func TestHazard16_ApplyBacklogOfALeader(t *testing.T) {
	const limit = 64 << 10
	stuckCluster(t, raftstore.Config{ApplyBytesMax: limit}, func(t *testing.T, c *rafttest.Cluster, stuck map[uint64]*stuckApply) {
		c.Put("a", "1")
		lead := c.WaitLeader(rafttest.FirstRegion)
		stuck[lead].shut()
		rc := c.Context(lead, rafttest.FirstRegion)
		value := string(make([]byte, backlogValueBytes))
		var acked, failed sync.Map
		var running atomic.Int32
		busy := 0
		for i := range 60 {
			key := fmt.Sprintf("k%03d", i)
			running.Add(1)
			go func() {
				defer running.Add(-1)
				if err := c.PutAt(context.Background(), lead, rc, key, value); err != nil {
					failed.Store(key, err)
				} else {
					acked.Store(key, true)
				}
			}()
			time.Sleep(50 * time.Millisecond)
		}
		failed.Range(func(_, err any) bool {
			b := kv.AsRegionError(err.(error)).GetServerIsBusy()
			require.NotNil(t, b, "%v", err)
			require.Positive(t, b.BackoffMs)
			busy++
			return true
		})
		require.Greater(t, busy, 30)
		waiting := gauge(t, c, lead, "tikv_raftstore_pending_bytes", "apply")
		require.Greater(t, waiting, float64(limit))
		require.Less(t, waiting, float64(limit+2*backlogValueBytes))
		require.Equal(t, int32(60-busy), running.Load(), "what was taken waits, and is not refused")
		stuck[lead].open()
		c.Eventually("answers", func() bool { return running.Load() == 0 })
		n := 0
		acked.Range(func(key, _ any) bool {
			require.Equal(t, value, c.Get(key.(string)))
			n++
			return true
		})
		require.Equal(t, 60-busy, n)
		require.NoError(t, c.PutAt(context.Background(), lead, rc, "after", "x"))
	})
}

// A follower above the limit takes no more entries; the others go on without
// it, and it catches up.
func TestHazard16_ApplyBacklogOfAFollower(t *testing.T) {
	const (
		limit      = 256 << 10
		valueBytes = 64 << 10
		values     = 100
		// One message may bring 1 MiB of entries, and while the limit is reached one
		// or two may be on their way already: all else of the 6.25 MiB stays out.
		atMost = limit + 3<<20
	)
	stuckCluster(t, raftstore.Config{ApplyBytesMax: limit}, func(t *testing.T, c *rafttest.Cluster, stuck map[uint64]*stuckApply) {
		c.Put("a", "1")
		slow := c.WaitLeader(rafttest.FirstRegion)%3 + 1
		stuck[slow].shut()
		value := string(make([]byte, valueBytes))
		for i := range values {
			c.Put(fmt.Sprintf("k%03d", i), value)
		}
		time.Sleep(5 * time.Second)
		waiting := gauge(t, c, slow, "tikv_raftstore_pending_bytes", "apply")
		dropped := gauge(t, c, slow, "tikv_raftstore_raft_dropped_message_total", "apply_full")
		stuck[slow].open()
		require.Less(t, waiting, float64(atMost))
		require.Positive(t, dropped)
		last := fmt.Sprintf("k%03d", values-1)
		c.Eventually("the follower to catch up", func() bool { return c.Local(slow, last) == value })
		for i := range values {
			require.Equal(t, value, c.Local(slow, fmt.Sprintf("k%03d", i)))
		}
	})
}

// The entry caches of all regions share a budget. What falls out is read from
// the log: a follower that was away gets all.
func TestHazard16_EntryCachesOfAllRegions(t *testing.T) {
	const limit = 512 << 10
	config := raftstore.Config{EntryCacheBytesMax: limit, NoHibernation: true}
	stuckCluster(t, config, func(t *testing.T, c *rafttest.Cluster, stuck map[uint64]*stuckApply) {
		c.Put("a", "1")
		lead := c.WaitLeader(rafttest.FirstRegion)
		var keys [][]byte
		for i := 1; i < 8; i++ {
			keys = append(keys, fmt.Appendf(nil, "r%d", i))
		}
		_, err := c.Node(lead).Store.SplitRegion(context.Background(), c.Context(lead, rafttest.FirstRegion), keys)
		require.NoError(t, err)
		slow := lead%3 + 1
		stuck[slow].shut()
		value := string(make([]byte, 32<<10))
		most := 0.0
		for i := range 80 {
			c.Put(fmt.Sprintf("r%d-%02d", i%8, i), value)
			most = max(most, gauge(t, c, slow, "tikv_raft_entries_caches", ""))
		}
		require.Greater(t, most, limit/2.0, "the caches do not fill")
		require.LessOrEqual(t, most, limit+8.0*(33<<10), "one entry a region may be above")
		c.Eventually("room for others", func() bool { return gauge(t, c, slow, "tikv_raft_entries_caches", "") < limit*0.95 })
		stuck[slow].open()
		for i := range 80 {
			key := fmt.Sprintf("r%d-%02d", i%8, i)
			require.Equal(t, value, c.Get(key))
			c.Eventually("the follower to catch up", func() bool { return c.Local(slow, key) == value })
		}
		c.Eventually("empty caches", func() bool { return gauge(t, c, slow, "tikv_raft_entries_caches", "") == 0 })
	})
}
