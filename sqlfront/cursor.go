package sqlfront

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront/ast"
)

// cursorsMax is how many cursors a session may have open.
const cursorsMax = 256

// cursor is a DECLAREd query. It reads forward, at the timestamp of DECLARE; a
// cursor over tables that its transaction has written is read at once, so that
// later changes don't show.
type cursor struct {
	name    string
	columns []Column
	op      exec.Operator // nil: all rows are in batches
	ctx     context.Context
	cancel  context.CancelFunc
	batches []*expr.Batch // read and not fetched
	skip    int           // rows of batches[0] that are fetched
	pos     int64         // rows fetched so far
	ended   bool
}

func (s *session) declareCursor(ctx context.Context, stmt *ast.Statement, st *ast.DeclareCursor) error {
	switch {
	case s.txn == nil || !s.txn.explicit:
		return pgerror.New(pgerror.NoActiveSQLTransaction, "DECLARE CURSOR can only be used in transaction blocks")
	case st.Hold:
		return pgerror.Unsupported("DECLARE CURSOR WITH HOLD")
	case st.Binary:
		return pgerror.Unsupported("DECLARE BINARY CURSOR")
	case st.Scroll:
		return pgerror.Unsupported("DECLARE SCROLL CURSOR")
	case s.cursors[st.Name] != nil:
		return pgerror.New(pgerror.DuplicateCursor, "cursor \"%s\" already exists", st.Name)
	case len(s.cursors) >= cursorsMax:
		return pgerror.New(pgerror.ConfigurationLimitExceeded, "a session cannot have more than %d cursors", cursorsMax)
	}
	r, err := s.beginRead(ctx, false)
	if err != nil {
		return err
	}
	p, err := s.bind(stmt, st.Query, r.snap, nil)
	if err != nil {
		return err
	}
	if len(p.plan.Locks) > 0 {
		return pgerror.Unsupported("a cursor with FOR UPDATE")
	}
	// It outlives the statement, but not its transaction.
	cctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	own := s.txn
	if len(own.written) == 0 {
		own = nil // nor what it writes from now on
	}
	run, err := s.open(cctx, p.plan, s.newStorage(own, r.ts, s.memory()), s.evalContext(cctx, r.snap, nil))
	if err != nil {
		cancel()
		return err
	}
	c := &cursor{name: st.Name, columns: p.columns, op: run.op, ctx: cctx, cancel: cancel}
	if own != nil {
		c.op = nil
		if c.batches, err = run.drain(); err != nil {
			cancel()
			return err
		}
	}
	s.cursors[st.Name] = c
	return nil
}

func (s *session) findCursor(name string) (*cursor, error) {
	if c := s.cursors[name]; c != nil {
		return c, nil
	}
	return nil, pgerror.New(pgerror.InvalidCursorName, "cursor \"%s\" does not exist", name)
}

// fetch runs FETCH and MOVE, forward only.
func (s *session) fetch(ctx context.Context, st *ast.Fetch) (Result, error) {
	c, err := s.findCursor(st.Name)
	if err != nil {
		return nil, err
	}
	count := st.Count
	switch st.Direction {
	case "forward":
	case "absolute", "relative":
		if st.Direction == "absolute" {
			count -= c.pos
		}
		if count < 1 {
			return nil, scrollError()
		}
		if _, err := c.take(ctx, count-1); err != nil {
			return nil, err
		}
		count = 1
	default:
		return nil, scrollError()
	}
	batches, err := c.take(ctx, count)
	if err != nil {
		return nil, err
	}
	n := 0
	for _, b := range batches {
		n += b.N
	}
	if st.Move {
		return command(fmt.Sprintf("MOVE %d", n)), nil
	}
	return newBuffered(c.columns, batches, fmt.Sprintf("FETCH %d", n)), nil
}

func scrollError() error {
	return pgerror.New(pgerror.ObjectNotInPrerequisiteState, "cursor can only scan forward").
		WithHint("Declare it with SCROLL option to enable backward scan, which copra does not support.")
}

// take fetches up to n rows; n < 0 = all.
func (c *cursor) take(ctx context.Context, n int64) ([]*expr.Batch, error) {
	stop := context.AfterFunc(ctx, c.cancel)
	defer stop()
	var out []*expr.Batch
	for n != 0 {
		if len(c.batches) == 0 {
			if c.op == nil || c.ended {
				break
			}
			b, err := c.op.Next()
			if err != nil {
				if e := cancelError(ctx); e != nil {
					return nil, e
				}
				return nil, kvError(c.ctx, err, nil)
			}
			if b == nil {
				c.ended = true
				break
			}
			c.batches = append(c.batches, b)
		}
		b := c.batches[0]
		have := b.N - c.skip
		want := have
		if n > 0 && int64(want) > n {
			want = int(n)
		}
		out = append(out, slice(b, c.skip, want))
		c.skip += want
		c.pos += int64(want)
		if n > 0 {
			n -= int64(want)
		}
		if c.skip == b.N {
			c.batches, c.skip = c.batches[1:], 0
		}
	}
	return out, nil
}

// slice is n rows of a batch from row i on.
func slice(b *expr.Batch, i, n int) *expr.Batch {
	if i == 0 && n == b.N {
		return b
	}
	out := &expr.Batch{N: n, Cols: make([]arrow.Array, len(b.Cols))}
	for c, col := range b.Cols {
		out.Cols[c] = array.NewSlice(col, int64(i), int64(i+n))
	}
	return out
}

func (c *cursor) close() error {
	defer c.cancel()
	if c.op == nil {
		return nil
	}
	return c.op.Close()
}

func (s *session) closeCursor(st *ast.CloseCursor) (string, error) {
	if st.Name == "" {
		s.closeCursors()
		return "CLOSE CURSOR ALL", nil
	}
	c, err := s.findCursor(st.Name)
	if err != nil {
		return "", err
	}
	delete(s.cursors, st.Name)
	return "CLOSE CURSOR", c.close()
}

// closeCursors closes all: at the end of the transaction.
func (s *session) closeCursors() {
	var errs error
	for name, c := range s.cursors {
		errs = errors.Join(errs, c.close())
		delete(s.cursors, name)
	}
	if errs != nil {
		s.db.log.Warn("closing cursors failed", "session", s.id, "error", errs)
	}
}
