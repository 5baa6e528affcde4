package raftstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

const first = rafttest.FirstRegion

func tryGet(c *rafttest.Cluster, store uint64, rc *kvrpcpb.Context, key string, wait time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	return c.GetAt(ctx, store, rc, key)
}

func leaseLeft(c *rafttest.Cluster, store uint64) time.Duration {
	r, _ := c.Node(store).Store.Region(first)
	return r.LeaseLeft
}

// metric sums a counter of a store.
func metric(t *testing.T, c *rafttest.Cluster, store uint64, name string) (sum float64) {
	t.Helper()
	families, err := c.Node(store).Registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

func TestLeaseReadsNeedNoMessages(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		require.Equal(t, "1", c.Get("a"))
		index := metric(t, c, lead, "tikv_raftstore_read_index_requests_total")
		for range 200 {
			require.Equal(t, "1", c.Get("a"))
			time.Sleep(20 * time.Millisecond) // readers keep the lease alive
		}
		require.Equal(t, index, metric(t, c, lead, "tikv_raftstore_read_index_requests_total"))
		require.GreaterOrEqual(t, metric(t, c, lead, "tikv_raftstore_local_read_executed_requests"), 200.0)
		time.Sleep(5 * time.Second) // nobody reads: it ends
		require.Zero(t, leaseLeft(c, lead))
		require.Equal(t, "1", c.Get("a"))
		require.Less(t, index, metric(t, c, lead, "tikv_raftstore_read_index_requests_total"))
	})
}

// staleReads cuts the leader off and reads from it all the time, while the
// others elect a leader and write.
func staleReads(t *testing.T, c *rafttest.Cluster, cut uint64) {
	t.Helper()
	rc := c.Context(cut, first)
	c.Partition(cut)
	var written atomic.Int64
	written.Store(1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := int64(2); i < 20; i++ {
			c.Eventually("write behind the partition", func() bool {
				lead := c.LeaderOf(first)
				if lead == cut || lead == 0 {
					return false
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				return c.PutAt(ctx, lead, c.Context(lead, first), "a", fmt.Sprint(i)) == nil
			})
			written.Store(i)
			time.Sleep(20 * time.Millisecond)
		}
	}()
	served := 0
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		least := written.Load()
		value, err := tryGet(c, cut, rc, "a", time.Millisecond)
		if err != nil {
			continue
		}
		served++
		var got int64
		_, err = fmt.Sscan(value, &got)
		require.NoError(t, err)
		require.GreaterOrEqual(t, got, least, "a read on the old leader is stale")
	}
	require.NotZero(t, served, "the lease lasts for a while")
	<-done
	c.Heal()
}

func TestHazard07_LeaseEndsBeforeNextLeader(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		require.Equal(t, "1", c.Get("a"))
		require.NotZero(t, leaseLeft(c, lead))
		staleReads(t, c, lead)
	})
}

// A follower that restarts has forgotten that it promised the leader not to
// vote for another one. Whether the third store campaigns within the lease is
// chance, so it gets many.
func TestHazard07_RestartKeepsPromise(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		for range 10 {
			c.PD.TransferLeader(first, 1)
			c.Put("a", "1")
			c.Eventually("replication", func() bool { return c.Local(3, "a") == "1" })
			// Store 3 hears nothing for so long that it campaigns; its log is as
			// good as the others'.
			c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return m.From.StoreId != 1 || m.To.StoreId != 3 })
			time.Sleep(3 * time.Second)
			require.Equal(t, "1", c.Get("a"))
			time.Sleep(10 * time.Millisecond)
			c.Crash(2, 0)
			c.Restart(2)
			staleReads(t, c, 1)
		}
	})
}

// A leader whose apply lags has the commit of its term, and a quorum's ear, but
// not yet the data its predecessor acknowledged.
func TestHazard06_NoLeaseBeforeFirstApply(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.PD.TransferLeader(first, 1)
		c.Put("a", "1")
		c.Eventually("replication", func() bool { return c.Local(2, "a") == "1" })
		c.Node(2).Events.SlowApply(time.Second)
		for i := range 5 {
			c.Put("a", fmt.Sprint(i))
			time.Sleep(300 * time.Millisecond)
		}
		c.Put("a", "last")
		c.PD.TransferLeader(first, 2)
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			value, err := tryGet(c, 2, c.Context(2, first), "a", 10*time.Millisecond)
			if err == nil {
				require.Equal(t, "last", value)
			}
		}
		c.Node(2).Events.SlowApply(0)
	})
}

func TestHazard07_TransferSuspendsLease(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		require.Equal(t, "1", c.Get("a"))
		require.NotZero(t, leaseLeft(c, lead))
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return m.Msg.GetType() != raftpb.MsgTimeoutNow })
		r, _ := c.Node(lead).Store.Region(first)
		c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: first, TransferLeader: &pdpb.TransferLeader{
			Peer: r.Region.Peers[lead%3]}})
		time.Sleep(time.Millisecond)
		require.Zero(t, leaseLeft(c, lead))
		time.Sleep(5 * time.Second) // Raft has given the transfer up; the message may still come
		require.Equal(t, lead, c.LeaderOf(first))
		require.Equal(t, "1", c.Get("a"))
		c.Put("a", "2")
		require.Zero(t, leaseLeft(c, lead))
	})
}

