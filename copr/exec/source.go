package exec

import (
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/sqltypes"
)

// Source is what a leaf of the tree reads from.
type Source interface {
	// Next returns the next batch, nil at the end. Empty batches are passed over.
	Next() (*expr.Batch, error)
	Close() error
}

type sourceOp struct {
	start func(*Ctx) (Source, error)
	src   Source
	ctx   *Ctx
}

// NewSource makes a leaf. open is called each time the operator is opened.
func NewSource(name string, types []sqltypes.Type, open func(*Ctx) (Source, error)) Operator {
	return newOperator(name, &sourceOp{start: open}, types)
}

func (s *sourceOp) open(ctx *Ctx) (err error) {
	s.ctx = ctx
	s.src, err = s.start(ctx)
	return err
}

func (s *sourceOp) nextRaw() (r Raw, err error) {
	err = s.ctx.Waiting(func() error {
		if raw, ok := s.src.(RawSource); ok {
			r, err = raw.NextRaw()
		} else {
			r.Batch, err = s.src.Next()
		}
		return err
	})
	return r, err
}

func (s *sourceOp) close() error {
	if s.src == nil {
		return nil
	}
	src := s.src
	s.src = nil
	return src.Close()
}

type batches []*expr.Batch

func (b *batches) Next() (*expr.Batch, error) {
	if len(*b) == 0 {
		return nil, nil
	}
	out := (*b)[0]
	*b = (*b)[1:]
	return out, nil
}

func (b *batches) Close() error { return nil }

// NewBatches returns these batches, again each time it is opened.
func NewBatches(types []sqltypes.Type, bs ...*expr.Batch) Operator {
	return NewSource("Batches", types, func(*Ctx) (Source, error) {
		rest := batches(bs)
		return &rest, nil
	})
}
