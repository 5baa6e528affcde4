package disk

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Pressure says how far a database's background work is behind its writes.
type Pressure struct {
	L0Sublevels         int    // read amplification of level 0
	L0Files             int64  // tables in level 0
	CompactionDebtBytes uint64 // estimate of what compactions still have to rewrite
	MemTableBytes       uint64 // held by memtables, flushing ones included
	MemTableCount       int64
	DiskUsageBytes      uint64 // all files, obsolete ones included
}

// PressureOf reads the numbers from Pebble.
func PressureOf(db *pebble.DB) Pressure {
	m := db.Metrics()
	return Pressure{
		L0Sublevels:         int(m.Levels[0].Sublevels),
		L0Files:             m.Levels[0].TablesCount,
		CompactionDebtBytes: m.Compact.EstimatedDebt,
		MemTableBytes:       m.MemTable.Size,
		MemTableCount:       m.MemTable.Count,
		DiskUsageBytes:      m.DiskSpaceUsage(),
	}
}

// Metrics exports one database's state; the label db is "kv" or "raft" as in
// TiKV's engine metrics.
type Metrics struct {
	db         atomic.Pointer[pebble.DB]
	reg        prometheus.Registerer
	stallCount prometheus.Counter
	diskSlow   prometheus.Counter
	noSpace    prometheus.Counter
	stalled    atomic.Bool
	stallTime  prometheus.Counter
	stallBegan atomic.Int64 // nanoseconds since base
	base       time.Time
	gauges     []gauge
}

type gauge struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(*pebble.Metrics) float64
}

// NewMetrics makes the metrics of the database called name and registers them
// with reg, unless it is nil.
func NewMetrics(name string, reg prometheus.Registerer) (*Metrics, error) {
	labels := prometheus.Labels{"db": name}
	m := &Metrics{
		reg: reg,
		stallCount: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_engine_write_stall_total", Help: "Write stalls begun.", ConstLabels: labels}),
		stallTime: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_engine_write_stall_seconds_total", Help: "Seconds for which writes stalled.", ConstLabels: labels}),
		base: time.Now(),
		noSpace: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_engine_no_space_total", Help: "Flushes and compactions that found no space.", ConstLabels: labels}),
		diskSlow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "tikv_engine_disk_slow_total", Help: "Disk operations that took suspiciously long.", ConstLabels: labels}),
	}
	add := func(name, help string, kind prometheus.ValueType, read func(*pebble.Metrics) float64) {
		m.gauges = append(m.gauges, gauge{prometheus.NewDesc(name, help, nil, labels), kind, read})
	}
	add("tikv_engine_size_bytes", "Bytes of all files.", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.DiskSpaceUsage()) })
	add("tikv_engine_pending_compaction_bytes", "Estimated compaction debt.", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.Compact.EstimatedDebt) })
	add("tikv_engine_num_files_at_level0", "Tables in level 0.", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.Levels[0].TablesCount) })
	add("tikv_engine_level0_sublevels", "Read amplification of level 0.", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.Levels[0].Sublevels) })
	add("tikv_engine_memory_bytes", "Bytes held by memtables.", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.MemTable.Size) })
	add("tikv_engine_block_cache_size_bytes", "Bytes in the block cache.", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.BlockCache.Size) })
	add("tikv_engine_block_cache_hits_total", "Block cache hits.", prometheus.CounterValue, func(p *pebble.Metrics) float64 { return float64(p.BlockCache.Hits) })
	add("tikv_engine_block_cache_misses_total", "Block cache misses.", prometheus.CounterValue, func(p *pebble.Metrics) float64 { return float64(p.BlockCache.Misses) })
	add("tikv_engine_compactions_total", "Compactions done.", prometheus.CounterValue, func(p *pebble.Metrics) float64 { return float64(p.Compact.Count) })
	add("tikv_engine_flushes_total", "Memtable flushes done.", prometheus.CounterValue, func(p *pebble.Metrics) float64 { return float64(p.Flush.Count) })
	add("tikv_engine_bloom_useful_total", "Table reads that a bloom filter saved.", prometheus.CounterValue, func(p *pebble.Metrics) float64 { return float64(p.Filter.Hits) })
	m.addWork(name)
	if reg == nil {
		return m, nil
	}
	return m, reg.Register(m)
}

// addWork adds what background work is under way, and what it has moved.
func (m *Metrics) addWork(name string) {
	add := func(metric, help, typ string, kind prometheus.ValueType, read func(*pebble.Metrics) float64) {
		labels := prometheus.Labels{"db": name}
		if typ != "" {
			labels["type"] = typ
		}
		m.gauges = append(m.gauges, gauge{prometheus.NewDesc(metric, help, nil, labels), kind, read})
	}
	add("tikv_engine_num_running_compactions", "Compactions at work.", "", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.Compact.NumInProgress) })
	add("tikv_engine_num_running_flushes", "Flushes at work.", "", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.Flush.NumInProgress) })
	add("tikv_engine_num_snapshots", "Open snapshots.", "", prometheus.GaugeValue, func(p *pebble.Metrics) float64 { return float64(p.Snapshots.Count) })
	const flow = "Bytes that compactions and flushes moved."
	add("tikv_engine_compaction_flow_bytes", flow, "bytes_read", prometheus.CounterValue, func(p *pebble.Metrics) float64 {
		return overLevels(p, func(l *pebble.LevelMetrics) uint64 { return l.TableBytesRead })
	})
	add("tikv_engine_compaction_flow_bytes", flow, "bytes_written", prometheus.CounterValue, func(p *pebble.Metrics) float64 {
		return overLevels(p, func(l *pebble.LevelMetrics) uint64 { return l.TableBytesCompacted })
	})
	add("tikv_engine_compaction_flow_bytes", flow, "flush_write_bytes", prometheus.CounterValue, func(p *pebble.Metrics) float64 {
		return overLevels(p, func(l *pebble.LevelMetrics) uint64 { return l.TableBytesFlushed })
	})
	add("tikv_engine_flow_bytes", "Bytes written to the log of the database.", "wal_file_bytes", prometheus.CounterValue, func(p *pebble.Metrics) float64 { return float64(p.WAL.BytesWritten) })
}

func overLevels(p *pebble.Metrics, of func(*pebble.LevelMetrics) uint64) (sum float64) {
	for i := range p.Levels {
		sum += float64(of(&p.Levels[i]))
	}
	return sum
}

// Stalled reports whether writes wait for flushes or compactions.
func (m *Metrics) Stalled() bool { return m.stalled.Load() }

// Attach starts exporting db; Detach, called before it is closed, ends that.
func (m *Metrics) Attach(db *pebble.DB) { m.db.Store(db) }

// Detach stops exporting and unregisters the metrics.
func (m *Metrics) Detach() {
	m.db.Store(nil)
	if m.reg != nil {
		m.reg.Unregister(m)
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	m.stallCount.Describe(ch)
	m.stallTime.Describe(ch)
	m.diskSlow.Describe(ch)
	m.noSpace.Describe(ch)
	for _, g := range m.gauges {
		ch <- g.desc
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.stallCount.Collect(ch)
	m.stallTime.Collect(ch)
	m.diskSlow.Collect(ch)
	m.noSpace.Collect(ch)
	db := m.db.Load()
	if db == nil {
		return
	}
	p := db.Metrics()
	for _, g := range m.gauges {
		ch <- prometheus.MustNewConstMetric(g.desc, g.kind, g.read(p))
	}
}
