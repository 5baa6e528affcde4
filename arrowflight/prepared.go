package arrowflight

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
)

// prepared is a statement by handle. It is bound anew on the session of each
// use, so a schema change between two uses does no harm.
type prepared struct {
	query string
	tx    string
	rows  [][]sqltypes.Datum // bound parameters, nil = none bound yet
	used  time.Time
}

// CreatePreparedStatement implements flightsql.Server.
func (s *Server) CreatePreparedStatement(ctx context.Context, req flightsql.ActionCreatePreparedStatementRequest) (flightsql.ActionCreatePreparedStatementResult, error) {
	s.requests.WithLabelValues("prepare").Inc()
	var out flightsql.ActionCreatePreparedStatementResult
	session, release, err := s.acquire(ctx, req.GetTransactionId())
	if err != nil {
		return out, toStatus(err)
	}
	defer release()
	p, err := prepareOne(ctx, session, req.GetQuery())
	if err != nil {
		return out, toStatus(err)
	}
	handle := newHandle()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.prepared) >= preparedCountMax {
		return out, status.Errorf(codes.ResourceExhausted, "too many prepared statements (limit %d); close those no longer needed", preparedCountMax)
	}
	s.prepared[handle] = &prepared{query: req.GetQuery(), tx: string(req.GetTransactionId()), used: time.Now()}
	out.Handle = []byte(handle)
	if cols := p.Columns(); cols != nil {
		out.DatasetSchema = schemaOf(cols)
	}
	if types := p.Params(); len(types) > 0 {
		out.ParameterSchema = parameterSchema(types)
	}
	return out, nil
}

// parameterSchema names the parameters 1, 2, … as they stand in the query.
func parameterSchema(types []sqltypes.Type) *arrow.Schema {
	fields := make([]arrow.Field, len(types))
	for i, t := range types {
		fields[i] = arrow.Field{Name: strconv.Itoa(i + 1), Type: t.Arrow(), Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}

// ClosePreparedStatement implements flightsql.Server.
func (s *Server) ClosePreparedStatement(_ context.Context, req flightsql.ActionClosePreparedStatementRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.prepared, string(req.GetPreparedStatementHandle()))
	return nil
}

// lookup returns a copy of the statement's state.
func (s *Server) lookup(handle []byte) (prepared, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.prepared[string(handle)]
	if p == nil {
		return prepared{}, status.Errorf(codes.NotFound, "prepared statement %q does not exist (closed, or idle for more than %s)", handle, handleIdleMax)
	}
	p.used = time.Now()
	return *p, nil
}

// GetFlightInfoPreparedStatement implements flightsql.Server.
func (s *Server) GetFlightInfoPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	s.requests.WithLabelValues("info").Inc()
	schema, err := s.describePrepared(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return flightInfo(desc, schema, desc.GetCmd()), nil
}

// GetSchemaPreparedStatement implements flightsql.Server.
func (s *Server) GetSchemaPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	schema, err := s.describePrepared(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(schema, memory.DefaultAllocator)}, nil
}

func (s *Server) describePrepared(ctx context.Context, cmd flightsql.PreparedStatementQuery) (*arrow.Schema, error) {
	st, err := s.lookup(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, err
	}
	session, release, err := s.acquire(ctx, []byte(st.tx))
	if err != nil {
		return nil, toStatus(err)
	}
	defer release()
	p, err := prepareOne(ctx, session, st.query)
	if err != nil {
		return nil, toStatus(err)
	}
	return schemaOf(p.Columns()), nil
}

