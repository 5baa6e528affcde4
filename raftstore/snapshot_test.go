package raftstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// smallLog makes a leader give up slow followers soon.
var smallLog = raftstore.Config{
	LogCheckInterval: 200 * time.Millisecond, LogTruncateEntries: 10, LogTruncateBytes: 4 << 10, LogKeepEntriesMax: 50, LogKeepBytesMax: 64 << 10,
}

func TestSnapshotCatchUp(t *testing.T) {
	cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("k0", "0")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		c.Stop(3)
		for i := range 200 {
			c.Put(fmt.Sprintf("k%d", i), fmt.Sprint(i))
			if i%50 == 0 {
				require.NoError(t, c.Node(1).Engine.Flush(t.Context()))
				require.NoError(t, c.Node(2).Engine.Flush(t.Context()))
				time.Sleep(time.Second)
			}
		}
		var snaps atomic.Int32
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Msg.GetType() == raftpb.MsgSnap {
				snaps.Add(1)
			}
			return true
		})
		c.Restart(3)
		c.Eventually("catch up", func() bool { return c.Local(3, "k199") == "199" && c.Local(3, "k0") == "0" })
		require.NotZero(t, snaps.Load(), "the log was truncated")
		c.Crash(3, 0)
		c.Restart(3)
		c.Put("after", "x")
		c.Eventually("catch up", func() bool { return c.Local(3, "after") == "x" && c.Local(3, "k5") == "5" })
	})
}

// A snapshot of the right half, while the store still has the whole range.
func TestHazard09_SnapshotShrinksRegion(t *testing.T) {
	cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		c.Put("z", "1")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		c.Stop(3)
		regions := splitAt(t, c, rafttest.FirstRegion, "m")
		for i := range 120 {
			c.Put(fmt.Sprintf("a%d", i), fmt.Sprint(i))
			c.Put(fmt.Sprintf("z%d", i), fmt.Sprint(i))
			if i%30 == 0 {
				for id := uint64(1); id <= 2; id++ {
					require.NoError(t, c.Node(id).Engine.Flush(t.Context()))
				}
				time.Sleep(time.Second)
			}
		}
		c.Restart(3)
		c.Eventually("both halves", func() bool { return c.Local(3, "a119") == "119" && c.Local(3, "z119") == "119" })
		for _, r := range regions {
			c.Eventually("region", func() bool {
				got, ok := c.Node(3).Store.Region(r.Id)
				return ok && got.Region.RegionEpoch.Version == 2
			})
		}
		c.Stop(2)
		c.Put("a", "2")
		c.Put("z", "2")
	})
}

// Crashes around the moment when a snapshot arrives: at every point the store
// comes back as it was before, or as after.
func TestHazard10_CrashWhileSnapshotArrives(t *testing.T) {
	for step := range 24 {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			cluster(t, 2, 1, smallLog, func(t *testing.T, c *rafttest.Cluster) {
				for i := range 20 {
					c.Put(fmt.Sprintf("k%d", i), fmt.Sprint(i))
				}
				c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: rafttest.FirstRegion,
					ChangePeer: rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, c.PD.AllocID(), 2)})
				time.Sleep(time.Duration(step) * 25 * time.Millisecond)
				c.Crash(2, step*4)
				c.Restart(2)
				c.Put("k0", "x")
				c.Eventually("data", func() bool { return c.Local(2, "k0") == "x" && c.Local(2, "k19") == "19" })
			})
		})
	}
}

func TestLogTruncation(t *testing.T) {
	cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 100 {
			c.Put(fmt.Sprint("k", i), fmt.Sprint(i))
		}
		for _, id := range c.IDs() {
			n := c.Node(id)
			require.NoError(t, n.Engine.Flush(t.Context()))
		}
		c.Put("last", "1")
		for _, id := range c.IDs() {
			n := c.Node(id)
			c.Eventually("truncation", func() bool {
				st, ok, err := n.Log.Load(rafttest.FirstRegion)
				return err == nil && ok && st.TruncatedIndex > 80
			})
			c.Crash(id, 0)
			c.Restart(id)
		}
		require.Equal(t, "99", c.Get("k99"))
	})
}

// Hazard 3: nothing is truncated that a crash of the data engine would need
// again.
func TestHazard03_TruncateBehindDurable(t *testing.T) {
	cluster(t, 1, 1, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		for i := range 100 {
			c.Put(fmt.Sprint("k", i), fmt.Sprint(i))
		}
		time.Sleep(700 * time.Millisecond) // some log checks, no flush asked for yet
		for range 3 {
			c.Crash(1, 0)
			c.Restart(1)
			for i := range 100 {
				require.Equal(t, fmt.Sprint(i), c.Get(fmt.Sprint("k", i)))
			}
			c.Put("again", "x")
			time.Sleep(20 * time.Second) // the store asks for a flush
		}
	})
}

// A leader that knows of no progress, and whose log begins behind a peer's, sends
// a snapshot; the peer that needs none says how far it is.
func TestSnapshotThatNobodyNeeds(t *testing.T) {
	cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("k0", "0")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		c.Stop(3)
		for i := range 200 {
			c.Put(fmt.Sprint("k", i), "1")
			if i%50 == 0 {
				require.NoError(t, c.Node(1).Engine.Flush(t.Context()))
				require.NoError(t, c.Node(2).Engine.Flush(t.Context()))
				time.Sleep(time.Second)
			}
		}
		var sent atomic.Pointer[raftstore.RaftMessage]
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Msg.GetType() == raftpb.MsgSnap {
				sent.Store(m)
			}
			return true
		})
		c.Restart(3)
		c.Eventually("catch up", func() bool { return c.Local(3, "k199") == "1" })
		c.Eventually("a snapshot", func() bool { return sent.Load() != nil })
		answered := make(chan uint64, 1)
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			if m.Msg.GetType() == raftpb.MsgAppResp && m.From.StoreId == 3 {
				select {
				case answered <- m.Msg.GetIndex():
				default:
				}
			}
			return true
		})
		_, err := c.Node(3).Store.BeginSnapshot(sent.Load())
		require.ErrorContains(t, err, "already")
		select {
		case index := <-answered:
			require.GreaterOrEqual(t, index, sent.Load().Msg.GetSnapshot().GetMetadata().GetIndex())
		case <-time.After(10 * time.Second):
			t.Fatal("no answer")
		}
	})
}
