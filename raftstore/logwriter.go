package raftstore

import (
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/raftstore/raftlog"
	"go.etcd.io/raft/v3/raftpb"
)

// logTask is what one Ready, or one life-cycle step, of a region writes to the
// Raft log. Tasks are written in the order of their submission.
type logTask struct {
	p        *peer
	entries  []*raftpb.Entry
	prevLast uint64
	hs       *raftpb.HardState
	extra    func(b *raftlog.Batch) // written before the rest
	sync     bool
	// After the write: messages that promise what was written (hazard 1), and
	// a mail to the peer or a call.
	sends []*RaftMessage
	done  any
	call  func()
	bytes int64
	// submitted and written are nanoseconds on the clock of logWriter.disk.
	submitted, written int64
}

// logWriter is the one goroutine that writes the Raft log: all tasks that wait
// when it looks go into one commit and one sync, whatever their region.
type logWriter struct {
	log       *raftlog.Log
	transport Transport
	fatal     func(error)
	metrics   *metrics
	disk      *slowDisk
	queued    atomic.Int64 // bytes of entries not yet written (hazard 16)

	mu     sync.Mutex
	cond   sync.Cond
	queue  []*logTask
	closed bool
}

func newLogWriter(log *raftlog.Log, t Transport, fatal func(error), m *metrics) *logWriter {
	w := &logWriter{log: log, transport: t, fatal: fatal, metrics: m, disk: newSlowDisk()}
	w.cond.L = &w.mu
	return w
}

func (w *logWriter) submit(t *logTask) {
	for _, e := range t.entries {
		t.bytes += int64(entryCost(e))
	}
	w.queued.Add(t.bytes)
	t.submitted = w.disk.now()
	w.mu.Lock()
	w.queue = append(w.queue, t)
	w.mu.Unlock()
	w.cond.Signal()
}

// take waits for tasks and returns those of one round.
func (w *logWriter) take(buf []*logTask) []*logTask {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) == 0 && !w.closed {
		w.cond.Wait()
	}
	var bytes int64
	for i, t := range w.queue {
		if bytes += t.bytes; bytes > logRoundBytesMax && i > 0 {
			buf = append(buf, w.queue[:i]...)
			w.queue = append([]*logTask(nil), w.queue[i:]...)
			return buf
		}
	}
	buf = append(buf, w.queue...)
	clear(w.queue)
	w.queue = w.queue[:0]
	return buf
}

// run writes until the writer is closed and its queue is empty.
func (w *logWriter) run() {
	batch := w.log.NewBatch()
	defer batch.Close()
	var buf []*logTask
	for {
		buf = w.take(buf[:0])
		if len(buf) == 0 {
			return
		}
		if err := w.write(batch, buf); err != nil {
			w.fatal(err) // hazard 2: nothing after a failed sync can be trusted
			return
		}
		for _, t := range buf {
			w.queued.Add(-t.bytes)
			for _, m := range t.sends {
				w.transport.Send(m)
			}
			if t.call != nil {
				t.call()
			}
			if t.done != nil {
				if d, ok := t.done.(*appendDone); ok {
					d.took = t.written - t.submitted
				}
				t.p.send(t.done)
			}
		}
		clear(buf)
	}
}

func (w *logWriter) write(batch *raftlog.Batch, tasks []*logTask) error {
	batch.Reset()
	sync, regions := false, 0
	for _, t := range tasks {
		if t.extra != nil {
			t.extra(batch)
		}
		if len(t.entries) > 0 {
			batch.Append(t.p.regionID, t.entries, t.prevLast)
		}
		if t.hs != nil {
			batch.SetHardState(t.p.regionID, t.hs)
		}
		if t.sync {
			sync = true
			regions++
		}
	}
	if batch.Empty() {
		return nil
	}
	w.disk.begin()
	began := w.disk.now()
	if err := w.log.Commit(batch, sync); err != nil {
		return err
	}
	w.disk.end()
	ended := w.disk.now()
	for _, t := range tasks {
		t.written = ended
	}
	if sync {
		w.metrics.logSyncs.Inc()
		w.metrics.logSyncRegions.Add(float64(regions))
		w.metrics.stages.logRound(tasks, batch.Size(), began, ended)
	}
	return nil
}

func (w *logWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.cond.Broadcast()
}
