package pgwire

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	connections prometheus.Gauge
	statements  *prometheus.CounterVec // by protocol
	errors      *prometheus.CounterVec // by SQLSTATE
	duration    prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "copra_pgwire_connections", Help: "Open client connections."}),
		statements: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_pgwire_statements_total", Help: "Statements run, by protocol."}, []string{"protocol"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_pgwire_errors_total", Help: "Errors sent to clients, by SQLSTATE."}, []string{"sqlstate"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copra_pgwire_statement_duration_seconds", Help: "Time from Execute or Query to the last row.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 2, 20)}),
	}
	if r != nil {
		r.MustRegister(m.connections, m.statements, m.errors, m.duration)
	}
	return m
}
