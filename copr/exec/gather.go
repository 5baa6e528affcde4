package exec

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/copradb/copra/internal/pgerror"
)

// gatherBatchesMax is how many batches each worker may be ahead of the reader.
const gatherBatchesMax = 2

// Core is a worker's share of the process's processors (internal/cpusched's
// Worker is one): it has a core while it computes, and none while it waits.
type Core interface {
	// Yield waits for a core, or for the next turn; its error is ctx's.
	Yield(ctx context.Context) error
	// Pause gives the core back.
	Pause()
}

// worker is a goroutine that runs a pipeline. A nil worker is the statement's
// own goroutine, which asks nobody.
type worker struct {
	ctx  context.Context
	core Core // nil = it does not ask either
}

// wait comes before the worker blocks.
func (w *worker) wait() {
	if w != nil && w.core != nil {
		w.core.Pause()
	}
}

// work comes before it computes.
func (w *worker) work() error {
	if w == nil || w.core == nil {
		return nil
	}
	return w.core.Yield(w.ctx)
}

// Waiting runs f, which waits for something that others compute: without a
// core, which these may need.
func (c *Ctx) Waiting(f func() error) error {
	c.worker.wait()
	if err := f(); err != nil {
		return err
	}
	return c.worker.work()
}

// alone is the context of operators that any goroutine may run.
func (c *Ctx) alone() *Ctx {
	if c.worker == nil {
		return c
	}
	own := *c
	own.worker = nil
	return &own
}

// Pipelines are operators of the same types that run at the same time.
type Pipelines struct {
	Pipes []Operator
	// Shared is what several of them read; it is closed behind the last one.
	Shared []SharedInput
}

// SharedInput is an input of several pipelines: *Shared, *Repartition or
// *JoinTable.
type SharedInput interface{ close() error }

// crew runs pipelines, each by a goroutine. The first error ends all of them.
//
//	pipe 0 ──► emit ─┐
//	pipe 1 ──► emit ─┼──► channels of whoever started the crew
//	pipe 2 ──► emit ─┘
type crew struct {
	ctx    *Ctx // of the workers
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu  sync.Mutex
	err error
	// broken is what a worker panicked with: a broken invariant, which the
	// reader's goroutine raises again, where the statement's guard is.
	broken any
}

// startCrew starts a goroutine for each pipeline. emit gets the batches of
// pipe i; ended is called behind its last one. The last goroutine to end closes
// what the pipelines share, before that.
func startCrew(ctx *Ctx, p Pipelines, emit func(w *worker, i int, r Raw) error, ended func(i int, last bool)) *crew {
	inner, cancel := context.WithCancelCause(ctx.Context)
	c := &crew{cancel: cancel}
	own := *ctx
	own.Context, own.worker = inner, nil
	c.ctx = &own
	var building sync.WaitGroup
	for _, s := range p.Shared {
		if t, ok := s.(*JoinTable); ok { // all at the same time; the probes wait
			building.Go(func() { c.fail(c.guard(func() error { return t.open(&own) })) })
		}
	}
	var left atomic.Int32
	left.Store(int32(len(p.Pipes)))
	for i, pipe := range p.Pipes {
		c.wg.Go(func() {
			c.fail(c.guard(func() error {
				return c.run(pipe, func(w *worker, r Raw) error { return emit(w, i, r) })
			}))
			last := left.Add(-1) == 0
			if last {
				building.Wait()
				for _, s := range p.Shared {
					c.fail(s.close())
				}
			}
			ended(i, last)
		})
	}
	return c
}

// guard makes an error of a panic, as the statement's own goroutine would.
func (c *crew) guard(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *pgerror.Error:
			err = p
		default:
			err = c.breakdown(p)
		}
	}()
	return f()
}

func (c *crew) run(pipe Operator, emit func(*worker, Raw) error) (err error) {
	ctx := *c.ctx
	w := &worker{ctx: ctx.Context}
	if ctx.Cores != nil {
		w.core = ctx.Cores()
	}
	ctx.worker = w
	defer func() { err = errors.Join(err, pipe.Close()) }()
	defer w.wait()
	if err := pipe.Open(&ctx); err != nil {
		return err
	}
	w.wait()
	for {
		r, err := NextRaw(pipe)
		if err != nil || r.Batch == nil {
			return err
		}
		if err := emit(w, r); err != nil {
			return err
		}
	}
}

func (c *crew) breakdown(p any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		c.broken = fmt.Sprintf("%v\n\nin a worker:\n%s", p, debug.Stack())
	}
	return pgerror.New(pgerror.InternalError, "a worker of the statement panicked: %v", p)
}

func (c *crew) fail(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	c.cancel(err)
}

// failure is the first error.
func (c *crew) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		panic(c.broken)
	}
	return c.err
}

// stop ends all pipelines and waits for them.
func (c *crew) stop() {
	c.cancel(nil)
	c.wg.Wait()
}

// own makes the selection the caller's for good: what passes from one goroutine
// to another must not change behind its back.
func (r Raw) own() Raw {
	if r.Sel != nil {
		r.Sel = slices.Clone(r.Sel)
	}
	return r
}

// lane is a bounded queue of rows from a crew to a goroutine.
type lane chan Raw

// send waits until the reader takes r, or the crew is stopped.
func (l lane) send(w *worker, r Raw) error {
	w.wait()
	select {
	case l <- r:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// receive returns the next rows, none at the end. ctx is the reader's. A crew
// that fails closes its lanes as well, so an end is asked for its reason.
func (l lane) receive(ctx *Ctx, c *crew) (Raw, error) {
	ctx.worker.wait()
	var r Raw
	select {
	case r = <-l:
	case <-c.ctx.Done():
	}
	if r.Batch == nil {
		if err := c.failure(); err != nil {
			return Raw{}, err
		}
		if err := ctx.check(); err != nil {
			return Raw{}, err
		}
	}
	return r, ctx.worker.work()
}

type gatherOp struct {
	p    Pipelines
	ctx  *Ctx
	crew *crew
	out  lane
}

// NewGather runs the pipelines, each by a goroutine of its own from Open on,
// and hands out their rows in no order. The pipelines are not its Inputs: each
// is opened and closed by its goroutine.
func NewGather(p Pipelines) Operator {
	return newOperator("Gather", &gatherOp{p: p}, p.Pipes[0].Types())
}

func (g *gatherOp) open(ctx *Ctx) error {
	out := make(lane, gatherBatchesMax*len(g.p.Pipes))
	g.ctx, g.out = ctx, out
	g.crew = startCrew(ctx, g.p, func(w *worker, _ int, r Raw) error {
		return out.send(w, r.own())
	}, func(_ int, last bool) {
		if last {
			close(out)
		}
	})
	return nil
}

func (g *gatherOp) nextRaw() (Raw, error) { return g.out.receive(g.ctx, g.crew) }

func (g *gatherOp) close() error {
	if g.crew != nil {
		g.crew.stop()
		g.crew = nil
	}
	return nil
}
