package raftstore

import (
	"context"
	"time"

	"github.com/copradb/copra/internal/tracker"
	"github.com/prometheus/client_golang/prometheus"
)

// Where the time of a write goes, on the store's clock:
//
//	created ─ mailbox ─ proposed ─ log, quorum ─ committed ─ queue ─ began ─ engine ─ applied
//
// The Raft worker and the apply worker note the moments; the caller reads them
// when it has the answer.

// proposalTimes are the moments of one proposal, in nanoseconds.
type proposalTimes struct {
	created, proposed int64
	parts             tracker.WriteParts // filled before the answer, if it was applied
}

// commitTimes are those of a piece of the log that was handed to apply.
type commitTimes struct {
	committed int64
	persisted int64 // how long this store's log took; 0: it has not written it yet
}

// persistedSize is how many appends a peer remembers the durations of. What is
// committed is mostly one of the last few.
const persistedSize = 4

// persistedRing remembers how long the last appends of a region took. Owned by
// the Raft worker.
type persistedRing struct {
	at  int
	all [persistedSize]struct {
		last uint64 // entry of the append
		took int64
	}
}

func (r *persistedRing) note(last uint64, took int64) {
	r.at = (r.at + 1) % persistedSize
	r.all[r.at].last, r.all[r.at].took = last, took
}

// of is the duration of the append that wrote an entry, as far as is known.
func (r *persistedRing) of(index uint64) (took int64) {
	for i := range r.all {
		a := &r.all[(r.at+persistedSize-i)%persistedSize]
		if a.last < index {
			break
		}
		took = a.took
	}
	return took
}

// commitTimes are the moments of the entries up to p.handed.
func (p *peer) commitTimes() commitTimes {
	return commitTimes{committed: p.store.now(), persisted: p.persisted.of(p.handed)}
}

// proposeWrite is propose with a note in the request's tracker.
func (p *peer) proposeWrite(ctx context.Context, prop *proposal) error {
	t := tracker.From(ctx)
	t.CountWrite(len(prop.data))
	was := t.Enter(tracker.Write)
	p.store.metrics.stages.proposeSize.Observe(float64(len(prop.data)))
	prop.times.created = p.store.now()
	err := p.propose(ctx, prop)
	t.Enter(was)
	if err == nil {
		t.AddWrite(prop.times.parts) // the answer came behind its last change
	}
	return err
}

// timeResults tells the proposals that were applied where their time went.
func (a *applier) timeResults() {
	if len(a.results) == 0 {
		return
	}
	now, m := a.p.store.now(), &a.p.store.metrics.stages
	for _, r := range a.results {
		t := &r.prop.times
		if r.err != nil || t.created == 0 {
			continue
		}
		t.parts = tracker.WriteParts{
			Propose:   time.Duration(t.proposed - t.created),
			Persist:   time.Duration(r.times.persisted),
			Commit:    time.Duration(r.times.committed - t.proposed),
			ApplyWait: time.Duration(a.began - r.times.committed),
			Apply:     time.Duration(now - a.began),
		}
		m.requestWait.Observe(t.parts.Propose.Seconds())
		m.commitLog.Observe(t.parts.Commit.Seconds())
		m.applyWait.Observe(t.parts.ApplyWait.Seconds())
		m.applyLog.Observe(t.parts.Apply.Seconds())
	}
}

// stageMetrics are histograms of the stages, and of what one sync of the Raft
// log carries.
type stageMetrics struct {
	requestWait, commitLog, applyWait, applyLog prometheus.Histogram
	appendLog, taskWait                         prometheus.Histogram
	syncEntries, syncBytes, proposeSize         prometheus.Histogram
}

func (m *stageMetrics) init() []prometheus.Collector {
	seconds := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.00001, 2, 22)})
	}
	m.requestWait = seconds("tikv_raftstore_request_wait_time_duration_secs", "Time that writes waited at their region for the Raft worker.")
	m.commitLog = seconds("tikv_raftstore_commit_log_duration_seconds", "Time from a write's proposal until a quorum has it.")
	m.applyWait = seconds("tikv_raftstore_apply_wait_time_duration_secs", "Time that committed writes waited for an apply worker.")
	m.applyLog = seconds("tikv_raftstore_apply_log_duration_seconds", "Time to write committed writes to the data engine.")
	m.appendLog = seconds("tikv_raftstore_append_log_duration_seconds", "Time of one synced commit of the Raft log, over all regions in it.")
	m.taskWait = seconds("tikv_raftstore_store_write_task_wait_duration_secs", "Time that a region's entries waited for the log writer.")
	m.syncEntries = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tikv_raftstore_log_sync_entries",
		Help: "Log entries in one synced commit of the Raft log: how well commits are grouped.", Buckets: prometheus.ExponentialBuckets(1, 2, 12)})
	m.proposeSize = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tikv_raftstore_propose_log_size",
		Help: "Bytes of one proposed write.", Buckets: prometheus.ExponentialBuckets(64, 2, 18)})
	m.syncBytes = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "tikv_raftstore_store_write_trigger_wb_bytes",
		Help: "Bytes of one synced commit of the Raft log.", Buckets: prometheus.ExponentialBuckets(64, 2, 20)})
	return []prometheus.Collector{m.requestWait, m.commitLog, m.applyWait, m.applyLog, m.appendLog, m.taskWait, m.syncBytes, m.syncEntries, m.proposeSize}
}

// logRound takes note of a synced commit of the Raft log.
func (m *stageMetrics) logRound(tasks []*logTask, bytes int, began, ended int64) {
	entries := 0
	for _, t := range tasks {
		entries += len(t.entries)
		if len(t.entries) > 0 {
			m.taskWait.Observe(time.Duration(began - t.submitted).Seconds())
		}
	}
	m.appendLog.Observe(time.Duration(ended - began).Seconds())
	m.syncBytes.Observe(float64(bytes))
	m.syncEntries.Observe(float64(entries))
}
