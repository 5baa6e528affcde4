package raftstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/eraftpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/raft_serverpb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// mergePair makes two regions with some data: left [.., m) and right [m, ..).
func mergePair(t *testing.T, c *rafttest.Cluster) (left, right uint64) {
	t.Helper()
	for i := range 10 {
		c.Put(fmt.Sprint("a", i), fmt.Sprint(i))
		c.Put(fmt.Sprint("z", i), fmt.Sprint(i))
	}
	regions := splitAt(t, c, rafttest.FirstRegion, "m")
	c.WaitLeader(regions[0].Id)
	return regions[0].Id, regions[1].Id
}

// whole checks that one region has everything.
func whole(t *testing.T, c *rafttest.Cluster, target uint64) {
	t.Helper()
	for i := range 10 {
		require.Equal(t, fmt.Sprint(i), c.Get(fmt.Sprint("a", i)))
		require.Equal(t, fmt.Sprint(i), c.Get(fmt.Sprint("z", i)))
	}
	r := c.RegionAt("a")
	require.Equal(t, target, r.Id)
	require.Empty(t, r.StartKey)
	require.Empty(t, r.EndKey)
}

func TestMerge(t *testing.T) {
	for _, toRight := range []bool{true, false} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprint("right=", toRight, " together=", together), func(t *testing.T) {
				cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
					source, target := mergePair(t, c)
					if !toRight {
						source, target = target, source
					}
					c.PD.TransferLeader(source, 1)
					if together {
						c.PD.TransferLeader(target, 1)
					} else {
						c.PD.TransferLeader(target, 2)
					}
					start := time.Now()
					c.PD.Merge(source, target)
					require.Less(t, time.Since(start), 100*time.Millisecond, "no step waits for a tick")
					whole(t, c, target)
					r := c.RegionAt("a")
					require.EqualValues(t, 4, r.RegionEpoch.Version, "one more than the source's at PrepareMerge")
					c.Put("a", "new")
					c.Put("z", "new")
					for _, id := range c.IDs() {
						c.Eventually("replication", func() bool { return c.Local(id, "a") == "new" && c.Local(id, "z") == "new" })
					}
					lead := c.LeaderOf(target)
					rc := c.Context(lead, target)
					rc.RegionId, rc.Peer = source, nil
					re := asRegionError(t, c.PutAt(context.Background(), lead, rc, "a", "x"))
					require.NotNil(t, re.GetRegionNotFound())
					c.Eventually("PD hears of it", func() bool {
						b := c.PD.Beat(target)
						return b.Region.RegionEpoch.Version == r.RegionEpoch.Version
					})
				})
			})
		}
	}
}

func TestMergeCrashAllBehind(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		c.PD.Merge(source, target)
		for range 3 {
			for _, id := range c.IDs() {
				c.Crash(id, 0)
			}
			for _, id := range c.IDs() {
				c.Restart(id)
			}
			c.WaitLeader(target)
			c.Eventually("merge", func() bool { return c.PD.Merged(source, target) })
			whole(t, c, target)
			time.Sleep(20 * time.Second) // logs are dropped when the end is durable
		}
		for _, id := range c.IDs() {
			_, ok, err := c.Node(id).Log.Load(source)
			require.NoError(t, err)
			require.False(t, ok, "the source's log is still on store %d", id)
		}
	})
}

// slow delays every message by d, so that a merge takes some steps of time.
// Snapshots pass.
func slow(c *rafttest.Cluster, d time.Duration) {
	c.Net.SetFilter(func(m *raftstore.RaftMessage, deliver func()) bool {
		if m.Msg.GetType() == raftpb.MsgSnap {
			return true
		}
		time.AfterFunc(d, deliver)
		return false
	})
}

// settled waits until the source serves again, or is merged.
func settled(c *rafttest.Cluster, source, target uint64) {
	c.TB.Helper()
	c.Eventually("the merge is over", func() bool {
		if c.PD.Merged(source, target) {
			return true
		}
		lead := c.LeaderOf(source)
		if lead == 0 {
			return false
		}
		r, ok := c.Node(lead).Store.Region(source)
		return ok && !r.Merging
	})
}

