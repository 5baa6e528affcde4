package columnar

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	scans, blocks, dropped             *prometheus.CounterVec
	built, moved, evictions, dirtyRows prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, c *Cache) *metrics {
	m := &metrics{
		scans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_columnar_scans_total", Help: "Scans of regions, by what served them: columns (at least in part), rows, or rows because of locks, an unusual scan, a version of the region that is gone, a feed that is behind.",
		}, []string{"by"}),
		blocks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_columnar_blocks_total", Help: "Blocks that scans came to: hit, skipped by the filter, filled with columns that they lacked, rebuilt, without the columns, or too new for the scan.",
		}, []string{"result"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_columnar_dropped_total", Help: "Blocks dropped (dirty), or not kept (dirty, full), and tables dropped, by reason.",
		}, []string{"reason"}),
		built:     prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_columnar_built_blocks_total", Help: "Blocks built."}),
		moved:     prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_columnar_moved_blocks_total", Help: "Blocks that went to another region with a split or a merge."}),
		evictions: prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_columnar_evictions_total", Help: "Columns of tables of regions, and tables, that made room for others."}),
		dirtyRows: prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_columnar_dirty_reads_total", Help: "Rows that were read one by one because they had changed since their block was built."}),
	}
	if reg != nil {
		reg.MustRegister(m.scans, m.blocks, m.dropped, m.built, m.moved, m.evictions, m.dirtyRows,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_columnar_bytes", Help: "Memory of blocks and of the keys that changed since."},
				func() float64 { return float64(c.Bytes()) }))
	}
	return m
}
