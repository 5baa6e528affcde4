package exec_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// pipes are n pipelines that share src.
func pipes(src exec.Operator, n int, build func(exec.Operator) exec.Operator) exec.Pipelines {
	s := exec.NewShared(src)
	p := exec.Pipelines{Shared: []exec.SharedInput{s}}
	for range n {
		p.Pipes = append(p.Pipes, build(s.Reader()))
	}
	return p
}

// parts are pipelines that read one part each.
func parts(r *exec.Repartition, n int, build func(exec.Operator) exec.Operator) exec.Pipelines {
	p := exec.Pipelines{Shared: []exec.SharedInput{r}}
	for i := range n {
		p.Pipes = append(p.Pipes, build(r.Reader(i)))
	}
	return p
}

func itself(op exec.Operator) exec.Operator { return op }

// Whatever runs in parallel gives the rows that it gives by one goroutine, and
// where it has an order, that order.
func TestParallelIsSerial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.IntRange(1, 2).Draw(t, "keys")
		types := append(rapid.SliceOfN(rapid.SampledFrom([]sqltypes.Type{sqltypes.Int8, sqltypes.Text, sqltypes.Date, sqltypes.Bool}),
			keys, keys).Draw(t, "types"), sqltypes.Int4, sqltypes.Bool)
		tb := drawTable(t, types, 40)
		n, m := rapid.IntRange(1, 4).Draw(t, "workers"), rapid.IntRange(1, 4).Draw(t, "parts")
		must := mustOp(t)

		equal(t, "gather", sorted(run(t, exec.NewGather(pipes(tb.op(t), n, itself)))), sorted(tb.texts()))

		cond := []expr.Expr{tb.col(keys + 1)}
		filter := func(op exec.Operator) exec.Operator { return must(exec.NewFilter(op, cond)) }
		equal(t, "filter", sorted(run(t, exec.NewGather(pipes(tb.op(t), n, filter)))), sorted(run(t, filter(tb.op(t)))))

		var groupBy []expr.Expr
		for c := range keys {
			groupBy = append(groupBy, tb.col(c))
		}
		aggs := []plan.AggCall{{Name: "count"}, {Name: "sum", Args: []expr.Expr{tb.col(keys)}}, {Name: "max", Args: []expr.Expr{tb.col(keys)}, Filter: tb.col(keys + 1)}}
		agg := func(mode exec.AggMode, by []expr.Expr) func(exec.Operator) exec.Operator {
			return func(op exec.Operator) exec.Operator { return must(exec.NewHashAgg(op, mode, by, aggs)) }
		}
		whole := sorted(run(t, agg(exec.CompleteAgg, groupBy)(tb.op(t))))
		partial := pipes(tb.op(t), n, agg(exec.PartialAgg, groupBy))
		equal(t, "one final aggregation", sorted(run(t, agg(exec.FinalAgg, groupBy)(exec.NewGather(partial)))), whole)
		partial = pipes(tb.op(t), n, agg(exec.PartialAgg, groupBy))
		final := parts(exec.NewRepartition(partial, keys, m), m, agg(exec.FinalAgg, groupBy))
		equal(t, "final aggregations", sorted(run(t, exec.NewGather(final))), whole)
		one := agg(exec.FinalAgg, nil)(exec.NewGather(pipes(tb.op(t), n, agg(exec.PartialAgg, nil))))
		equal(t, "without groups", run(t, one), run(t, agg(exec.CompleteAgg, nil)(tb.op(t))))

		distinct := parts(exec.NewRepartition(pipes(tb.op(t), n, exec.NewDistinct), len(types), m), m, exec.NewDistinct)
		equal(t, "distinct", sorted(run(t, exec.NewGather(distinct))), sorted(run(t, exec.NewDistinct(tb.op(t)))))

		order := make([]plan.SortKey, len(types)) // of all columns: ties are the same row
		for c := range types {
			order[c] = plan.SortKey{Expr: tb.col(c), Desc: rapid.Bool().Draw(t, "desc"), NullsFirst: rapid.Bool().Draw(t, "nulls first")}
		}
		sort := func(op exec.Operator) exec.Operator { return must(exec.NewSort(op, order)) }
		want := run(t, sort(tb.op(t)))
		equal(t, "sort", run(t, must(exec.NewGatherMerge(pipes(tb.op(t), n, sort), order))), want)
		k := rapid.IntRange(0, 10).Draw(t, "k")
		top := func(op exec.Operator) exec.Operator { return must(exec.NewTopN(op, order, uint64(k), 0)) }
		got := run(t, top(exec.NewGather(pipes(tb.op(t), n, top))))
		equal(t, "top-n", got, want[:min(k, len(want)):min(k, len(want))])
	})
}

