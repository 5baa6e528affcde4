package exec

import (
	"errors"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/colvec"
	"github.com/copradb/copra/internal/spill"
	"github.com/copradb/copra/internal/sqltypes"
)

// Buffer keeps rows that are read later, any number of times and by several
// goroutines: in memory, and on disk from where memory is scarce. It is filled
// by one goroutine: Add, then Finish.
type Buffer struct {
	ctx   *Ctx
	types []sqltypes.Type
	mem   memUser
	rows  []*expr.Batch
	w     *spill.Writer
	run   *spill.Run // the rows behind those in memory
	n     int64
	stats SpillStats
}

// NewBuffer makes an empty one. Free it.
func NewBuffer(ctx *Ctx, types []sqltypes.Type) *Buffer {
	return &Buffer{ctx: ctx, types: types, mem: memUser{acct: ctx.Mem}}
}

// Len is the number of rows.
func (b *Buffer) Len() int64 { return b.n }

// Add appends rows.
func (b *Buffer) Add(batch *expr.Batch) error {
	b.n += int64(batch.N)
	bytes := batchBytes(batch)
	if b.w == nil && b.ctx.Spill != nil && b.mem.full(bytes) {
		w, err := b.ctx.Spill.Create(b.types)
		if err != nil {
			return err
		}
		b.w = w
		if err := b.mem.growAnyway(spill.WriterBytes); err != nil {
			return err
		}
	}
	if b.w != nil {
		return b.w.Write(batch.Cols, batch.N)
	}
	grow := b.mem.grow
	if b.ctx.Spill != nil {
		grow = b.mem.growAnyway
	}
	if err := grow(bytes); err != nil {
		return err
	}
	b.rows = append(b.rows, batch)
	return nil
}

// Finish ends adding.
func (b *Buffer) Finish() error {
	if b.w == nil {
		return nil
	}
	w := b.w
	b.w = nil
	b.mem.shrink(spill.WriterBytes)
	var err error
	b.run, err = finishRun(w, &b.stats)
	return err
}

// Fill adds all rows of op, and closes it.
func (b *Buffer) Fill(op Operator) (err error) {
	defer func() { err = errors.Join(err, op.Close()) }()
	if err := op.Open(b.ctx); err != nil {
		return err
	}
	for {
		batch, err := op.Next()
		if err != nil {
			return err
		}
		if batch == nil {
			return b.Finish()
		}
		if err := b.Add(batch); err != nil {
			return err
		}
	}
}

// Read begins to read the rows from the first one on.
func (b *Buffer) Read() (Source, error) {
	s := &bufferSource{types: b.types, rows: b.rows}
	if b.run == nil {
		return s, nil
	}
	var err error
	s.disk, err = openRun(b.run)
	return s, err
}

// Free gives back memory and disk. It may be called more than once, and on nil.
func (b *Buffer) Free() error {
	if b == nil {
		return nil
	}
	var errs []error
	if b.w != nil {
		errs = append(errs, b.w.Discard())
	}
	errs = append(errs, removeRuns(b.run))
	b.w, b.run, b.rows = nil, nil, nil
	b.mem.free()
	return errors.Join(errs...)
}

type bufferSource struct {
	types []sqltypes.Type
	rows  []*expr.Batch
	disk  *runReader // nil = nothing is
}

func (s *bufferSource) Next() (*expr.Batch, error) {
	if len(s.rows) > 0 {
		b := s.rows[0]
		s.rows = s.rows[1:]
		return b, nil
	}
	if s.disk == nil {
		return nil, nil
	}
	b, err := s.disk.next()
	if err != nil || b == nil {
		return nil, err
	}
	return PlainBatch(b, s.types), nil
}

func (s *bufferSource) Close() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.r.Close()
}

// RowSet is rows that were seen. It keeps them in memory.
type RowSet struct {
	types []sqltypes.Type
	table *keyTable
	mem   memUser
	ids   []int32
}

// NewRowSet makes an empty set. Free it.
func NewRowSet(ctx *Ctx, types []sqltypes.Type) *RowSet {
	return &RowSet{types: types, table: newKeyTable(types), mem: memUser{acct: ctx.Mem}}
}

// Fresh adds the rows of b and returns those that are new, in order; NULL equals
// NULL.
func (s *RowSet) Fresh(b *expr.Batch) (*expr.Batch, error) {
	var err error
	if s.ids, err = s.table.Insert(colvec.OpenAllEncoded(b.Cols, s.types), b.N, s.ids[:0]); err != nil {
		return nil, err
	}
	if err := s.mem.set(s.table.Bytes()); err != nil {
		return nil, err
	}
	return takeBatch(b, s.types, s.table.fresh)
}

// Free gives the memory back.
func (s *RowSet) Free() {
	s.table = nil
	s.mem.free()
}
