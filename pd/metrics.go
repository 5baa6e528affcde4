package pd

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/copradb/copra/pd/gcworker"
	"github.com/copradb/copra/pd/schedule"
)

// metrics are named as PD's where they measure the same.
type metrics struct {
	registry prometheus.Registerer
	gatherer prometheus.Gatherers

	leads           prometheus.Gauge
	tsoGranted      prometheus.Counter
	tsoRequests     prometheus.Counter
	regions         prometheus.Gauge
	stores          *prometheus.GaugeVec
	regionHeartbeat *prometheus.CounterVec
	operators       *prometheus.CounterVec
	schedulers      *schedule.Metrics
	regionSaves     prometheus.Counter
	saveErrors      prometheus.Counter
	gc              *gcworker.Metrics
}

func newMetrics(reg prometheus.Registerer, member string) *metrics {
	m := &metrics{
		schedulers: schedule.NewMetrics(),
		gc:         gcworker.NewMetrics(),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pd_server_is_leader", Help: "1 while this member leads."}),
		tsoGranted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pd_tso_timestamps_total", Help: "Timestamps granted."}),
		tsoRequests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pd_tso_requests_total", Help: "Timestamp requests answered, each for a batch."}),
		regions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pd_cluster_region_count", Help: "Regions known."}),
		stores: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_cluster_store_count", Help: "Stores by state."}, []string{"state"}),
		regionHeartbeat: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pd_scheduler_region_heartbeat", Help: "Region heartbeats by outcome."}, []string{"status"}),
		operators: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pd_schedule_operators_count", Help: "Operators by type and event."}, []string{"type", "event"}),
		regionSaves: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pd_cluster_region_saves_total", Help: "Regions written to etcd."}),
		saveErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pd_cluster_save_errors_total", Help: "Failed background writes to etcd."}),
	}
	if reg != nil {
		// Several members may share a process and its registry.
		m.registry = prometheus.WrapRegistererWith(prometheus.Labels{"member": member}, reg)
		m.registry.MustRegister(m.collectors()...)
	}
	// etcd registers with the default registry.
	m.gatherer = prometheus.Gatherers{prometheus.DefaultGatherer}
	if g, ok := reg.(prometheus.Gatherer); ok && g != prometheus.DefaultGatherer {
		m.gatherer = append(m.gatherer, g)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return append(append(m.schedulers.Collectors(), m.gc.Collectors()...), m.leads, m.tsoGranted, m.tsoRequests, m.regions, m.stores,
		m.regionHeartbeat, m.operators, m.regionSaves, m.saveErrors)
}

// close takes the metrics out of the registry, so that a member can be started
// again in the same process.
func (m *metrics) close() {
	if m.registry == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registry.Unregister(c)
	}
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}