// endless returns the same rows for ever, and knows whether it was closed.
type endless struct {
	b      *expr.Batch
	closed *atomic.Int32
	failAt int // of the batch that fails, or panics
	with   any
}

func (e *endless) Next() (*expr.Batch, error) {
	if e.failAt--; e.failAt == 0 {
		if err, ok := e.with.(error); ok {
			return nil, err
		}
		panic(e.with)
	}
	return e.b, nil
}

func (e *endless) Close() error { e.closed.Add(1); return nil }

func endlessOp(closed *atomic.Int32, failAt int, with any) exec.Operator {
	tb := ints(1, 2, 3)
	b := tb.batch(fatal{}, 0, 3)
	return exec.NewSource("Endless", tb.types, func(*exec.Ctx) (exec.Source, error) {
		return &endless{b: b, closed: closed, failAt: failAt, with: with}, nil
	})
}

type fatal struct{}

func (fatal) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// parallel are the operators that have workers, over one source.
func parallel(src func() exec.Operator) map[string]func() exec.Operator {
	keys := []plan.SortKey{{Expr: ints().col(0)}}
	return map[string]func() exec.Operator{
		"gather": func() exec.Operator { return exec.NewGather(pipes(src(), 3, itself)) },
		"merge": func() exec.Operator {
			op, err := exec.NewGatherMerge(pipes(src(), 3, itself), keys)
			if err != nil {
				panic(err)
			}
			return op
		},
		"repartition": func() exec.Operator {
			return exec.NewGather(parts(exec.NewRepartition(pipes(src(), 3, itself), 1, 2), 2, itself))
		},
		"join": func() exec.Operator { // with itself, whose table is the result of another one
			distinct := func() exec.Operator { return exec.NewDistinct(exec.NewLimit(src(), 400, 0)) }
			return exec.NewGather(probes(src(), exec.NewGather(probes(distinct(), distinct()))))
		},
		"nested": func() exec.Operator {
			return exec.NewGather(pipes(exec.NewGather(pipes(src(), 2, itself)), 2, itself))
		},
	}
}

// probes are three pipelines that join left with right.
func probes(left, right exec.Operator) exec.Pipelines {
	key := []expr.Expr{ints().col(0)}
	t, err := exec.NewJoinTable(exec.JoinTableSpec{Kind: exec.SemiJoin, Right: right, LeftTypes: left.Types(), LeftKeys: key, RightKeys: key})
	if err != nil {
		panic(err)
	}
	p := pipes(left, 3, func(op exec.Operator) exec.Operator { return exec.NewHashProbe(op, t) })
	p.Shared = append(p.Shared, t)
	return p
}

var parallelNames = []string{"gather", "merge", "repartition", "nested"}

// bubble runs f for each of them; a goroutine that is left over fails the test.
func bubble(t *testing.T, failAt int, with any, f func(t *testing.T, op exec.Operator)) {
	for _, name := range parallelNames {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var closed atomic.Int32
				op := parallel(func() exec.Operator { return endlessOp(&closed, failAt, with) })[name]()
				f(t, op)
				if n := closed.Load(); n != 1 {
					t.Errorf("the source was closed %d times", n)
				}
			})
		})
	}
}

// An error of one worker is the statement's, and ends all workers. So is what a
// kernel raises by a panic.
func TestParallelError(t *testing.T) {
	boom := pgerror.New(pgerror.DivisionByZero, "division by zero")
	bubble(t, 20, boom, func(t *testing.T, op exec.Operator) {
		if _, err := exec.Collect(ctx(), op); !errors.Is(err, boom) {
			t.Error(err)
		}
	})
}

