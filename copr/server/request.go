package server

import (
	"context"
	"sync"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/cpusched"
)

// request is a plan.Request at work: its regions, a task each, and the workers
// that read them. A worker takes a region that nobody has begun; when there is
// none left, it helps with one that others read, if the plan allows for that.
type request struct {
	s      *Service
	r      *plan.Request
	group  *cpusched.Group
	mem    *exec.MemAccount
	total  *costs
	emit   func(*plan.Event) error // one at a time
	forks  bool                    // several workers may read a region
	plan   []byte                  // of the keys of answers that may be kept; nil: they may not
	merger *merger                 // nil: answers go out as they come
	wg     sync.WaitGroup          // workers

	mu      sync.Mutex
	next    int // regions begun
	workers int
	shared  []*task // that others may help with
}

// runTasks runs the regions.
func (s *Service) runTasks(ctx context.Context, r *plan.Request, emit func(*plan.Event) error, total *costs) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := s.o.RequestMemBytesMax
	if r.MemBytesMax > 0 {
		limit = min(limit, r.MemBytesMax)
	}
	var emitMu sync.Mutex
	var failed error
	q := &request{
		s: s, r: r, mem: exec.NewMemAccount(limit, s.mem), total: total, forks: r.Plan.Unordered(), group: s.o.CPU.Group(r.ReadTS),
		emit: func(e *plan.Event) error {
			emitMu.Lock()
			defer emitMu.Unlock()
			if failed == nil {
				if failed = emit(e); failed != nil {
					cancel(failed)
				}
			}
			return failed
		},
	}
	defer q.group.Close()
	if s.results != nil {
		q.plan = resultPlan(r)
	}
	q.merger = newMerger(q)
	defer q.merger.close()
	q.start(ctx, len(r.Regions))
	q.wg.Wait()
	if failed == nil && ctx.Err() == nil {
		q.merger.finish(ctx)
	}
	if failed != nil {
		return failed
	}
	return ctx.Err()
}

// start starts up to n more workers, so many that all cores have one.
func (q *request) start(ctx context.Context, n int) {
	q.mu.Lock()
	n = min(n, q.s.o.CPU.Cores()-q.workers)
	q.workers += max(n, 0)
	q.mu.Unlock()
	for range n {
		q.wg.Go(func() {
			q.work(ctx)
			q.mu.Lock()
			q.workers--
			q.mu.Unlock()
		})
	}
}

// work is a worker: until there is nothing left to begin or to help with.
func (q *request) work(ctx context.Context) {
	w := q.group.Worker()
	defer w.Pause()
	for ctx.Err() == nil {
		if i, ok := q.begin(); ok {
			t := &task{s: q.s, q: q, r: q.r, i: i}
			t.run(ctx, w)
			continue
		}
		if w.Yield(ctx) != nil { // who helps without a core is of no help
			return
		}
		p := q.help(w)
		if p == nil {
			return
		}
		p.help()
		w.Pause()
	}
}

// begin takes a region that nobody has begun.
func (q *request) begin() (i int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i = q.next
	if i >= len(q.r.Regions) {
		return 0, false
	}
	q.next++
	return i, true
}

// share lets others help with a task's scan, until unshare.
func (q *request) share(ctx context.Context, t *task, pieces int) {
	q.mu.Lock()
	q.shared = append(q.shared, t)
	q.mu.Unlock()
	q.start(ctx, pieces-1)
}

func (q *request) unshare(t *task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, o := range q.shared {
		if o == t {
			q.shared = append(q.shared[:i], q.shared[i+1:]...)
			return
		}
	}
}

// help takes part in the task with the most pieces left; nil if none has any.
func (q *request) help(w *cpusched.Worker) *pipeline {
	q.mu.Lock()
	defer q.mu.Unlock()
	var best *task
	most := 0
	for _, t := range q.shared {
		if n := t.cols.Pieces(); n > most {
			best, most = t, n
		}
	}
	if best == nil {
		return nil
	}
	best.helpers.Add(1)
	return &pipeline{t: best, ctx: best.base, worker: w, scan: best.cols.Fork()}
}
