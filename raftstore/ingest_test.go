package raftstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"
)

// loadTable makes a table in a file system of its own.
func loadTable(t testing.TB, fs vfs.FS, cf kv.CF, keys ...string) (raftstore.IngestSource, raftstore.IngestTable) {
	t.Helper()
	path := fmt.Sprintf("table-%s-%s.sst", cf, keys[0])
	w, err := engine.NewLoadWriter(fs, path, cf)
	require.NoError(t, err)
	for _, k := range keys {
		require.NoError(t, w.Add([]byte(k), []byte("loaded "+k)))
	}
	info, err := w.Finish()
	require.NoError(t, err)
	return raftstore.IngestSource{FS: fs, Path: path}, raftstore.IngestTable{Name: fmt.Sprintf("%s-%d", cf, info.Keys), Bytes: info.Bytes, Keys: info.Keys}
}

// stageAll stages a table for a region on the stores of its peers.
func stageAll(c *rafttest.Cluster, region *metapb.Region, name string, src raftstore.IngestSource) error {
	for _, p := range region.Peers {
		if !c.Node(p.StoreId).Up.Load() {
			return fmt.Errorf("store %d is down", p.StoreId)
		}
		if err := c.Node(p.StoreId).Store.StageIngest(region.Id, region.RegionEpoch, name, src); err != nil {
			return err
		}
		if !c.Node(p.StoreId).Up.Load() { // what it said does not count
			return fmt.Errorf("store %d has crashed", p.StoreId)
		}
	}
	return nil
}

// ingestAt ingests through the region's leader.
func ingestAt(c *rafttest.Cluster, region *metapb.Region, tables ...raftstore.IngestTable) error {
	lead := c.LeaderOf(region.Id)
	if lead == 0 {
		return fmt.Errorf("region %d has no leader", region.Id)
	}
	rc := c.Context(lead, region.Id)
	rc.RegionEpoch = region.RegionEpoch
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return c.Node(lead).Store.Ingest(ctx, rc, tables)
}

func everywhere(t *testing.T, c *rafttest.Cluster, value string, keys ...string) {
	t.Helper()
	for _, id := range c.IDs() {
		for _, k := range keys {
			c.Eventually(fmt.Sprintf("%q on store %d", k, id), func() bool { return c.Local(id, k) == value+k })
		}
	}
}

func staged(t *testing.T, c *rafttest.Cluster, store uint64) (out []string) {
	t.Helper()
	names, err := c.Node(store).FS.List(c.Node(store).Store.ImportDir())
	require.NoError(t, err)
	for _, n := range names {
		if strings.HasSuffix(n, ".sst") {
			out = append(out, n)
		}
	}
	return out
}

func TestIngest(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("b", "old")
		left := splitAt(t, c, rafttest.FirstRegion, "m")[0]
		c.WaitLeader(left.Id)
		left = c.RegionAt("a")
		src, table := loadTable(t, vfs.NewMem(), kv.CFDefault, "a", "b", "c")
		more, table2 := loadTable(t, vfs.NewMem(), kv.CFWrite, "a", "c")
		require.NoError(t, stageAll(c, left, table.Name, src))
		require.NoError(t, stageAll(c, left, table2.Name, more))
		require.NoError(t, ingestAt(c, left, table, table2))
		require.Equal(t, "loaded b", c.Get("b"), "what is ingested lies over what was written before")
		c.Put("c", "new")
		require.Equal(t, "new", c.Get("c"))
		for id := uint64(1); id <= 3; id++ {
			c.Eventually("replication", func() bool { return c.Local(id, "a") == "loaded a" && c.Local(id, "c") == "new" })
			require.Empty(t, staged(t, c, id), "the tables are consumed")
		}
		// A replica that joins behind it has it from a snapshot.
		c.PD.AddPeer(left.Id, 4)
		c.Eventually("snapshot", func() bool { return c.Local(4, "a") == "loaded a" && c.Local(4, "b") == "loaded b" })
		for _, id := range c.IDs() {
			c.Crash(id, 0)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
		require.Equal(t, "loaded a", c.Get("a"))
		require.Equal(t, "new", c.Get("c"))
	})
}

// What was written before an ingestion is applied before it, also after a crash
// that loses the memtables: a range delete must not come again on top of it.
func TestIngestIsNotOvertakenByReplay(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{LogCheckInterval: time.Hour}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "old")
		lead := c.WaitLeader(rafttest.FirstRegion)
		var b kv.Batch
		b.DeleteRange(kv.CFDefault, []byte("a"), []byte("z"))
		require.NoError(t, c.Node(lead).Store.Write(context.Background(), c.Context(lead, rafttest.FirstRegion), &b))
		region := c.RegionAt("a")
		src, table := loadTable(t, vfs.NewMem(), kv.CFDefault, "a", "b")
		require.NoError(t, stageAll(c, region, table.Name, src))
		require.NoError(t, ingestAt(c, region, table))
		everywhere(t, c, "loaded ", "a", "b")
		for _, id := range c.IDs() {
			c.Crash(id, 0)
			c.Restart(id)
		}
		require.Equal(t, "loaded a", c.Get("a"))
		everywhere(t, c, "loaded ", "a", "b")
	})
}

