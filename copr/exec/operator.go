package exec

import (
	"context"
	"errors"
	"time"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// BatchRowsMax is the most rows of a batch.
const BatchRowsMax = 8192

// Operator is a node of a running plan.
type Operator interface {
	// Types are the types of the columns of its batches.
	Types() []sqltypes.Type
	// Open starts it, and its inputs.
	Open(ctx *Ctx) error
	// Next returns the next batch, nil at the end.
	Next() (*expr.Batch, error)
	// Close frees what it holds, and closes its inputs. It may be called more
	// than once, and without Open.
	Close() error
	// Name is what EXPLAIN calls it, Inputs what it reads from, Stats what it
	// did so far.
	Name() string
	Inputs() []Operator
	Stats() Stats
}

// Stats is what an operator did, for EXPLAIN ANALYZE. Time is that of its
// Open and Next with its inputs'.
type Stats struct {
	Rows    int64
	Batches int64
	Bytes   int64
	Time    time.Duration
	Spill   SpillStats
}

// Ctx is what the operators of one tree share.
type Ctx struct {
	context.Context
	// Eval is for the expressions: parameters, time zone, statement time.
	Eval *expr.Ctx
	// Mem is charged for what operators keep; nil means no limit.
	Mem *MemAccount
	// Spill is where they keep rows when memory is scarce; nil means nowhere, and
	// at the limit the statement fails.
	Spill *spill.Space
	// Cores makes the Core of a worker of a parallel operator; nil means that
	// workers compute without asking.
	Cores func() Core

	worker *worker // whose goroutine the tree runs on; nil = the statement's
}

// check returns why the statement was cancelled, if it was.
func (c *Ctx) check() error {
	err := c.Err()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return pgerror.Wrap(err, pgerror.QueryCanceled, "canceling statement due to statement timeout")
	}
	if cause := context.Cause(c.Context); cause != nil && cause != err {
		return cause
	}
	return pgerror.Wrap(err, pgerror.QueryCanceled, "canceling statement due to user request")
}

// runner is what each kind of operator implements; operator adds what all
// have: statistics, cancellation, opening and closing of inputs. It also has
// either plainRunner's or rawRunner's functions; what they return may be empty
// and is passed over then.
type runner interface {
	open(ctx *Ctx) error
	close() error
}

// plainRunner makes batches of plain columns.
type plainRunner interface {
	next() (*expr.Batch, error)
}

// inputOpener is a runner that opens its inputs itself, before open is called.
type inputOpener interface {
	openInputs(ctx *Ctx) error
}

type operator struct {
	run    runner
	name   string
	types  []sqltypes.Type
	inputs []Operator
	ctx    *Ctx
	stats  Stats
	opened bool
	done   bool
}

func newOperator(name string, run runner, types []sqltypes.Type, inputs ...Operator) Operator {
	return &operator{run: run, name: name, types: types, inputs: inputs}
}

func (o *operator) Types() []sqltypes.Type { return o.types }
func (o *operator) Name() string           { return o.name }
func (o *operator) Inputs() []Operator     { return o.inputs }

func (o *operator) Stats() Stats {
	if s, ok := o.run.(interface{ spillStats() SpillStats }); ok {
		o.stats.Spill = s.spillStats()
	}
	return o.stats
}

// Details are lines that EXPLAIN ANALYZE shows below the operator's.
func (o *operator) Details() []string {
	if d, ok := o.run.(interface{ details() []string }); ok {
		return d.details()
	}
	return o.Stats().Spill.lines()
}

func (o *operator) Open(ctx *Ctx) error {
	start := time.Now()
	o.ctx, o.done, o.opened = ctx, false, true
	defer func() { o.stats.Time += time.Since(start) }()
	if r, ok := o.run.(inputOpener); ok {
		if err := r.openInputs(ctx); err != nil {
			return err
		}
		return o.run.open(ctx)
	}
	for _, in := range o.inputs {
		if err := in.Open(ctx); err != nil {
			return err
		}
	}
	return o.run.open(ctx)
}

func (o *operator) Next() (*expr.Batch, error) {
	r, err := o.NextRaw()
	if err != nil {
		return nil, err
	}
	return r.plain(o.types)
}

func (o *operator) NextRaw() (Raw, error) {
	if o.done {
		return Raw{}, nil
	}
	start := time.Now()
	defer func() { o.stats.Time += time.Since(start) }()
	for {
		if err := o.ctx.check(); err != nil {
			return Raw{}, err
		}
		r, err := o.step()
		if err != nil {
			o.done = true
			return Raw{}, err
		}
		if r.Batch == nil {
			o.done = true
			return Raw{}, nil
		}
		n := r.Len()
		if n == 0 {
			continue
		}
		o.stats.Batches++
		o.stats.Rows += int64(n)
		o.stats.Bytes += batchBytes(r.Batch) * int64(n) / int64(r.N)
		return r, nil
	}
}

func (o *operator) step() (Raw, error) {
	if r, ok := o.run.(rawRunner); ok {
		return r.nextRaw()
	}
	b, err := o.run.(plainRunner).next()
	return Raw{Batch: b}, err
}

func (o *operator) Close() error {
	var errs []error
	if o.opened {
		o.opened, o.done = false, true
		errs = append(errs, o.run.close())
	}
	for _, in := range o.inputs {
		errs = append(errs, in.Close())
	}
	return errors.Join(errs...)
}

// batchBytes is about the memory of a batch's values.
func batchBytes(b *expr.Batch) int64 {
	n := int64(0)
	for _, c := range b.Cols {
		n += colvec.ArrayBytes(c)
	}
	return n
}

// Collect opens op, reads all its batches and closes it.
func Collect(ctx *Ctx, op Operator) (out []*expr.Batch, err error) {
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := op.Open(ctx); err != nil {
		return nil, err
	}
	for {
		b, err := op.Next()
		if err != nil || b == nil {
			return out, err
		}
		out = append(out, b)
	}
}
