package raftstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/raftstore"
	"github.com/copradb/copra/raftstore/engine"
	"github.com/copradb/copra/raftstore/local"
	"github.com/copradb/copra/raftstore/raftlog"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// silentPD takes heartbeats and gives nothing.
type silentPD struct{}

func (silentPD) AskBatchSplit(context.Context, *metapb.Region, int) (*pdpb.AskBatchSplitResponse, error) {
	return nil, context.Canceled
}
func (silentPD) ReportBatchSplit(context.Context, []*metapb.Region) error      { return nil }
func (silentPD) GetRegionByID(context.Context, uint64) (*metapb.Region, error) { return nil, nil }
func (silentPD) ReportRegion(*pdpb.RegionHeartbeatRequest)                     {}

// scaled is one store of the test, on the disk.
type scaled struct {
	id     uint64
	dir    string
	net    *local.Network
	fs     vfs.FS
	engine *engine.Engine
	log    *raftlog.Log
	store  *raftstore.Store
	reg    *prometheus.Registry
}

func (s *scaled) open(t *testing.T) {
	t.Helper()
	var err error
	s.engine, err = engine.Open(engine.Options{Dir: filepath.Join(s.dir, "kv"), FS: s.fs, CacheBytes: 32 << 20})
	require.NoError(t, err)
	s.log, err = raftlog.Open(raftlog.Options{Dir: filepath.Join(s.dir, "raft"), FS: s.fs, CacheBytes: 32 << 20})
	require.NoError(t, err)
}

func (s *scaled) start(t *testing.T) {
	t.Helper()
	var err error
	s.reg = prometheus.NewRegistry()
	s.store, err = raftstore.New(raftstore.Options{
		StoreID: s.id, Engine: s.engine, Log: s.log, Transport: s.net.Transport(s.id), PD: silentPD{},
		SnapDir: filepath.Join(s.dir, "snap"), FS: s.fs, Registerer: s.reg})
	require.NoError(t, err)
	s.net.Register(s.id, s.store)
	require.NoError(t, s.store.Start())
}

func (s *scaled) stop(t *testing.T) {
	t.Helper()
	s.net.Unregister(s.id)
	s.store.Stop()
	require.NoError(t, s.engine.Close())
	require.NoError(t, s.log.Close())
}

func (s *scaled) counter(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := s.reg.Gather()
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

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heapBytes() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestScale measures three stores of many regions each in this process.
// COPRA_SCALE_REGIONS says how many; docs/benchmarks.md has figures. Without it
// they are few, in memory and in a bubble of their own time.
func TestScale(t *testing.T) {
	count := 20_000
	if v := os.Getenv("COPRA_SCALE_REGIONS"); v != "" {
		var err error
		count, err = strconv.Atoi(v)
		require.NoError(t, err)
	} else if os.Getenv("COPRA_TEST_LONG") == "" {
		synctest.Test(t, func(t *testing.T) { measureScale(t, 300, vfs.NewMem(), func() string { return "" }) })
		return
	}
	measureScale(t, count, vfs.Default, t.TempDir)
}

func measureScale(t *testing.T, count int, fs vfs.FS, newDir func() string) {
	net := local.NewNetwork()
	stores := []*scaled{}
	regions := scaleRegions(count)
	for id := uint64(1); id <= 3; id++ {
		s := &scaled{id: id, dir: filepath.Join(newDir(), fmt.Sprint("store", id)), fs: fs, net: net}
		s.open(t)
		for part := regions; len(part) > 0; part = part[min(len(part), 1000):] {
			require.NoError(t, raftstore.WriteRegions(s.engine, s.log, id, part[:min(len(part), 1000)]))
		}
		require.NoError(t, s.engine.Flush(context.Background()))
		stores = append(stores, s)
	}
	base := heapBytes()
	report := func(what string, format string, args ...any) {
		t.Logf("%-52s %s", what, fmt.Sprintf(format, args...))
	}
	report("regions, each on three stores", "%d", count)

	begin, cpu := time.Now(), cpuTime()
	for _, s := range stores {
		s.start(t)
	}
	report("open, a store", "%.2f s", time.Since(begin).Seconds()/3)
	report("memory of a cold region", "%d bytes", (heapBytes()-base)/uint64(3*count))
	firstReads(t, stores, regions, begin, report)
	awaitLeaders(t, stores, count)
	report("until all regions have leaders", "%.1f s", time.Since(begin).Seconds())
	awaitSleep(t, stores)
	report("until all sleep", "%.1f s, %.1f s of CPU a store", time.Since(begin).Seconds(), (cpuTime()-cpu).Seconds()/3)
	report("elections", "%d", int(elections(t, stores)))

	for cold := 1.0; cold > 0; time.Sleep(100 * time.Millisecond) { // followers become so
		cold = 0
		for _, s := range stores {
			cold += float64(s.store.RegionCount() - len(s.store.Leaders()) - s.store.ColdCount())
		}
	}
	used := heapBytes() - base
	report("memory of an idle region", "%d bytes, %d MB a store", used/uint64(3*count), used/3>>20)
	if path := os.Getenv("COPRA_SCALE_PROFILE"); path != "" {
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, pprof.Lookup("heap").WriteTo(f, 0))
		require.NoError(t, f.Close())
	}
	const idle = 20 * time.Second
	cpu = cpuTime()
	ticks := stores[0].counter(t, ticksMetric)
	time.Sleep(idle)
	report("CPU of an idle store", "%.2f %% of a core", (cpuTime()-cpu).Seconds()/3/idle.Seconds()*100)
	require.Equal(t, ticks, stores[0].counter(t, ticksMetric), "a sleeper was ticked")

	leads, changes := stores[0].store.Leaders(), elections(t, stores[1:])
	begin = time.Now()
	stores[0].stop(t)
	report("stop of one store", "%.1f s", time.Since(begin).Seconds())
	begin = time.Now()
	awaitLeaders(t, stores[1:], count)
	report(fmt.Sprintf("%d leaders lost, until all are replaced", len(leads)), "%.1f s", time.Since(begin).Seconds())
	report("elections", "%d", int(elections(t, stores[1:])-changes))
	begin = time.Now()
	stores[0].open(t)
	stores[0].start(t)
	report("restart of it", "%.2f s", time.Since(begin).Seconds())
	awaitSleep(t, stores)
	report("until all sleep again", "%.1f s", time.Since(begin).Seconds())

	for _, s := range stores {
		s.stop(t)
	}
	begin = time.Now()
	for _, s := range stores {
		s.open(t)
		s.start(t)
	}
	report("restart of all three, one after the other", "%.2f s", time.Since(begin).Seconds())
	firstReads(t, stores, regions, begin, report)
	awaitLeaders(t, stores, count)
	report("until all regions have leaders", "%.1f s", time.Since(begin).Seconds())
	for _, s := range stores {
		s.stop(t)
	}
}

