package raftstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/rafttest"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/stretchr/testify/require"
)

// chaosKeys are where regions are cut and merged again.
var chaosKeys = []string{"c", "f", "i", "l"}

// TestMergesUnderCrashes cuts and merges regions in chains while stores crash,
// are cut off, and apply slowly. Whatever a store has to apply again after a
// crash, it comes to the state of the others. COPRA_TEST_SEED=n runs that seed
// for longer, and with COPRA_TEST_SEEDS=m the m from there on.
func TestMergesUnderCrashes(t *testing.T) {
	first, seeds, steps := chaosNumber(t, "COPRA_TEST_SEED", 0), 6, 30
	switch {
	case first != 0:
		seeds, steps = 1, 60
	case os.Getenv("COPRA_TEST_LONG") != "":
		seeds, steps = 200, 60
	}
	seeds = chaosNumber(t, "COPRA_TEST_SEEDS", seeds)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			config := raftstore.Config{}
			if seed%2 == 1 {
				config = smallLog
			}
			cluster(t, 3, 3, config, func(t *testing.T, c *rafttest.Cluster) {
				mergesUnderCrashes(t, c, rand.New(rand.NewPCG(uint64(seed), 1)), steps)
			})
		})
	}
}

func chaosNumber(t *testing.T, name string, def int) int {
	v := os.Getenv(name)
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err, name)
	return n
}

func mergesUnderCrashes(t *testing.T, c *rafttest.Cluster, rng *rand.Rand, steps int) {
	c.WaitLeader(rafttest.FirstRegion)
	var stop, quiet atomic.Bool
	var writers sync.WaitGroup
	defer func() { // also when the test has failed
		stop.Store(true)
		quiet.Store(false)
		writers.Wait()
	}()
	acked := make([]map[string]string, 3)
	for w := range acked {
		acked[w] = map[string]string{}
		pauses := rand.New(rand.NewPCG(rng.Uint64(), 2))
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				for quiet.Load() {
					time.Sleep(10 * time.Millisecond)
				}
				key := fmt.Sprintf("%c%d", 'a'+pauses.IntN(15), w)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if c.TryPut(ctx, key, fmt.Sprint(i)) == nil {
					acked[w][key] = fmt.Sprint(i)
				} else {
					delete(acked[w], key) // who knows
				}
				cancel()
				time.Sleep(time.Duration(pauses.IntN(40)) * time.Millisecond)
			}
		})
	}
	for range steps {
		chaosStep(c, rng)
		pause := time.Duration(rng.IntN(600)) * time.Millisecond
		if rng.IntN(8) == 0 { // regions fall asleep
			quiet.Store(true)
			pause += time.Duration(rng.IntN(20)) * time.Second
		}
		time.Sleep(pause)
		quiet.Store(false)
	}
	chaosCalm(c)
	stop.Store(true)
	writers.Wait()
	alike(c)
	for _, m := range acked {
		for key, value := range m {
			require.Equal(t, value, c.Get(key), key)
		}
	}
}

// chaosStep makes one fault, or one change of the regions.
func chaosStep(c *rafttest.Cluster, rng *rand.Rand) {
	store := 1 + rng.Uint64N(3)
	switch rng.IntN(18) {
	case 0:
		c.Partition(store)
		return
	case 1:
		c.Node(store).Events.SlowApply(time.Duration(rng.IntN(300)) * time.Millisecond)
		return
	case 2: // one region doesn't come through to one store
		regions := c.Node(store).Store.Regions()
		deaf := regions[rng.IntN(len(regions))].Region.Id
		c.Net.SetFilter(func(m *raftstore.RaftMessage, _ func()) bool { return m.RegionID != deaf || m.To.StoreId != store })
		return
	case 3:
		require.NoError(c.TB, c.Node(store).Engine.Flush(c.TB.Context()))
		return
	}
	chaosCalm(c)
	switch rng.IntN(12) {
	case 0:
	case 1, 2:
		chaosSplit(c, chaosKeys[rng.IntN(len(chaosKeys))])
	case 3:
		for _, r := range c.Node(store).Store.Regions() {
			if n := len(r.Region.Peers); n > 0 {
				to := r.Region.Peers[rng.IntN(n)]
				c.PD.Operate(&pdpb.RegionHeartbeatResponse{RegionId: r.Region.Id, TransferLeader: &pdpb.TransferLeader{Peer: to}})
			}
		}
	case 4: // all at once
		for _, id := range c.IDs() {
			c.Crash(id, rng.IntN(3)*50)
		}
		for _, id := range c.IDs() {
			c.Restart(id)
		}
	case 5:
		c.Stop(store)
		c.Restart(store)
	case 6, 7:
		c.Crash(store, rng.IntN(3)*50)
		if rng.IntN(3) == 0 {
			replayAlone(c, store)
		}
		c.Restart(store)
	default:
		chaosMerge(c, rng)
	}
}

// replayAlone brings a store up to date alone: nobody tells it anything, and all
// that is committed in its log must be enough to get there.
func replayAlone(c *rafttest.Cluster, store uint64) {
	ctx, cancel := context.WithTimeout(c.TB.Context(), time.Minute)
	defer cancel()
	offline(c.TB, c, store, func(o *raftstore.Offline) { require.NoError(c.TB, o.Replay(ctx, c.Node(store).FS, "snap")) })
}

func chaosSplit(c *rafttest.Cluster, key string) {
	r := c.RegionAt(key)
	if r == nil || string(r.StartKey) == key {
		return
	}
	if lead := c.LeaderOf(r.Id); lead != 0 {
		ctx, cancel := context.WithTimeout(c.TB.Context(), time.Second)
		defer cancel()
		_, _ = c.Node(lead).Store.SplitRegion(ctx, c.Context(lead, r.Id), [][]byte{[]byte(key)})
	}
}

// chaosMerge asks for the merge of some region into a neighbour, once.
func chaosMerge(c *rafttest.Cluster, rng *rand.Rand) {
	source := c.RegionAt(append([]string{""}, chaosKeys...)[rng.IntN(1+len(chaosKeys))])
	if source == nil || len(source.EndKey) == 0 {
		return
	}
	target := c.RegionAt(string(source.EndKey))
	if target == nil {
		return
	}
	if rng.IntN(2) == 0 {
		source, target = target, source
	}
	c.PD.TryMerge(source.Id, target.Id)
}

func chaosCalm(c *rafttest.Cluster) {
	c.Heal()
	for _, id := range c.IDs() {
		c.Node(id).Events.SlowApply(0)
	}
}

// alike waits until all stores have the same regions, all of them with leaders.
func alike(c *rafttest.Cluster) {
	c.TB.Helper()
	c.Eventually("all stores are alike", func() bool {
		want := map[uint64]string{}
		for _, id := range c.IDs() {
			regions := c.Node(id).Store.Regions()
			for _, r := range regions {
				state := fmt.Sprint(r.Region, r.AppliedIndex)
				if id == 1 {
					want[r.Region.Id] = state
				}
				if want[r.Region.Id] != state || c.LeaderOf(r.Region.Id) == 0 {
					return false
				}
			}
			if len(regions) != len(want) {
				return false
			}
		}
		return true
	})
}
