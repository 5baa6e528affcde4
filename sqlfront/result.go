package sqlfront

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// baseResult has the methods that most results don't need.
type baseResult struct{}

func (baseResult) CopyFormat() CopyFormat { return CopyFormat{} }

func (baseResult) CopyFrom(context.Context, io.Reader) error {
	return pgerror.New(pgerror.ProtocolViolation, "the statement takes no COPY data")
}

func (baseResult) CopyTo(context.Context, io.Writer) error {
	return pgerror.New(pgerror.ProtocolViolation, "the statement gives no COPY data")
}

// done is a command without rows that has run.
type done struct {
	baseResult
	kind ResultKind
	tag  string
}

func command(tag string) *done { return &done{kind: ResultDone, tag: tag} }

func (d *done) Kind() ResultKind                           { return d.kind }
func (d *done) Columns() []Column                          { return nil }
func (d *done) Next(context.Context) (arrow.Record, error) { return nil, io.EOF }
func (d *done) Tag() string                                { return d.tag }
func (d *done) Close() error                               { return nil }

// schemaOf is the Arrow schema of result columns.
func schemaOf(cols []Column) *arrow.Schema {
	fields := make([]arrow.Field, len(cols))
	for i, c := range cols {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type.Arrow(), Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

// record makes a record of a batch's first columns.
func record(schema *arrow.Schema, b *expr.Batch) arrow.Record {
	return array.NewRecord(schema, b.Cols[:schema.NumFields()], int64(b.N))
}

// buffered is a result whose rows are all here.
type buffered struct {
	baseResult
	columns []Column
	schema  *arrow.Schema
	batches []*expr.Batch
	tag     string
}

func newBuffered(columns []Column, batches []*expr.Batch, tag string) *buffered {
	return &buffered{columns: columns, schema: schemaOf(columns), batches: batches, tag: tag}
}

// textRows makes a result of rows of datums.
func datumRows(columns []Column, rows [][]sqltypes.Datum, tag string) *buffered {
	b := &expr.Batch{N: len(rows)}
	for c, col := range columns {
		vals := make([]sqltypes.Datum, len(rows))
		for r := range rows {
			vals[r] = rows[r][c]
		}
		b.Cols = append(b.Cols, sqltypes.ArrayOf(col.Type, vals))
	}
	var batches []*expr.Batch
	if len(rows) > 0 {
		batches = append(batches, b)
	}
	return newBuffered(columns, batches, tag)
}

func (r *buffered) Kind() ResultKind  { return ResultRows }
func (r *buffered) Columns() []Column { return r.columns }
func (r *buffered) Tag() string       { return r.tag }
func (r *buffered) Close() error      { return nil }

func (r *buffered) Next(context.Context) (arrow.Record, error) {
	if len(r.batches) == 0 {
		return nil, io.EOF
	}
	b := r.batches[0]
	r.batches = r.batches[1:]
	return record(r.schema, b), nil
}

// streaming is a SELECT that runs as it is read.
type streaming struct {
	baseResult
	s       *session
	columns []Column
	schema  *arrow.Schema
	op      exec.Operator
	ctx     context.Context
	verb    string
	rows    int64
	failed  error
	ended   bool
	finish  func()
}

func (r *streaming) Kind() ResultKind  { return ResultRows }
func (r *streaming) Columns() []Column { return r.columns }
func (r *streaming) Tag() string       { return fmt.Sprintf("%s %d", r.verb, r.rows) }

func (r *streaming) Next(ctx context.Context) (arrow.Record, error) {
	switch {
	case r.failed != nil:
		return nil, r.failed
	case r.ended:
		return nil, io.EOF
	}
	if e := cancelError(ctx); e != nil {
		return nil, r.fail(e)
	}
	b, err := r.op.Next()
	if err != nil {
		return nil, r.fail(kvError(r.ctx, err, nil))
	}
	if b == nil {
		r.ended = true
		return nil, io.EOF
	}
	r.rows += int64(b.N)
	return record(r.schema, b), nil
}

func (r *streaming) fail(err error) error {
	r.failed = err
	r.s.Fail()
	return err
}

func (r *streaming) Close() error {
	if r.finish == nil {
		return nil
	}
	err := r.op.Close()
	r.finish()
	r.finish = nil
	if r.failed != nil {
		return nil // told by Next
	}
	return err
}
