package tikv

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the gRPC service, named as TiKV names them.
type metrics struct {
	reg       prometheus.Registerer
	duration  *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	batchSize prometheus.Histogram
	refusals  *prometheus.CounterVec
	forwarded *prometheus.CounterVec
	inFlight  []prometheus.Collector
	stages    stageMetrics
}

func newMetrics(reg prometheus.Registerer, f *inFlight) (*metrics, error) {
	gauge := func(name, help string, v *atomic.Int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(v.Load()) })
	}
	m := &metrics{
		reg: reg,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "tikv_grpc_msg_duration_seconds",
			Help:    "Duration of gRPC requests, by method.",
			Buckets: prometheus.ExponentialBuckets(0.00005, 2, 20),
		}, []string{"type"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tikv_grpc_msg_fail_total",
			Help: "gRPC requests that got no answer, by method.",
		}, []string{"type"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tikv_grpc_msg_refuse_total",
			Help: "gRPC requests refused because too many are being served, by method.",
		}, []string{"type"}),
		forwarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tikv_grpc_forward_total",
			Help: "gRPC calls that ended here after they were passed on to another store for a client, by method and gRPC code.",
		}, []string{"type", "code"}),
		inFlight: []prometheus.Collector{
			gauge("tikv_grpc_msg_in_flight", "gRPC requests being served.", &f.count),
			gauge("tikv_grpc_msg_in_flight_bytes", "Bytes of the gRPC requests being served.", &f.bytes),
			gauge("tikv_grpc_answer_in_flight_bytes", "Bytes of answers that have not gone out yet.", &f.answers.used)},
		batchSize: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "tikv_server_request_batch_size",
			Help:    "Requests in one message of a BatchCommands stream.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 10),
		}),
	}
	m.stages.init()
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := reg.Register(c); err != nil {
			m.unregister()
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return append(append([]prometheus.Collector{m.duration, m.failures, m.batchSize, m.refusals, m.forwarded}, m.inFlight...), m.stages.all...)
}

func (m *metrics) observe(method string, d time.Duration, err error) {
	m.duration.WithLabelValues(method).Observe(d.Seconds())
	if err != nil {
		m.failures.WithLabelValues(method).Inc()
	}
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all() {
		m.reg.Unregister(c)
	}
}
