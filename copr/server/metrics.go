package server

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	duration    prometheus.Observer
	wait        prometheus.Observer
	scanned     prometheus.Observer
	tasks       *prometheus.CounterVec
	rows, bytes prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, s *Service) *metrics {
	// These three are TiKV's; it has more kinds of requests.
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tikv_coprocessor_request_duration_seconds", Help: "Duration of coprocessor requests.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 2, 20),
	}, []string{"req"})
	wait := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tikv_coprocessor_request_wait_seconds", Help: "Time that the regions of a request waited for a worker.",
		Buckets: prometheus.ExponentialBuckets(0.00001, 2, 22),
	}, []string{"req", "type"})
	scanned := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "tikv_coprocessor_scan_keys", Help: "Rows that a request read.", Buckets: prometheus.ExponentialBuckets(1, 4, 14),
	}, []string{"req", "kind"})
	m := &metrics{
		duration: duration.WithLabelValues("select"), wait: wait.WithLabelValues("select", "schedule"),
		scanned: scanned.WithLabelValues("select", "processed_keys"),
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_copr_region_tasks_total", Help: "Coprocessor tasks, one a region and request, by result.",
		}, []string{"result"}),
		rows:  prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_copr_scanned_rows_total", Help: "Rows that the coprocessor read."}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_copr_scanned_bytes_total", Help: "Bytes of keys and values that the coprocessor read."}),
	}
	if reg != nil {
		reg.MustRegister(duration, wait, scanned, m.tasks, m.rows, m.bytes,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_copr_running_requests", Help: "Coprocessor requests at work."},
				func() float64 { return float64(s.running.Load()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_copr_memory_bytes", Help: "Memory that coprocessor requests keep."},
				func() float64 { return float64(s.mem.Used()) }))
		for i, state := range [...]string{"running", "express", "waiting"} {
			reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_cpu_workers",
				Help: "Workers of the process that compute, of them those that did not wait for a core, and those that wait.", ConstLabels: prometheus.Labels{"state": state}},
				func() float64 {
					running, express, waiting := s.o.CPU.Stats()
					return float64([...]int{running, express, waiting}[i])
				}))
		}
	}
	return m
}
