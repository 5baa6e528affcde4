package plan

import (
	"github.com/copradb/copra/copr/exec"
	coprplan "github.com/copradb/copra/copr/plan"
)

// parallel reports whether workers sort what they read.
func (n *physSort) parallel(b *builder) bool {
	return cloneable(keyExprs(n.keys)) && b.parallel(pipelineOf(n.in))
}

// merged merges the workers' sorted runs.
func (n *physSort) merged(b *builder, keys []coprplan.SortKey) (exec.Operator, error) {
	c, err := b.copies(pipelineOf(n.in), func(_ *builder, in exec.Operator) (exec.Operator, error) {
		return exec.NewSort(in, keys)
	})
	if err != nil {
		return nil, err
	}
	op, err := exec.NewGatherMerge(c, keys)
	b.traced(n, op, c.Pipes, op)
	return op, err
}

// input is what a top-N of so many rows reads: all rows, or the first ones of
// each worker's.
func (n *physTopN) input(b *builder, keys []coprplan.SortKey, rows uint64) (exec.Operator, error) {
	p := pipelineOf(n.in)
	if !b.parallel(p) || !cloneable(keyExprs(n.keys)) {
		return b.build(n.in)
	}
	c, err := b.copies(p, func(_ *builder, in exec.Operator) (exec.Operator, error) {
		return exec.NewTopN(in, keys, rows, 0)
	})
	return b.gathered(nil, c), err
}