// merging waits until the source's leader has applied PrepareMerge.
func merging(c *rafttest.Cluster, source, target uint64) {
	c.TB.Helper()
	c.Eventually("prepare", func() bool {
		c.PD.TryMerge(source, target)
		lead := c.LeaderOf(source)
		r, ok := c.Node(lead).Store.Region(source)
		return ok && r.Merging
	})
}

// dropMerges keeps source and target from hearing of one another.
func dropMerges(m *raftstore.RaftMessage, _ func()) bool { return m.Merge == nil }

// apart makes two stores lead the two regions, so that they need messages.
func apart(c *rafttest.Cluster, source, target uint64) {
	c.PD.TransferLeader(source, 1)
	c.PD.TransferLeader(target, 2)
}

// Crashes of one store or of all at every moment of a merge, with what was not
// synced lost, kept or torn.
func TestHazard11_CrashDuringMerge(t *testing.T) {
	for step := range 30 {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
				source, target := mergePair(t, c)
				apart(c, source, target)
				slow(c, 7*time.Millisecond)
				merging(c, source, target)
				time.Sleep(time.Duration(step) * 3 * time.Millisecond)
				victims := []uint64{1 + uint64(step%3)}
				if step%4 == 3 {
					victims = c.IDs()
				}
				for _, id := range victims {
					c.Crash(id, step*5%101)
				}
				time.Sleep(time.Duration(step%5) * 500 * time.Millisecond)
				for _, id := range victims {
					c.Restart(id)
				}
				c.Heal()
				settled(c, source, target)
				c.PD.Merge(source, target)
				whole(t, c, target)
				for _, id := range c.IDs() {
					c.Crash(id, 0)
					c.Restart(id)
				}
				c.Eventually("merged everywhere", func() bool { return c.PD.Merged(source, target) })
				whole(t, c, target)
			})
		})
	}
}

// Writes go on while regions are merged: those that were acknowledged are there.
func TestWritesDuringMerge(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		apart(c, source, target)
		slow(c, 3*time.Millisecond)
		var acked sync.Map
		var wg sync.WaitGroup
		stop := time.Now().Add(3 * time.Second)
		for client := range 8 {
			wg.Go(func() {
				for i := 0; time.Now().Before(stop); i++ {
					key := fmt.Sprintf("%c-%d-%d", "bkny"[client%4], client, i)
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					if c.TryPut(ctx, key, key) == nil {
						acked.Store(key, true)
					}
					cancel()
					time.Sleep(time.Millisecond)
				}
			})
		}
		time.Sleep(time.Second)
		c.PD.Merge(source, target)
		wg.Wait()
		c.Heal()
		n := 0
		acked.Range(func(key, _ any) bool {
			require.Equal(t, key, c.Get(key.(string)))
			n++
			return true
		})
		require.Greater(t, n, 1000)
		whole(t, c, target)
	})
}

// A target that changes while its source waits refuses it, for ever; the source
// serves again, and a later merge of the two is another merge.
func TestHazard11_FailedMergeThenGoodOne(t *testing.T) {
	change := map[string]func(t *testing.T, c *rafttest.Cluster, target uint64){
		"split": func(t *testing.T, c *rafttest.Cluster, target uint64) { splitAt(t, c, target, "t") },
		"member": func(t *testing.T, c *rafttest.Cluster, target uint64) {
			c.PD.AddPeer(target, 4)
		},
	}
	for name, change := range change {
		t.Run(name, func(t *testing.T) {
			cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
				source, target := mergePair(t, c)
				apart(c, source, target)
				var mu sync.Mutex
				var late []func()
				c.Net.SetFilter(func(m *raftstore.RaftMessage, deliver func()) bool {
					if m.Merge == nil {
						return true
					}
					mu.Lock()
					defer mu.Unlock()
					late = append(late, deliver)
					return false
				})
				merging(c, source, target)
				re := asRegionError(t, c.PutAt(context.Background(), 1, c.Context(1, source), "a", "no"))
				require.NotNil(t, re.GetProposalInMergingMode())
				_, err := c.GetAt(context.Background(), 1, c.Context(1, source), "a1")
				require.NotNil(t, asRegionError(t, err).GetProposalInMergingMode())
				change(t, c, target)
				settled(c, source, target)
				c.Put("a1", "after the rollback")
				// What was asked for in the first merge arrives now.
				mu.Lock()
				for _, deliver := range late {
					deliver()
				}
				mu.Unlock()
				c.Heal()
				time.Sleep(time.Second)
				require.False(t, c.PD.Merged(source, target))
				require.Equal(t, "after the rollback", c.Get("a1"))
				if name == "member" {
					c.PD.AddPeer(source, 4)
				}
				target = c.RegionAt("n").Id // behind a split another region is the neighbour
				c.PD.Merge(source, target)
				require.Equal(t, "after the rollback", c.Get("a1"))
				for _, id := range c.IDs() {
					c.Crash(id, 0)
				}
				for _, id := range c.IDs() {
					c.Restart(id)
				}
				require.Equal(t, "after the rollback", c.Get("a1"))
				require.Equal(t, target, c.RegionAt("a1").Id)
			})
		})
	}
}

