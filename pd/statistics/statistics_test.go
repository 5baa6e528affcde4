package statistics

import (
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"

	"github.com/copradb/copra/pd/core"
)

var start = time.Unix(1_700_000_000, 0)

// report is a region on stores 1 to 3 with flows per second.
func report(id, leader, seconds uint64, bytesRead, bytesWritten uint64) *core.Region {
	m := &metapb.Region{Id: id, RegionEpoch: &metapb.RegionEpoch{Version: 1, ConfVer: 1}}
	for s := uint64(1); s <= 3; s++ {
		m.Peers = append(m.Peers, &metapb.Peer{Id: 10*id + s, StoreId: s})
	}
	return &core.Region{Meta: m, Leader: m.Peers[leader-1], IntervalSeconds: seconds,
		ReadBytes: bytesRead * seconds, WrittenBytes: bytesWritten * seconds}
}

func TestHotDegreeRisesAndFalls(t *testing.T) {
	h, now := New(), start
	observe := func(r *core.Region) {
		now = now.Add(time.Minute)
		h.Observe(r, now)
	}
	for range 4 {
		observe(report(1, 1, 60, 1<<20, 1<<20))
		observe(report(2, 1, 60, 100, 100)) // idle
	}
	reads, writes := h.Caches[Read], h.Caches[Write]
	if p := reads.Peers(1, Bytes, 0); len(p) != 1 || p[0].RegionID != 1 || p[0].Degree != 4 || !p[0].Leader || p[0].Loads[Bytes] != 1<<20 {
		t.Fatalf("reads of store 1: %+v", p)
	}
	if p := reads.Peers(2, Bytes, 0); len(p) != 0 {
		t.Fatalf("a follower reads: %+v", p)
	}
	if p := writes.Peers(2, Bytes, 0); len(p) != 1 || p[0].Leader || p[0].PeerID != 12 {
		t.Fatalf("writes of store 2: %+v", p)
	}
	if writes.Sum(2, true)[Bytes] != 0 || writes.Sum(2, false)[Bytes] != 1<<20 || writes.Sum(1, true)[Bytes] != 1<<20 {
		t.Fatal("sums of writes")
	}
	if !h.IsHot(1, 4) || h.IsHot(1, 5) || h.IsHot(2, 1) {
		t.Fatal("IsHot")
	}
	// A short interval is no sample yet, none at all is no report.
	observe(report(1, 1, 1, 0, 0))
	observe(report(1, 1, 0, 0, 0))
	if !h.IsHot(1, 4) {
		t.Fatal("a second without flow made it cold")
	}
	// The leader moves: reads start anew elsewhere, and so do writes.
	observe(report(1, 2, 60, 1<<20, 1<<20))
	if p := reads.Peers(2, Bytes, 0); len(p) != 1 || p[0].Degree != 1 || len(reads.Peers(1, Bytes, 0)) != 0 {
		t.Fatalf("after the transfer: %+v", p)
	}
	// It goes cold: the smoothed rate falls, then it is dropped.
	for range 20 {
		observe(report(1, 2, 60, 0, 0))
	}
	if len(reads.StoreIDs()) != 0 || h.IsHot(1, 0) {
		t.Fatalf("still hot: %+v", reads.Peers(2, Bytes, 0))
	}
}

// TestHotThreshold keeps few where many are busy: 0.8 of the 60th.
func TestHotThreshold(t *testing.T) {
	h, now := New(), start
	for range 8 {
		now = now.Add(time.Minute)
		for id := uint64(1); id <= 200; id++ {
			h.Observe(report(id, 1, 60, id<<20, 0), now)
		}
	}
	peers := h.Caches[Read].Peers(1, Bytes, 0)
	if n := len(peers); n < topRegions || n > 2*topRegions {
		t.Fatalf("%d of 200 regions are hot", n)
	}
	if peers[0].RegionID != 200 || peers[topRegions-1].RegionID != 200-topRegions+1 {
		t.Fatalf("the busiest are %d to %d", peers[0].RegionID, peers[topRegions-1].RegionID)
	}
	if top := h.Caches[Read].Peers(1, Bytes, 3); len(top) != 3 {
		t.Fatalf("asked for 3, got %d", len(top))
	}
}

