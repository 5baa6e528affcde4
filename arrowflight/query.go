package arrowflight

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/flight/flightsql"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/sqlfront"
)

// queryHandle is what a ticket of StatementQuery carries: the query itself, so
// that the server keeps nothing between GetFlightInfo and DoGet.
type queryHandle struct {
	ID    string `json:"id"` // for CancelFlightInfo
	Query string `json:"query"`
	Tx    string `json:"tx,omitempty"`
}

func basicUser(header string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Basic "))
	if err != nil {
		return "", pgerror.New(pgerror.InvalidAuthorization, "the authorization header is not valid base64")
	}
	user, _, _ := strings.Cut(string(raw), ":")
	if user == "" {
		return "", pgerror.New(pgerror.InvalidAuthorization, "the authorization header names no user")
	}
	return user, nil
}

// schemaOf is the Arrow schema of a result: every column may be null, as in
// PostgreSQL's row descriptions.
func schemaOf(cols []sqlfront.Column) *arrow.Schema {
	fields := make([]arrow.Field, len(cols))
	for i, c := range cols {
		fields[i] = arrow.Field{
			Name: c.Name, Type: c.Type.Arrow(), Nullable: true,
			Metadata: arrow.MetadataFrom(map[string]string{"ARROW:FLIGHT:SQL:TYPE_NAME": c.Type.Name()}),
		}
	}
	return arrow.NewSchema(fields, nil)
}

// GetFlightInfoStatement implements flightsql.Server.
func (s *Server) GetFlightInfoStatement(ctx context.Context, cmd flightsql.StatementQuery, desc *flight.FlightDescriptor) (*flight.FlightInfo, error) {
	s.requests.WithLabelValues("info").Inc()
	schema, err := s.describe(ctx, cmd)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(queryHandle{ID: newHandle(), Query: cmd.GetQuery(), Tx: string(cmd.GetTransactionId())})
	if err != nil {
		return nil, toStatus(err)
	}
	ticket, err := flightsql.CreateStatementQueryTicket(raw)
	if err != nil {
		return nil, toStatus(err)
	}
	return flightInfo(desc, schema, ticket), nil
}

// GetSchemaStatement implements flightsql.Server.
func (s *Server) GetSchemaStatement(ctx context.Context, cmd flightsql.StatementQuery, _ *flight.FlightDescriptor) (*flight.SchemaResult, error) {
	schema, err := s.describe(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return &flight.SchemaResult{Schema: flight.SerializeSchema(schema, memory.DefaultAllocator)}, nil
}

func (s *Server) describe(ctx context.Context, cmd flightsql.StatementQuery) (*arrow.Schema, error) {
	session, release, err := s.acquire(ctx, cmd.GetTransactionId())
	if err != nil {
		return nil, toStatus(err)
	}
	defer release()
	p, err := prepareOne(ctx, session, cmd.GetQuery())
	if err != nil {
		return nil, toStatus(err)
	}
	return schemaOf(p.Columns()), nil
}

// flightInfo describes a stream with one endpoint: this server.
func flightInfo(desc *flight.FlightDescriptor, schema *arrow.Schema, ticket []byte) *flight.FlightInfo {
	return &flight.FlightInfo{
		Schema:           flight.SerializeSchema(schema, memory.DefaultAllocator),
		FlightDescriptor: desc,
		Endpoint:         []*flight.FlightEndpoint{{Ticket: &flight.Ticket{Ticket: ticket}}},
		TotalRecords:     -1, TotalBytes: -1,
	}
}

// DoGetStatement implements flightsql.Server.
func (s *Server) DoGetStatement(ctx context.Context, ticket flightsql.StatementQueryTicket) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	s.requests.WithLabelValues("query").Inc()
	var h queryHandle
	if err := json.Unmarshal(ticket.GetStatementHandle(), &h); err != nil || h.Query == "" {
		return nil, nil, status.Error(codes.InvalidArgument, "the ticket was not made by this server")
	}
	session, release, err := s.acquire(ctx, []byte(h.Tx))
	if err != nil {
		return nil, nil, toStatus(err)
	}
	p, err := prepareOne(ctx, session, h.Query)
	if err != nil {
		release()
		return nil, nil, toStatus(err)
	}
	s.setRunning(h.ID, session)
	return s.stream(ctx, session, p, [][]sqltypes.Datum{nil}, func() {
		s.setRunning(h.ID, nil)
		release()
	})
}