// A merge whose source can't reach everybody is given up, by moving the target's
// epoch; not by time alone.
func TestMergeGivenUp(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		apart(c, source, target)
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
			// Store 3 hears nothing of the source's log any more, and nobody of the merge.
			return m.Merge == nil && (m.RegionID != source || m.To.StoreId != 3 || m.Msg.GetType() != raftpb.MsgApp || len(m.Msg.Entries) == 0)
		})
		merging(c, source, target)
		time.Sleep(30 * time.Second)
		r, _ := c.Node(1).Store.Region(source)
		require.True(t, r.Merging, "nothing is proven while the target has not answered")
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return m.To.StoreId != 3 && m.From.StoreId != 3 })
		settled(c, source, target)
		require.False(t, c.PD.Merged(source, target))
		c.Put("a1", "new")
		c.Heal()
		c.PD.Merge(source, target)
		require.Equal(t, "new", c.Get("a1"))
		c.Eventually("store 3", func() bool { return c.Local(3, "a1") == "new" })
	})
}

// mergeWithout merges while store 3 hears nothing of the target. Its peer of the
// source has the log, and waits for a target that knows of nothing.
func mergeWithout(c *rafttest.Cluster, source, target uint64) {
	c.TB.Helper()
	for _, id := range []uint64{source, target} {
		c.PD.TransferLeader(id, 1)
	}
	c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return m.RegionID != target || m.To.StoreId != 3 })
	c.Eventually("merge", func() bool {
		if c.LeaderOf(source) == 1 {
			c.PD.TryMerge(source, target)
		}
		_, one := c.Node(1).Store.Region(source)
		_, two := c.Node(2).Store.Region(source)
		return !one && !two
	})
	_, three := c.Node(3).Store.Region(source)
	require.True(c.TB, three)
}

// compacted writes until the target's log has lost its beginning.
func compacted(t *testing.T, c *rafttest.Cluster, target uint64, keys ...string) {
	t.Helper()
	before, _, err := c.Node(1).Log.Load(target)
	require.NoError(t, err)
	c.Eventually("truncation", func() bool {
		for i := range 20 {
			for _, k := range keys {
				c.Put(fmt.Sprint(k, "-", i), "x")
			}
		}
		for id := uint64(1); id <= 2; id++ {
			require.NoError(t, c.Node(id).Engine.Flush(t.Context()))
		}
		time.Sleep(200 * time.Millisecond)
		st, _, err := c.Node(1).Log.Load(target)
		require.NoError(t, err)
		return st.TruncatedIndex > before.LastIndex+20
	})
}

// A store that lags behind a merge catches up by the target's log, after crashes
// too.
func TestMergeLaggingByLog(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash=", crash), func(t *testing.T) {
			cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
				source, target := mergePair(t, c)
				mergeWithout(c, source, target)
				c.Put("a1", "new")
				c.Put("z1", "new")
				time.Sleep(20 * time.Second) // the peer that is left asks, and stays: the target will need it
				_, ok := c.Node(3).Store.Region(source)
				require.True(t, ok)
				if crash {
					c.Crash(3, 0)
				}
				c.Heal()
				if crash {
					c.Restart(3)
				}
				c.Eventually("merged", func() bool { return c.PD.Merged(source, target) })
				c.Eventually("data", func() bool {
					return c.Local(3, "a1") == "new" && c.Local(3, "z1") == "new" && c.Local(3, "a2") == "2"
				})
			})
		})
	}
}

