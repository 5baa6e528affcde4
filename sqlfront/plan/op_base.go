package plan

import (
	"errors"
	"time"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/sqltypes"
)

// sourceRowsMax is how many rows the row-wise sources put into a batch.
const sourceRowsMax = 1024

// onceSource returns one batch.
type onceSource struct {
	f    func() (*expr.Batch, error)
	done bool
}

func (s *onceSource) Next() (*expr.Batch, error) {
	if s.done {
		return nil, nil
	}
	s.done = true
	return s.f()
}

func (s *onceSource) Close() error { return nil }

// rowSource makes batches of rows.
type rowSource struct {
	types []sqltypes.Type
	next  func() ([]sqltypes.Datum, bool)
}

func (s *rowSource) Next() (*expr.Batch, error) {
	bs := colvec.NewBuilders(s.types, 0)
	n := 0
	for ; n < sourceRowsMax; n++ {
		row, ok := s.next()
		if !ok {
			break
		}
		for i, d := range row {
			if err := bs[i].AppendDatum(d); err != nil {
				return nil, err
			}
		}
	}
	if n == 0 {
		return nil, nil
	}
	cols, err := colvec.FinishAll(bs)
	if err != nil {
		return nil, err
	}
	return &expr.Batch{N: n, Cols: cols}, nil
}

func (s *rowSource) Close() error { return nil }

// charge is what an operator holds of the statement's memory.
type charge struct {
	mem  *exec.MemAccount
	held int64
}

func (c *charge) grow(mem *exec.MemAccount, n int64) error {
	if err := mem.Grow(n); err != nil {
		return err
	}
	c.mem = mem
	c.held += n
	return nil
}

func (c *charge) free() {
	c.mem.Shrink(c.held)
	*c = charge{}
}

// unary is an operator over one input that turns each input batch into any
// number of output batches.
type unary struct {
	name  string
	types []sqltypes.Type
	in    exec.Operator
	// each handles one batch, flush (nil = nothing) the end of the input.
	each  func(ctx *exec.Ctx, b *expr.Batch, emit func(*expr.Batch) error) error
	flush func(ctx *exec.Ctx, emit func(*expr.Batch) error) error
	// reset prepares for a new run, free gives back what one held.
	reset func()
	free  func()

	ctx   *exec.Ctx
	queue []*expr.Batch
	ended bool
	stats exec.Stats
}

func newUnary(name string, types []sqltypes.Type, in exec.Operator,
	each func(ctx *exec.Ctx, b *expr.Batch, emit func(*expr.Batch) error) error) *unary {
	return &unary{name: name, types: types, in: in, each: each}
}

func (u *unary) Types() []sqltypes.Type  { return u.types }
func (u *unary) Name() string            { return u.name }
func (u *unary) Inputs() []exec.Operator { return []exec.Operator{u.in} }
func (u *unary) Stats() exec.Stats       { return u.stats }

func (u *unary) Open(ctx *exec.Ctx) error {
	start := time.Now()
	defer func() { u.stats.Time += time.Since(start) }()
	u.ctx, u.queue, u.ended = ctx, nil, false
	if u.reset != nil {
		u.reset()
	}
	return u.in.Open(ctx)
}

func (u *unary) emit(b *expr.Batch) error {
	if b != nil && b.N > 0 {
		u.queue = append(u.queue, b)
	}
	return nil
}

func (u *unary) Next() (*expr.Batch, error) {
	start := time.Now()
	defer func() { u.stats.Time += time.Since(start) }()
	for len(u.queue) == 0 {
		if u.ended {
			return nil, nil
		}
		if err := u.ctx.Err(); err != nil {
			return nil, canceled(u.ctx)
		}
		b, err := u.in.Next()
		if err != nil {
			return nil, err
		}
		if b == nil {
			u.ended = true
			if u.flush != nil {
				err = u.flush(u.ctx, u.emit)
			}
		} else {
			err = u.each(u.ctx, b, u.emit)
		}
		if err != nil {
			u.ended = true
			return nil, err
		}
	}
	b := u.queue[0]
	u.queue = u.queue[1:]
	u.stats.Batches++
	u.stats.Rows += int64(b.N)
	return b, nil
}

func (u *unary) Close() error {
	u.queue, u.ended = nil, true
	if u.free != nil {
		u.free()
	}
	return errors.Join(u.in.Close())
}