// A broken invariant in a worker goes on where the statement's guard is.
func TestParallelPanic(t *testing.T) {
	bubble(t, 20, "broken", func(t *testing.T, op exec.Operator) {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "broken") || !strings.Contains(p, "in a worker") {
				t.Errorf("recovered %q", p)
			}
		}()
		bs, err := exec.Collect(ctx(), op)
		t.Errorf("no panic: %d batches, %v", len(bs), err)
	})
}

// Whoever stops reading has nothing left behind after Close.
func TestParallelStops(t *testing.T) {
	bubble(t, 0, nil, func(t *testing.T, op exec.Operator) {
		if err := op.Open(ctx()); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if b, err := op.Next(); b == nil || err != nil {
				t.Fatal(b, err)
			}
		}
		if err := op.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestParallelCancel(t *testing.T) {
	cause := errors.New("somebody asked for it")
	bubble(t, 0, nil, func(t *testing.T, op exec.Operator) {
		c := ctx()
		inner, cancel := context.WithCancelCause(c.Context)
		c.Context = inner
		if err := op.Open(c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // all queues are full
		cancel(cause)
		for {
			b, err := op.Next()
			if errors.Is(err, cause) {
				break
			}
			if b == nil {
				t.Fatal("ended with", err)
			}
		}
		if err := op.Close(); err != nil && !errors.Is(err, cause) {
			t.Error(err)
		}
	})
}

// cores are counted: how many are taken at a time.
type cores struct {
	free chan struct{}
	most atomic.Int32
	now  atomic.Int32
}

type core struct {
	*cores
	held bool
}

func (c *core) Yield(ctx context.Context) error {
	c.Pause()
	select {
	case c.free <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	c.held = true
	for n := c.now.Add(1); ; {
		if m := c.most.Load(); n <= m || c.most.CompareAndSwap(m, n) {
			return nil
		}
	}
}

func (c *core) Pause() {
	if c.held {
		c.held = false
		c.now.Add(-1)
		<-c.free
	}
}

// needy is a source that computes with a core of its own, as a scan in the same
// process does.
type needy struct {
	rest []*expr.Batch
	core *core
}

func (n *needy) Next() (*expr.Batch, error) {
	if err := n.core.Yield(context.Background()); err != nil {
		return nil, err
	}
	defer n.core.Pause()
	if len(n.rest) == 0 {
		return nil, nil
	}
	b := n.rest[0]
	n.rest = n.rest[1:]
	return b, nil
}

func (n *needy) Close() error { return nil }

// Workers compute with a core only, never more than there are, and wait
// without: or else what they wait for would have none.
func TestParallelCores(t *testing.T) {
	var rows []any
	for i := range 500 {
		rows = append(rows, i%7)
	}
	tb := ints(rows...)
	var bs []*expr.Batch
	for lo := 0; lo < len(rows); lo += 10 {
		bs = append(bs, tb.batch(t, lo, lo+10))
	}
	for _, n := range []int{1, 2} {
		for _, name := range append([]string{"join"}, parallelNames...) {
			all := &cores{free: make(chan struct{}, n)}
			source := func() exec.Operator {
				return exec.NewSource("Needy", tb.types, func(*exec.Ctx) (exec.Source, error) {
					return &needy{bs, &core{cores: all}}, nil
				})
			}
			c := ctx()
			c.Cores = func() exec.Core { return &core{cores: all} }
			got, err := exec.Collect(c, parallel(source)[name]())
			if err != nil {
				t.Fatal(name, err)
			}
			if !slices.Equal(sorted(texts(got, tb.types)), sorted(tb.texts())) {
				t.Errorf("%s: got %d rows", name, len(texts(got, tb.types)))
			}
			if m := all.most.Load(); m < 1 || m > int32(n) || all.now.Load() != 0 {
				t.Errorf("%s: %d of %d cores at a time, %d at the end", name, m, n, all.now.Load())
			}
		}
	}
}
