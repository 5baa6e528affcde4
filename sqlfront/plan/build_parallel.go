package plan

import (
	"math"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
)

// Parallel plans. A pipeline is what can be done with a row without seeing the
// others: filters, projections, probes of joins. Where many rows go through one,
// Build makes it several times, and lets goroutines run the copies over what one
// leaf returns; a node that needs all rows does its part in each copy and the
// rest above:
//
//	HashAggregate       partial ones in the copies; final ones of a share of the
//	                    groups each, or a single one where there are few
//	Sort                sorted runs in the copies, merged
//	Top-N, Distinct     in the copies, and once more above
//	anything else       Gather
//
// Rows whose order matters are left to one goroutine, as are small inputs.
const (
	// WorkersMax is the most copies of a pipeline.
	WorkersMax = 64
	// parallelRowsMin is how many rows must be expected in a pipeline: below it,
	// goroutines cost more than they give.
	parallelRowsMin = 16 << 10
	// parallelGroupsMin is from how many groups on the final aggregation is
	// divided.
	parallelGroupsMin = 2048
)

// pipeline is a chain of nodes over a leaf.
type pipeline struct {
	steps []physNode // top first
	leaf  physNode
	rows  float64 // the most that are expected anywhere in it
}

// pipelineOf follows n's rows down to where they come from.
func pipelineOf(n physNode) pipeline {
	var p pipeline
	for {
		p.rows = math.Max(p.rows, n.base().rows)
		next := streamed(n)
		if next == nil {
			break
		}
		p.steps, n = append(p.steps, n), next
	}
	p.leaf = n
	if s, ok := n.(*physScan); ok && s.unknown && s.open() {
		p.rows = math.Inf(1)
	}
	return p
}

// streamed is the input that n handles row by row, whatever goroutine does; nil
// if it does not.
func streamed(n physNode) physNode {
	switch x := n.(type) {
	case *physFilter:
		if cloneable(x.conds) {
			return x.in
		}
	case *physProject:
		if cloneable(x.exprs) {
			return x.in
		}
	case *physRows:
		return x.in
	case *physHashJoin:
		if cloneable(x.lkeys, x.residual) {
			return x.l
		}
	case *physLookup:
		if cloneable(x.keys, x.filter, x.lkeys, x.rkeys, x.residual) {
			return x.outer
		}
	}
	return nil
}

// cloneable reports whether several goroutines may evaluate the expressions,
// each its own copy.
func cloneable(lists ...[]expr.Expr) bool {
	for _, l := range lists {
		for _, e := range l {
			ok := walkExpr(e, func(x expr.Expr) bool {
				switch y := x.(type) {
				case *expr.Call:
					return y.Fn.Volatility != expr.Volatile && !y.Fn.Session
				case *physSub:
					return false
				}
				return true
			})
			if !ok {
				return false
			}
		}
	}
	return true
}

// sorted reports whether somebody may rely on the order of n's rows.
func sorted(n physNode) bool {
	switch x := n.(type) {
	case *physSort, *physTopN, *physWindow, *physValues, *physProjectSet:
		return true
	case *physScan:
		return x.keepOrder
	case *physLimit, *physDistinct, *physFilter, *physProject, *physRows, *physLookup:
		return sorted(n.kids()[0])
	}
	return false
}

// parallel reports whether p is to be run by workers.
func (b *builder) parallel(p pipeline) bool {
	return b.workers > 1 && p.rows >= b.many(parallelRowsMin)
}

// many is a limit of rows, unless the environment has another.
func (b *builder) many(rows float64) float64 {
	if b.env.workerRowsMin > 0 {
		return b.env.workerRowsMin
	}
	return rows
}

// copies makes p's operators for each worker, with top's over them.
func (b *builder) copies(p pipeline, top func(b *builder, in exec.Operator) (exec.Operator, error)) (exec.Pipelines, error) {
	out, err := b.sources(p.leaf)
	if err != nil {
		return out, err
	}
	first := p.leaf
	if len(p.steps) > 0 {
		first = p.steps[0]
	}
	tables := map[physNode]*exec.JoinTable{}
	for _, n := range p.steps {
		if j, ok := n.(*physHashJoin); ok {
			t, err := j.table(b)
			if err != nil {
				return out, err
			}
			tables[n] = t
			out.Shared = append(out.Shared, t)
		}
	}
	for w, leaf := range out.Pipes {
		c := *b
		c.workers, c.copy, c.given, c.tables = 1, w, map[physNode]exec.Operator{p.leaf: leaf}, tables
		op, err := c.build(first)
		if err == nil && top != nil {
			op, err = top(&c, op)
		}
		if err != nil {
			return out, err
		}
		out.Pipes[w] = op
	}
	return out, nil
}

// sources are a leaf's rows for each worker: a share of the groups where these
// are divided, else what each takes of all rows.
func (b *builder) sources(n physNode) (out exec.Pipelines, err error) {
	switch x := n.(type) {
	case *physAgg:
		if x.divided(b) {
			return x.pipelines(b)
		}
	case *physDistinct:
		if x.divided(b) {
			return x.pipelines(b)
		}
	}
	leaf, err := b.build(n)
	if err != nil {
		return out, err
	}
	shared := exec.NewShared(leaf)
	out.Shared = append(out.Shared, shared)
	for range b.workers {
		out.Pipes = append(out.Pipes, shared.Reader())
	}
	return out, nil
}

// any builds n for a reader to whom the order of rows does not matter.
func (b *builder) any(n physNode) (exec.Operator, error) {
	p := pipelineOf(n)
	if !b.parallel(p) || len(p.steps) == 0 {
		return b.build(n)
	}
	c, err := b.copies(p, nil)
	if err != nil {
		return nil, err
	}
	return exec.NewGather(c), nil
}

// result builds n for a client, who may have asked for an order.
func (b *builder) result(n physNode) (exec.Operator, error) {
	if sorted(n) {
		return b.build(n)
	}
	return b.any(n)
}

// partition makes pipelines that each get the rows of c whose first keys columns
// hash alike.
func partition(c exec.Pipelines, keys int, build func(in exec.Operator) (exec.Operator, error)) (exec.Pipelines, error) {
	r := exec.NewRepartition(c, keys, len(c.Pipes))
	out := exec.Pipelines{Shared: []exec.SharedInput{r}}
	for i := range c.Pipes {
		op, err := build(r.Reader(i))
		if err != nil {
			return out, err
		}
		out.Pipes = append(out.Pipes, op)
	}
	return out, nil
}
