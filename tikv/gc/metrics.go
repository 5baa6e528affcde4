package gc

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/txn"
)

// metrics are named as TiKV's where they measure the same.
type metrics struct {
	reg          prometheus.Registerer
	all          []prometheus.Collector
	regions      *prometheus.CounterVec
	tasks        *prometheus.CounterVec
	failures     *prometheus.CounterVec
	keys         *prometheus.CounterVec
	scannedKeys  prometheus.Counter
	logBytes     prometheus.Counter
	locked       prometheus.Counter
	busy         prometheus.Counter
	compactions  prometheus.Counter
	compactBytes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, safe *txn.SafePoints) (*metrics, error) {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := &metrics{
		reg:          reg,
		regions:      vec("tikv_gcworker_autogc_processed_regions", "Regions that garbage collection came by.", "type"),
		tasks:        vec("tikv_gcworker_gc_tasks_vec", "Tasks of garbage collection.", "task"),
		failures:     vec("tikv_gcworker_gc_task_fail_vec", "Tasks of garbage collection that failed.", "task"),
		keys:         vec("tikv_gcworker_gc_keys", "Keys that garbage collection has seen or dropped, by family.", "cf", "tag"),
		logBytes:     counter("tikv_gcworker_gc_log_bytes_total", "Bytes that garbage collection wrote into the Raft log."),
		locked:       counter("tikv_gcworker_gc_locked_keys_total", "Keys left alone because of a lock that should have been resolved before the safe point."),
		busy:         counter("tikv_gcworker_too_busy", "Times that garbage collection waited for a busy store."),
		compactions:  counter("tikv_gcworker_compactions_total", "Compactions of ranges that consist of deletes to a large part."),
		compactBytes: counter("tikv_gcworker_compacted_bytes_total", "Bytes of the tables that these began with."),
	}
	m.scannedKeys = m.keys.WithLabelValues("write", "scanned")
	m.all = []prometheus.Collector{m.regions, m.tasks, m.failures, m.keys, m.logBytes, m.locked, m.busy, m.compactions, m.compactBytes,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_gcworker_autogc_safe_point", Help: "The GC safe point that this store knows."},
			func() float64 { return float64(safe.Shared()) })}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			m.all = m.all[:i]
			m.unregister()
			return nil, fmt.Errorf("gc: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) collected(c *txn.Collected) {
	m.keys.WithLabelValues("write", "deleted").Add(float64(c.Records))
	m.keys.WithLabelValues("default", "deleted").Add(float64(c.Values))
	m.logBytes.Add(float64(c.Bytes))
	m.locked.Add(float64(c.Locked))
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
