package plan

import (
	"fmt"
	"slices"
	"sync"

	"github.com/copradb/copra/copr/exec"
)

// trace remembers which operators belong to which node. Subqueries and WITH
// items are built while the statement runs, by any of its goroutines.
type trace struct {
	mu    sync.Mutex
	nodes map[physNode]*traced
}

func newTrace() *trace { return &trace{nodes: map[physNode]*traced{}} }

// traced are the operators of one node: several where workers run copies.
type traced struct {
	root  exec.Operator // what the node's build returned, if it is none of ops
	ops   []exec.Operator
	parts []exec.Operator // what workers do of the node's work below ops
}

// built notes the operator of a node, or of a worker's copy of it.
func (b *builder) built(n physNode, op exec.Operator) {
	if b.trace == nil {
		return
	}
	b.trace.mu.Lock()
	defer b.trace.mu.Unlock()
	t := b.trace.nodes[n]
	switch {
	case t != nil && t.root == op:
	case t != nil && b.copy > 0:
		t.ops = append(t.ops, op)
	default:
		b.trace.nodes[n] = &traced{root: op, ops: []exec.Operator{op}}
	}
}

// traced notes the operators of a node that workers do parts of.
func (b *builder) traced(n physNode, root exec.Operator, parts []exec.Operator, ops ...exec.Operator) {
	if b.trace == nil {
		return
	}
	b.trace.mu.Lock()
	defer b.trace.mu.Unlock()
	b.trace.nodes[n] = &traced{root: root, ops: slices.Clone(ops), parts: slices.Clone(parts)}
}

// gathered puts n's pipelines together.
func (b *builder) gathered(n physNode, c exec.Pipelines) exec.Operator {
	op := exec.NewGather(c)
	if b.trace != nil && n != nil {
		b.trace.mu.Lock()
		defer b.trace.mu.Unlock()
		b.trace.nodes[n].root = op
	}
	return op
}

func (t *trace) of(n physNode) *traced {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.nodes[n]
}

// stats are the sums over all workers.
func (t *traced) stats() (sum exec.Stats) {
	for _, op := range t.ops {
		s := op.Stats()
		sum.Rows += s.Rows
		sum.Batches += s.Batches
		sum.Bytes += s.Bytes
		sum.Time += s.Time
	}
	for _, op := range t.parts {
		sum.Time += op.Stats().Time
	}
	return sum
}

// detailer is an operator that says more of what it did.
type detailer interface{ Details() []string }

// details are the operators' lines, with who said them if several did.
func (t *traced) details() (out []string) {
	ops := slices.Clone(t.parts)
	for _, op := range t.ops {
		if !slices.Contains(ops, op) {
			ops = append(ops, op)
		}
	}
	for i, op := range ops {
		d, ok := op.(detailer)
		if !ok {
			continue
		}
		for _, line := range d.Details() {
			if len(ops) > 1 {
				line = fmt.Sprintf("Worker %d:  %s", i, line)
			}
			out = append(out, line)
		}
	}
	return out
}

// workers is how many goroutines had a part in it.
func (t *traced) workers() int { return max(len(t.ops), len(t.parts)) }
