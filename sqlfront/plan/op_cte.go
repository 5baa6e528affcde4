package plan

import (
	"sync"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
)

// recursionRoundsMax bounds a recursive query that never ends.
const recursionRoundsMax = 1 << 20

// cteStore keeps the rows of WITH items. A subquery that is run for several
// outer values has a store of its own for the items that depend on these.
type cteStore struct {
	parent *cteStore
	own    map[int]bool // nil = all

	mu   sync.Mutex
	done map[int]*cteResult
	work map[int][]*expr.Batch // rows of the last round
}

// cteResult is computed by the first goroutine that needs it.
type cteResult struct {
	mu   sync.Mutex
	ok   bool
	rows []*expr.Batch
}

func newCTEStore(parent *cteStore, own []int) *cteStore {
	s := &cteStore{parent: parent, done: map[int]*cteResult{}, work: map[int][]*expr.Batch{}}
	if parent != nil {
		s.own = map[int]bool{}
		for _, id := range own {
			s.own[id] = true
		}
	}
	return s
}

// of finds the store that an item's rows belong to.
func (s *cteStore) of(id int) *cteStore {
	for s.parent != nil && !s.own[id] {
		s = s.parent
	}
	return s
}

func (s *cteStore) result(id int) *cteResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done[id] == nil {
		s.done[id] = &cteResult{}
	}
	return s.done[id]
}

func (s *cteStore) setWork(id int, rows []*expr.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work[id] = rows
}

func (s *cteStore) workRows(id int) []*expr.Batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work[id]
}

func (n *physCTEScan) build(b *builder) (exec.Operator, error) {
	name := "CTE Scan"
	if n.work {
		name = "WorkTable Scan"
	}
	return exec.NewSource(name, n.types, func(ctx *exec.Ctx) (exec.Source, error) {
		store := b.ctes.of(n.id)
		rows := store.workRows(n.id)
		if !n.work {
			var err error
			if rows, err = b.cteRows(ctx, store, n.id); err != nil {
				return nil, err
			}
		}
		return &batchSource{rows}, nil
	}), nil
}

// batchSource returns batches that exist.
type batchSource struct{ rest []*expr.Batch }

func (s *batchSource) Next() (*expr.Batch, error) {
	if len(s.rest) == 0 {
		return nil, nil
	}
	b := s.rest[0]
	s.rest = s.rest[1:]
	return b, nil
}

func (s *batchSource) Close() error { return nil }

// cteRows computes a WITH item at its first use. An error is not kept: it may
// be that this reader alone was stopped.
func (b *builder) cteRows(ctx *exec.Ctx, store *cteStore, id int) ([]*expr.Batch, error) {
	r := store.result(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ok {
		return r.rows, nil
	}
	c := b.p.ctes[id]
	rows, err := b.runCTE(ctx, c.plan)
	if err != nil {
		return nil, err
	}
	if c.step != nil {
		if rows, err = b.recurse(ctx, store, id, rows); err != nil {
			return nil, err
		}
	}
	r.ok, r.rows = true, rows
	return rows, nil
}

func (b *builder) runCTE(ctx *exec.Ctx, n physNode) ([]*expr.Batch, error) {
	op, err := b.result(n)
	if err != nil {
		return nil, err
	}
	rows, err := exec.Collect(ctx, op)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if err := ctx.Mem.Grow(batchBytes(r)); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// recurse runs the recursive term over the rows of the round before until
// there are none; UNION drops rows seen in any round.
func (b *builder) recurse(ctx *exec.Ctx, store *cteStore, id int, base []*expr.Batch) ([]*expr.Batch, error) {
	c := b.p.ctes[id]
	seen := map[string]bool{}
	var err error
	if c.distinct {
		if base, err = newRows(base, c.types, seen); err != nil {
			return nil, err
		}
	}
	all, last := base, base
	for round := 0; len(last) > 0; round++ {
		if ctx.Err() != nil {
			return nil, canceled(ctx)
		}
		if round == recursionRoundsMax {
			return nil, pgerror.New(pgerror.ProgramLimitExceeded, "recursive query %q did not end after %d rounds", c.name, recursionRoundsMax)
		}
		store.setWork(id, last)
		if last, err = b.runCTE(ctx, c.step); err != nil {
			return nil, err
		}
		if c.distinct {
			if last, err = newRows(last, c.types, seen); err != nil {
				return nil, err
			}
		}
		all = append(all[:len(all):len(all)], last...)
	}
	store.setWork(id, nil)
	return all, nil
}

// newRows keeps the rows that seen does not have.
func newRows(in []*expr.Batch, types []sqltypes.Type, seen map[string]bool) ([]*expr.Batch, error) {
	var out []*expr.Batch
	for _, b := range in {
		keys, err := rowKeys(b, types, nil)
		if err != nil {
			return nil, err
		}
		var sel []int32
		for i, k := range keys {
			if !seen[k] {
				seen[k] = true
				sel = append(sel, int32(i))
			}
		}
		if len(sel) > 0 {
			out = append(out, expr.TakeBatch(b, sel))
		}
	}
	return out, nil
}

// rowKeys are bytes that are equal for rows that are equal in the columns at
// (nil = all), NULL equal to NULL.
func rowKeys(b *expr.Batch, types []sqltypes.Type, at []int) ([]string, error) {
	if at == nil {
		for i := range types {
			at = append(at, i)
		}
	}
	cols := make([]tablecodec.Column, len(at))
	for i, p := range at {
		cols[i] = tablecodec.IndexColumn(types[p], false)
	}
	enc := tablecodec.NewEncoder(cols)
	bound := make([]arrowArray, len(at))
	for i, p := range at {
		bound[i] = b.Cols[p]
	}
	enc.Bind(bound)
	out := make([]string, b.N)
	var key []byte
	for i := range b.N {
		var err error
		if key, _, err = enc.Append(key[:0], i); err != nil {
			return nil, err
		}
		out[i] = string(key)
	}
	return out, nil
}
