package pdsim

import (
	"os"
	"testing"
)

// TestLoad measures memory and heartbeats alone: 20,000 regions, or a million
// with COPRA_TEST_LONG=1.
func TestLoad(t *testing.T) {
	cfg := config(20, 20_000, 1)
	if os.Getenv("COPRA_TEST_LONG") != "" {
		cfg = config(200, 1_000_000, 1)
	}
	s := New(cfg)
	f := s.Load()
	t.Logf("%+v", f)
	if s.Regions().Len() != cfg.Regions || s.Regions().Reported() != cfg.Regions {
		t.Errorf("%d of %d regions are known, %d reported", s.Regions().Len(), cfg.Regions, s.Regions().Reported())
	}
	// The meta as decoded is some 700 B; a heartbeat's decoding takes a dozen
	// allocations. Twice as much is a leak or a copy.
	if f.HeapBytesPerRegion > 2048 {
		t.Errorf("%.0f B a region", f.HeapBytesPerRegion)
	}
	if f.HeartbeatAllocs > 24 {
		t.Errorf("%.1f allocations a heartbeat", f.HeartbeatAllocs)
	}
}
