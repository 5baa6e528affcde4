package pgwire

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
)

// Wire formats of a value.
const (
	formatText   int16 = 0
	formatBinary int16 = 1
)

// textOptions reads the settings that decide how values look as text.
func textOptions(session sqlfront.Session) sqltypes.TextOptions {
	o := sqltypes.TextOptions{TimeZone: time.UTC, RegName: session.RegName}
	if name, ok := session.Setting("TimeZone"); ok {
		if loc, err := sqltypes.LoadZone(name); err == nil {
			o.TimeZone = loc
		}
	}
	if v, ok := session.Setting("extra_float_digits"); ok {
		if n, err := strconv.Atoi(v); err == nil {
			o.ExtraFloatDigits, o.FloatDigitsSet = n, true
		}
	}
	if v, ok := session.Setting("bytea_output"); ok {
		o.ByteaEscape = v == "escape"
	}
	return o
}

func rowDescription(cols []sqlfront.Column, formats []int16) *pgproto3.RowDescription {
	fields := make([]pgproto3.FieldDescription, len(cols))
	for i, col := range cols {
		fields[i] = pgproto3.FieldDescription{
			Name: []byte(col.Name), TableOID: col.TableOID, TableAttributeNumber: uint16(col.Attr),
			DataTypeOID: col.Type.OID, DataTypeSize: col.Type.Size(), TypeModifier: col.Type.Typmod(),
			Format: formatOf(formats, i),
		}
	}
	return &pgproto3.RowDescription{Fields: fields}
}

// formatOf applies the protocol's rule: none = all text, one = for all.
func formatOf(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return formatText
	case 1:
		return formats[0]
	default:
		return formats[i]
	}
}

// encodedRows is a block of complete DataRow messages.
type encodedRows struct{ data []byte }

// Backend, Decode and Encode make it a message for pgproto3's buffer.
func (*encodedRows) Backend() {}

// Decode is never called: the server only sends rows.
func (*encodedRows) Decode([]byte) error { return errors.New("pgwire: rows are not decoded here") }

// Encode appends the messages as they are.
func (m *encodedRows) Encode(dst []byte) ([]byte, error) { return append(dst, m.data...), nil }

// rowCursor walks the rows of a Result batch by batch.
type rowCursor struct {
	result  sqlfront.Result
	rec     arrow.Record
	row     int
	columns []arrow.Array
	done    bool
}

// fill makes sure there is a row at the cursor; false at the end.
func (r *rowCursor) fill(ctx context.Context) (bool, error) {
	for !r.done && (r.rec == nil || r.row >= int(r.rec.NumRows())) {
		rec, err := r.result.Next(ctx)
		if errors.Is(err, io.EOF) {
			r.done = true
			break
		}
		if err != nil {
			return false, err
		}
		r.rec, r.row, r.columns = rec, 0, rec.Columns()
	}
	return !r.done, nil
}

// sendRows sends up to limit rows (0 = all) and returns how many; more tells
// that the limit stopped it before the end.
func (c *conn) sendRows(ctx context.Context, cur *rowCursor, cols []sqlfront.Column, formats []int16, limit uint32) (sent uint64, more bool, err error) {
	for {
		ok, err := cur.fill(ctx)
		if err != nil || !ok {
			return sent, false, err
		}
		c.rowBuf = c.rowBuf[:0]
		for cur.row < int(cur.rec.NumRows()) && len(c.rowBuf) < flushBytes {
			if limit > 0 && sent == uint64(limit) {
				break
			}
			if c.rowBuf, err = c.appendRow(c.rowBuf, cur.columns, cur.row, cols, formats); err != nil {
				return sent, false, err
			}
			cur.row++
			sent++
		}
		c.backend.Send(&encodedRows{c.rowBuf})
		if c.pending += len(c.rowBuf); c.pending >= flushBytes {
			if err := c.flush(); err != nil {
				return sent, false, err
			}
		}
		if limit > 0 && sent == uint64(limit) {
			return sent, true, nil
		}
	}
}

// appendRow appends one DataRow message.
func (c *conn) appendRow(dst []byte, arrays []arrow.Array, row int, cols []sqlfront.Column, formats []int16) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 'D', 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(cols)))
	for i := range cols {
		if arrays[i].IsNull(row) {
			dst = append(dst, 0xFF, 0xFF, 0xFF, 0xFF)
			continue
		}
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if formatOf(formats, i) == formatBinary {
			dst = sqltypes.AppendArrowBinary(dst, cols[i].Type, arrays[i], row)
		} else {
			dst = sqltypes.AppendArrowText(dst, cols[i].Type, arrays[i], row, &c.text)
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	n := len(dst) - start - 1
	if n > math.MaxInt32 {
		return dst[:start], pgerror.New(pgerror.ProgramLimitExceeded, "a result row of %d bytes exceeds the protocol's limit", n)
	}
	binary.BigEndian.PutUint32(dst[start+1:], uint32(n))
	return dst, nil
}
