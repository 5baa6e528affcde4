package spill

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	used    prometheus.GaugeFunc
	open    prometheus.Gauge
	files   prometheus.Counter
	written prometheus.Counter
	raw     prometheus.Counter
	read    prometheus.Counter
	refused prometheus.Counter
}

func newMetrics(r prometheus.Registerer, used func() float64) *metrics {
	m := &metrics{
		used:    prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "copra_spill_bytes", Help: "Bytes of temporary files there are."}, used),
		open:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "copra_spill_files", Help: "Temporary files there are."}),
		files:   prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_spill_files_total", Help: "Temporary files made."}),
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_spill_written_bytes_total", Help: "Bytes written to temporary files."}),
		raw:     prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_spill_raw_bytes_total", Help: "Bytes written to temporary files before compression."}),
		read:    prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_spill_read_bytes_total", Help: "Bytes read from temporary files."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_spill_refused_total", Help: "Writes to temporary files refused: a limit, or too little free space."}),
	}
	if r != nil {
		r.MustRegister(m.all()...)
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.used, m.open, m.files, m.written, m.raw, m.read, m.refused}
}

func (m *metrics) unregister(r prometheus.Registerer) {
	if r == nil {
		return
	}
	for _, c := range m.all() {
		r.Unregister(c)
	}
}
