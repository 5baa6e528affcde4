package raftstore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
)

func TestRegionErrors(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		good := func() *kvrpcpb.Context { return c.Context(1, first) }
		for name, test := range map[string]struct {
			change func(rc *kvrpcpb.Context)
			check  func(e *errorpb.Error) bool
		}{
			"store":   {func(rc *kvrpcpb.Context) { rc.Peer.StoreId = 9 }, func(e *errorpb.Error) bool { return e.GetStoreNotMatch().GetActualStoreId() == 1 }},
			"region":  {func(rc *kvrpcpb.Context) { rc.RegionId = 9 }, func(e *errorpb.Error) bool { return e.GetRegionNotFound().GetRegionId() == 9 }},
			"peer":    {func(rc *kvrpcpb.Context) { rc.Peer.Id = 9 }, func(e *errorpb.Error) bool { return e.GetMismatchPeerId().GetRequestPeerId() == 9 }},
			"version": {func(rc *kvrpcpb.Context) { rc.RegionEpoch = &metapb.RegionEpoch{Version: 9} }, func(e *errorpb.Error) bool { return len(e.GetEpochNotMatch().GetCurrentRegions()) == 1 }},
			"noepoch": {func(rc *kvrpcpb.Context) { rc.RegionEpoch = nil }, func(e *errorpb.Error) bool { return e.GetEpochNotMatch() != nil }},
			"term":    {func(rc *kvrpcpb.Context) { rc.Term = 1 }, func(e *errorpb.Error) bool { return e.GetStaleCommand() != nil }},
		} {
			rc := good()
			test.change(rc)
			_, err := c.GetAt(context.Background(), 1, rc, "a")
			require.True(t, test.check(asRegionError(t, err)), "read, %s: %v", name, err)
			err = c.PutAt(context.Background(), 1, rc, "a", "2")
			require.True(t, test.check(asRegionError(t, err)), "write, %s: %v", name, err)
		}
		var b kv.Batch
		b.Put(kv.CFDefault, []byte("a"), make([]byte, 9<<20))
		err := c.Node(1).Store.Write(context.Background(), good(), &b)
		require.NotNil(t, asRegionError(t, err).GetRaftEntryTooLarge())
		b.Reset()
		b.DeleteRange(kv.CFDefault, []byte("b"), []byte("a"))
		require.Error(t, c.Node(1).Store.Write(context.Background(), good(), &b))
		require.Equal(t, "1", c.Get("a"))
	})
}

func TestProposalBudget(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{ProposalBytesMax: 100 << 10}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		blockCommit(c)
		var wg sync.WaitGroup
		var busy, done atomic.Int32
		for range 20 {
			wg.Go(func() {
				err := c.PutAt(context.Background(), lead, c.Context(lead, first), "a", strings.Repeat("x", 10<<10))
				if re := kv.AsRegionError(err); re.GetServerIsBusy() != nil {
					busy.Add(1)
				} else if err == nil {
					done.Add(1)
				}
			})
		}
		time.Sleep(time.Millisecond)
		require.Equal(t, int32(11), busy.Load())
		c.Heal()
		wg.Wait()
		require.Equal(t, int32(9), done.Load())
	})
}

// The outcome of a write that the leader could not commit is known when a
// later term's entry is applied, and not before; it is waited for a while
// (TestDeposedLeaderAnswersWrites).
func TestWriteOfDeposedLeader(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		rc := c.Context(lead, first)
		c.Partition(lead)
		done := make(chan error)
		go func() { done <- c.PutAt(context.Background(), lead, rc, "a", "lost") }()
		c.Eventually("another leader", func() bool { l := c.LeaderOf(first); return l != lead && l != 0 })
		c.Put("a", "2")
		select {
		case err := <-done:
			t.Fatalf("nobody can know yet: %v", err)
		default:
		}
		c.Heal()
		require.NotNil(t, asRegionError(t, <-done).GetStaleCommand())
		require.Equal(t, "2", c.Get("a"))
	})
}

