package pgwire

import (
	"context"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/sqlfront"
)

// copyIn runs COPY … FROM STDIN. After an error of ours the client goes on
// sending until it hears of it; those messages are dropped by the main loop.
func (c *conn) copyIn(ctx context.Context, result sqlfront.Result) error {
	format, codes := copyFormat(result)
	c.backend.Send(&pgproto3.CopyInResponse{OverallFormat: format, ColumnFormatCodes: codes})
	if err := c.flush(); err != nil {
		return err
	}
	r := &copyReader{conn: c}
	if err := result.CopyFrom(ctx, r); err != nil {
		if r.err != nil {
			return r.err // CopyFail, or the client is gone
		}
		return err
	}
	// The statement may have stopped reading at \. before CopyDone came.
	return r.drain()
}

func (c *conn) copyOut(ctx context.Context, result sqlfront.Result) error {
	format, codes := copyFormat(result)
	c.backend.Send(&pgproto3.CopyOutResponse{OverallFormat: format, ColumnFormatCodes: codes})
	if err := result.CopyTo(ctx, copyWriter{c}); err != nil {
		return err
	}
	c.backend.Send(&pgproto3.CopyDone{})
	return nil
}

func copyFormat(result sqlfront.Result) (byte, []uint16) {
	f := result.CopyFormat()
	codes := make([]uint16, f.Columns)
	if !f.Binary {
		return 0, codes
	}
	for i := range codes {
		codes[i] = 1
	}
	return 1, codes
}

// copyReader is the data between CopyInResponse and CopyDone.
type copyReader struct {
	conn *conn
	rest []byte
	done bool
	err  error
}

// Read implements io.Reader.
func (r *copyReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.done {
			return 0, io.EOF
		}
		msg, err := r.conn.backend.Receive()
		if err != nil {
			r.err = r.conn.receiveError(err)
			return 0, r.err
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			r.rest = m.Data
		case *pgproto3.CopyDone:
			r.done = true
		case *pgproto3.CopyFail:
			r.err = pgerror.New(pgerror.QueryCanceled, "COPY from stdin failed: %s", m.Message)
		case *pgproto3.Flush, *pgproto3.Sync:
			// PostgreSQL ignores them inside COPY
		case *pgproto3.Terminate:
			r.err = errGone
		default:
			r.err = &pgerror.Error{Severity: "FATAL", Code: pgerror.ProtocolViolation,
				Message: "unexpected message type during COPY from stdin"}
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *copyReader) drain() error {
	var scratch [4096]byte
	for {
		if _, err := r.Read(scratch[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// copyWriter wraps each Write into CopyData.
type copyWriter struct{ conn *conn }

// Write implements io.Writer.
func (w copyWriter) Write(p []byte) (int, error) {
	w.conn.backend.Send(&pgproto3.CopyData{Data: p})
	if w.conn.pending += len(p); w.conn.pending >= flushBytes {
		if err := w.conn.flush(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