// blockCommit makes the leader's entries stay uncommitted while its heartbeats
// are answered.
func blockCommit(c *rafttest.Cluster) {
	c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return m.Msg.GetType() != raftpb.MsgAppResp })
}

func TestHazard08_SplitSuspendsLease(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		require.NotZero(t, leaseLeft(c, lead))
		blockCommit(c)
		rc := c.Context(lead, first)
		done := make(chan error)
		go func() {
			_, err := c.Node(lead).Store.SplitRegion(context.Background(), rc, [][]byte{[]byte("m")})
			done <- err
		}()
		time.Sleep(time.Millisecond)
		for range 100 {
			require.Zero(t, leaseLeft(c, lead))
			value, err := tryGet(c, lead, rc, "a", time.Second)
			require.NoError(t, err, "a read index still serves")
			require.Equal(t, "1", value)
		}
		c.Heal()
		require.NoError(t, <-done)
		c.Put("z", "1")
		require.NotZero(t, leaseLeft(c, lead))
	})
}

// A write that passed the door before a split and is applied behind it.
func TestHazard12_EpochCheckedAtApply(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		rc := c.Context(lead, first)
		blockCommit(c)
		split, write := make(chan error), make(chan error)
		go func() {
			_, err := c.Node(lead).Store.SplitRegion(context.Background(), rc, [][]byte{[]byte("m")})
			split <- err
		}()
		time.Sleep(time.Millisecond)
		go func() { write <- c.PutAt(context.Background(), lead, rc, "a", "2") }()
		time.Sleep(time.Millisecond)
		c.Heal()
		require.NoError(t, <-split)
		re := asRegionError(t, <-write)
		require.Len(t, re.GetEpochNotMatch().GetCurrentRegions(), 2)
		require.Equal(t, "1", c.Get("a"))
		c.Put("z", "1")
		for _, id := range c.IDs() {
			c.Eventually("apply", func() bool { return c.Local(id, "z") == "1" })
			require.Equal(t, "1", c.Local(id, "a"))
		}
	})
}

// A new leader that has not committed anything doesn't know what its
// predecessor acknowledged.
func TestHazard06_NoReadBeforeFirstCommit(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		old := c.WaitLeader(first)
		c.Put("a", "2")
		c.Stop(old)
		blockCommit(c)
		lead := c.WaitLeader(first)
		for range 20 {
			_, err := tryGet(c, lead, c.Context(lead, first), "a", 100*time.Millisecond)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		c.Heal()
		require.Equal(t, "2", c.Get("a"))
	})
}

func TestHazard06_LostReadIndexIsRetried(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{ConsistencyCheckInterval: -1}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		time.Sleep(2 * time.Second)
		require.Zero(t, leaseLeft(c, lead))
		other := lead%3 + 1
		var lost atomic.Int32
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			reads := m.Msg.GetType() == raftpb.MsgReadIndex || m.Msg.GetType() == raftpb.MsgReadIndexResp
			return !reads || lost.Add(1) > 3
		})
		rc := c.Context(other, first)
		rc.ReplicaRead = true
		value, err := tryGet(c, other, rc, "a", 10*time.Second)
		require.NoError(t, err)
		require.Equal(t, "1", value)
		require.Greater(t, lost.Load(), int32(3))
		c.Partition(other)
		_, err = tryGet(c, other, rc, "a", time.Minute)
		require.NotNil(t, asRegionError(t, err), "it ends by itself")
	})
}

func TestFollowerReadSeesAcknowledgedWrites(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 50 {
			c.Put("a", fmt.Sprint(i))
			for _, id := range c.IDs() {
				rc := c.Context(id, first)
				rc.ReplicaRead = true
				value, err := tryGet(c, id, rc, "a", 5*time.Second)
				require.NoError(t, err)
				require.Equal(t, fmt.Sprint(i), value)
			}
		}
		rc := c.Context(1, first)
		rc.StaleRead = true
		_, err := tryGet(c, 1, rc, "a", time.Second)
		require.NotNil(t, asRegionError(t, err).GetDataIsNotReady())
	})
}

type lockEverything struct{ seen atomic.Uint64 }

func (l *lockEverything) CheckLocks(regionID, readTS uint64, ranges []kv.KeyRange) *kvrpcpb.LockInfo {
	l.seen.Store(readTS)
	if string(ranges[0].Start) != "locked" {
		return nil
	}
	return &kvrpcpb.LockInfo{LockVersion: 7, Key: ranges[0].Start}
}

