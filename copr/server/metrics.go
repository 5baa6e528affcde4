package server

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	duration    prometheus.Histogram
	tasks       *prometheus.CounterVec
	rows, bytes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	m := &metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "copra_copr_request_duration_seconds", Help: "Duration of coprocessor requests.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18),
		}),
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_copr_region_tasks_total", Help: "Coprocessor tasks, one a region and request, by result.",
		}, []string{"result"}),
		rows:  prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_copr_scanned_rows_total", Help: "Rows that the coprocessor read."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_copr_scanned_bytes_total", Help: "Bytes of keys and values that the coprocessor read."}),
	}
	if reg != nil {
		reg.MustRegister(m.duration, m.tasks, m.rows, m.bytes,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_copr_running_requests", Help: "Coprocessor requests at work."},
				func() float64 { return float64(s.running.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_copr_memory_bytes", Help: "Memory that coprocessor requests keep."},
				func() float64 { return float64(s.mem.Used()) }))
	}
	return m
}
