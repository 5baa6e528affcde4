package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/flight"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/copradb/copra/copr/expr"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/pgerror"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/proto/coprpb"
)

// Limits of the Flight transport.
const (
	ConnsPerStore   = 4
	MessageBytesMax = 512 << 20
)

// FlightOptions of a Flight transport.
type FlightOptions struct {
	// Creds secures the connections; nil = plain text.
	Creds credentials.TransportCredentials
	// DialOptions are added to those of the transport.
	DialOptions []grpc.DialOption
}

// Flight is the transport over Arrow Flight, to the address of the store's
// TiKV service. Connections are kept. Safe for concurrent use.
type Flight struct {
	o     FlightOptions
	mu    sync.Mutex
	pools map[string]*pool
	done  bool
}

type pool struct {
	conns [ConnsPerStore]*grpc.ClientConn
	next  atomic.Uint32
}

// NewFlight makes a Flight transport. It connects when it must.
func NewFlight(o FlightOptions) *Flight {
	if o.Creds == nil {
		o.Creds = insecure.NewCredentials()
	}
	return &Flight{o: o, pools: map[string]*pool{}}
}

// Close closes all connections.
func (f *Flight) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = true
	var errs []error
	for _, p := range f.pools {
		for _, c := range p.conns {
			errs = append(errs, c.Close())
		}
	}
	f.pools = nil
	return errors.Join(errs...)
}

func (f *Flight) conn(addr string) (*grpc.ClientConn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return nil, errors.New("copr: the transport is closed")
	}
	p := f.pools[addr]
	if p == nil {
		p = &pool{}
		opts := append([]grpc.DialOption{
			grpc.WithTransportCredentials(f.o.Creds),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageBytesMax), grpc.MaxCallSendMsgSize(plan.TicketBytesMax+1<<20)),
			grpc.WithInitialWindowSize(8 << 20), grpc.WithInitialConnWindowSize(16 << 20),
		}, f.o.DialOptions...)
		for i := range p.conns {
			c, err := grpc.NewClient(addr, opts...)
			if err != nil {
				for _, made := range p.conns[:i] {
					err = errors.Join(err, made.Close())
				}
				return nil, err
			}
			p.conns[i] = c
		}
		f.pools[addr] = p
	}
	return p.conns[p.next.Add(1)%ConnsPerStore], nil
}

// Run implements Transport.
func (f *Flight) Run(ctx context.Context, addr string, r *plan.Request, emit func(*plan.Event) error) error {
	p, err := r.Plan.Encode()
	if err != nil {
		return err
	}
	types, err := r.Plan.OutputTypes()
	if err != nil {
		return err
	}
	ticket, err := r.EncodeTicket(p)
	if err != nil {
		return err
	}
	conn, err := f.conn(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := flight.NewFlightServiceClient(conn).DoGet(ctx, &flight.Ticket{Ticket: ticket})
	if err != nil {
		return fromStatus(err)
	}
	d := &decoder{types: types}
	for {
		fd, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fromStatus(err)
		}
		e, err := d.event(fd)
		if err != nil {
			return fmt.Errorf("%w: %v", errAnswer, err)
		}
		if e == nil {
			continue
		}
		if err := emit(e); err != nil {
			return err
		}
	}
}

// fromStatus makes of a refusal of the request plan.ErrInvalid.
func fromStatus(err error) error {
	if c := status.Code(err); c == codes.InvalidArgument || c == codes.Unimplemented {
		return fmt.Errorf("%w: %v", plan.ErrInvalid, err)
	}
	return err
}

// decoder turns Flight messages into events.
type decoder struct {
	types  []sqltypes.Type
	reader *ipc.Reader
	next   *flight.FlightData
}

// event decodes a message; nil for the schema.
func (d *decoder) event(fd *flight.FlightData) (*plan.Event, error) {
	e, err := decodeMeta(fd.AppMetadata) // empty: a batch of the first task
	if err != nil {
		return nil, err
	}
	if len(fd.DataHeader) == 0 {
		return e, nil
	}
	d.next = fd
	if d.reader == nil {
		d.reader, err = ipc.NewReaderFromMessageReader(d)
		return nil, err
	}
	if !d.reader.Next() {
		return nil, fmt.Errorf("a record batch cannot be read: %w", d.reader.Err())
	}
	rec := d.reader.Record()
	rec.Retain() // the reader lets go of it at the next one
	e.Batch, err = d.batch(rec)
	return e, err
}

func (d *decoder) batch(rec arrow.Record) (*expr.Batch, error) {
	if int(rec.NumCols()) != len(d.types) {
		return nil, fmt.Errorf("a record batch has %d columns, the plan %d", rec.NumCols(), len(d.types))
	}
	for i, t := range d.types {
		if got := rec.Column(i).DataType(); !arrow.TypeEqual(got, t.Arrow()) {
			return nil, fmt.Errorf("column %d is %s, the plan has %s", i, got, t.Arrow())
		}
	}
	return &expr.Batch{N: int(rec.NumRows()), Cols: rec.Columns()}, nil
}

// Message, Retain and Release make the decoder the ipc.MessageReader of its
// reader, which is only asked while a message is at hand.
func (d *decoder) Message() (*ipc.Message, error) {
	fd := d.next
	if fd == nil {
		return nil, io.ErrUnexpectedEOF
	}
	d.next = nil
	return ipc.NewMessage(memory.NewBufferBytes(fd.DataHeader), memory.NewBufferBytes(fd.DataBody)), nil
}

// Retain does nothing: memory belongs to Go's collector.
func (d *decoder) Retain() {}

// Release does nothing.
func (d *decoder) Release() {}

func decodeMeta(b []byte) (*plan.Event, error) {
	m := &coprpb.StreamMeta{}
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, err
	}
	e := &plan.Event{Task: int(m.Task), ResumeKey: m.ResumeKey, Done: m.Done}
	for _, t := range m.Also {
		e.Also = append(e.Also, int(t))
	}
	if len(m.RegionError) > 0 {
		e.RegionError = &errorpb.Error{}
		if err := e.RegionError.Unmarshal(m.RegionError); err != nil {
			return nil, err
		}
	}
	for _, l := range m.Locks {
		info := &kvrpcpb.LockInfo{}
		if err := info.Unmarshal(l); err != nil {
			return nil, err
		}
		e.Locks = append(e.Locks, info)
	}
	if x := m.Error; x != nil {
		e.Err = &pgerror.Error{Code: x.Code, Message: x.Message, Detail: x.Detail, Hint: x.Hint}
	}
	if s := m.Stats; s != nil {
		e.Stats = plan.RegionStats{
			RowsScanned: s.RowsScanned, BytesScanned: s.BytesScanned, RowsReturned: s.RowsReturned, Batches: s.Batches,
			Time: time.Duration(s.TimeNs), Wait: time.Duration(s.WaitNs),
			ColumnRows: s.ColumnRows, ColumnRegions: s.ColumnRegions, CachedRegions: s.CachedRegions,
		}
	}
	return e, nil
}
