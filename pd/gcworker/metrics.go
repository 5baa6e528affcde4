package gcworker

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/pd/gcstate"
)

// Metrics of garbage collection's driver, named as PD's and TiDB's where they
// measure the same.
type Metrics struct {
	safePoint *prometheus.GaugeVec
	rounds    *prometheus.CounterVec
	locks     prometheus.Counter
	duration  prometheus.Histogram
}

// NewMetrics returns metrics that outlive terms.
func NewMetrics() *Metrics {
	return &Metrics{
		safePoint: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_gc_gc_safepoint", Help: "The safe points, as timestamps."}, []string{"type", "keyspace_id"}),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pd_gc_worker_rounds_total", Help: "Rounds of garbage collection's driver, by outcome."}, []string{"result"}),
		locks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pd_gc_worker_resolved_locks_total", Help: "Locks resolved before the GC safe point moved."}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pd_gc_worker_round_duration_seconds", Help: "Time of rounds.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 18)}),
	}
}

// Collectors are for a registry.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.safePoint, m.rounds, m.locks, m.duration}
}

func (m *Metrics) note(r *Round) {
	ks := "shared"
	if r.Keyspace != gcstate.NullKeyspace {
		ks = strconv.FormatUint(uint64(r.Keyspace), 10)
	}
	result := "ok"
	switch {
	case r.Error != "":
		result = "failed"
	case r.Skipped != "":
		result = "skipped"
	case r.Blocker != "":
		result = "blocked"
	}
	m.rounds.WithLabelValues(result).Inc()
	m.locks.Add(float64(r.Locks))
	if r.Skipped == "" {
		m.duration.Observe(r.Ended.Sub(r.Started).Seconds())
	}
	if r.TxnSafePoint != 0 {
		m.safePoint.WithLabelValues("txn", ks).Set(float64(r.TxnSafePoint))
		m.safePoint.WithLabelValues("gc", ks).Set(float64(r.GCSafePoint))
	}
}

func sorted(ids []uint32) []uint32 {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return ids
}
