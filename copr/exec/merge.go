package exec

import (
	"bytes"
	"container/heap"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
)

type mergeOp struct {
	ins    []Operator
	keys   *sortKeys
	ctx    *Ctx
	heads  mergeHeap
	opened bool
}

// mergeHead is where one input stands.
type mergeHead struct {
	input int
	batch *expr.Batch
	vecs  []colvec.Vec
	arena []byte
	ends  []int
	row   int
}

func (h *mergeHead) key() []byte {
	start := 0
	if h.row > 0 {
		start = h.ends[h.row-1]
	}
	return h.arena[start:h.ends[h.row]]
}

type mergeHeap []*mergeHead

func (h mergeHeap) Len() int { return len(h) }
func (h mergeHeap) Less(i, j int) bool {
	if c := bytes.Compare(h[i].key(), h[j].key()); c != 0 {
		return c < 0
	}
	return h[i].input < h[j].input
}
func (h mergeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *mergeHeap) Push(x any)   { *h = append(*h, x.(*mergeHead)) }
func (h *mergeHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// NewMerge merges inputs that are each in the order of keys.
func NewMerge(ins []Operator, keys []plan.SortKey) (Operator, error) {
	sk, err := newSortKeys(keys)
	if err != nil {
		return nil, err
	}
	return newOperator("Merge Append", &mergeOp{ins: ins, keys: sk}, ins[0].Types(), ins...), nil
}

func (m *mergeOp) open(ctx *Ctx) error {
	m.ctx, m.heads, m.opened = ctx, nil, false
	return nil
}

func (m *mergeOp) close() error { m.heads = nil; return nil }

// fill reads the input's next batch; false at its end.
func (m *mergeOp) fill(h *mergeHead) (bool, error) {
	b, err := m.ins[h.input].Next()
	if err != nil || b == nil {
		return false, err
	}
	h.batch, h.vecs, h.row = b, colvec.OpenAll(b.Cols, m.ins[h.input].Types()), 0
	h.arena, h.ends, err = m.keys.append(m.ctx, b, h.arena[:0], h.ends[:0])
	return true, err
}

func (m *mergeOp) start() error {
	for i := range m.ins {
		h := &mergeHead{input: i}
		ok, err := m.fill(h)
		if err != nil {
			return err
		}
		if ok {
			m.heads = append(m.heads, h)
		}
	}
	heap.Init(&m.heads)
	return nil
}

func (m *mergeOp) next() (*expr.Batch, error) {
	if !m.opened {
		if err := m.start(); err != nil {
			return nil, err
		}
		m.opened = true
	}
	if len(m.heads) == 1 && m.heads[0].row == 0 {
		return m.passOn()
	}
	bs := colvec.NewBuilders(m.ins[0].Types(), BatchRowsMax)
	n := 0
	for ; n < BatchRowsMax && len(m.heads) > 0; n++ {
		h := m.heads[0]
		for c := range bs {
			bs[c].AppendFrom(&h.vecs[c], h.row)
		}
		if h.row++; h.row < h.batch.N {
			heap.Fix(&m.heads, 0)
			continue
		}
		ok, err := m.fill(h)
		switch {
		case err != nil:
			return nil, err
		case ok:
			heap.Fix(&m.heads, 0)
		default:
			heap.Pop(&m.heads)
		}
	}
	if n == 0 {
		return nil, nil
	}
	cols, err := colvec.FinishAll(bs)
	return &expr.Batch{N: n, Cols: cols}, err
}

// passOn returns the last input's batch as it is.
func (m *mergeOp) passOn() (*expr.Batch, error) {
	h := m.heads[0]
	b := h.batch
	ok, err := m.fill(h)
	if err != nil {
		return nil, err
	}
	if !ok {
		m.heads = nil
	}
	return b, nil
}
