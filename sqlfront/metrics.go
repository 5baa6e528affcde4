package sqlfront

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/copr/exec"
)

// metrics of a SQL node, named after TiDB's where the same is measured.
type metrics struct {
	sessions   prometheus.Gauge
	statements *prometheus.CounterVec
	retries    prometheus.Counter
	rowWaits   prometheus.Counter
	commits    *prometheus.CounterVec
	copyRows   prometheus.Counter
	bulkLoads  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, mem *exec.MemAccount) *metrics {
	m := &metrics{
		sessions:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "copra_sql_sessions", Help: "Open sessions."}),
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "copra_sql_statements_total", Help: "Statements run, by kind."}, []string{"kind"}),
		retries:    prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_sql_statement_retries_total", Help: "Statements run again after a write conflict."}),
		rowWaits:   prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_sql_row_waits_total", Help: "Statements that waited for another one of the node to write the same row."}),
		commits:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "copra_sql_commits_total", Help: "Transactions that wrote, by outcome."}, []string{"outcome"}),
		copyRows:   prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_sql_copy_rows_total", Help: "Rows loaded by COPY."}),
		bulkLoads:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "copra_sql_bulk_loads_total", Help: "COPYs that were bulk loads, by outcome."}, []string{"outcome"}),
	}
	if r != nil {
		r.MustRegister(m.sessions, m.statements, m.retries, m.rowWaits, m.commits, m.copyRows, m.bulkLoads,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_sql_memory_bytes", Help: "Memory that statements keep."},
				func() float64 { return float64(mem.Used()) }))
	}
	return m
}