func TestStopAnswersWaiters(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		lead := c.WaitLeader(first)
		blockCommit(c)
		done := make(chan error)
		go func() { done <- c.PutAt(context.Background(), lead, c.Context(lead, first), "a", "2") }()
		time.Sleep(time.Millisecond)
		c.Stop(lead)
		require.ErrorIs(t, <-done, raftstore.ErrStopped)
	})
}

// Hazard 2: after a failed sync nothing is acknowledged, and the process ends.
func TestHazard02_SyncErrorIsFatal(t *testing.T) {
	// In real time: a log that failed is abandoned with its goroutines, which
	// a bubble would not forgive.
	func(c *rafttest.Cluster) {
		c.Put("a", "1")
		c.Stop(1)
		var broken atomic.Bool
		c.WrapLogFS = func(fs vfs.FS) vfs.FS {
			return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if broken.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
					return errors.New("the disk is gone")
				}
				return nil
			}))
		}
		fatal := make(chan error, 1)
		c.Fatal = func(err error) {
			select {
			case fatal <- err:
			default:
			}
		}
		c.Restart(1)
		c.Put("a", "2")
		broken.Store(true)
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, c.PutAt(ctx, 1, c.Context(1, first), "a", "3"), context.DeadlineExceeded)
		require.ErrorContains(t, <-fatal, "the disk is gone")
		broken.Store(false)
		ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		require.Error(t, c.PutAt(ctx, 1, c.Context(1, first), "a", "4"), "the error is sticky")
		c.Abandon(1)
	}(rafttest.NewCluster(t, 1, 1, raftstore.Config{}))
}

func TestGroupCommit(t *testing.T) {
	// In real time: a sync that sleeps under a lock would stop a bubble's clock.
	func(c *rafttest.Cluster) {
		var keys []string
		for b := byte('b'); b <= 'p'; b++ {
			keys = append(keys, string(b))
		}
		c.Stop(1)
		c.WrapLogFS = func(fs vfs.FS) vfs.FS { // a disk that takes its time
			return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
					time.Sleep(time.Millisecond)
				}
				return nil
			}))
		}
		c.Restart(1)
		splitAt(t, c, first, keys...)
		for _, k := range keys {
			c.Put(k, "0")
		}
		syncs, regions := metric(t, c, 1, "tikv_raftstore_log_sync_total"), metric(t, c, 1, "tikv_raftstore_log_sync_regions_total")
		var wg sync.WaitGroup
		for _, k := range keys {
			wg.Go(func() {
				for range 50 {
					c.Put(k, "1")
				}
			})
		}
		wg.Wait()
		syncs = metric(t, c, 1, "tikv_raftstore_log_sync_total") - syncs
		regions = metric(t, c, 1, "tikv_raftstore_log_sync_regions_total") - regions
		require.Less(t, syncs, regions/2, "regions share syncs")
		for _, k := range keys {
			require.Equal(t, "1", c.Get(k))
		}
	}(rafttest.NewCluster(t, 1, 1, raftstore.Config{}))
}

// Hazard 6: a lone voter that restarts leads before it knows what it had
// committed.
func TestHazard06_LoneVoterKnowsItsCommits(t *testing.T) {
	// In real time, for the sake of a slow disk.
	var slow atomic.Bool
	func(c *rafttest.Cluster) {
		c.Put("a", "1")
		c.Stop(1)
		c.WrapLogFS = func(fs vfs.FS) vfs.FS {
			return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if slow.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo) {
					time.Sleep(30 * time.Millisecond)
				}
				return nil
			}))
		}
		c.Restart(1)
		for i := range 3 {
			value := strings.Repeat("x", i+1)
			c.Put("a", value)
			c.Crash(1, 0)
			slow.Store(true)
			c.Restart(1)
			c.Eventually("leader", func() bool {
				got, err := tryGet(c, 1, c.Context(1, first), "a", 5*time.Millisecond)
				if err == nil {
					require.Equal(t, value, got)
				}
				return err == nil
			})
			slow.Store(false)
		}
	}(rafttest.NewCluster(t, 1, 1, raftstore.Config{}))
}