func scaleRegions(count int) (out []*metapb.Region) {
	key := func(i int) []byte {
		if i <= 0 || i >= count {
			return nil
		}
		return []byte(encodedKey(fmt.Sprintf("table:%06d", i)))
	}
	for i := range count {
		id := uint64(10 * (i + 1))
		out = append(out, &metapb.Region{
			Id: id, StartKey: key(i), EndKey: key(i + 1), RegionEpoch: &metapb.RegionEpoch{ConfVer: 1, Version: 1},
			Peers: []*metapb.Peer{{Id: id + 1, StoreId: 1}, {Id: id + 2, StoreId: 2}, {Id: id + 3, StoreId: 3}}})
	}
	return out
}

func elections(t *testing.T, stores []*scaled) (sum float64) {
	for _, s := range stores {
		sum += float64(s.counter(t, "tikv_raftstore_leader_elected_total"))
	}
	return sum
}

// firstReads reads from regions all over, as a client does: it asks the stores
// in turn until one serves it.
func firstReads(t *testing.T, stores []*scaled, regions []*metapb.Region, begin time.Time, report func(string, string, ...any)) {
	t.Helper()
	read := func(r *metapb.Region) {
		for i := 0; ; i++ {
			s := stores[i%len(stores)]
			rc := &kvrpcpb.Context{RegionId: r.Id, RegionEpoch: r.RegionEpoch}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			snap, err := s.store.Snapshot(ctx, rc, kv.SnapshotOptions{})
			cancel()
			if err == nil {
				require.NoError(t, snap.Close())
				return
			}
			require.Less(t, time.Since(begin), 5*time.Minute, "%v", err)
			if i%len(stores) == len(stores)-1 {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	read(regions[len(regions)/2])
	report("first read", "after %.2f s", time.Since(begin).Seconds())
	for range 100 {
		read(regions[rand.IntN(len(regions))])
	}
	report("a hundred reads of others, one after the other", "after %.2f s", time.Since(begin).Seconds())
}

func awaitLeaders(t *testing.T, stores []*scaled, count int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		n := 0
		for _, s := range stores {
			n += len(s.store.Leaders())
		}
		if n >= count {
			return
		}
		require.True(t, time.Now().Before(end), "%d of %d regions have leaders", n, count)
	}
}

func awaitSleep(t *testing.T, stores []*scaled) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		n := 0
		for _, s := range stores {
			n += s.store.AwakeCount()
		}
		if n == 0 {
			return
		}
		require.True(t, time.Now().Before(end), "%d peers are awake", n)
	}
}
