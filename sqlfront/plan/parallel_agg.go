package plan

import (
	"slices"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	coprplan "github.com/copradb/copra/copr/plan"
)

// Aggregations are divided in one of three ways, for w workers:
//
//	few groups                     partial ×w ──► Gather ──► final
//	many groups                    partial ×w ──► Repartition ──► final ×w
//	groups of a row or two each,   rows    ×w ──► Repartition ──► complete ×w
//	or aggregates with DISTINCT

// wholeGroupRowsMax is the rows a group up to which partial aggregates are not
// worth their while.
const wholeGroupRowsMax = 2

// divisible reports whether the aggregates can be computed in parts, of rows in
// any order.
func (n *physAgg) divisible() bool { return !n.hasDistinct() && n.unordered() }

func (n *physAgg) hasDistinct() bool {
	return slices.ContainsFunc(n.aggs, func(a coprplan.AggCall) bool { return a.Distinct })
}

// whole reports whether workers aggregate all rows of a share of the groups
// each.
func (n *physAgg) whole(b *builder) bool {
	return n.mode == exec.CompleteAgg && len(n.keys) > 0 && n.unordered() && n.rows >= b.many(parallelGroupsMin) &&
		(n.hasDistinct() || n.rows*wholeGroupRowsMax > n.in.base().rows) && b.parallel(pipelineOf(n.in))
}

// shares are aggregations of all rows of a share of the groups each.
func (n *physAgg) shares(b *builder) (exec.Pipelines, error) {
	in := n.in.base().types
	c, err := b.copies(pipelineOf(n.in), func(b *builder, op exec.Operator) (exec.Operator, error) {
		list, err := b.readyAll(n.keys)
		if err != nil {
			return nil, err
		}
		for i, t := range in {
			list = append(list, &expr.Column{Index: i, Typ: t})
		}
		return exec.NewProject(op, list)
	})
	if err != nil {
		return c, err
	}
	keys := make([]expr.Expr, len(n.keys))
	for i, k := range n.keys {
		keys[i] = &expr.Column{Index: i, Typ: k.Type()}
	}
	aggs := slices.Clone(n.aggs)
	for i := range aggs {
		aggs[i].Args = slices.Clone(aggs[i].Args)
		for k, e := range aggs[i].Args {
			aggs[i].Args[k] = behind(e, len(keys))
		}
		aggs[i].Filter = behind(aggs[i].Filter, len(keys))
	}
	if aggs, err = b.readyAggs(aggs); err != nil {
		return c, err
	}
	parts := slices.Clone(c.Pipes)
	final, err := partition(c, n.by, func(in exec.Operator) (exec.Operator, error) {
		return exec.NewHashAggBy(in, exec.CompleteAgg, keys, n.by, aggs)
	})
	b.traced(n, nil, parts, final.Pipes...)
	return final, err
}

// behind is e for rows whose columns come after n others.
func behind(e expr.Expr, n int) expr.Expr {
	return mapExpr(e, func(x expr.Expr) expr.Expr {
		if c, ok := x.(*expr.Column); ok {
			return &expr.Column{Index: c.Index + n, Typ: c.Typ, Name: c.Name}
		}
		return nil
	})
}

// unordered reports whether workers may evaluate the aggregates' arguments, and
// the order of rows does not matter.
func (n *physAgg) unordered() bool {
	for _, a := range n.aggs {
		if a.Name == "array_agg" || a.Name == "string_agg" || !cloneable(a.Args) ||
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
	if n.whole(b) {
		return true
	}
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
	if n.whole(b) {
		return n.shares(b)
	}
	c, parts, err := n.states(b)
	if err != nil {
		return c, err
	}
	final, err := partition(c, n.by, func(in exec.Operator) (exec.Operator, error) {
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
	return exec.NewHashAggBy(in, mode, keys, n.by, aggs)
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
