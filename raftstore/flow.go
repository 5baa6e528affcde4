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
	flushWake  chan struct{} // holds a token when a flush is wanted

	diskFullRefusals prometheus.Counter
	registerer       prometheus.Registerer
	collectors       []prometheus.Collector
}

func (f *flowState) init(o *Options) error {
	f.space = o.Space
	f.diskWake, f.flushWake = make(chan struct{}, 1), make(chan struct{}, 1)
	f.diskFullRefusals = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tikv_raftstore_disk_full_refuse_total", Help: "Writes refused for lack of room on disks."})
	return f.register(o.Registerer, f.diskFullRefusals)
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
	if s.space != nil {
		s.workers.Go(s.watchDisk)
	}
}
