package sqlfront

import (
	"context"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/sqlfront/copyfmt"
)

// copyOut is COPY TO STDOUT.
type copyOut struct {
	s       *session
	ctx     context.Context
	finish  func()
	op      exec.Operator
	names   []string
	options *copyfmt.Options
	writer  *copyfmt.Writer
	rows    int64
	closed  bool
}

func (c *copyOut) Kind() ResultKind                           { return ResultCopyOut }
func (c *copyOut) Columns() []Column                          { return nil }
func (c *copyOut) Next(context.Context) (arrow.Record, error) { return nil, io.EOF }
func (c *copyOut) CopyFormat() CopyFormat {
	return CopyFormat{Binary: c.options.Binary, Columns: len(c.names)}
}
func (c *copyOut) Tag() string { return fmt.Sprintf("COPY %d", c.rows) }
func (c *copyOut) CopyFrom(ctx context.Context, r io.Reader) error {
	return baseResult{}.CopyFrom(ctx, r)
}

// CopyTo writes all rows, one Write a row as the protocol wants it.
func (c *copyOut) CopyTo(ctx context.Context, w io.Writer) error {
	stop := context.AfterFunc(ctx, c.s.Cancel)
	defer stop()
	err := c.write(w)
	if err != nil {
		c.s.Fail()
	}
	return err
}

func (c *copyOut) write(w io.Writer) error {
	line := c.writer.AppendStart(nil, c.names)
	if len(line) > 0 {
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	for {
		b, err := c.op.Next()
		if err != nil {
			return kvError(c.ctx, err, nil)
		}
		if b == nil {
			if line = c.writer.AppendEnd(line[:0]); len(line) == 0 {
				return nil
			}
			_, err = w.Write(line)
			return err
		}
		for i := range b.N {
			line = c.writer.AppendRow(line[:0], b.Cols[:len(c.names)], i)
			if _, err := w.Write(line); err != nil {
				return err
			}
		}
		c.rows += int64(b.N)
	}
}

func (c *copyOut) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	err := c.op.Close()
	c.finish()
	return err
}