// A snapshot of the target takes the range of the source over.
func TestHazard09_SnapshotBehindMerge(t *testing.T) {
	for _, crash := range []string{"", "before", "after"} {
		for _, moved := range []bool{false, true} {
			t.Run(fmt.Sprint("crash=", crash, " moved=", moved), func(t *testing.T) {
				cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) {
					source, target := mergePair(t, c)
					mergeWithout(c, source, target)
					c.Put("a1", "new")
					if moved { // the target has the source's range only for a while
						splitAt(t, c, target, "m")
					}
					compacted(t, c, target, "a", "z")
					if crash == "before" {
						c.Crash(3, 0)
						c.Restart(3)
					}
					c.Heal()
					c.Eventually("merged", func() bool { return c.PD.Merged(source, target) })
					if crash == "after" {
						c.Crash(3, 0)
						c.Restart(3)
					}
					c.Eventually("data", func() bool {
						return c.Local(3, "a1") == "new" && c.Local(3, "z-1") == "x" && c.Local(3, "a2") == "2" && c.Local(3, "a-19") == "x"
					})
					c.Stop(2)
					require.Equal(t, "new", c.Get("a1"))
					c.Put("a1", "newer")
					_, ok, err := c.Node(3).Log.Load(source)
					require.NoError(t, err)
					require.False(t, ok, "the log of the source is still there")
				})
			})
		}
	}
}

// Crashes at every sync of a store's disk around a merge that it takes part in,
// or that a snapshot brings: it comes back with both regions as they were, or
// with the target alone.
func TestHazard10_CrashAtEverySyncOfMerge(t *testing.T) {
	for _, bySnapshot := range []bool{false, true} {
		for n := range int64(14) {
			t.Run(fmt.Sprint("snapshot=", bySnapshot, " sync=", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var left atomic.Int64
					left.Store(-1)
					c := rafttest.NewCluster(t, 3, 3, smallLog, func(c *rafttest.Cluster) {
						c.WrapFS = func(id uint64, fs vfs.FS) vfs.FS {
							return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
								sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
								if id == 3 && sync && left.Load() >= 0 && left.Add(-1) == -1 {
									c.Kill(3, int(n)*29%101, rand.New(rand.NewPCG(1, uint64(n))))
								}
								return nil
							}))
						}
					})
					crashInMerge(t, c, bySnapshot, func() { left.Store(n) })
					c.Close()
				})
			})
		}
	}
}

func crashInMerge(t *testing.T, c *rafttest.Cluster, bySnapshot bool, arm func()) {
	source, target := mergePair(t, c)
	if bySnapshot {
		mergeWithout(c, source, target)
		compacted(t, c, target, "a", "z")
		arm()
		c.Heal()
	} else {
		apart(c, source, target)
		arm()
		c.Eventually("merge", func() bool {
			c.PD.TryMerge(source, target)
			_, two := c.Node(2).Store.Region(source)
			return !two || !c.Node(3).Up.Load()
		})
	}
	for end := time.Now().Add(20 * time.Second); c.Node(3).Up.Load() && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_ = c.TryPut(ctx, "z", "x") // something to sync
		cancel()
	}
	require.False(t, c.Node(3).Up.Load(), "there were fewer syncs")
	c.Bury(3)
	c.Restart(3)
	settled(c, source, target)
	c.PD.Merge(source, target)
	c.Put("a1", "new")
	c.Eventually("data", func() bool {
		return c.Local(3, "a1") == "new" && c.Local(3, "a2") == "2" && c.Local(3, "z2") == "2"
	})
}

// The target's peer is removed from the store that lags: nobody will ever need
// the source's peer there, and it learns that from the others.
func TestHazard15_SourceLeftBehind(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		mergeWithout(c, source, target)
		c.PD.AddPeer(target, 4)
		c.PD.RemovePeer(target, rafttest.FirstPeer+3, 3)
		c.Heal()
		c.Eventually("store 3 is empty", func() bool { return len(c.Node(3).Store.Regions()) == 0 })
		require.Empty(t, c.Local(3, "a1"))
		c.Heal()
		c.PD.AddPeer(target, 3)
		c.Eventually("data", func() bool { return c.Local(3, "a1") == "1" && c.Local(3, "z1") == "1" })
	})
}