// A replica that is down when the entry is applied has its tables when it is back.
func TestIngestWaitsInTheLog(t *testing.T) {
	cluster(t, 3, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "old")
		c.PD.TransferLeader(rafttest.FirstRegion, 1)
		region := c.RegionAt("a")
		src, table := loadTable(t, vfs.NewMem(), kv.CFDefault, "a", "b")
		require.NoError(t, stageAll(c, region, table.Name, src))
		c.Crash(3, 0)
		require.NoError(t, ingestAt(c, region, table))
		require.Equal(t, "loaded b", c.Get("b"))
		c.Restart(3)
		c.Eventually("apply", func() bool { return c.Local(3, "b") == "loaded b" })
		c.Crash(3, 0)
		c.Restart(3)
		c.Eventually("still there", func() bool { return c.Local(3, "b") == "loaded b" })
	})
}

func TestIngestRefused(t *testing.T) {
	cluster(t, 4, 3, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "old")
		region := c.RegionAt("a")
		fs := vfs.NewMem()
		src, table := loadTable(t, fs, kv.CFDefault, "a", "x")
		s := c.Node(c.WaitLeader(region.Id)).Store
		for _, name := range []string{"", "a/b", "..", "a_b"} {
			require.Error(t, s.StageIngest(region.Id, region.RegionEpoch, name, src), "%q", name)
		}
		require.ErrorContains(t, ingestAt(c, region), "want 1 to")
		require.ErrorContains(t, ingestAt(c, region, table), "not exist", "not staged")

		// The region ends before the last key.
		left := splitAt(t, c, region.Id, "m")[0]
		c.WaitLeader(left.Id)
		require.NoError(t, stageAll(c, left, table.Name, src))
		require.ErrorContains(t, ingestAt(c, left, table), "not inside")
		locks, lockTable := loadTable(t, fs, kv.CFLock, "b")
		require.NoError(t, stageAll(c, left, lockTable.Name, locks))
		require.ErrorContains(t, ingestAt(c, left, lockTable), "versioned family")

		// Tables that overlap would stop every store that applies them.
		one, oneTable := loadTable(t, vfs.NewMem(), kv.CFDefault, "b", "d")
		two, twoTable := loadTable(t, vfs.NewMem(), kv.CFDefault, "c")
		oneTable.Name, twoTable.Name = "one", "two"
		require.NoError(t, stageAll(c, left, oneTable.Name, one))
		require.NoError(t, stageAll(c, left, twoTable.Name, two))
		require.ErrorContains(t, ingestAt(c, left, oneTable, twoTable), "overlap")
		require.ErrorContains(t, stageAll(c, left, oneTable.Name, two), "there already")

		// Staged for an epoch that has passed, by a split or by a change of members.
		require.NotNil(t, asRegionError(t, ingestAt(c, region, table)).GetEpochNotMatch())
		require.NotNil(t, asRegionError(t, stageAll(c, region, "late", src)).GetEpochNotMatch())
		ok, okTable := loadTable(t, fs, kv.CFDefault, "b")
		okTable.Name = "ok"
		require.NoError(t, stageAll(c, left, okTable.Name, ok))
		c.PD.AddPeer(left.Id, 4)
		require.NotNil(t, asRegionError(t, ingestAt(c, left, okTable)).GetEpochNotMatch())
		require.Equal(t, "old", c.Get("a"))
		require.Empty(t, c.Get("b"))

		// What nobody can ask for any more goes at the next start.
		require.NotEmpty(t, staged(t, c, 1))
		c.Stop(1)
		c.Restart(1)
		require.Empty(t, staged(t, c, 1))
	})
}

// TestIngestChaos ingests into regions that split, merge, change members and
// leaders, and lose stores, one or all at once, again after each failure.
// Everything is there in the end, on all replicas alike, and nothing that was
// written over it comes back.
func TestIngestChaos(t *testing.T) {
	seeds := uint64(4)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		seeds = 300
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			cluster(t, 4, 3, raftstore.Config{ConsistencyCheckInterval: 2 * time.Second, LogCheckInterval: time.Second}, func(t *testing.T, c *rafttest.Cluster) {
				ingestChaos(t, c, rand.New(rand.NewPCG(seed, 7)))
			})
		})
	}
}

