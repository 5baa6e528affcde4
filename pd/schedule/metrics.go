package schedule

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/copradb/copra/pd/core"
	"github.com/copradb/copra/pd/statistics"
)

// Metrics are the schedulers' figures, with PD's names. A nil one counts
// nothing.
type Metrics struct {
	turns  *prometheus.CounterVec
	status *prometheus.GaugeVec
	stores *prometheus.GaugeVec
	hot    *prometheus.GaugeVec
	// regions are those with something the matter, as of the last patrol.
	regions *prometheus.GaugeVec
	checks  *prometheus.CounterVec
}

// NewMetrics returns figures that are not registered yet.
func NewMetrics() *Metrics {
	return &Metrics{
		turns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pd_scheduler_event_count", Help: "Turns of schedulers by outcome."}, []string{"type", "name"}),
		status: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_scheduler_status", Help: "Whether a scheduler may run."}, []string{"kind", "type"}),
		stores: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_scheduler_store_status", Help: "Stores as balance sees them."}, []string{"address", "store", "type"}),
		hot: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_hotspot_status", Help: "Hot regions and their flow by store."}, []string{"address", "store", "type"}),
		regions: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pd_regions_status", Help: "Regions by what is the matter with them."}, []string{"type"}),
		checks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pd_checker_event_count", Help: "What checkers could not do for a region."}, []string{"type", "name"}),
	}
}

// Collectors are what to register.
func (m *Metrics) Collectors() []prometheus.Collector {
	return []prometheus.Collector{m.turns, m.status, m.stores, m.hot, m.regions, m.checks}
}

// UseMetrics counts there. Called before Run.
func (c *Controller) UseMetrics(m *Metrics) { c.metrics = m }

// patrolled notes how many regions have what the matter.
func (m *Metrics) patrolled(counts map[RegionState]int) {
	if m == nil {
		return
	}
	for _, s := range RegionStates {
		m.regions.WithLabelValues(strings.TrimSuffix(string(s), "-region") + "-region-count").Set(float64(counts[s]))
	}
}

func (m *Metrics) check(checker, event string) {
	if m != nil {
		m.checks.WithLabelValues(checker, event).Inc()
	}
}

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

// ReportStores sets the figures by store. Called now and then.
func (c *Controller) ReportStores() {
	if c.metrics == nil {
		return
	}
	for _, s := range c.cluster.Stores().All() {
		if s.IsTombstone() {
			by := prometheus.Labels{"store": strconv.FormatUint(s.ID(), 10)}
			c.metrics.stores.DeletePartialMatch(by)
			c.metrics.hot.DeletePartialMatch(by)
			continue
		}
		c.reportStore(s)
		c.reportHot(s)
	}
}

func (c *Controller) reportStore(s *core.Store) {
	n := c.cluster.Regions().StoreCounts(s.ID())
	set := setter(c.metrics.stores, s)
	set("region_score", regionScore(s, float64(n.PeerBytes)/mib))
	set("leader_score", core.LeaderScore(float64(n.Leaders), s.LeaderWeight))
	set("region_count", float64(n.Peers))
	set("leader_count", float64(n.Leaders))
	set("learner_count", float64(n.Learners))
	set("region_size", float64(n.PeerBytes)/mib)
	set("leader_size", float64(n.LeaderBytes)/mib)
	set("store_capacity", float64(s.Stats.GetCapacity()))
	set("store_available", float64(s.Stats.GetAvailable()))
	set("store_used", float64(s.Stats.GetUsedSize()))
	for k, name := range map[statistics.Kind]string{statistics.Read: "store_read_rate", statistics.Write: "store_write_rate"} {
		rate, _ := c.hot.Stores.Get(s.ID(), k)
		set(name+"_bytes", rate[statistics.Bytes])
		set(name+"_keys", rate[statistics.Keys])
	}
}

func (c *Controller) reportHot(s *core.Store) {
	set := setter(c.metrics.hot, s)
	for k, name := range map[statistics.Kind]string{statistics.Read: "read", statistics.Write: "write"} {
		leaders, all := 0.0, 0.0
		for _, p := range c.hot.Caches[k].Peers(s.ID(), statistics.Bytes, 0) {
			if all++; p.Leader {
				leaders++
			}
		}
		set("hot_"+name+"_region_as_leader", leaders)
		set("hot_"+name+"_region_as_peer", all)
		set("total_"+name+"_bytes_as_leader", c.hot.Caches[k].Sum(s.ID(), true)[statistics.Bytes])
		set("total_"+name+"_bytes_as_peer", c.hot.Caches[k].Sum(s.ID(), false)[statistics.Bytes])
	}
}

func setter(g *prometheus.GaugeVec, s *core.Store) func(typ string, v float64) {
	store := strconv.FormatUint(s.ID(), 10)
	return func(typ string, v float64) { g.WithLabelValues(s.Meta.Address, store, typ).Set(v) }
}