// A region that was merged into one that was merged into a third: the log or the
// snapshot of the third meets both on a store that crashed before it had applied
// any of it, or even the splits that made them.
func TestHazard09_ChainOfMerges(t *testing.T) {
	for _, how := range []string{"log", "snapshot", "replay"} {
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprint(how, " early=", early), func(t *testing.T) {
				cluster(t, 3, 3, smallLog, func(t *testing.T, c *rafttest.Cluster) { chainOfMerges(t, c, how, early) })
			})
		}
	}
}

func chainOfMerges(t *testing.T, c *rafttest.Cluster, how string, early bool) {
	for i := range 10 {
		for _, k := range []string{"a", "f", "z"} {
			c.Put(fmt.Sprint(k, i), fmt.Sprint(i))
		}
	}
	z := uint64(rafttest.FirstRegion)
	f := splitAt(t, c, z, "m")[0].Id
	a := splitAt(t, c, f, "d")[0].Id
	for _, id := range []uint64{a, f, z} {
		c.PD.TransferLeader(id, 1)
	}
	if !early {
		require.NoError(t, c.Node(3).Engine.Flush(t.Context()))
	}
	c.Put("a1", "new")
	c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool {
		return how == "replay" || m.RegionID != z || m.To.StoreId != 3
	})
	for _, m := range [][2]uint64{{a, f}, {f, z}} {
		c.Eventually("merge", func() bool {
			if c.LeaderOf(m[0]) == 1 {
				c.PD.TryMerge(m[0], m[1])
			}
			_, one := c.Node(1).Store.Region(m[0])
			_, two := c.Node(2).Store.Region(m[0])
			return !one && !two
		})
	}
	c.Put("a2", "newer")
	if how == "snapshot" {
		compacted(t, c, z, "a", "f", "z")
	}
	if how == "replay" { // it knows from its log that all of it is committed
		c.Eventually("store 3 has the last write", func() bool { return c.Local(3, "a2") == "newer" })
	}
	c.Crash(3, 0)
	if how == "replay" {
		replayAlone(c, 3)
	}
	c.Restart(3)
	if how == "replay" {
		require.Equal(t, "new", c.Local(3, "a1"))
		require.True(t, c.PD.Merged(a, z) && c.PD.Merged(f, z))
	}
	c.Heal()
	c.Eventually("merged", func() bool { return c.PD.Merged(a, z) && c.PD.Merged(f, z) })
	c.Eventually("data", func() bool {
		return c.Local(3, "a1") == "new" && c.Local(3, "a2") == "newer" && c.Local(3, "f3") == "3" && c.Local(3, "z3") == "3"
	})
}

// Between propose and apply of PrepareMerge, and behind it, the source's old
// leader serves no read, whatever it doesn't hear of (hazard 8).
func TestHazard08_NoLeaseOnceMergeIsProposed(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		apart(c, source, target)
		require.Equal(t, "1", c.Get("a1"))
		before := c.Context(1, source)
		require.NotZero(t, leaseOf(c, 1, source))
		// The answers don't reach the leader: it knows of no commit.
		deaf := func(m *raftstore.RaftMessage, _ func()) bool {
			typ := m.Msg.GetType()
			return m.RegionID != source || m.To.StoreId != 1 || (typ != raftpb.MsgAppResp && typ != raftpb.MsgHeartbeatResp)
		}
		c.Net.SetFilter(deaf)
		c.PD.TryMerge(source, target)
		time.Sleep(10 * time.Millisecond)
		require.Zero(t, leaseOf(c, 1, source))
		_, err := tryGet(c, 1, before, "a1", 100*time.Millisecond)
		require.Error(t, err)
		require.NotNil(t, asRegionError(t, c.PutAt(t.Context(), 1, before, "a1", "x")).GetProposalInMergingMode())
		// The others elect a leader, who goes on with the merge.
		c.Eventually("merge on 2 and 3", func() bool {
			_, two := c.Node(2).Store.Region(source)
			_, three := c.Node(3).Store.Region(source)
			return !two && !three
		})
		c.Put("a1", "new")
		for range 20 {
			for _, rc := range []*kvrpcpb.Context{before, c.Context(1, source)} {
				for _, replica := range []bool{false, true} {
					rc := &kvrpcpb.Context{RegionId: source, RegionEpoch: rc.RegionEpoch, ReplicaRead: replica}
					if got, err := tryGet(c, 1, rc, "a1", 50*time.Millisecond); err == nil {
						require.Equal(t, "new", got)
					}
				}
			}
		}
		c.Heal()
		c.Eventually("merged", func() bool { return c.PD.Merged(source, target) })
		require.Equal(t, "new", c.Get("a1"))
	})
}

