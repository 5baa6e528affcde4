package plan

import (
	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
)

// divisible reports whether the aggregates can be computed in parts, of rows in
// any order.
func (n *physAgg) divisible() bool {
	for _, a := range n.aggs {
		if a.Distinct || a.Name == "array_agg" || a.Name == "string_agg" || !cloneable(a.Args) ||
			a.Filter != nil && !cloneable([]expr.Expr{a.Filter}) {
			return false
		}
	}
	return cloneable(n.keys)
}

// partial reports whether workers aggregate what they read, and their groups
// are put together above.
func (n *physAgg) partial(b *builder) bool {
	return n.mode == exec.CompleteAgg && n.divisible() && b.parallel(pipelineOf(n.in))
}

// divided reports whether workers do the final aggregation of a share of the
// groups each.
func (n *physAgg) divided(b *builder) bool {
	if len(n.keys) == 0 || !n.divisible() {
		return false
	}
	if n.mode == exec.FinalAgg { // the regions' states
		return b.workers > 1 && n.rows >= b.many(parallelRowsMin)
	}
	return n.rows >= b.many(parallelGroupsMin) && n.partial(b)
}

// pipelines are the final aggregations of a share of the groups each.
func (n *physAgg) pipelines(b *builder) (exec.Pipelines, error) {
	c, parts, err := n.states(b)
	if err != nil {
		return c, err
	}
	final, err := partition(c, len(n.keys), func(in exec.Operator) (exec.Operator, error) {
		return n.over(b, in, exec.FinalAgg)
	})
	b.traced(n, nil, parts, final.Pipes...)
	return final, err
}

// states are pipelines that return partial aggregates.
func (n *physAgg) states(b *builder) (c exec.Pipelines, parts []exec.Operator, err error) {
	if n.mode == exec.FinalAgg {
		c, err = b.sources(n.in)
		return c, nil, err
	}
	c, err = b.copies(pipelineOf(n.in), func(b *builder, in exec.Operator) (exec.Operator, error) {
		return n.over(b, in, exec.PartialAgg)
	})
	return c, append(parts, c.Pipes...), err
}

// parallel builds an aggregation that workers take part in.
func (n *physAgg) parallel(b *builder) (exec.Operator, error) {
	if n.divided(b) {
		c, err := n.pipelines(b)
		if err != nil {
			return nil, err
		}
		return b.gathered(n, c), nil
	}
	c, parts, err := n.states(b)
	if err != nil {
		return nil, err
	}
	op, err := n.over(b, exec.NewGather(c), exec.FinalAgg)
	b.traced(n, op, parts, op)
	return op, err
}

// over aggregates what in returns.
func (n *physAgg) over(b *builder, in exec.Operator, mode exec.AggMode) (exec.Operator, error) {
	keys, err := b.readyAll(n.keys)
	if err != nil {
		return nil, err
	}
	aggs, err := b.readyAggs(n.aggs)
	if err != nil {
		return nil, err
	}
	return exec.NewHashAgg(in, mode, keys, aggs)
}

// divided reports whether workers each drop the duplicates of a share of the
// rows.
func (n *physDistinct) divided(b *builder) bool {
	return n.on == nil && len(n.types) > 0 && !sorted(n.in) && b.parallel(pipelineOf(n.in))
}

func (n *physDistinct) pipelines(b *builder) (exec.Pipelines, error) {
	c, err := b.copies(pipelineOf(n.in), func(_ *builder, in exec.Operator) (exec.Operator, error) {
		return exec.NewDistinct(in), nil
	})
	if err != nil {
		return c, err
	}
	parts := append([]exec.Operator(nil), c.Pipes...)
	final, err := partition(c, len(n.types), func(in exec.Operator) (exec.Operator, error) { return exec.NewDistinct(in), nil })
	b.traced(n, nil, parts, final.Pipes...)
	return final, err
}