func ingestChaos(t *testing.T, c *rafttest.Cluster, rng *rand.Rand) {
	c.Put("k", "old")
	const tables = 24
	var wg sync.WaitGroup
	fs := vfs.NewMem()
	for i := range tables {
		first := fmt.Sprintf("k%02d", i)
		src, table := loadTable(t, fs, kv.CFDefault, first+"a", first+"b", first+"c")
		wg.Go(func() {
			ingestUntil(c, first, src, table)
			c.Put(first+"b", "over "+first+"b")
		})
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		disturb(t, c, rng, first, i)
	}
	wg.Wait()
	for i := range tables {
		for end, value := range map[string]string{"a": "loaded ", "b": "over ", "c": "loaded "} {
			k := fmt.Sprintf("k%02d%s", i, end)
			require.Equal(t, value+k, c.Get(k))
			for _, p := range c.RegionAt(k).Peers {
				c.Eventually(k, func() bool { return c.Local(p.StoreId, k) == value+k })
			}
		}
	}
	time.Sleep(10 * time.Second) // the consistency checks compare the replicas
	for _, id := range c.IDs() { // what is durable is whole
		c.Crash(id, rng.IntN(100))
	}
	for _, id := range c.IDs() {
		c.Restart(id)
	}
	for i := range tables {
		k := fmt.Sprintf("k%02dc", i)
		require.Equal(t, "loaded "+k, c.Get(k))
	}
}

// ingestUntil tries until it is told that a table is ingested, under a new name
// each time.
func ingestUntil(c *rafttest.Cluster, first string, src raftstore.IngestSource, table raftstore.IngestTable) {
	for try := 0; ; try++ {
		if region := c.RegionAt(first); region != nil {
			table.Name = fmt.Sprintf("%s-%d", first, try)
			err := stageAll(c, region, table.Name, src)
			if err == nil {
				err = ingestAt(c, region, table)
			}
			if err == nil {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// disturb does something to the region of a key, or to its stores.
func disturb(t *testing.T, c *rafttest.Cluster, rng *rand.Rand, first string, i int) {
	region := c.RegionAt(first)
	if region == nil {
		return
	}
	switch rng.IntN(8) {
	case 0:
		id := rng.Uint64N(4) + 1
		c.Crash(id, rng.IntN(100))
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
		c.Restart(id)
	case 1:
		for _, id := range c.IDs() {
			c.Crash(id, rng.IntN(100))
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
	case 2, 3:
		if at := fmt.Sprintf("k%02d", i/2+i%2); at > string(region.StartKey) && (len(region.EndKey) == 0 || at < string(region.EndKey)) {
			splitAt(t, c, region.Id, at)
		}
	case 4:
		if next := c.RegionAt(string(region.EndKey)); len(region.EndKey) > 0 && next != nil && next.Id != region.Id && sameStores(region, next) {
			for range 20 { // it may not come to its end
				if c.PD.TryMerge(region.Id, next.Id) {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	case 5:
		c.PD.TransferLeader(region.Id, region.Peers[rng.IntN(len(region.Peers))].StoreId)
	case 6, 7:
		moveReplica(c, region, rng)
	}
}

func sameStores(a, b *metapb.Region) bool {
	has := map[uint64]bool{}
	for _, p := range a.Peers {
		has[p.StoreId] = true
	}
	for _, p := range b.Peers {
		if !has[p.StoreId] {
			return false
		}
	}
	return len(a.Peers) == len(b.Peers)
}

// moveReplica moves one of three replicas to the store that has none.
func moveReplica(c *rafttest.Cluster, region *metapb.Region, rng *rand.Rand) {
	free := uint64(10) // the sum of all
	for _, p := range region.Peers {
		free -= p.StoreId
	}
	if len(region.Peers) != 3 || !c.Node(free).Up.Load() {
		return
	}
	from := region.Peers[rng.IntN(3)]
	c.PD.AddPeer(region.Id, free)
	if c.LeaderOf(region.Id) == from.StoreId {
		c.PD.TransferLeader(region.Id, free)
	}
	c.PD.RemovePeer(region.Id, from.Id, from.StoreId)
}

// told is an observer that notes ingestions between steps.
type told struct {
	raftstore.NoObserver
	mu     sync.Mutex
	events []string
}

func (o *told) Advanced(region, from, to uint64, entries []*raftpb.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, fmt.Sprintf("advanced %d", len(entries)))
}

func (o *told) Ingested(r kv.KeyRange) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, fmt.Sprintf("ingested [%s, %s)", r.Start, r.End))
}

func TestIngestIsObserved(t *testing.T) {
	cluster(t, 1, 1, raftstore.Config{}, func(t *testing.T, c *rafttest.Cluster) {
		c.Put("a", "1")
		o := &told{}
		c.Node(1).Events.Also(o)
		region := c.RegionAt("a")
		src, table := loadTable(t, vfs.NewMem(), kv.CFDefault, "a", "b")
		require.NoError(t, stageAll(c, region, table.Name, src))
		require.NoError(t, ingestAt(c, region, table))
		o.mu.Lock()
		defer o.mu.Unlock()
		require.Equal(t, []string{"ingested [, )", "advanced 0"}, o.events)
	})
}
