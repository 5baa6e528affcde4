package server

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/proto/coprpb"
)

// Register adds the Flight service to a store's gRPC server.
func (s *Service) Register(g *grpc.Server) { flight.RegisterFlightServiceServer(g, s) }

// DoGet implements Arrow Flight: the ticket is a coprpb.Ticket. Each message
// has a coprpb.StreamMeta as its app_metadata; those without a record batch
// have only that.
func (s *Service) DoGet(tkt *flight.Ticket, stream flight.FlightService_DoGetServer) error {
	r, err := plan.DecodeTicket(tkt.GetTicket())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	types, err := r.Plan.OutputTypes()
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	schema := plan.Schema(types)
	opts := []ipc.Option{ipc.WithSchema(schema)}
	switch r.Compression {
	case coprpb.Compression_COMPRESSION_LZ4:
		opts = append(opts, ipc.WithLZ4())
	case coprpb.Compression_COMPRESSION_ZSTD:
		opts = append(opts, ipc.WithZstd())
	}
	w := flight.NewRecordWriter(stream, opts...)
	err = s.Run(stream.Context(), r, func(e *plan.Event) error {
		meta, err := encodeMeta(e)
		if err != nil {
			return err
		}
		if e.Batch == nil {
			return w.WriteMetadata(meta)
		}
		return w.WriteWithAppMetadata(array.NewRecord(schema, e.Batch.Cols, int64(e.Batch.N)), meta)
	})
	return grpcError(errors.Join(err, w.Close()))
}

func grpcError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, plan.ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	return status.Error(codes.Internal, err.Error())
}

// encodeMeta is what goes beside a batch, or alone at the end of a task.
func encodeMeta(e *plan.Event) ([]byte, error) {
	m := &coprpb.StreamMeta{Task: uint32(e.Task), ResumeKey: e.ResumeKey, Done: e.Done}
	for _, t := range e.Also {
		m.Also = append(m.Also, uint32(t))
	}
	if e.RegionError != nil {
		b, err := e.RegionError.Marshal()
		if err != nil {
			return nil, err
		}
		m.RegionError = b
	}
	for _, l := range e.Locks {
		b, err := l.Marshal()
		if err != nil {
			return nil, err
		}
		m.Locks = append(m.Locks, b)
	}
	if e.Err != nil {
		pe := pgerror.From(e.Err)
		m.Error = &coprpb.StatementError{Code: pe.Code, Message: pe.Message, Detail: pe.Detail, Hint: pe.Hint}
	}
	if e.Done {
		m.Stats = &coprpb.RegionStats{
			RowsScanned: e.Stats.RowsScanned, BytesScanned: e.Stats.BytesScanned, RowsReturned: e.Stats.RowsReturned,
			Batches: e.Stats.Batches, TimeNs: uint64(e.Stats.Time), WaitNs: uint64(e.Stats.Wait), ColumnRows: e.Stats.ColumnRows, ColumnRegions: e.Stats.ColumnRegions,
			CachedRegions: e.Stats.CachedRegions,
		}
	}
	return proto.Marshal(m)
}