func leaseOf(c *rafttest.Cluster, store, region uint64) time.Duration {
	r, _ := c.Node(store).Store.Region(region)
	return r.LeaseLeft
}

// The source's leader is cut off at any moment of the merge: it does not serve
// what the others write.
func TestHazard08_SourceLeaderCutOff(t *testing.T) {
	for step := range 12 {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
				source, target := mergePair(t, c)
				apart(c, source, target)
				require.Equal(t, "1", c.Get("a1"))
				before := c.Context(1, source)
				slow(c, 2*time.Millisecond)
				c.PD.TryMerge(source, target)
				time.Sleep(time.Duration(step) * 2 * time.Millisecond)
				c.Partition(1)
				// Through whoever serves it among the others; the merge may wait for
				// store 1, and be given up.
				written := false
				for end := time.Now().Add(30 * time.Second); !written && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
					for _, id := range []uint64{2, 3} {
						for _, region := range []uint64{source, target} {
							ctx, cancel := context.WithTimeout(t.Context(), time.Second)
							written = written || c.PutAt(ctx, id, c.Context(id, region), "a1", "new") == nil
							cancel()
						}
					}
				}
				require.True(t, written)
				for _, rc := range []*kvrpcpb.Context{before, c.Context(1, source), c.Context(1, target)} {
					for _, replica := range []bool{false, true} {
						rc.ReplicaRead = replica
						if got, err := tryGet(c, 1, rc, "a1", 50*time.Millisecond); err == nil {
							require.Equal(t, "new", got)
						}
					}
				}
				c.Heal()
				settled(c, source, target)
				c.PD.Merge(source, target)
				require.Equal(t, "new", c.Get("a1"))
			})
		})
	}
}

// max_ts of the wider region is unknown until it was synchronised again: the
// source's reads were served by another store (hazard 18).
func TestHazard18_MaxTSBehindMerge(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		apart(c, source, target)
		synced := func() (term, version uint64, synced bool) {
			c.Eventually("snapshot", func() bool {
				n := c.Node(2)
				snap, err := n.Store.Snapshot(t.Context(), c.Context(2, target), kv.SnapshotOptions{})
				if err != nil {
					return false
				}
				term, version, synced = snap.Term(), snap.Region().RegionEpoch.Version, snap.MaxTSSynced()
				require.NoError(t, snap.Close())
				return true
			})
			return term, version, synced
		}
		term, version, _ := synced()
		c.Node(2).Store.SetMaxTSSynced(target, term, version)
		_, _, ok := synced()
		require.True(t, ok)
		c.PD.Merge(source, target)
		again, wide, ok := synced()
		require.Equal(t, term, again, "the same leader, in the same term")
		require.False(t, ok)
		c.Node(2).Store.SetMaxTSSynced(target, term, version) // of a question to PD before the merge
		_, _, ok = synced()
		require.False(t, ok)
		c.Node(2).Store.SetMaxTSSynced(target, term, wide)
		_, _, ok = synced()
		require.True(t, ok)
	})
}

// What can't be merged is left alone.
func TestMergeRefused(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		regions := splitAt(t, c, rafttest.FirstRegion, "d", "m")
		a, f, z := regions[0].Id, regions[1].Id, regions[2].Id
		for _, r := range regions {
			c.WaitLeader(r.Id)
			c.PD.TransferLeader(r.Id, 1)
		}
		refused := func(source, target uint64) {
			t.Helper()
			before, _ := c.Node(1).Store.Region(source)
			for range 10 {
				c.PD.TryMerge(source, target)
				time.Sleep(20 * time.Millisecond)
			}
			r, _ := c.Node(1).Store.Region(source)
			require.False(t, r.Merging)
			require.Equal(t, before.Region.RegionEpoch.Version, r.Region.RegionEpoch.Version)
		}
		refused(a, z) // no neighbours
		refused(a, a)
		c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: a, Merge: &pdpb.Merge{Target: regions[0]}})
		stale := regions[1]
		c.PD.AddPeer(f, 4)
		refused(a, f) // on other stores
		c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: z, Merge: &pdpb.Merge{Target: stale}})
		c.Partition(3)
		time.Sleep(5 * time.Second)
		refused(a, f) // a peer is gone
		c.Heal()
		c.PD.AddPeer(a, 4)
		c.PD.Merge(a, f)
		refused(f, z)
		c.PD.AddPeer(z, 4)
		c.PD.Merge(z, f)
		require.Equal(t, f, c.RegionAt("a").Id)
		require.Equal(t, f, c.RegionAt("z").Id)
	})
}

