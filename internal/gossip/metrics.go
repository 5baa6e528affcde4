package gossip

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	registerer prometheus.Registerer

	members                          *prometheus.GaugeVec
	deaths                           prometheus.Counter
	sent, received, dropped, refused prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "copra_gossip_" + name, Help: help})
	}
	m := &metrics{
		registerer: r,
		members: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "copra_gossip_members", Help: "Nodes by state, this one counted."}, []string{"state"}),
		deaths:   counter("deaths_total", "How often another node was taken for dead."),
		sent:     counter("packets_sent_total", "Packets sent."),
		received: counter("packets_received_total", "Packets received."),
		dropped:  counter("packets_dropped_total", "Packets dropped for a full queue or a broken connection."),
		refused:  counter("refused_total", "Calls and packets refused: another cluster's, or malformed."),
	}
	if r == nil {
		return m, nil
	}
	for i, c := range m.all() {
		if err := r.Register(c); err != nil {
			for _, done := range m.all()[:i] {
				r.Unregister(done)
			}
			return nil, fmt.Errorf("gossip: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.members, m.deaths, m.sent, m.received, m.dropped, m.refused}
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all() {
		m.registerer.Unregister(c)
	}
}