func TestHazard20_FollowerReadMeetsMemoryLock(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		lc := &lockEverything{}
		c.LockChecker = lc
		for _, id := range c.IDs() {
			c.Stop(id)
			c.Restart(id)
		}
		c.Put("a", "1")
		other := c.WaitLeader(first)%3 + 1
		rc := c.Context(other, first)
		rc.ReplicaRead = true
		read := func(key string) error {
			snap, err := c.Node(other).Store.Snapshot(context.Background(), rc, kv.SnapshotOptions{
				ReadTS: 42, Ranges: []kv.KeyRange{{Start: []byte(key), End: []byte(key + "\x00")}}})
			if err == nil {
				require.Zero(t, snap.Term())
				require.NoError(t, snap.Close())
			}
			return err
		}
		require.NoError(t, read("a"))
		require.Equal(t, uint64(42), lc.seen.Load())
		var locked *raftstore.LockedError
		require.ErrorAs(t, read("locked"), &locked)
		require.Equal(t, uint64(7), locked.Lock.LockVersion)
	})
}

// Hazard 13: a peer that was cut off does not disturb the others.
func TestHazard13_ReturningPeerKeepsTerm(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		before, _ := c.Node(lead).Store.Region(first)
		c.Partition(lead%3 + 1)
		time.Sleep(20 * time.Second)
		c.Heal()
		time.Sleep(5 * time.Second)
		after, _ := c.Node(lead).Store.Region(first)
		require.Equal(t, before.Term, after.Term)
		require.True(t, after.Leader)
	})
}

func TestHazard16_ReceiveBudget(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{ReceiveBytesMax: 64 << 10}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		m := &raftstore.RaftMessage{
			RegionID: first, From: metapb.Peer{Id: 999, StoreId: 9}, To: metapb.Peer{Id: rafttest.FirstPeer + 1, StoreId: 1},
			Msg: &raftpb.Message{
				Type: raftpb.MsgApp.Enum(), From: new(uint64(999)), To: new(uint64(rafttest.FirstPeer + 1)), Term: new(uint64(1)),
				Entries: []*raftpb.Entry{{Data: make([]byte, 70<<10)}}},
		}
		require.ErrorIs(t, c.Node(1).Store.Step(m), raftstore.ErrBusy)
		m.Msg.Entries[0].Data = m.Msg.Entries[0].Data[:10<<10]
		for range 100 { // what was handled is given back
			require.NoError(t, c.Node(1).Store.Step(m))
			time.Sleep(time.Millisecond)
		}
		m.To.StoreId = 2
		require.ErrorContains(t, c.Node(1).Store.Step(m), "arrived at store 1")
	})
}

func TestSnapshotTellsWhatItIs(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		open := func() kv.Snapshot {
			snap, err := c.Node(1).Store.Snapshot(context.Background(), c.Context(1, first), kv.SnapshotOptions{})
			require.NoError(t, err)
			return snap
		}
		one, two := open(), open()
		require.Equal(t, one.AppliedIndex(), two.AppliedIndex(), "nothing changed")
		require.NotZero(t, one.Term())
		require.False(t, one.MaxTSSynced())
		c.Node(1).Store.SetMaxTSSynced(first, one.Term(), one.Region().RegionEpoch.Version)
		require.True(t, one.MaxTSSynced())
		c.Put("a", "2")
		three := open()
		require.Greater(t, three.AppliedIndex(), one.AppliedIndex())
		_, _, err := one.Get(kv.CFLock, []byte("a"))
		require.ErrorIs(t, err, kv.ErrNotFound)
		it, err := one.NewIter(kv.CFDefault, kv.IterOptions{})
		require.NoError(t, err)
		require.True(t, it.First())
		value, err := it.Value()
		require.NoError(t, err)
		require.Equal(t, "1", string(value), "as of the snapshot")
		require.NoError(t, it.Close())
		for _, s := range []kv.Snapshot{one, two, three} {
			require.NoError(t, s.Close())
		}
	})
}

// What a follower has shown, the leader's lease must not hide: a leader whose
// apply is slow knows of a commit long before it can serve it.
func TestHazard06_LeaseReadBehindFollowerRead(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "0")
		lead := c.WaitLeader(first)
		other := lead%3 + 1
		require.Equal(t, "0", c.Get("a"))
		c.Node(lead).Events.SlowApply(400 * time.Millisecond)
		for _, value := range []string{"1", "2"} {
			go func() { _ = c.PutAt(context.Background(), lead, c.Context(lead, first), "a", value) }()
			time.Sleep(time.Millisecond)
		}
		rc := c.Context(other, first)
		rc.ReplicaRead = true
		c.Eventually("the follower has applied it", func() bool { return c.Local(other, "a") == "2" })
		got, err := tryGet(c, other, rc, "a", time.Second)
		require.NoError(t, err)
		require.Equal(t, "2", got)
		require.NotZero(t, leaseLeft(c, lead))
		require.Equal(t, "1", c.Local(lead, "a"), "the leader is behind")
		got, err = tryGet(c, lead, c.Context(lead, first), "a", time.Second)
		require.NoError(t, err)
		require.Equal(t, "2", got)
		c.Node(lead).Events.SlowApply(0)
	})
}