// A merging region refuses everything else by name, and takes it up again behind
// the rollback.
func TestMergingRefusesOperators(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		apart(c, source, target)
		c.Net.SetFilter(dropMerges)
		merging(c, source, target)
		_, err := c.Node(1).Store.SplitRegion(t.Context(), c.Context(1, source), [][]byte{[]byte("c")})
		require.NotNil(t, asRegionError(t, err).GetProposalInMergingMode())
		c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: source,
			ChangePeer: rafttest.Change(eraftpb.ConfChangeType_AddLearnerNode, c.PD.AllocID(), 4)})
		time.Sleep(time.Second)
		r, _ := c.Node(1).Store.Region(source)
		require.True(t, r.Merging)
		require.Len(t, r.Region.Peers, 3)
		c.Crash(1, 0) // another leader goes on
		c.Eventually("leader", func() bool { return c.LeaderOf(source) > 1 })
		c.Restart(1)
		c.Net.SetFilter(nil)
		settled(c, source, target)
		c.PD.Merge(source, target)
		whole(t, c, target)
	})
}

// A peer that was removed, unknown to itself, before its region was merged away
// hears of its end from those that have merged.
func TestHazard15_RemovedBeforeMerge(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		source, target := mergePair(t, c)
		for _, id := range []uint64{source, target} {
			c.PD.TransferLeader(id, 1)
		}
		c.Eventually("the children are everywhere", func() bool { _, ok := c.Node(3).Store.Region(source); return ok })
		c.Partition(3)
		for _, id := range []uint64{source, target} {
			r, _ := c.Node(1).Store.Region(id)
			for _, p := range r.Region.Peers {
				if p.StoreId == 3 {
					c.PD.RemovePeer(id, p.Id, 3)
				}
			}
		}
		c.Eventually("merge", func() bool {
			c.PD.TryMerge(source, target)
			_, here := c.Node(1).Store.Region(source)
			_, there := c.Node(2).Store.Region(source)
			return !here && !there
		})
		c.Heal()
		c.Eventually("all gone", func() bool { return len(c.Node(3).Store.Regions()) == 0 })
		whole(t, c, target)
	})
}

func TestMergeMessages(t *testing.T) {
	region := &metapb.Region{Id: 7, StartKey: []byte("a"), EndKey: []byte("m"), RegionEpoch: &metapb.RegionEpoch{ConfVer: 2, Version: 3},
		Peers: []*metapb.Peer{{Id: 71, StoreId: 1}}}
	record := &raft_serverpb.MergedRecord{SourceRegionId: 7, SourceEpoch: region.RegionEpoch, SourcePeers: region.Peers, SourceIndex: 9,
		TargetRegionId: 8, TargetEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: 4}}
	source := &raft_serverpb.RegionLocalState{State: raft_serverpb.PeerState_Merging, Region: region,
		MergeState: &raft_serverpb.MergeState{Target: region, Commit: 9}}
	for _, merge := range []*raftstore.MergeMessage{
		{Kind: raftstore.MergeCommit, Source: source},
		{Kind: raftstore.MergeCancel, Source: source},
		{Kind: raftstore.MergeVerdict, Commit: 9},
		{Kind: raftstore.MergeVerdict, Commit: 9, Record: record},
	} {
		m := &raftstore.RaftMessage{RegionID: 8, From: metapb.Peer{Id: 71, StoreId: 1}, To: metapb.Peer{Id: 82, StoreId: 2}, Merge: merge}
		data, err := m.AppendTo(nil)
		require.NoError(t, err)
		got, err := raftstore.DecodeRaftMessage(data)
		require.NoError(t, err)
		require.Equal(t, m, got)
		for n := range data { // cut off anywhere, it is refused or means less, but nothing panics
			if cut, err := raftstore.DecodeRaftMessage(data[:n]); err == nil {
				require.NotNil(t, cut.Merge)
			}
		}
	}
}
