package raftstore

import (
	"fmt"
	"sync/atomic"

	"github.com/copradb/copra/raftstore/engine/disk"
	"github.com/prometheus/client_golang/prometheus"
)

// flowState is what the store knows of its disks and queues, to slow down or
// refuse what they have no room for.
type flowState struct {
	space      *disk.Space
	fullStores atomic.Pointer[map[uint64]disk.Level] // other stores whose disks are not normal; nil: none
	diskWake   chan struct{}                         // holds a token when the disk is to be looked at now
	unchecked  atomic.Int64                          // bytes written, roughly, since it was last looked at
	checkAfter atomic.Int64
	// fullTail are the bytes that a full disk took since it was looked at.
	fullTail  atomic.Int64
	flushWake chan struct{} // holds a token when a flush is wanted

	throttle throttle

	diskFullRefusals prometheus.Counter
	throttled        *prometheus.CounterVec
	registerer       prometheus.Registerer
	collectors       []prometheus.Collector
}

func (f *flowState) init(o *Options) error {
	f.space = o.Space
	f.diskWake, f.flushWake = make(chan struct{}, 1), make(chan struct{}, 1)
	f.diskFullRefusals = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tikv_raftstore_disk_full_refuse_total", Help: "Writes refused for lack of room on disks."})
	f.throttled = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "tikv_scheduler_throttle_total", Help: "Writes delayed or refused because compactions are behind."}, []string{"type"})
	return f.register(o.Registerer, f.diskFullRefusals, f.throttled, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tikv_scheduler_throttle_flow", Help: "Limit of foreground writes in bytes a second; 0 is none."}, f.throttle.Rate))
}

// PendingBytesHelp describes the gauge tikv_raftstore_pending_bytes, which the
// transport has a part of.
const PendingBytesHelp = "Bytes that wait, by queue."

// registerQueues exports how many bytes wait where. Each has a limit in Config.
func (s *Store) registerQueues(reg prometheus.Registerer) error {
	gauge := func(typ string, read func() int64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_raftstore_pending_bytes", Help: PendingBytesHelp,
			ConstLabels: prometheus.Labels{"type": typ}}, func() float64 { return float64(read()) })
	}
	return s.register(reg, gauge("receive", s.received.Load), gauge("propose", s.proposalBytes.Load), gauge("log", s.logWriter.queued.Load),
		gauge("apply", s.applyBytes.Load),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_raft_entries_caches", Help: "Bytes of log entries that all regions keep in memory."},
			func() float64 { return float64(s.caches.used.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "tikv_raftstore_slow_score", Help: "1 is a fast disk, 100 a stuck one."},
			func() float64 { return s.logWriter.disk.value() }))
}

func (f *flowState) register(reg prometheus.Registerer, collectors ...prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	f.registerer = reg
	for _, c := range collectors {
		if err := reg.Register(c); err != nil {
			f.close()
			return fmt.Errorf("raftstore: register metrics: %w", err)
		}
		f.collectors = append(f.collectors, c)
	}
	return nil
}

func (f *flowState) close() {
	for _, c := range f.collectors {
		f.registerer.Unregister(c)
	}
	f.collectors = nil
}

func (s *Store) startFlow() {
	s.workers.Go(s.flusher)
	if !s.replayOnly {
		s.workers.Go(s.watchSlowDisk)
		s.workers.Go(s.watchPressure)
	}
	if s.space != nil {
		s.workers.Go(s.watchDisk)
	}
}
