package raftstore

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	logSyncs, logSyncRegions  prometheus.Counter
	leaseReads, indexReads    prometheus.Counter
	staleReads, replicaReads  prometheus.Counter
	readIndexWait             prometheus.Histogram
	rejectedReads             *prometheus.CounterVec
	proposals                 *prometheus.CounterVec
	applyRounds, applyEntries prometheus.Counter
	snapshots                 *prometheus.CounterVec
	droppedMessages           *prometheus.CounterVec
	regions, leaders          prometheus.GaugeFunc
	truncations, roleChanges  prometheus.Counter
	loadSplits                prometheus.Counter
	wakes, sleeps, loads      prometheus.Counter
	peerTicks, elected        prometheus.Counter
	hashes                    *prometheus.CounterVec
	stages                    stageMetrics
	registerer                prometheus.Registerer
	collectors                []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, regions, leaders, awake func() float64) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &metrics{
		logSyncs:       counter("tikv_raftstore_log_sync_total", "Synced commits of the Raft log."),
		logSyncRegions: counter("tikv_raftstore_log_sync_regions_total", "Regions' writes in those commits; over the commits it is the group commit's gain."),
		leaseReads:     counter("tikv_raftstore_local_read_executed_requests", "Reads served under the leader's lease."),
		staleReads:     counter("tikv_raftstore_local_read_executed_stale_read_requests", "Stale reads served, on whatever replica."),
		replicaReads:   counter("tikv_raftstore_local_read_executed_replica_read_requests", "Reads served by a follower behind a read index."),
		readIndexWait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "tikv_raftstore_read_index_pending_duration", Help: "Seconds that reads waited for a read index and for what it names to be applied.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17)}),
		rejectedReads:   vec("tikv_raftstore_local_read_reject_total", "Reads that could not be served at once: they took a read index, or were sent to the leader.", "reason"),
		indexReads:      counter("tikv_raftstore_read_index_requests_total", "Reads that needed a read index."),
		proposals:       vec("tikv_raftstore_proposal_total", "Proposals by type.", "type"),
		applyRounds:     counter("tikv_raftstore_apply_rounds_total", "Batches written to the data engine."),
		applyEntries:    counter("tikv_raftstore_apply_entries_total", "Log entries in those batches."),
		snapshots:       vec("tikv_raftstore_snapshot_total", "Snapshots by event.", "type"),
		droppedMessages: vec("tikv_raftstore_raft_dropped_message_total", "Messages from other stores that were dropped, by reason.", "type"),
		truncations:     counter("tikv_raftstore_log_truncate_total", "Truncations of Raft logs."),
		roleChanges:     counter("tikv_raftstore_role_change_total", "Changes of role or leader."),
		loadSplits:      counter("tikv_load_base_split_total", "Regions cut because of their load."),
		wakes:           counter("tikv_raftstore_peer_wake_total", "Peers that woke up."),
		sleeps:          counter("tikv_raftstore_peer_sleep_total", "Peers that fell asleep."),
		loads:           counter("tikv_raftstore_peer_load_total", "Peers whose Raft state was read from disk."),
		elected:         counter("tikv_raftstore_leader_elected_total", "Peers of the store that became leader."),
		peerTicks:       counter("tikv_raftstore_peer_tick_total", "Ticks given to peers that are awake."),
		hashes:          vec("tikv_raftstore_hash_total", "Consistency checks by result.", "result"),
		registerer:      reg,
	}
	m.regions = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tikv_raftstore_region_count", Help: "Regions of the store.", ConstLabels: prometheus.Labels{"type": "region"}}, regions)
	m.leaders = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tikv_raftstore_region_count", Help: "Regions of the store.", ConstLabels: prometheus.Labels{"type": "leader"}}, leaders)
	state := func(state string, fn func() float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_raftstore_hibernated_peer_state",
			Help: "Peers that get ticks (awaken), and that sleep (hibernated).", ConstLabels: prometheus.Labels{"state": state}}, fn)
	}
	m.collectors = []prometheus.Collector{
		m.logSyncs, m.logSyncRegions, m.leaseReads, m.staleReads, m.replicaReads, m.readIndexWait, m.rejectedReads, m.indexReads, m.proposals, m.applyRounds, m.applyEntries,
		m.snapshots, m.droppedMessages, m.truncations, m.roleChanges, m.loadSplits, m.hashes, m.wakes, m.sleeps, m.loads, m.peerTicks, m.elected,
		m.regions, m.leaders, state("awaken", awake), state("hibernated", func() float64 { return regions() - awake() })}
	m.collectors = append(m.collectors, m.stages.init()...)
	if reg == nil {
		return m, nil
	}
	for i, c := range m.collectors {
		if err := reg.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.close()
			return nil, fmt.Errorf("raftstore: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) close() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}
