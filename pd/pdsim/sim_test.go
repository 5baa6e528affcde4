package pdsim

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/schedule"
)

// config is a cluster whose disks and networks are fast, and whose operator has
// raised the limits: then what is measured is the scheduling.
func config(stores, regions int, seed uint64) Config {
	return Config{
		Stores: stores, Regions: regions, Skew: 0.2, RegionBytes: 96 << 20, Seed: seed,
		CapacityBytes: uint64(regions) / uint64(stores) * 3 * (96 << 20) * 3, SnapshotBytesPerSecond: 500 << 20,
		Options: schedule.Options{MaxStoreDownTime: 2 * time.Minute, StoreLimit: 32, LeaderLimit: 64, ReplicaLimit: 1024,
			StoreRate: schedule.StoreRate{AddPeer: schedule.StoreRateUnlimited, RemovePeer: schedule.StoreRateUnlimited}},
	}
}

func expect(t *testing.T, p Phase, slack float64) {
	t.Helper()
	switch {
	case !p.Done:
		t.Errorf("not done: %v", p)
	case !p.After.Even():
		t.Errorf("not even any more: %v", p)
	case p.Moves.Back > p.Moves.Peers/1000:
		t.Errorf("regions went back: %v", p)
	case float64(p.Moves.Peers) > slack*float64(p.Needed)+20:
		t.Errorf("too many moves: %v", p)
	}
}

func scenario(t *testing.T, w io.Writer, s *Sim, grow int, limit, settle time.Duration) {
	f := s.Load()
	_, _ = fmt.Fprintf(w, "memory %.0f B a region; first heartbeat %.0f ns; later ones %.0f ns (%.2f s CPU a million), "+
		"%.0f ns of it without decoding, %.1f allocations\n", f.HeapBytesPerRegion, f.LoadNanoseconds, f.HeartbeatNanoseconds,
		f.HeartbeatSecondsPer1M, f.HeartbeatNoWireNanos, f.HeartbeatAllocs)
	expect(t, s.Balance(w, limit, settle), 1.15)
	expect(t, s.Grow(w, grow, limit, settle), 1.15)
	expect(t, s.Lose(w, 1, limit, settle), 1.25)
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	if p := s.HeatStore(w, 2, 4*len(s.stores), 2, limit); !p.Done {
		t.Errorf("still hot: %v, %.1f times the average", p, s.HotPart())
	}
	_, _ = fmt.Fprintf(w, "hot: %.1f times the average in the end; %d heartbeats, %v in them, %v in planning\n",
		s.HotPart(), s.Reports, s.ReportTime, s.PlanTime)
}

// TestSmall runs the whole scenario with 20 stores and 8,000 regions, or 20,000
// with COPRA_TEST_LONG=1.
func TestSmall(t *testing.T) {
	cfg := config(20, 8_000, 1)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		cfg = config(20, 20_000, 1)
	}
	cfg.SizeSpread = 0.5
	scenario(t, t.Output(), New(cfg), 2, 20*time.Minute, time.Minute)
}

// TestLarge runs it with 200 stores and 1,000,000 regions.
func TestLarge(t *testing.T) {
	if os.Getenv("COPRA_TEST_LONG") == "" {
		t.Log("COPRA_TEST_LONG=1 (make pd-sim) runs 200 stores with 1,000,000 regions; here 30 with 5,000")
		cfg := config(30, 5_000, 2)
		cfg.SizeSpread = 0.1 // so few regions a store that their sizes do not even out
		scenario(t, t.Output(), New(cfg), 4, 20*time.Minute, time.Minute)
		return
	}
	cfg := config(200, 1_000_000, 1)
	cfg.SizeSpread = 0.5
	scenario(t, os.Stdout, New(cfg), 10, 4*time.Hour, 10*time.Minute)
}

// TestDifferentDisks has disks of two sizes, fairly full: the large ones get more,
// and once the scores are even nothing moves any more.
func TestDifferentDisks(t *testing.T) {
	cfg := config(10, 4_000, 3)
	cfg.Skew, cfg.SizeSpread, cfg.LargeDisks = 0, 0.3, 5
	cfg.CapacityBytes = uint64(cfg.Regions) / uint64(cfg.Stores) * 3 * cfg.RegionBytes * 4 / 3
	s := New(cfg)
	s.Load()
	s.Run(8 * time.Minute)
	moves := s.Moves
	s.Run(5 * time.Minute)
	if moves != s.Moves || moves.Back > 0 {
		t.Errorf("it does not come to rest: %+v, then %+v", moves, s.Moves)
	}
	score := func(id uint64) float64 {
		st := s.Stores().Get(id)
		return core.RegionScore(float64(s.known.StoreCounts(id).PeerBytes)/(1<<20),
			float64(st.Stats.Capacity)/(1<<30), float64(st.Stats.Available)/(1<<30), 1)
	}
	low, high := score(1), score(1)
	for id := uint64(1); id <= uint64(cfg.Stores); id++ {
		low, high = min(low, score(id)), max(high, score(id))
	}
	large, small := s.known.StoreCounts(1).Peers, s.known.StoreCounts(10).Peers
	t.Logf("%d peers moved; scores are %.0f to %.0f; a large disk has %d peers, a small one %d", moves.Peers, low, high, large, small)
	if (high-low)/high > evenPart || float64(large) < 1.2*float64(small) {
		t.Errorf("scores are %.0f to %.0f; a large disk has %d peers, a small one %d", low, high, large, small)
	}
}
