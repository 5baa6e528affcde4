package schedule

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/prometheus/client_golang/prometheus"
)

// TestNoStoreIsTold: stores beyond low-space-ratio get no replicas, not even
// those that are missing, as in PD; the log says so once a minute, and a metric.
func TestNoStoreIsTold(t *testing.T) {
	s := schedulerSim(t, 3, 4)
	var log bytes.Buffer
	s.ctl.log = slog.New(slog.NewTextHandler(&log, nil))
	m := NewMetrics()
	s.ctl.UseMetrics(m)
	for id := range s.truth {
		s.truth[id].Peers = s.truth[id].Peers[:2] // the third is missing
	}
	space := func(availableGiB uint64) {
		for _, st := range s.stores.All() {
			next := *st
			next.Stats = &pdpb.StoreStats{Capacity: 100 << 30, Available: availableGiB << 30}
			s.stores.Put(&next)
		}
	}
	s.options.LowSpaceRatio = 0.95
	space(4)
	lines := func() int { return strings.Count(log.String(), "no store may take them") }
	s.rounds(50)
	if lines() != 1 || !strings.Contains(log.String(), "store 3: the store is low on space") {
		t.Fatalf("log: %s", log.String())
	}
	s.now = s.now.Add(time.Minute)
	s.rounds(5)
	if lines() != 2 {
		t.Fatalf("log: %s", log.String())
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.checks)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].Metric) != 1 || families[0].Metric[0].GetCounter().GetValue() == 0 {
		t.Errorf("metric: %v, %v", families, err)
	}
	s.want("peers of store 3", s.regions.StoreCounts(3).Peers, 0)
	space(50)
	s.rounds(50)
	s.want("peers of store 3 with room", s.regions.StoreCounts(3).Peers, 4)
}