func (s *Server) setRunning(id string, session sqlfront.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if session == nil {
		delete(s.running, id)
		return
	}
	s.running[id] = session
}

// CancelFlightInfo implements flightsql.Server.
func (s *Server) CancelFlightInfo(_ context.Context, req *flight.CancelFlightInfoRequest) (flight.CancelFlightInfoResult, error) {
	result := flight.CancelStatusNotCancellable
	for _, ep := range req.GetInfo().GetEndpoint() {
		ticket, err := flightsql.GetStatementQueryTicket(ep.GetTicket())
		if err != nil {
			continue
		}
		var h queryHandle
		if json.Unmarshal(ticket.GetStatementHandle(), &h) != nil {
			continue
		}
		s.mu.Lock()
		session := s.running[h.ID]
		s.mu.Unlock()
		if session != nil {
			session.Cancel()
			result = flight.CancelStatusCancelled
		}
	}
	return flight.CancelFlightInfoResult{Status: result}, nil
}

// stream runs the statement once for each row of parameters and sends all the
// batches; done is called at the end.
func (s *Server) stream(ctx context.Context, session sqlfront.Session, p sqlfront.Prepared, rows [][]sqltypes.Datum, done func()) (*arrow.Schema, <-chan flight.StreamChunk, error) {
	schema := schemaOf(p.Columns())
	ch := make(chan flight.StreamChunk, 1)
	go func() {
		defer close(ch)
		defer done()
		for _, params := range rows {
			if err := s.streamOne(ctx, session, p, params, schema, ch); err != nil {
				send(ctx, ch, flight.StreamChunk{Err: toStatus(err)})
				return
			}
		}
	}()
	return schema, ch, nil
}

func (s *Server) streamOne(ctx context.Context, session sqlfront.Session, p sqlfront.Prepared, params []sqltypes.Datum, schema *arrow.Schema, ch chan<- flight.StreamChunk) (err error) {
	result, err := session.Execute(ctx, p, params)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := result.Close(); err == nil {
			err = cerr
		}
	}()
	switch result.Kind() {
	case sqlfront.ResultRows:
	case sqlfront.ResultCopyIn, sqlfront.ResultCopyOut:
		return pgerror.Unsupported("COPY over Flight SQL").WithHint("Use bulk ingestion (DoPut with StatementIngest).")
	default:
		return nil
	}
	for {
		rec, err := result.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if rec.NumRows() == 0 {
			continue
		}
		// The same columns under the schema that the client was promised.
		if !send(ctx, ch, flight.StreamChunk{Data: array.NewRecord(schema, rec.Columns(), rec.NumRows())}) {
			return ctx.Err()
		}
	}
}

// send gives up when the client is gone.
func send(ctx context.Context, ch chan<- flight.StreamChunk, c flight.StreamChunk) bool {
	select {
	case ch <- c:
		return true
	case <-ctx.Done():
		return false
	}
}

func drain(ctx context.Context, result sqlfront.Result) error {
	for {
		if _, err := result.Next(ctx); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// affected reads the row count at the end of a command tag; -1 is none.
func affected(tag string) int64 {
	n, err := strconv.ParseInt(tag[strings.LastIndexByte(tag, ' ')+1:], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// DoPutCommandStatementUpdate implements flightsql.Server.
func (s *Server) DoPutCommandStatementUpdate(ctx context.Context, cmd flightsql.StatementUpdate) (int64, error) {
	s.requests.WithLabelValues("update").Inc()
	session, release, err := s.acquire(ctx, cmd.GetTransactionId())
	if err != nil {
		return 0, toStatus(err)
	}
	defer release()
	tag, err := run(ctx, session, cmd.GetQuery())
	if err != nil {
		return 0, toStatus(err)
	}
	return affected(tag), nil
}
