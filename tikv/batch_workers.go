package tikv

import (
	"sync"
	"sync/atomic"
)

// batchJob is one request of a BatchCommands stream.
type batchJob struct {
	id       uint64
	req      *batchRequest
	received int64 // as tracker.Now has it
}

// batchWorkers are the goroutines that serve one stream. A job never waits for
// another one: it goes to a goroutine that is idle, or to a new one. They are
// kept because a request needs several kilobytes of stack, and a new goroutine
// copies its stack three times on the way there, which cost as much as the
// reading of a key.
type batchWorkers struct {
	serve   func(batchJob)
	jobs    chan batchJob // without a buffer: who sends has met an idle worker
	idle    atomic.Int32
	running sync.WaitGroup
}

// start serves a job and returns at once. Only one goroutine may call it.
func (w *batchWorkers) start(j batchJob) {
	select {
	case w.jobs <- j:
	default:
		w.running.Go(func() { w.run(j) })
	}
}

func (w *batchWorkers) run(j batchJob) {
	for open := true; open; {
		w.serve(j)
		if w.idle.Add(1) > batchIdleMax {
			w.idle.Add(-1)
			return
		}
		j, open = <-w.jobs
		w.idle.Add(-1)
	}
}

// finish waits for the jobs and ends the workers. Nothing may be started any
// more.
func (w *batchWorkers) finish() {
	close(w.jobs)
	w.running.Wait()
}
