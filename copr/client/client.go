package client

import (
	"context"
	"log/slog"
	"math/bits"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/tikv/client-go/v2/tikv"

	"github.com/copradb/copra/copr/exec"
	"github.com/copradb/copra/copr/plan"
	"github.com/copradb/copra/internal/kv"
	"github.com/copradb/copra/internal/sqltypes"
	"github.com/copradb/copra/internal/tablecodec"
	"github.com/copradb/copra/proto/coprpb"
)

// Limits and defaults.
const (
	// Concurrency is how many tickets are under way at a time.
	Concurrency = 15
	// TicketRegionsMax is the most regions of one ticket.
	TicketRegionsMax = 128
	// BufferedBatchesMax is how many batches wait for Stream.Next, for each
	// region where order is kept.
	BufferedBatchesMax = 4
	// BackoffMsMax is how long a ticket may back off in all without any
	// progress.
	BackoffMsMax = 40_000
	// smallRows is the row hint up to which few regions are asked at a time.
	smallRows = 1024
)

// Transport carries a request to the store at addr and hands each piece of the
// answer to emit, one at a time. An error that wraps plan.ErrInvalid is final;
// any other but emit's and ctx's means that the store cannot be reached.
type Transport interface {
	Run(ctx context.Context, addr string, r *plan.Request, emit func(*plan.Event) error) error
	Close() error
}

// Options of a Client. Only Transport is needed.
type Options struct {
	Transport  Transport
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Client sends plans. Safe for concurrent use.
type Client struct {
	router router
	tr     Transport
	log    *slog.Logger
	m      *metrics
}

// New makes a client of a cluster. The store's PD client must be a
// *tikv.CodecPDClient, whose codec says which keyspace the SQL keys are in.
func New(store *tikv.KVStore, o Options) (*Client, error) {
	r, err := newCacheRouter(store)
	if err != nil {
		return nil, err
	}
	return newClient(r, o), nil
}

func newClient(r router, o Options) *Client {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{router: r, tr: o.Transport, log: o.Logger, m: newMetrics(o.Registerer)}
}

// Close closes the transport. Streams must be closed before.
func (c *Client) Close() error { return c.tr.Close() }

// Request is a plan over ranges of SQL keys.
type Request struct {
	Plan *plan.Plan
	// Ranges are SQL keys (internal/tablecodec) without a keyspace's prefix. They
	// may be in any order, but must not overlap.
	Ranges    []kv.KeyRange
	ReadTS    uint64
	Isolation kvrpcpb.IsolationLevel
	// KeepOrder returns the batches in the order of the plan's scan.
	KeepOrder bool
	// Concurrency is how many tickets are under way at a time; 0 = Concurrency.
	Concurrency int
	// RowsHint is about how many rows will be read before Close; 0 = all.
	RowsHint     uint64
	ReplicaRead  coprpb.ReplicaRead
	Compression  coprpb.Compression
	Priority     kvrpcpb.CommandPri
	NotFillCache bool
	// Columnar lets stores read their columnar caches.
	Columnar bool
	// ResultCache lets stores answer aggregations as they did before, where nothing
	// has changed since.
	ResultCache bool
	// MemBytesMax bounds what each store may keep for each ticket, and what the
	// stream keeps back; 0 = the stores' own limit.
	MemBytesMax int64
	// Mem is charged for what the stream keeps back; may be nil.
	Mem *exec.MemAccount
	// Timeout ends the work of a ticket on its store; 0 = ctx's deadline.
	Timeout time.Duration
}

// Send starts to read. The stream must be closed.
func (c *Client) Send(ctx context.Context, req *Request) (*Stream, error) {
	types, err := req.Plan.OutputTypes()
	if err != nil {
		return nil, err
	}
	if err := req.Plan.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &Stream{
		c: c, req: req, types: types, desc: req.Plan.Desc(), replica: req.ReplicaRead, ctx: ctx, cancel: cancel,
		resolved: map[uint64]bool{}, committed: map[uint64]bool{}, stats: map[string]*StoreStats{},
		mem: exec.NewMemAccount(req.MemBytesMax, req.Mem),
	}
	ranges := tablecodec.MergeRanges(append([]kv.KeyRange(nil), req.Ranges...))
	units, err := s.locate(tikv.NewBackoffer(ctx, BackoffMsMax), c.router.encode(ranges))
	if err != nil {
		cancel()
		return nil, err
	}
	c.m.requests.Inc()
	s.start(units)
	return s, nil
}

// concurrency is how many tickets may be under way.
func (r *Request) concurrency() int {
	n := r.Concurrency
	if n <= 0 {
		n = Concurrency
	}
	if r.RowsHint > 0 && r.RowsHint <= smallRows {
		n = min(n, 2)
	}
	return n
}

// batchRows is what stores are told: no more rows than will be read.
func (r *Request) batchRows() int {
	if r.RowsHint == 0 || r.RowsHint > smallRows {
		return 0
	}
	return max(1<<bits.Len64(r.RowsHint-1), 16)
}

// StoreStats is what one store did for a stream.
type StoreStats struct {
	Addr    string
	Tickets int
	Regions int // tasks that ended well
	Retries int // tasks that did not
	plan.RegionStats
}

// Stats returns the work so far, by store.
func (s *Stream) Stats() []StoreStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]StoreStats, 0, len(s.stats))
	for _, st := range s.stats {
		out = append(out, *st)
	}
	return out
}

// Types are the types of the batches' columns.
func (s *Stream) Types() []sqltypes.Type { return s.types }

type metrics struct {
	requests prometheus.Counter
	tasks    *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "copra_copr_client_requests_total", Help: "Plans sent to coprocessors.",
		}),
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "copra_copr_client_tasks_total", Help: "Answers of regions to coprocessor tasks, by result.",
		}, []string{"result"}),
	}
	if reg != nil {
		reg.MustRegister(m.requests, m.tasks)
	}
	return m
}
