package exec

import (
	"bytes"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// mergeInput returns the next batch of plain columns of one input, nil at its
// end.
type mergeInput func() (*expr.Batch, error)

// merger merges inputs that are each in the order of keys. Of equal rows those
// of the input that comes first come first.
//
// It is a tree of losers: an inner node has the input that lost there, so that
// after a row is taken from the winner one comparison a level finds the next.
type merger struct {
	ctx   *Ctx
	types []sqltypes.Type
	keys  *sortKeys
	ins   []mergeInput
	heads []mergeHead
	tree  []int // tree[0] is the winner, the others losers
	live  int   // inputs that are not at their end
	out   store // the batches that the rows of refs are in
	refs  []rowRef
	begun bool
}

// mergeHead is where one input stands.
type mergeHead struct {
	batch *expr.Batch // nil at the end
	vecs  []colvec.Vec
	arena []byte // keys
	ends  []int
	row   int
	word  uint64 // first bytes of the key at hand
	slot  int    // of the batch in out, -1 = not there yet
	width int64  // bytes of a row, about
}

func (h *mergeHead) key() []byte {
	start := 0
	if h.row > 0 {
		start = h.ends[h.row-1]
	}
	return h.arena[start:h.ends[h.row]]
}

func newMerger(ctx *Ctx, types []sqltypes.Type, keys *sortKeys, ins []mergeInput) *merger {
	return &merger{ctx: ctx, types: types, keys: keys, ins: ins, out: store{types: types}}
}

// fill reads an input's next batch.
func (m *merger) fill(i int) error {
	h := &m.heads[i]
	b, err := m.ins[i]()
	if err != nil {
		return err
	}
	h.batch, h.row, h.slot = b, 0, -1
	if b == nil {
		m.live--
		return nil
	}
	h.vecs, h.width = colvec.OpenAll(b.Cols, m.types), batchBytes(b)/int64(b.N)
	if h.arena, h.ends, err = m.keys.append(m.ctx, b, h.arena[:0], h.ends[:0]); err != nil {
		return err
	}
	h.word = head(h.key())
	return nil
}

// before reports whether input a's row is to come before b's.
func (m *merger) before(a, b int) bool {
	x, y := &m.heads[a], &m.heads[b]
	switch {
	case x.batch == nil:
		return false
	case y.batch == nil:
		return true
	case x.word != y.word:
		return x.word < y.word
	}
	if c := bytes.Compare(x.key(), y.key()); c != 0 {
		return c < 0
	}
	return a < b
}

func (m *merger) start() error {
	n := len(m.ins)
	m.heads, m.tree, m.live = make([]mergeHead, n), make([]int, n), n
	for i := range m.ins {
		if err := m.fill(i); err != nil {
			return err
		}
	}
	// Leaves are n to 2n-1, the parent of node k is k/2.
	winner := make([]int, 2*n)
	for i := range n {
		winner[n+i] = i
	}
	for k := n - 1; k > 0; k-- {
		a, b := winner[2*k], winner[2*k+1]
		if m.before(b, a) {
			a, b = b, a
		}
		winner[k], m.tree[k] = a, b
	}
	m.tree[0] = winner[min(1, 2*n-1)]
	return nil
}

// replay finds the winner after input i has moved on.
func (m *merger) replay(i int) {
	w := i
	for k := (len(m.ins) + i) / 2; k > 0; k /= 2 {
		if m.before(m.tree[k], w) {
			w, m.tree[k] = m.tree[k], w
		}
	}
	m.tree[0] = w
}

// next returns the next rows in order, nil at the end.
func (m *merger) next() (*expr.Batch, error) {
	if !m.begun {
		if err := m.start(); err != nil {
			return nil, err
		}
		m.begun = true
	}
	m.out.vecs, m.refs = m.out.vecs[:0], m.refs[:0]
	for bytes := int64(0); len(m.refs) < BatchRowsMax && bytes < spillBatchBytes && m.live > 0; {
		i := m.tree[0]
		h := &m.heads[i]
		if m.live == 1 && h.row == 0 {
			if len(m.refs) > 0 {
				break // the rest is passed on as it is
			}
			b := h.batch
			return b, m.fill(i)
		}
		if h.slot < 0 {
			h.slot = len(m.out.vecs)
			m.out.vecs = append(m.out.vecs, h.vecs)
		}
		m.refs = append(m.refs, rowRef(h.slot)<<32|rowRef(h.row))
		bytes += h.width
		if h.row++; h.row < h.batch.N {
			h.word = head(h.key())
		} else if err := m.fill(i); err != nil {
			return nil, err
		}
		m.replay(i)
	}
	for i := range m.heads {
		m.heads[i].slot = -1
	}
	if len(m.refs) == 0 {
		return nil, nil
	}
	return m.out.gather(m.refs)
}

type mergeOp struct {
	ins  []Operator
	keys *sortKeys
	m    *merger
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
	ins := make([]mergeInput, len(m.ins))
	for i, in := range m.ins {
		ins[i] = in.Next
	}
	m.m = newMerger(ctx, m.ins[0].Types(), m.keys, ins)
	return nil
}

func (m *mergeOp) close() error { m.m = nil; return nil }

func (m *mergeOp) next() (*expr.Batch, error) { return m.m.next() }
