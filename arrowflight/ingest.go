package arrowflight

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
)

// DoPutCommandStatementIngest loads batches through COPY, all or nothing,
// creating the table if the client asks for it.
func (s *Server) DoPutCommandStatementIngest(ctx context.Context, cmd flightsql.StatementIngest, r flight.MessageReader) (int64, error) {
	s.requests.WithLabelValues("ingest").Inc()
	if cmd.GetTemporary() {
		return 0, toStatus(pgerror.Unsupported("ingestion into a temporary table"))
	}
	session, release, err := s.acquire(ctx, cmd.GetTransactionId())
	if err != nil {
		return 0, toStatus(err)
	}
	defer release()
	table := quoteIdent(cmd.GetTable())
	if schema := cmd.GetSchema(); schema != "" {
		table = quoteIdent(schema) + "." + table
	}
	types, err := ingestTypes(r.Schema())
	if err != nil {
		return 0, toStatus(err)
	}
	if err := prepareTarget(ctx, session, cmd, table, r.Schema(), types); err != nil {
		return 0, toStatus(err)
	}
	n, err := copyBatches(ctx, session, table, r, types)
	return n, toStatus(err)
}

func ingestTypes(schema *arrow.Schema) ([]sqltypes.Type, error) {
	types := make([]sqltypes.Type, schema.NumFields())
	for i, f := range schema.Fields() {
		t, ok := typeOfArrow(f.Type)
		if !ok {
			return nil, pgerror.Unsupported("ingestion of Arrow type " + f.Type.String() + " (column " + f.Name + ")")
		}
		types[i] = t
	}
	return types, nil
}

// prepareTarget drops or creates the table as the client's options say.
func prepareTarget(ctx context.Context, session sqlfront.Session, cmd flightsql.StatementIngest, table string, schema *arrow.Schema, types []sqltypes.Type) error {
	o := cmd.GetTableDefinitionOptions()
	_, err := prepareOne(ctx, session, "SELECT 1 FROM "+table)
	exists := err == nil
	if err != nil && pgerror.Code(err) != pgerror.UndefinedTable {
		return err
	}
	if exists {
		switch o.GetIfExists() {
		case flightsql.TableDefinitionOptionsTableExistsOptionFail:
			return pgerror.New(pgerror.DuplicateTable, "relation %q already exists", cmd.GetTable())
		case flightsql.TableDefinitionOptionsTableExistsOptionReplace:
			if _, err := run(ctx, session, "DROP TABLE "+table); err != nil {
				return err
			}
		default:
			return nil
		}
	} else if o.GetIfNotExist() == flightsql.TableDefinitionOptionsTableNotExistOptionFail {
		return pgerror.New(pgerror.UndefinedTable, "relation %q does not exist", cmd.GetTable())
	}
	var ddl strings.Builder
	ddl.WriteString("CREATE TABLE " + table + " (")
	for i, f := range schema.Fields() {
		if i > 0 {
			ddl.WriteString(", ")
		}
		ddl.WriteString(quoteIdent(f.Name) + " " + types[i].Name())
		if !f.Nullable {
			ddl.WriteString(" NOT NULL")
		}
	}
	_, err = run(ctx, session, ddl.String()+")")
	return err
}

func copyBatches(ctx context.Context, session sqlfront.Session, table string, r flight.MessageReader, types []sqltypes.Type) (n int64, err error) {
	names := make([]string, len(types))
	for i, f := range r.Schema().Fields() {
		names[i] = quoteIdent(f.Name)
	}
	p, err := prepareOne(ctx, session, "COPY "+table+" ("+strings.Join(names, ", ")+") FROM STDIN")
	if err != nil {
		return 0, err
	}
	result, err := session.Execute(ctx, p, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := result.Close(); err == nil && cerr != nil {
			n, err = 0, cerr
		}
	}()
	if err := result.CopyFrom(ctx, &copyText{r: r, types: types}); err != nil {
		return 0, err
	}
	return affected(result.Tag()), nil
}

// copyText writes batches in COPY's text format.
type copyText struct {
	r     flight.MessageReader
	types []sqltypes.Type
	buf   []byte
	rest  []byte
	cell  []byte
}

// Read implements io.Reader.
func (c *copyText) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		rec, err := c.r.Read()
		if errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		if err != nil {
			return 0, pgerror.Wrap(err, pgerror.ProtocolViolation, "cannot read the batches to ingest: %v", err)
		}
		c.encode(rec)
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *copyText) encode(rec arrow.Record) {
	c.buf = c.buf[:0]
	options := &sqltypes.TextOptions{TimeZone: time.UTC}
	for row := range int(rec.NumRows()) {
		for j, t := range c.types {
			if j > 0 {
				c.buf = append(c.buf, '\t')
			}
			col := rec.Column(j)
			if col.IsNull(row) {
				c.buf = append(c.buf, '\\', 'N')
				continue
			}
			if arrow.TypeEqual(col.DataType(), t.Arrow()) {
				c.cell = sqltypes.AppendArrowText(c.cell[:0], t, col, row, options)
			} else {
				c.cell = append(c.cell[:0], col.ValueStr(row)...)
			}
			c.buf = appendEscaped(c.buf, c.cell)
		}
		c.buf = append(c.buf, '\n')
	}
	c.rest = c.buf
}

func appendEscaped(dst, cell []byte) []byte {
	for _, b := range cell {
		switch b {
		case '\\':
			dst = append(dst, '\\', '\\')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

// typeOfArrow is the SQL type that holds every value of an Arrow type.
func typeOfArrow(dt arrow.DataType) (sqltypes.Type, bool) {
	switch dt := dt.(type) {
	case *arrow.BooleanType:
		return sqltypes.Bool, true
	case *arrow.Int8Type, *arrow.Int16Type, *arrow.Uint8Type:
		return sqltypes.Int2, true
	case *arrow.Int32Type, *arrow.Uint16Type:
		return sqltypes.Int4, true
	case *arrow.Int64Type, *arrow.Uint32Type:
		return sqltypes.Int8, true
	case *arrow.Uint64Type:
		return sqltypes.NumericOf(20, 0), true
	case *arrow.Float16Type, *arrow.Float32Type:
		return sqltypes.Float4, true
	case *arrow.Float64Type:
		return sqltypes.Float8, true
	case *arrow.StringType, *arrow.LargeStringType:
		return sqltypes.Text, true
	case *arrow.BinaryType:
		return sqltypes.Bytea, true
	case *arrow.Date32Type:
		return sqltypes.Date, true
	case *arrow.TimestampType:
		if dt.TimeZone != "" {
			return sqltypes.Timestamptz, true
		}
		return sqltypes.Timestamp, true
	case *arrow.Decimal128Type:
		return sqltypes.NumericOf(dt.Precision, dt.Scale), true
	}
	return sqltypes.Type{}, false
}

func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
func quoteText(s string) string     { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