// DoPutPreparedStatementQuery binds parameters for the next DoGet.
func (s *Server) DoPutPreparedStatementQuery(ctx context.Context, cmd flightsql.PreparedStatementQuery, r flight.MessageReader, _ flight.MetadataWriter) ([]byte, error) {
	s.requests.WithLabelValues("bind").Inc()
	handle := cmd.GetPreparedStatementHandle()
	st, err := s.lookup(handle)
	if err != nil {
		return nil, err
	}
	session, release, err := s.acquire(ctx, []byte(st.tx))
	if err != nil {
		return nil, toStatus(err)
	}
	defer release()
	p, err := prepareOne(ctx, session, st.query)
	if err != nil {
		return nil, toStatus(err)
	}
	rows, err := readParams(p.Params(), r)
	if err != nil {
		return nil, toStatus(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept := s.prepared[string(handle)]; kept != nil {
		kept.rows = rows
	}
	return handle, nil
}

// DoGetPreparedStatement implements flightsql.Server.
func (s *Server) DoGetPreparedStatement(ctx context.Context, cmd flightsql.PreparedStatementQuery) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	s.requests.WithLabelValues("query").Inc()
	st, err := s.lookup(cmd.GetPreparedStatementHandle())
	if err != nil {
		return nil, nil, err
	}
	session, release, err := s.acquire(ctx, []byte(st.tx))
	if err != nil {
		return nil, nil, toStatus(err)
	}
	p, err := prepareOne(ctx, session, st.query)
	if err != nil {
		release()
		return nil, nil, toStatus(err)
	}
	rows := st.rows
	if n := len(p.Params()); n == 0 {
		rows = [][]sqltypes.Datum{nil}
	} else if rows == nil {
		release()
		return nil, nil, status.Errorf(codes.InvalidArgument, "the statement has %d parameters and none were bound", n)
	}
	return s.stream(ctx, session, p, rows, release)
}

// DoPutPreparedStatementUpdate runs the statement for every row of parameters
// in one transaction and returns the rows affected in all.
func (s *Server) DoPutPreparedStatementUpdate(ctx context.Context, cmd flightsql.PreparedStatementUpdate, r flight.MessageReader) (total int64, err error) {
	s.requests.WithLabelValues("update").Inc()
	st, err := s.lookup(cmd.GetPreparedStatementHandle())
	if err != nil {
		return 0, err
	}
	session, release, err := s.acquire(ctx, []byte(st.tx))
	if err != nil {
		return 0, toStatus(err)
	}
	defer release()
	p, err := prepareOne(ctx, session, st.query)
	if err != nil {
		return 0, toStatus(err)
	}
	rows := [][]sqltypes.Datum{nil}
	if len(p.Params()) > 0 {
		if rows, err = readParams(p.Params(), r); err != nil {
			return 0, toStatus(err)
		}
	}
	if len(rows) > 1 {
		if err := session.BeginImplicit(ctx); err != nil {
			return 0, toStatus(err)
		}
		defer func() {
			if eerr := session.EndImplicit(ctx, err == nil); err == nil && eerr != nil {
				total, err = 0, toStatus(eerr)
			}
		}()
	}
	for _, params := range rows {
		tag, err := runPrepared(ctx, session, p, params)
		if err != nil {
			return 0, toStatus(err)
		}
		if n := affected(tag); n > 0 {
			total += n
		}
	}
	return total, nil
}

// readParams turns batches of parameters into rows of the wanted types.
func readParams(types []sqltypes.Type, r flight.MessageReader) ([][]sqltypes.Datum, error) {
	var rows [][]sqltypes.Datum
	for {
		rec, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "cannot read the parameters: %v", err)
		}
		if int(rec.NumCols()) != len(types) {
			return nil, pgerror.New(pgerror.ProtocolViolation, "%d parameters were bound, the statement has %d", rec.NumCols(), len(types))
		}
		if len(rows)+int(rec.NumRows()) > boundRowsMax {
			return nil, pgerror.New(pgerror.ProgramLimitExceeded, "more than %d rows of parameters", boundRowsMax)
		}
		for i := range int(rec.NumRows()) {
			row := make([]sqltypes.Datum, len(types))
			for j, t := range types {
				if row[j], err = datumFromArrow(t, rec.Column(j), i); err != nil {
					return nil, err
				}
			}
			rows = append(rows, row)
		}
	}
}

// datumFromArrow reads a value that a client sent; where its Arrow type is not
// the one of t, it goes through its text, as a literal would.
func datumFromArrow(t sqltypes.Type, col arrow.Array, row int) (sqltypes.Datum, error) {
	if col.IsNull(row) {
		return sqltypes.Null, nil
	}
	if arrow.TypeEqual(col.DataType(), t.Arrow()) {
		return sqltypes.DatumAt(t, col, row), nil
	}
	if source, ok := typeOfArrow(col.DataType()); ok && arrow.TypeEqual(col.DataType(), source.Arrow()) {
		text := sqltypes.AppendArrowText(nil, source, col, row, &sqltypes.TextOptions{TimeZone: time.UTC})
		return sqltypes.ParseText(t, string(text))
	}
	return sqltypes.ParseText(t, col.ValueStr(row))
}