// TestHotForgetsTheSilent drops regions that were merged away.
func TestHotForgetsTheSilent(t *testing.T) {
	h := New()
	h.Observe(report(1, 1, 60, 1<<20, 0), start)
	later := start.Add(hotSilenceMax + time.Second)
	h.Observe(report(2, 1, 60, 1<<20, 0), later)
	if p := h.Caches[Read].Peers(1, Bytes, 0); len(p) != 1 || p[0].RegionID != 2 {
		t.Fatalf("%+v", p)
	}
}

func TestStoreLoadsAreMedians(t *testing.T) {
	h := New()
	s := &h.Stores
	if _, ok := s.Get(1, Read); ok {
		t.Fatal("a load before the first report")
	}
	h.ObserveStore(&pdpb.StoreStats{StoreId: 1, BytesRead: 5})
	if _, ok := s.Get(1, Read); ok {
		t.Fatal("a load without an interval")
	}
	for _, rate := range []uint64{7, 100, 1 << 40, 90, 110, 0, 95} {
		h.ObserveStore(&pdpb.StoreStats{StoreId: 1, BytesRead: rate * 10, QueryStats: &pdpb.QueryStats{Get: 20, Put: 30},
			Interval: &pdpb.TimeInterval{StartTimestamp: 50, EndTimestamp: 60}})
	}
	got, ok := s.Get(1, Read)
	if !ok || got[Bytes] != 95 || got[Queries] != 2 {
		t.Fatalf("%v", got) // the last five: 2^40, 90, 110, 0, 95
	}
	if got, _ := s.Get(1, Write); got[Queries] != 3 {
		t.Fatalf("writes: %v", got)
	}
	s.Forget(1)
	if _, ok := s.Get(1, Read); ok {
		t.Fatal("not forgotten")
	}
}

func TestHistory(t *testing.T) {
	h := New()
	h.Observe(report(1, 1, 60, 1<<20, 1<<20), start)
	h.Record(start)
	h.Record(start.Add(time.Minute)) // too soon
	h.Record(start.Add(historyEvery))
	if n := len(h.History.Between(start, start.Add(1))); n != 4 { // one reads, three write
		t.Fatalf("%d entries", n)
	}
	if n := len(h.History.Between(start, start.Add(time.Hour))); n != 8 {
		t.Fatalf("%d entries in all", n)
	}
	for i := range historyEntriesMax/4 + 10 {
		h.Record(start.Add(time.Duration(i+2) * historyEvery))
	}
	if n := len(h.History.Between(start, start.Add(1e6*time.Hour))); n != historyEntriesMax {
		t.Fatalf("%d entries are kept", n)
	}
}

// TestLoadMovesWithTheRegion has a hot region change its leader: the two stores'
// loads follow at once, before any store reports.
func TestLoadMovesWithTheRegion(t *testing.T) {
	h, now := New(), start
	const rate, cold = 1 << 20, 5000
	stores := func(one uint64) {
		for id, n := range []uint64{one, rate - one} {
			h.ObserveStore(&pdpb.StoreStats{StoreId: uint64(id + 1), BytesRead: 10 * (n + cold),
				Interval: &pdpb.TimeInterval{StartTimestamp: 50, EndTimestamp: 60}})
		}
	}
	check := func(one, two float64) {
		t.Helper()
		if a, b := h.Load(1, Read, false)[Bytes], h.Load(2, Read, false)[Bytes]; a != one || b != two {
			t.Fatalf("loads are %g and %g, want %g and %g", a, b, one, two)
		}
	}
	for range 5 {
		now = now.Add(time.Minute)
		h.Observe(report(1, 1, 60, rate, 0), now)
		stores(rate)
	}
	check(rate+cold, cold)
	// The first heartbeat of the new leader has no interval.
	h.Observe(report(1, 2, 0, 0, 0), now)
	check(cold, rate+cold)
	stores(rate / 2) // a report that covers both halves
	check(cold, rate+cold)
	for range 5 {
		stores(0)
		check(cold, rate+cold)
	}
}
