package transport

import (
	"github.com/copradb/copra/raftstore"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	reg                                       prometheus.Registerer
	sent, flushed, received, refused, dropped prometheus.Counter
	snapshotsSent, snapshotsReceived          prometheus.Counter
	queued                                    prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, queued func() int64) (*metrics, error) {
	counter := func(name, help string, labels prometheus.Labels) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	const snapshots, snapshotsHelp = "tikv_server_send_snapshot_total", "Snapshots carried, by direction."
	m := &metrics{
		sent:              counter("tikv_server_raft_message_send_total", "Raft messages handed to streams.", nil),
		flushed:           counter("tikv_server_raft_message_flush_total", "Frames of Raft messages sent.", nil),
		received:          counter("tikv_server_raft_message_recv_total", "Raft messages received.", nil),
		refused:           counter("tikv_server_raft_message_refuse_total", "Raft messages refused by the store, mostly for lack of memory.", nil),
		dropped:           counter("tikv_server_report_failure_msg_total", "Raft messages dropped.", prometheus.Labels{"type": "unreachable"}),
		snapshotsSent:     counter(snapshots, snapshotsHelp, prometheus.Labels{"direction": "send"}),
		snapshotsReceived: counter(snapshots, snapshotsHelp, prometheus.Labels{"direction": "recv"}),
		queued: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_raftstore_pending_bytes", Help: raftstore.PendingBytesHelp,
			ConstLabels: prometheus.Labels{"type": "send"}}, func() float64 { return float64(queued()) }),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range m.all() {
		if err := reg.Register(c); err != nil {
			m.reg = reg
			m.unregister()
			return nil, err
		}
	}
	m.reg = reg
	return m, nil
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.sent, m.flushed, m.received, m.refused, m.dropped, m.snapshotsSent, m.snapshotsReceived, m.queued}
}

func (m *metrics) unregister() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all() {
		m.reg.Unregister(c)
	}
}
