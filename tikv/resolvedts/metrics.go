package resolvedts

import (
	"fmt"
	"time"

	"github.com/copradb/copra/txn/mvcc"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics have TiKV's names.
type metrics struct {
	reg                 prometheus.Registerer
	all                 []prometheus.Collector
	failed              *prometheus.CounterVec
	items, check, scan  prometheus.Histogram
	leastTS, leastGapMs prometheus.Gauge
	regions             *prometheus.GaugeVec
}

func newMetrics(reg prometheus.Registerer, m *Manager) (*metrics, error) {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)})
	}
	x := &metrics{
		reg: reg,
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tikv_resolved_ts_fail_advance_count",
			Help: "Regions, or calls to other stores, that held a resolved timestamp back, by reason."}, []string{"reason"}),
		items: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tikv_check_leader_request_item_count", Help: "Regions in one CheckLeader request.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 14)}),
		check:      seconds("tikv_resolved_ts_check_leader_duration_seconds", "Time of the CheckLeader requests to one store."),
		scan:       seconds("tikv_resolved_ts_scan_duration_seconds", "Time to read the locks of a region that this store began to lead."),
		leastTS:    gauge("tikv_resolved_ts_min_leader_resolved_ts", "The least resolved timestamp of the regions that this store leads."),
		leastGapMs: gauge("tikv_resolved_ts_min_leader_resolved_ts_gap_millis", "How far it is behind the clock."),
		regions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tikv_resolved_ts_region_resolve_status", Help: "Regions that this store leads, by the state of their locks' tracker."}, []string{"type"}),
	}
	x.all = []prometheus.Collector{x.failed, x.items, x.check, x.scan, x.leastTS, x.leastGapMs, x.regions,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_resolved_ts_memory_quota_in_use_bytes", Help: "Memory for tracked locks."},
			func() float64 { return float64(m.quota.used.Load()) }),
	}
	if reg == nil {
		return x, nil
	}
	for i, c := range x.all {
		if err := reg.Register(c); err != nil {
			x.all = x.all[:i]
			x.unregister()
			return nil, fmt.Errorf("resolvedts: register metrics: %w", err)
		}
	}
	return x, nil
}

func (x *metrics) unregister() {
	if x.reg == nil {
		return
	}
	for _, c := range x.all {
		x.reg.Unregister(c)
	}
}

// observe notes how a pass ended.
func (x *metrics) observe(least uint64, m *Manager) {
	x.leastTS.Set(float64(least))
	x.leastGapMs.Set(float64(max(0, time.Now().UnixMilli()-int64(mvcc.PhysicalMs(least)))))
	pending, resolved := 0.0, 0.0
	m.trackers.Range(func(_, v any) bool {
		if _, ready := v.(*tracker).resolved(); ready {
			resolved++
		} else {
			pending++
		}
		return true
	})
	x.regions.WithLabelValues("pending").Set(pending)
	x.regions.WithLabelValues("resolved").Set(resolved)
}
