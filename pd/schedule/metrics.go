package schedule

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the schedulers' figures, with PD's names. A nil one counts
// nothing.
type Metrics struct {
	turns  *prometheus.CounterVec
	status *prometheus.GaugeVec
}

// NewMetrics returns figures that are not registered yet.
func NewMetrics() *Metrics {
	return &Metrics{
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pd_scheduler_event_count", Help: "Turns of schedulers by outcome."}, []string{"type", "name"}),
		status: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_scheduler_status", Help: "Whether a scheduler may run."}, []string{"kind", "type"}),
	}
}

// Collectors are what to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.turns, m.status}
}

// UseMetrics counts there. Called before Run.
func (c *Controller) UseMetrics(m *Metrics) { c.metrics = m }

func (m *Metrics) turn(scheduler, outcome string) {
	if m != nil {
		m.turns.WithLabelValues(scheduler, outcome).Inc()
	}
}

func (m *Metrics) allow(scheduler string, allowed bool) {
	if m == nil {
		return
	}
	v := 0.0
	if allowed {
		v = 1
	}
	m.status.WithLabelValues(scheduler, "allow").Set(v)
}
