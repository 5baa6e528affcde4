package txn

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// cmd names a write command in metrics, with TiKV's label.
type cmd byte

const (
	cmdPrewrite cmd = iota
	cmdCommit
	cmdPessimisticLock
	cmdPessimisticRollback
	cmdRollback
	cmdCleanup
	cmdHeartBeat
	cmdCheckTxnStatus
	cmdCheckSecondaryLocks
	cmdResolveLock
	cmdFlush
	cmdDeleteRange
	cmdGC
	cmdCount
)

var cmdNames = [cmdCount]string{
	"prewrite", "commit", "acquire_pessimistic_lock", "pessimistic_rollback", "rollback", "cleanup",
	"txn_heart_beat", "check_txn_status", "check_secondary_locks", "resolve_lock", "flush", "delete_range", "gc",
}

// metrics are named as in TiKV where the same thing is measured.
type metrics struct {
	reg       prometheus.Registerer
	all       []prometheus.Collector
	durations [cmdCount]prometheus.Observer
	keys      [cmdCount]prometheus.Observer
	conflicts *prometheus.CounterVec
	lockWait  prometheus.Observer
	deadlocks prometheus.Counter
	tooOld    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Store) *metrics {
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tikv_scheduler_command_duration_seconds", Help: "Time of transactional write commands.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20),
	}, []string{"type"})
	lockWait := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "tikv_lock_manager_waiter_lifetime_duration", Help: "Seconds pessimistic lock requests waited.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
	})
	keys := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tikv_scheduler_kv_command_key_write", Help: "Keys of transactional write commands.", Buckets: prometheus.ExponentialBuckets(1, 4, 11),
	}, []string{"type"})
	m := &metrics{
		reg: reg,
		conflicts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tikv_storage_mvcc_conflict_counter", Help: "Conflicts met by transactional commands.",
		}, []string{"type"}),
		lockWait: lockWait,
		deadlocks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_lock_manager_deadlock_counter", Help: "Lock waits refused because of a deadlock.",
		}),
		tooOld: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_storage_below_safe_point_total", Help: "Reads and transactions refused because they are older than the GC safe point.",
		}),
	}
	for c := range cmdCount {
		m.durations[c] = durations.WithLabelValues(cmdNames[c])
		m.keys[c] = keys.WithLabelValues(cmdNames[c])
	}
	m.all = []prometheus.Collector{
		durations, keys, lockWait, m.conflicts, m.deadlocks, m.tooOld,
		gauge("tikv_concurrency_manager_max_ts", "The largest timestamp read at.", func() float64 { return float64(s.mem.MaxTS()) }),
		gauge("tikv_concurrency_manager_lock_count", "Locks on their way into the log.", func() float64 { return float64(s.mem.Len()) }),
		gauge("tikv_lock_manager_waiter_count", "Requests waiting for locks.", func() float64 { return float64(s.waiters.Len()) }),
		gauge("tikv_scheduler_writing_bytes", "Bytes on their way into the log.", func() float64 { return float64(s.pendingBytes.Load()) }),
	}
	if reg != nil {
		reg.MustRegister(m.all...)
	}
	return m
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
}

func (m *metrics) observe(c cmd, d time.Duration) { m.durations[c].Observe(d.Seconds()) }

func (m *metrics) conflict(kind string) { m.conflicts.WithLabelValues(kind).Inc() }

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}
