package plan

import (
	"errors"
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
	work map[int]*exec.Buffer // rows of the last round
}

// cteResult is computed by the first goroutine that needs it.
type cteResult struct {
	mu   sync.Mutex
	ok   bool
	rows *exec.Buffer
}

func newCTEStore(parent *cteStore, own []int) *cteStore {
	s := &cteStore{parent: parent, done: map[int]*cteResult{}, work: map[int]*exec.Buffer{}}
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

func (s *cteStore) setWork(id int, rows *exec.Buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.work[id] = rows
}

func (s *cteStore) workRows(id int) *exec.Buffer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.work[id]
}

// free gives all rows back. Nobody reads them any more.
func (s *cteStore) free() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, r := range s.done {
		errs = append(errs, r.rows.Free())
		r.ok, r.rows = false, nil
	}
	return errors.Join(errs...)
}

// freeCTEs gives back what belongs to sub, a builder under b.
func (b *builder) freeCTEs(sub *builder) error {
	if sub.ctes == b.ctes {
		return nil
	}
	return sub.ctes.free()
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
		return rows.Read()
	}), nil
}

// cteRows computes a WITH item at its first use. An error is not kept: it may
// be that this reader alone was stopped.
func (b *builder) cteRows(ctx *exec.Ctx, store *cteStore, id int) (*exec.Buffer, error) {
	r := store.result(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ok {
		return r.rows, nil
	}
	c := b.p.ctes[id]
	rows, err := b.runCTE(ctx, c)
	if err == nil && c.step != nil {
		var all *exec.Buffer
		all, err = b.recurse(ctx, store, id, rows)
		rows = all
	}
	if err != nil {
		return nil, err
	}
	r.ok, r.rows = true, rows
	return rows, nil
}

// runCTE computes the part of a WITH item that is not recursive.
func (b *builder) runCTE(ctx *exec.Ctx, c *physCTE) (*exec.Buffer, error) {
	op, err := b.result(c.plan)
	if err != nil {
		return nil, err
	}
	rows := exec.NewBuffer(ctx, op.Types())
	if err := rows.Fill(op); err != nil {
		return nil, errors.Join(err, rows.Free())
	}
	return rows, nil
}

// recursion is a recursive WITH item that is being computed.
type recursion struct {
	ctx  *exec.Ctx
	all  *exec.Buffer
	last *exec.Buffer // of the round before
	seen *exec.RowSet // UNION; nil = UNION ALL
}

// recurse runs the recursive term over the rows of the round before until
// there are none; UNION drops rows seen in any round. It frees base.
func (b *builder) recurse(ctx *exec.Ctx, store *cteStore, id int, base *exec.Buffer) (_ *exec.Buffer, err error) {
	c := b.p.ctes[id]
	r := &recursion{ctx: ctx, all: exec.NewBuffer(ctx, c.types), last: exec.NewBuffer(ctx, c.types)}
	defer func() {
		store.setWork(id, nil)
		err = errors.Join(err, base.Free(), r.last.Free())
		if r.seen != nil {
			r.seen.Free()
		}
		if err != nil {
			err = errors.Join(err, r.all.Free())
		}
	}()
	if c.distinct {
		r.seen = exec.NewRowSet(ctx, c.types)
	}
	op := exec.NewSource("CTE Scan", c.types, func(*exec.Ctx) (exec.Source, error) { return base.Read() })
	if err := r.take(op, r.last); err != nil {
		return nil, err
	}
	for round := 0; r.last.Len() > 0; round++ {
		if ctx.Err() != nil {
			return nil, canceled(ctx)
		}
		if round == recursionRoundsMax {
			return nil, pgerror.New(pgerror.ProgramLimitExceeded, "recursive query %q did not end after %d rounds", c.name, recursionRoundsMax)
		}
		store.setWork(id, r.last)
		op, err := b.result(c.step)
		if err != nil {
			return nil, err
		}
		next := exec.NewBuffer(ctx, c.types)
		if err := r.take(op, next); err != nil {
			return nil, errors.Join(err, next.Free())
		}
		old := r.last
		r.last = next
		if err := old.Free(); err != nil {
			return nil, err
		}
	}
	return r.all, r.all.Finish()
}

// take adds the rows of op that count to all and to one round.
func (r *recursion) take(op exec.Operator, round *exec.Buffer) (err error) {
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := op.Open(r.ctx); err != nil {
		return err
	}
	for {
		b, err := op.Next()
		if err != nil {
			return err
		}
		if b == nil {
			return round.Finish()
		}
		if r.seen != nil {
			if b, err = r.seen.Fresh(b); err != nil {
				return err
			}
		}
		if b.N == 0 {
			continue
		}
		if err := errors.Join(r.all.Add(b), round.Add(b)); err != nil {
			return err
		}
	}
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
